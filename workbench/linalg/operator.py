"""Symmetric matrices known by their products with vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, final, overload

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

    @property
    @final
    def T(self) -> LinearOperator:
        """The transpose: the operator itself, which is symmetric."""
        return self

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    @overload
    def __matmul__(self, other: LinearOperator | Product) -> Product: ...

    @final
    def __matmul__(self, other: Tensor | LinearOperator | Product) -> Tensor | Product:
        """``A v`` of a vector, ``A V`` of columns, or the map ``A B``.

        Raises:
            WorkbenchError: If the sizes do not fit.
        """
        return _applied((self,), other)

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
class Product:
    """``A B ...``, one after the other: a linear map that is symmetric seldom.

    So it is no `LinearOperator`: eigenpairs, densities and traces of symmetric
    operators do not take it. A product with k vectors costs one of each factor.
    """

    factors: tuple[LinearOperator, ...]  # from the left

    @property
    def dim(self) -> int:
        """Rows and columns."""
        return self.factors[0].dim

    @property
    def T(self) -> Product:
        """The transpose: the factors, each symmetric, the other way round."""
        return Product(self.factors[::-1])

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    @overload
    def __matmul__(self, other: LinearOperator | Product) -> Product: ...

    def __matmul__(self, other: Tensor | LinearOperator | Product) -> Tensor | Product:
        """Apply to a vector or to columns, or chain with another map."""
        return _applied(self.factors, other)

    def to_dense(self) -> Tensor:
        """The matrix, (dim, dim). Costs dim matvecs of each factor."""
        found = self.factors[-1].to_dense()
        for factor in self.factors[-2::-1]:
            found = factor.matmat(found)
        return found


def _applied(
    factors: tuple[LinearOperator, ...], other: Tensor | LinearOperator | Product
) -> Tensor | Product:
    """A chain of operators times a tensor, or a longer chain."""
    dim = factors[0].dim
    if isinstance(other, Tensor):
        if other.ndim not in (1, 2) or len(other) != dim:
            raise WorkbenchError(
                f"operator product: a tensor of shape {tuple(other.shape)}; expected "
                f"({dim},) or ({dim}, k)."
            )
        columns = other.reshape(dim, -1)
        for factor in factors[::-1]:
            columns = factor.matmat(columns)
        return columns.reshape(other.shape)
    if not isinstance(other, LinearOperator | Product):
        return NotImplemented
    if other.dim != dim:
        raise WorkbenchError(
            f"operator product: {dim} columns and {other.dim} rows; expected operators "
            "of one size."
        )
    return Product((*factors, *getattr(other, "factors", (other,))))


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
