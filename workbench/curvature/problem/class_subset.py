"""Some classes of a network and of its data, as a problem of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.curvature.problem.batches import (
    Batch,
    Inputs,
    as_batches,
    join,
    move,
    shape_of,
    take,
)
from workbench.curvature.problem.network import (
    Network,
    Outputs,
    Trained,
    network_and_data,
)
from workbench.errors import WorkbenchError


class ChosenLogits(nn.Module):
    """A network of which only some logits are looked at."""

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[int],
        outputs: Outputs | None = None,
        *,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.classes = list(classes)
        self.outputs = outputs
        self.whole = whole  # as of `Network`

    def forward(self, inputs: Inputs) -> Tensor:
        """The chosen logits, in the order of the choice."""
        network = Network(self.model, self.outputs, self.whole)
        logits = network(inputs, paired=False)
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
                yield take(inputs, kept), found


def choose_classes(
    model: nn.Module | Trained,
    data: Any,
    classes: Sequence[int],
    *,
    outputs: Outputs | None = None,
) -> tuple[nn.Module, Any]:
    """Restrict a network and data to some classes: ten of ImageNet's, as in the paper.

    The examples of other classes are left out and so are the other logits: softmax is
    over the chosen ones, so that all that is defined for C classes holds for these.

    Args:
        model: The network; it is wrapped, and its parameters stay its own, under names
            that begin with ``model.``. Or a `Checkpoint`.
        data: As `operators` takes them, with a label to each example; None: those of
            the checkpoint.
        classes: At least two different class numbers; they become 0, 1, ...
        outputs: Takes the logits from what the network returns, as in `operators`.

    Returns:
        The network and the data, as every function here takes them.

    Raises:
        WorkbenchError: If the choice is not of different classes that there are.
    """
    model, data = network_and_data(model, data)
    chosen = tuple(classes) if isinstance(classes, Iterable) else (classes,)
    whole = all(isinstance(c, int | np.integer) and c >= 0 for c in chosen)
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or not whole:
        raise WorkbenchError(
            f"classes: {str(list(chosen))[:60]} were chosen; give at least two "
            "different class numbers from 0."
        )
    batches = as_batches(data, None)
    settled = _settled(model, outputs, batches)
    network = ChosenLogits(model, chosen, outputs, whole=settled)
    examples = ChosenExamples(batches, chosen)
    if not isinstance(batches, list):
        return network, examples
    some = list(examples)
    if len({shape_of(inputs) for inputs, _ in some}) != 1:
        return network, some
    inputs, labels = zip(*some, strict=True)
    return network, (join(inputs), torch.cat(labels))


def inside(parameters: str | Sequence[str] | None) -> list[str] | None:
    """Names of a network's parameters as names in what `choose_classes` made of it."""
    if parameters is None:
        return None
    words = [parameters] if isinstance(parameters, str) else parameters
    return [f"model.{word}" for word in words]


def _settled(
    model: nn.Module, outputs: Outputs | None, batches: Iterable[Batch]
) -> bool:
    """Whether the network takes inputs of several tensors as one argument."""
    inputs, _ = next(iter(batches), (None, None))
    like = next(iter(model.parameters()), None)
    if like is None or inputs is None or isinstance(inputs, Tensor):
        return False
    few = move(take(inputs, slice(0, 2)), like.device, like.dtype)
    return Network(model, outputs).settled(few).whole


def _relabelled(labels: Tensor, classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Which examples are of the chosen classes, and their new labels."""
    if labels.ndim != 1 or labels.is_floating_point():
        raise WorkbenchError(
            f"classes: the labels have shape {tuple(labels.shape)} and dtype "
            f"{labels.dtype}; expected one class number an example, to choose by."
        )
    match = labels[:, None] == torch.tensor(classes, device=labels.device)
    kept = match.any(1).nonzero().flatten()
    return kept, match[kept].long().argmax(1)
