"""Symmetric matrices with a prescribed spectrum, and an operator that counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from workbench.linalg.operator import LinearOperator

OUTLIERS = [30.0, 24.0, 21.0, 15.0, 12.0]
MINI_BULK = torch.linspace(1.0, 2.0, 20).tolist()


def planted() -> Tensor:
    """Outliers, a mini-bulk, a bulk around zero with negative ones, and zeros."""
    bulk = torch.linspace(-0.3, 0.4, 75).tolist()
    return torch.tensor(OUTLIERS + MINI_BULK + bulk + [0.0] * 20, dtype=torch.float64)


# Every spectrum that an eigensolver of ours has to get right.
SPECTRA = {
    "planted": planted,
    "clusters": lambda: torch.tensor([5.0] * 3 + [4.0] * 2 + [0.5] * 35).double(),
    "rank_deficient": lambda: torch.tensor([3.0, 2.0, 1.0] + [0.0] * 37).double(),
    "negative": lambda: -torch.linspace(0.1, 4.0, 40, dtype=torch.float64),
    "both_signs": lambda: torch.linspace(-7.0, 5.0, 40, dtype=torch.float64),
    "decades": lambda: torch.logspace(3, -9, 60, dtype=torch.float64),
    "near_pairs": lambda: torch.tensor([9.0, 9 - 1e-9, 8.0, 8 - 1e-6] + [1.0] * 36)
    .double(),
    "identity": lambda: torch.ones(12, dtype=torch.float64),
    "zero": lambda: torch.zeros(12, dtype=torch.float64),
    "one_row": lambda: torch.tensor([-2.5], dtype=torch.float64),
    "two_rows": lambda: torch.tensor([2.0, -3.0], dtype=torch.float64),
}  # fmt: skip


def orthogonal(dim: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix, (dim, dim) float64."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise)[0]


def symmetric_matrix(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """``Q diag(eigenvalues) Q^T`` with a random orthogonal Q."""
    turn = orthogonal(len(eigenvalues), seed)
    matrix = (turn * eigenvalues) @ turn.T
    return (matrix + matrix.T) / 2


@dataclass(frozen=True, eq=False)
class Counting(LinearOperator):
    """A matrix that counts the vectors it was multiplied with."""

    matrix: Tensor
    widths: list[int] = field(default_factory=list)  # of the blocks, in order

    def __post_init__(self) -> None:
        for name, value in (
            ("dim", len(self.matrix)),
            ("dtype", self.matrix.dtype),
            ("device", self.matrix.device),
        ):
            object.__setattr__(self, name, value)

    @property
    def count(self) -> int:
        """Matrix-vector products so far."""
        return sum(self.widths)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        self.widths.append(vectors.shape[1])
        return self.matrix @ vectors
