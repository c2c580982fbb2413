"""The interface of every way of computing products with G, Hess and H."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.errors import WorkbenchError
from workbench.linalg.columns import lengths, products

Kind = Literal["G", "Hess", "H"]
KINDS: tuple[Kind, ...] = ("G", "Hess", "H")
Named = dict[str, Tensor]
Weights = tuple[Named, Named]  # copies: parameters that are looked at, and all else
# w, (B, O, num), of targets and predictions
Cotangents = Callable[[Tensor, Tensor], Tensor]


ALIKE = {torch.float32: 2e-5, torch.float64: 1e-11}  # of two lengths: inner products
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}  # of a sum of products


class ModesDifferError(WorkbenchError):
    """Forward and reverse mode differ on examples that were not checked."""

    def __init__(self) -> None:
        super().__init__("forward and reverse mode differ on some examples")


class Way(ABC):
    """A way of computing products; sums are over this process's examples."""

    name: ClassVar[str]  # in words
    risk: EmpiricalRisk

    @abstractmethod
    def on(self, risk: EmpiricalRisk) -> Way:
        """Return the same way for other examples of the same network."""

    @abstractmethod
    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        """``A V``: (P, m) to (P, m)."""

    @abstractmethod
    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Targets, predictions and ``J_i v``, (B, O, m), piece by piece."""

    @abstractmethod
    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        """``sum_i J_i^T w_i``, (P, num)."""

    def differ(
        self, vectors: Tensor, pulled: Tensor, pushed: Tensor, cotangents: Tensor
    ) -> Tensor:
        """Whether ``<w, J v> = <J^T w, v>`` is wrong beyond rounding: a bool.

        So the two derivatives are held against each other on every example, at no
        further pass: a way is tried on a few, and torch's differ for some layers where
        a number is special (PReLU at zero).

        Args:
            vectors: v, (P, m).
            pulled: ``J^T w`` of these examples, (P, m).
            pushed: ``J v``, (B, O, m).
            cotangents: w, (B, O, m).
        """
        w = cotangents.double().flatten(0, 1)
        terms = pushed.double().flatten(0, 1) * w
        # where layers cancel, what is pulled back is itself rounding
        longest = lengths(pulled).maximum(self.risk.proven.steepness * lengths(w))
        rough = ROUNDING[self.risk.digits] * terms.abs().sum(0)
        rough += ALIKE[self.risk.digits] * lengths(vectors) * longest
        apart = terms.sum(0) - products(vectors, pulled)
        return ~(apart.abs() <= rough).all()
