"""Some classes of a network and of its data, as a problem of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.curvature.risk import Batch, LabelledImages
from workbench.errors import WorkbenchError


class ChosenLogits(nn.Module):
    """A network of which only some logits are looked at."""

    def __init__(self, model: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.classes = list(classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """The chosen logits, in the order of the choice."""
        logits: Tensor = self.model(inputs)
        if max(self.classes) >= logits.shape[1]:
            raise WorkbenchError(
                f"classes: class {max(self.classes)} was chosen and the network has "
                f"{logits.shape[1]} logits; choose from 0 to {logits.shape[1] - 1}."
            )
        return logits[:, self.classes]


@dataclass(frozen=True, slots=True, eq=False)
class ChosenExamples:
    """The examples of some classes, with labels 0, 1, ... in the order chosen."""

    data: Iterable[Batch]
    classes: tuple[int, ...]

    def __iter__(self) -> Iterator[Batch]:
        for inputs, labels in self.data:
            kept, found = _relabelled(labels, self.classes)
            if len(kept):
                yield inputs[kept], found


def choose_classes(
    model: nn.Module, data: Any, classes: Sequence[int]
) -> tuple[nn.Module, Any]:
    """Restrict a network and data to some classes: ten of ImageNet's, as in the paper.

    The examples of other classes are left out and so are the other logits: softmax is
    over the chosen ones, so that all that is defined for C classes holds for these.

    Args:
        model: The network; it is wrapped, and its parameters stay its own.
        data: A `Dataset`, a pair of tensors, or a re-iterable of such pairs.
        classes: At least two different class numbers; they become 0, 1, ...

    Returns:
        The network and the data, as every function here takes them.

    Raises:
        WorkbenchError: If the choice is not of different classes that there are.
    """
    chosen = tuple(classes)
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise WorkbenchError(
            f"classes: {list(chosen)} were chosen; give at least two different class "
            "numbers from 0."
        )
    network = ChosenLogits(model, chosen)
    if isinstance(data, LabelledImages):
        data = (data.images, data.labels)
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    if not (pair and isinstance(data[0], Tensor)):
        if isinstance(data, Iterator) or not isinstance(data, Iterable):
            return network, data  # empirical_risk says what is wrong with it
        return network, ChosenExamples(data, chosen)
    kept, labels = _relabelled(data[1], chosen)
    return network, (data[0][kept], labels)


def _relabelled(labels: Tensor, classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Which examples are of the chosen classes, and their new labels."""
    match = labels[:, None] == torch.tensor(classes, device=labels.device)
    kept = match.any(1).nonzero().flatten()
    return kept, match[kept].long().argmax(1)
