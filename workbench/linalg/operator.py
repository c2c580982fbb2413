"""Symmetric matrices known by their products with vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor
from typing_extensions import override

from workbench.errors import WorkbenchError
from workbench.linalg.columns import dots, lengths

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

DENSE_LIMIT = 20_000  # rows of a matrix that to_dense will still form


class LinearOperator(ABC):
    """A symmetric linear map of R^dim; a final class says what ``matmat`` does."""

    dim: int
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def matmat(self, vectors: Tensor) -> Tensor:
        """``A V`` for the columns of V: (dim, k) to (dim, k)."""

    @final
    def matvec(self, vector: Tensor) -> Tensor:
        """``A v``: (dim,) to (dim,)."""
        return self.matmat(vector[:, None])[:, 0]

    @final
    def __add__(self, other: LinearOperator) -> LinearOperator:
        """``A + B``."""
        return Sum(self, other)

    @final
    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, Scaled(other, -1.0))

    @final
    def __mul__(self, factor: float) -> LinearOperator:
        return Scaled(self, factor)

    __rmul__ = __mul__

    @final
    def to_dense(self) -> Tensor:
        """The matrix, (dim, dim), for small operators. Costs dim matvecs.

        Raises:
            WorkbenchError: If dim is above 20,000.
        """
        if self.dim > DENSE_LIMIT:
            raise WorkbenchError(
                f"to_dense: the operator has {self.dim:,} rows and a dense matrix at "
                f"most {DENSE_LIMIT:,}; use top_eigenpairs or spectral_density."
            )
        eye = torch.eye(self.dim, dtype=self.dtype, device=self.device)
        return torch.cat(
            [self.matmat(block) for block in torch.split(eye, 256, dim=1)], dim=1
        )

    @final
    def to_scipy(self) -> ScipyOperator:
        """The same map for SciPy, on NumPy arrays."""
        import numpy as np
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def product(array: np.ndarray) -> np.ndarray:
            tensor = torch.as_tensor(array, dtype=self.dtype, device=self.device)
            columns = tensor.reshape(self.dim, -1)
            return self.matmat(columns).reshape(tensor.shape).cpu().numpy()

        dtype = torch.empty(0, dtype=self.dtype, device="cpu").numpy().dtype
        shape = (self.dim, self.dim)
        return ScipyOperator(
            dtype=dtype, shape=shape, matvec=product, rmatvec=product, matmat=product
        )


@dataclass(frozen=True, eq=False)
class Dense(LinearOperator):
    """A symmetric matrix that is there, (dim, dim)."""

    matrix: Tensor

    def __post_init__(self) -> None:
        _set(self, len(self.matrix), self.matrix.dtype, self.matrix.device)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        return self.matrix @ vectors


@dataclass(frozen=True, eq=False)
class LowRank(LinearOperator):
    """``F F^T`` of a factor F (dim, r)."""

    factor: Tensor

    def __post_init__(self) -> None:
        _set(self, len(self.factor), self.factor.dtype, self.factor.device)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        return self.factor @ dots(self.factor, vectors).to(vectors.dtype)


@dataclass(frozen=True, eq=False)
class Sum(LinearOperator):
    """``A + B``."""

    left: LinearOperator
    right: LinearOperator

    def __post_init__(self) -> None:
        if self.left.dim != self.right.dim:
            raise WorkbenchError(
                f"operator sum: {self.left.dim} rows and {self.right.dim} rows; "
                "expected operators of one size."
            )
        _set(self, self.left.dim, self.left.dtype, self.left.device)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        return self.left.matmat(vectors) + self.right.matmat(vectors)


@dataclass(frozen=True, eq=False)
class Scaled(LinearOperator):
    """``factor * A``."""

    operator: LinearOperator
    factor: float

    def __post_init__(self) -> None:
        _set(self, self.operator.dim, self.operator.dtype, self.operator.device)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        return self.factor * self.operator.matmat(vectors)


@dataclass(frozen=True, eq=False)
class Projected(LinearOperator):
    """``(I - Q Q^T) A (I - Q Q^T)`` with Q (dim, r) of orthonormal columns."""

    operator: LinearOperator
    basis: Tensor

    def __post_init__(self) -> None:
        _set(self, self.operator.dim, self.operator.dtype, self.operator.device)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        return self._project(self.operator.matmat(self._project(vectors)))

    def _project(self, vectors: Tensor) -> Tensor:
        inside = dots(self.basis, vectors).to(vectors.dtype)
        return vectors - self.basis @ inside


@dataclass(frozen=True, eq=False)
class Remembered(LinearOperator):
    """``A`` with its products inside a subspace kept: ``images = A basis``.

    What is asked about the subspace again costs no product with A: the knock-outs and
    parts of G start from the subspace that G's own eigenvectors were found in.
    """

    operator: LinearOperator
    basis: Tensor  # (dim, r), orthonormal columns
    images: Tensor  # (dim, r)

    def __post_init__(self) -> None:
        _set(self, self.operator.dim, self.operator.dtype, self.operator.device)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        inside = dots(self.basis, vectors).to(vectors.dtype)
        outside = vectors - self.basis @ inside
        floor = 1e3 * torch.finfo(vectors.dtype).eps
        far = lengths(outside) > floor * lengths(vectors)
        product = self.images @ inside
        if far.any():
            product[:, far] = self.operator.matmat(vectors[:, far])
        return product


def _set(
    operator: LinearOperator, dim: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Fill the derived fields of a frozen operator."""
    for name, value in (("dim", dim), ("dtype", dtype), ("device", device)):
        object.__setattr__(operator, name, value)
