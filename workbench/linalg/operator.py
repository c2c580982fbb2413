"""Symmetric matrices defined by their products with vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from workbench.errors import WorkbenchError
from workbench.linalg.columns import dots, lengths

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

DENSE_LIMIT = 20_000  # most rows that to_dense accepts


class HasProducts(Protocol):
    """A matrix with products, as in NumPy and SciPy."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def dtype(self) -> Any: ...  # noqa: D102

    def dot(self, other: Any, /) -> Any: ...  # noqa: D102


class LinearOperator(ABC):
    """A symmetric linear map on R^dim; subclasses define ``_matmat``.

    ``A @ v`` and ``A @ V`` multiply a vector or columns, ``v @ A`` likewise. Tensors
    give tensors and NumPy arrays give NumPy arrays, both in the operator's dtype.
    """

    dim: int
    dtype: torch.dtype
    device: torch.device

    label = ""  # its name, if not that of its class

    __array_ufunc__ = None  # so that NumPy leaves ``array @ A`` and ``2.0 * A`` to A

    @abstractmethod
    def _matmat(self, vectors: Tensor) -> Tensor:
        """Return ``A V`` for columns (dim, k) of the operator's dtype and device."""

    @property
    @final
    def shape(self) -> tuple[int, int]:
        """``(dim, dim)``."""
        return self.dim, self.dim

    @property
    @final
    def T(self) -> LinearOperator:
        """The transpose, which is the operator itself."""
        return self

    @overload
    def matmat(self, vectors: Tensor) -> Tensor: ...

    @overload
    def matmat(self, vectors: NDArray[Any]) -> NDArray[Any]: ...

    @final
    def matmat(self, vectors: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        """Return ``A V`` for the columns of V: (dim, k) to (dim, k).

        Raises:
            WorkbenchError: If V has another shape, or is complex.
        """
        return _times(self, self._matmat, vectors, ndims=(2,))

    @overload
    def matvec(self, vector: Tensor) -> Tensor: ...

    @overload
    def matvec(self, vector: NDArray[Any]) -> NDArray[Any]: ...

    @final
    def matvec(self, vector: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        """Return ``A v``: (dim,) to (dim,).

        Raises:
            WorkbenchError: If v has another shape, or is complex.
        """
        return _times(self, self._matmat, vector, ndims=(1,))

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    @overload
    def __matmul__(self, other: NDArray[Any]) -> NDArray[Any]: ...

    @overload
    def __matmul__(self, other: LinearOperator | Product) -> Product: ...

    @final
    def __matmul__(
        self, other: Tensor | NDArray[Any] | LinearOperator | Product
    ) -> Tensor | NDArray[Any] | Product:
        """Return ``A v`` for a vector, ``A V`` for columns, or the map ``A B``.

        Raises:
            WorkbenchError: If the sizes do not fit.
        """
        return _applied((self,), other)

    @overload
    def __rmatmul__(self, other: Tensor) -> Tensor: ...

    @overload
    def __rmatmul__(self, other: NDArray[Any]) -> NDArray[Any]: ...

    @final
    def __rmatmul__(self, other: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        """Return ``v A`` for a vector, or for the rows of V: (k, dim) to (k, dim)."""
        return _applied_from_the_left((self,), other)

    @final
    def __add__(self, other: LinearOperator) -> LinearOperator:
        """``A + B``."""
        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    @final
    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return self + -other if isinstance(other, LinearOperator) else NotImplemented

    @final
    def __mul__(self, factor: float) -> LinearOperator:
        """``factor * A`` for a number."""
        try:
            return Scaled(self, float(factor))
        except TypeError:
            return NotImplemented

    __rmul__ = __mul__

    @final
    def __truediv__(self, factor: float) -> LinearOperator:
        return self * (1 / factor)

    @final
    def __neg__(self) -> LinearOperator:
        return Scaled(self, -1.0)

    @override
    def __repr__(self) -> str:
        return _described(self, self.label or type(self).__name__)

    @final
    def to_dense(self) -> Tensor:
        """Return the matrix, (dim, dim); only for small operators. Costs dim matvecs.

        Raises:
            WorkbenchError: If dim is above 20,000.
        """
        if self.dim > DENSE_LIMIT:
            raise WorkbenchError(
                f"to_dense: the operator has {self.dim:,} rows and the limit for a "
                f"dense matrix is {DENSE_LIMIT:,}; use top_eigenpairs or "
                "spectral_density instead."
            )
        eye = torch.eye(self.dim, dtype=self.dtype, device=self.device)
        return torch.cat(
            [self.matmat(block) for block in torch.split(eye, 256, dim=1)], dim=1
        )

    @final
    def to_scipy(self) -> ScipyOperator:
        """Return the same map for SciPy, on NumPy arrays; `as_operator` converts back.

        SciPy's own ``aslinearoperator`` does not understand torch dtypes.
        """
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        product = self.__matmul__
        return ScipyOperator(
            dtype=_numpy_dtype(self.dtype),
            shape=self.shape,
            matvec=product,
            rmatvec=product,
            matmat=product,
            rmatmat=product,
        )


# What `as_operator`, and so every function with an operator argument, accepts.
AnyOperator: TypeAlias = LinearOperator | Tensor | HasProducts


@dataclass(frozen=True, eq=False, repr=False)
class Product:
    """The product ``A B ...`` of operators, which is rarely symmetric.

    Therefore it is not a `LinearOperator`, and functions for symmetric operators
    (eigenpairs, densities, traces) do not accept it. A product with k vectors costs one
    product with each factor.
    """

    factors: tuple[LinearOperator, ...]  # from left to right

    __array_ufunc__ = None

    @property
    def dim(self) -> int:
        """The number of rows and columns."""
        return self.factors[0].dim

    @property
    def shape(self) -> tuple[int, int]:
        """``(dim, dim)``."""
        return self.dim, self.dim

    @property
    def dtype(self) -> torch.dtype:
        """As for the factors."""
        return self.factors[0].dtype

    @property
    def device(self) -> torch.device:
        """As for the factors."""
        return self.factors[0].device

    @property
    def T(self) -> Product:
        """The transpose: the symmetric factors in reverse order."""
        return Product(self.factors[::-1])

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    @overload
    def __matmul__(self, other: NDArray[Any]) -> NDArray[Any]: ...

    @overload
    def __matmul__(self, other: LinearOperator | Product) -> Product: ...

    def __matmul__(
        self, other: Tensor | NDArray[Any] | LinearOperator | Product
    ) -> Tensor | NDArray[Any] | Product:
        """Apply it to a vector or to columns, or multiply it by another map."""
        return _applied(self.factors, other)

    def __rmatmul__(self, other: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        """Return ``v A B`` for a vector, or for the rows of V."""
        return _applied_from_the_left(self.factors, other)

    def __repr__(self) -> str:
        return _described(self, "Product")

    def to_dense(self) -> Tensor:
        """Return the matrix, (dim, dim). Costs dim matvecs with each factor."""
        found = self.factors[-1].to_dense()
        for factor in self.factors[-2::-1]:
            found = factor.matmat(found)
        return found

    def to_scipy(self) -> ScipyOperator:
        """Return the same map for SciPy, on NumPy arrays."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        there, back = self.__matmul__, self.T.__matmul__
        return ScipyOperator(
            dtype=_numpy_dtype(self.dtype),
            shape=self.shape,
            matvec=there,
            rmatvec=back,
            matmat=there,
            rmatmat=back,
        )


def _applied(factors: tuple[LinearOperator, ...], other: Any) -> Any:
    """Multiply a chain of operators by vectors, or by another chain."""
    if isinstance(other, LinearOperator | Product):
        if other.dim != factors[0].dim:
            raise WorkbenchError(
                f"operator product: the left factor has {factors[0].dim} columns and "
                f"the right one {other.dim} rows; expected operators of the same size."
            )
        return Product((*factors, *getattr(other, "factors", (other,))))
    if not isinstance(other, Tensor | np.ndarray):
        return NotImplemented

    def product(columns: Tensor) -> Tensor:
        for factor in factors[::-1]:
            columns = factor.matmat(columns)
        return columns

    return _times(factors[0], product, other, ndims=(1, 2))


def _applied_from_the_left(factors: tuple[LinearOperator, ...], other: Any) -> Any:
    """Multiply vectors by a chain of symmetric operators."""
    if not isinstance(other, Tensor | np.ndarray):
        return NotImplemented
    rows = other if other.ndim != 2 else other.T
    found = _applied(factors[::-1], rows)
    return found if other.ndim != 2 else found.T


def _times(
    operator: LinearOperator,
    product: Callable[[Tensor], Tensor],
    vectors: Any,
    ndims: tuple[int, ...],
) -> Any:
    """Multiply by a vector or columns; returns a tensor or array like the input.

    Raises:
        WorkbenchError: If the shape is wrong, or the numbers are not real.
    """
    given, name = vectors, operator.label or type(operator).__name__
    if isinstance(vectors, np.ndarray) and vectors.dtype.kind in "fiub":
        given = torch.from_numpy(vectors.astype(_numpy_dtype(operator.dtype)))
    if not isinstance(given, Tensor) or given.is_complex():
        kind = getattr(vectors, "dtype", None) or type(vectors).__name__
        raise WorkbenchError(
            f"{name} times vectors of {str(kind).removeprefix('torch.')}; expected "
            "real numbers, in a tensor or a NumPy array."
        )
    if given.ndim not in ndims or len(given) != operator.dim:
        wanted = {1: f"({operator.dim},)", 2: f"({operator.dim}, k)"}
        raise WorkbenchError(
            f"{name} times vectors of shape {tuple(given.shape)}; expected "
            f"{' or '.join(wanted[n] for n in ndims)}."
        )
    columns = given.to(operator.device, operator.dtype)
    found = product(columns[:, None] if given.ndim == 1 else columns)
    found = found[:, 0] if given.ndim == 1 else found
    return found if given is vectors else found.detach().cpu().numpy()


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype, device="cpu").numpy().dtype


def _described(operator: LinearOperator | Product, name: str) -> str:
    """Describe the operator in one line."""
    kind = str(operator.dtype).removeprefix("torch.")
    size = f"{operator.dim:,} x {operator.dim:,}"
    return f"<{name}, {size}, {kind} on {operator.device}>"


def as_operator(matrix: AnyOperator, who: str = "as_operator") -> LinearOperator:
    """Wrap a symmetric tensor, array or SciPy matrix as an operator.

    Every function that accepts an operator also accepts these. Symmetry is tested with
    two random vectors.

    Args:
        matrix: An operator, returned unchanged; a square tensor or NumPy array; or a
            SciPy matrix, sparse array or ``LinearOperator``.
        who: The caller's name, which begins error messages.

    Raises:
        WorkbenchError: If it is none of these, or not real, square and symmetric.

    Example:
        >>> A = as_operator(np.diag([3.0, 1.0]))
        >>> A @ np.ones(2)
        array([3., 1.])
    """
    if isinstance(matrix, LinearOperator):
        return matrix
    known = isinstance(matrix, Tensor) or callable(getattr(matrix, "dot", None))
    if not known:
        raise WorkbenchError(
            f"{who}: the operator is a {type(matrix).__name__}; expected a symmetric "
            "LinearOperator, such as those from operators(...), or a matrix."
        )
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise WorkbenchError(
            f"{who}: the matrix has shape {shape}; expected a square matrix."
        )
    made: LinearOperator
    if isinstance(matrix, Tensor):
        _check_real(matrix.is_complex(), matrix.dtype, who)
        single = matrix.dtype in (torch.float32, torch.float16, torch.bfloat16)
        made = Dense(matrix.detach().to(torch.float32 if single else torch.float64))
    else:
        declared: Any = matrix.dtype  # SciPy accepts any NumPy dtype
        kind = np.dtype(declared)
        _check_real(kind.kind not in "fiub", kind, who)
        single = kind.kind == "f" and kind.itemsize <= 4
        dtype = torch.float32 if single else torch.float64
        if isinstance(matrix, np.ndarray):
            made = Dense(torch.from_numpy(matrix.astype(_numpy_dtype(dtype))))
        else:
            made = Foreign(matrix, dtype)
    _check_symmetric(made, who)
    return made


def _check_real(wrong: bool, kind: object, who: str) -> None:
    if wrong:
        raise WorkbenchError(
            f"{who}: the matrix contains {str(kind).removeprefix('torch.')}; expected "
            "real numbers."
        )


def _check_symmetric(operator: LinearOperator, who: str) -> None:
    """Raise unless ``u^T A v = v^T A u`` for two random vectors."""
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(operator.dim, 2, generator=generator, device="cpu").to(
        operator.device, operator.dtype
    )
    image = operator.matmat(pair)
    if not image.isfinite().all():
        raise WorkbenchError(
            f"{who}: the matrix contains NaN or infinity; expected finite numbers."
        )
    crossed = dots(pair, image)
    size = float((lengths(pair) * lengths(image).flip(0)).max())
    off = float((crossed[0, 1] - crossed[1, 0]).abs())
    if off > 1e3 * torch.finfo(operator.dtype).eps * size:
        raise WorkbenchError(
            f"{who}: the matrix is not symmetric; expected a symmetric one. If you "
            "meant its symmetric part, pass (A + A.T) / 2."
        )


@dataclass(frozen=True, eq=False, repr=False)
class Dense(LinearOperator):
    """A symmetric matrix stored in full, (dim, dim)."""

    matrix: Tensor

    def __post_init__(self) -> None:
        _set(self, len(self.matrix), self.matrix.dtype, self.matrix.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self.matrix @ vectors


@dataclass(frozen=True, eq=False, repr=False)
class Foreign(LinearOperator):
    """A SciPy matrix, sparse or defined by its products; on the CPU."""

    matrix: HasProducts
    dtype: torch.dtype

    def __post_init__(self) -> None:
        _set(self, self.matrix.shape[0], self.dtype, torch.device("cpu"))

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return torch.as_tensor(self.matrix.dot(vectors.numpy())).to(self.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(LinearOperator):
    """``F F^T`` for a factor F (dim, r)."""

    factor: Tensor

    def __post_init__(self) -> None:
        _set(self, len(self.factor), self.factor.dtype, self.factor.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self.factor @ dots(self.factor, vectors).to(vectors.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class Sum(LinearOperator):
    """``A + B``."""

    left: LinearOperator
    right: LinearOperator

    def __post_init__(self) -> None:
        if self.left.dim != self.right.dim:
            raise WorkbenchError(
                f"operator sum: the operators have {self.left.dim} and "
                f"{self.right.dim} rows; expected operators of the same size."
            )
        _set(self, self.left.dim, self.left.dtype, self.left.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self.left.matmat(vectors) + self.right.matmat(vectors)


@dataclass(frozen=True, eq=False, repr=False)
class Scaled(LinearOperator):
    """``factor * A``."""

    operator: LinearOperator
    factor: float

    def __post_init__(self) -> None:
        _set(self, self.operator.dim, self.operator.dtype, self.operator.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self.factor * self.operator.matmat(vectors)


@dataclass(frozen=True, eq=False, repr=False)
class Projected(LinearOperator):
    """``(I - Q Q^T) A (I - Q Q^T)`` for orthonormal columns Q (dim, r)."""

    operator: LinearOperator
    basis: Tensor

    def __post_init__(self) -> None:
        _set(self, self.operator.dim, self.operator.dtype, self.operator.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self._project(self.operator.matmat(self._project(vectors)))

    def _project(self, vectors: Tensor) -> Tensor:
        inside = dots(self.basis, vectors).to(vectors.dtype)
        return vectors - self.basis @ inside


@dataclass(frozen=True, eq=False, repr=False)
class Restricted(LinearOperator):
    """A diagonal block of A: its rows and columns ``start`` to ``stop``."""

    operator: LinearOperator
    start: int
    stop: int

    def __post_init__(self) -> None:
        whole = self.operator
        _set(self, self.stop - self.start, whole.dtype, whole.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        wide = vectors.new_zeros(self.operator.dim, vectors.shape[1])
        wide[self.start : self.stop] = vectors
        return self.operator.matmat(wide)[self.start : self.stop]


@dataclass(frozen=True, eq=False, repr=False)
class Remembered(LinearOperator):
    """``A`` with cached products in a subspace: ``images = A basis``.

    Products with vectors in the subspace need no product with A. The knock-outs and
    parts of G use this: they start from the subspace in which G's own eigenvectors were
    found.
    """

    operator: LinearOperator
    basis: Tensor  # (dim, r), orthonormal columns
    images: Tensor  # (dim, r)

    def __post_init__(self) -> None:
        _set(self, self.operator.dim, self.operator.dtype, self.operator.device)

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
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
