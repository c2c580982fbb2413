"""What every way to take products with G, Hess and H offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from torch import Tensor

from workbench.curvature.problem.risk import EmpiricalRisk

Kind = Literal["G", "Hess", "H"]
Named = dict[str, Tensor]
Weights = tuple[Named, Named]  # copies: parameters that are looked at, and all else
# w, (B, O, num), of targets and predictions
Cotangents = Callable[[Tensor, Tensor], Tensor]


class Way(ABC):
    """A way to take products; sums are over this process's share of the examples."""

    name: ClassVar[str]  # in words
    risk: EmpiricalRisk

    @abstractmethod
    def on(self, risk: EmpiricalRisk) -> Way:
        """The same for other examples of the same network."""

    @abstractmethod
    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        """``A V``: (P, m) to (P, m)."""

    @abstractmethod
    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Targets, predictions and ``J_i v``, (B, O, m), piece by piece."""

    @abstractmethod
    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        """``sum_i J_i^T w_i``, (P, num)."""
