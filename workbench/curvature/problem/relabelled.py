"""The same examples with other labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.curvature.problem.batches import Batch
from workbench.curvature.problem.risk import EmpiricalRisk


@dataclass(frozen=True, slots=True, eq=False)
class Relabelled:
    """Batches of a loader that keeps its order, with these labels one by one."""

    data: Iterable[Batch]
    labels: Tensor

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        for inputs, targets in self.data:
            stop = start + len(targets)
            yield inputs, self.labels[start:stop]
            start = stop


def labels_of(risk: EmpiricalRisk) -> Tensor:
    """Labels of all examples in their order, (N,), in every process."""
    labels = [risk.targets(targets) for _, targets in risk.data]
    return torch.cat(labels).cpu()


def relabelled(risk: EmpiricalRisk, labels: Tensor) -> EmpiricalRisk:
    """The network on the same examples with these labels, as many of each class."""
    data: Iterable[Batch] = Relabelled(risk.data, labels)
    return replace(risk, data=list(data) if isinstance(risk.data, list) else data)
