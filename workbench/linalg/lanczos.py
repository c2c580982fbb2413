"""Leading eigenpairs by block Krylov subspaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.columns import dots, lengths, pieces, sharpened
from workbench.linalg.operator import LinearOperator

TINY = 1e-300
INNER = 8  # times the columns of a step: pairs whose residuals are formed each time
LOOK = 10  # steps of the look outside an invariant subspace
KEEPS = 0.5  # of a unit vector is left off a subspace: then rounding is as small
Which = Literal["LA", "SA", "BE"]
Status = Literal["converged", "max_steps", "breakdown"]


@dataclass(frozen=True, slots=True, eq=False)
class EigenPairs:
    """Eigenpairs with the residual of each, and how the iteration ended."""

    values: Tensor  # (m,) float64, from largest to smallest
    vectors: Tensor  # (dim, m) orthonormal columns, in the operator's dtype
    residuals: Tensor  # (m,) ||A v - lam v||: some eigenvalue lies this near to lam
    num_matvecs: int
    status: Status  # "breakdown": the subspace is invariant, the pairs are exact
    basis: Tensor  # (dim, m) orthonormal columns of the subspace
    images: Tensor  # (dim, m) A times the basis

    def alone(self) -> EigenPairs:
        """The pairs without the subspace, whose ``2 dim m`` numbers are let go."""
        empty = self.vectors[:, :0].clone()
        return replace(self, basis=empty, images=empty)


def top_eigenpairs(
    operator: LinearOperator,
    k: int,
    *,
    tol: float = 1e-3,
    scale: float = 0.0,
    start: Tensor | None = None,
    which: Which = "LA",
    k_low: int | None = None,
    tol_low: float | None = None,
    block_size: int | None = None,
    max_matvecs: int | None = None,
    generator: torch.Generator | None = None,
    report: Callable[[float], None] | None = None,
) -> EigenPairs:
    r"""Leading eigenpairs of a symmetric operator by a block Krylov subspace.

    Grows an orthonormal basis Q, keeps ``W = A Q``, and takes Ritz pairs of
    ``Q^T A Q``. The next block holds the largest residuals ``W s - theta Q s`` of the
    wanted pairs, orthogonalised against all of Q: from a block of start vectors
    these are the next directions of span{V, A V, A^2 V, ...}. The residuals are formed
    from W, not from a recurrence, so that they hold also where orthogonality is only as
    good as float32, at no further matvec. Where the subspace turns out to be invariant,
    a random vector and its images are added, until they bring no new pair: so multiple
    eigenvalues are found one copy after the other. Where a block narrower than the
    number of copies converges before that, copies may be missing: the values are
    eigenvalues still, but not all of the highest.

    .. math:: \min_\mu |\mu - \theta| \le \|A v - \theta v\|, \quad \|v\| = 1

    Costs one matvec a column and ``O(dim m^2)``; stores ``2 dim m`` numbers, in room
    for ``4 k`` vectors from the start.

    Args:
        operator: The symmetric operator A.
        k: How many pairs at the chosen end; for ``"BE"`` at the high one.
        tol: Stop when each residual is at most ``tol`` times the largest ``|theta|``.
        scale: Take at least this in its place: the size of the matrix that A is a
            part of, say.
        start: Columns that the subspace starts from, (dim, r): eigenvectors, nearly, or
            copies of one that must not be missed. Without, one random vector, which
            needs the fewest products. Random columns fill it up to the block.
        which: ``"LA"`` largest, ``"SA"`` smallest (most negative), ``"BE"`` both ends.
        k_low: For ``"BE"``, how many at the low end; by default k.
        tol_low: For ``"BE"``, hold residuals at the low end also against this times
            the largest ``|theta|`` there, and at the high end against ``tol`` times
            the largest there; ``tol`` of the largest of all stands in where that is
            more. Beside large outliers ``tol`` says little of the other end.
        block_size: Columns a step; by default those of ``start``, else 1. A block of
            as many columns as the largest multiplicity finds every copy at once.
        max_matvecs: Stop then; by default ``20 k + 100``, and never more than dim.
        generator: Source of the random start.
        report: Called after each step with the worst residual over its bound, times
            ``tol``.

    Returns:
        k pairs (k + k_low for ``"BE"``; fewer where dim is smaller), sorted by value.

    Raises:
        WorkbenchError: If k is below 1, there is no such ``which``, ``start`` does not
            fit, or the operator returns NaN.

    Reference:
        Parlett (1998), The Symmetric Eigenvalue Problem, chapters 4 and 13;
        Saad (2011), Numerical Methods for Large Eigenvalue Problems, chapters 6 and 8.
    """
    if k < 1:
        raise WorkbenchError(f"top_eigenpairs: k = {k}; expected at least 1.")
    if which not in ("LA", "SA", "BE"):
        raise WorkbenchError(
            f"top_eigenpairs: which = {which!r}; expected LA, SA or BE."
        )
    dim = operator.dim
    k = min(k, dim)
    high = 0 if which == "SA" else k
    low = {"LA": 0, "SA": k, "BE": k if k_low is None else k_low}[which]
    num_wanted = min(dim, high + low)
    limit = max(num_wanted, min(dim, max_matvecs or 20 * k + 100))
    generator = generator or torch.Generator().manual_seed(0)
    first = _start(operator, start, block_size, generator)
    width = block_size or first.shape[1]
    block = _orthonormal(first, None)
    space = _Subspace(block, room=min(limit, 4 * num_wanted) + width)
    known: Tensor | None = None  # the values before the last look outside
    steps = 0  # left of that look
    while True:
        if block.shape[1] == 0:  # an invariant subspace: look outside it
            block = _orthonormal(_random(operator, 1, generator), space)
        image = operator.matmat(block)
        if not image.isfinite().all():
            raise WorkbenchError(
                "top_eigenpairs: the operator returned NaN or infinity; the weights or "
                "the data are not finite, or too large for this dtype."
            )
        space.add(block, image)
        values, small = _chosen(space.projected, high, low)
        bound = _bounds(values, low, tol, tol_low, scale)
        size, looks = space.size, [slice(None)]
        if start is None:  # the innermost converge last: the others when these have
            looks.insert(0, _innermost(high, low, len(values), INNER * width))
        for part in looks:
            some, turns = values[part], small[:, part]
            residuals = space.residuals(some, turns)
            worst = float((residuals / bound[part]).max())
            order = residuals.argsort(descending=True)
            order = order[(residuals > bound[part])[order]]
            order = order[: min(width, limit - size)]
            block = _orthonormal(space.errors(some[order], turns[:, order]), space)
            if worst > 1 and size < limit and block.shape[1]:
                break
        if report:
            report(worst * tol)
        if size < num_wanted:
            continue
        if worst <= 1 or size >= limit or block.shape[1] == 0:
            if size < limit and space.is_invariant():
                if known is None or ((values - known).abs() > bound).any():
                    known, steps = values, LOOK  # copies, and what start has no part in
                    block = block[:, :0]
                    continue
            elif size < limit and steps > 0:
                steps -= 1
                block = _orthonormal(image, space)
                continue
            exact = size == dim or (worst > 1 and size < limit)
            status: Status = "converged" if worst <= 1 else "max_steps"
            if exact:
                status = "breakdown"
            return EigenPairs(
                values,
                space.vectors(small),
                residuals,
                size,
                status,
                space.basis.T,
                space.images.T,
            )


class _Subspace:
    """An orthonormal basis Q and its images ``W = A Q``, vector by vector.

    Each vector is a row, in room that is taken before: nothing is copied while the
    subspace grows. Sums over dim are taken piece by piece, and added in float64.
    """

    def __init__(self, like: Tensor, room: int) -> None:
        self.size = 0
        self.projected = torch.empty(0, 0, dtype=torch.float64, device=like.device)
        self._rows = like.new_empty(2, room, len(like))

    @property
    def basis(self) -> Tensor:
        """Q^T, (size, dim)."""
        return self._rows[0, : self.size]

    @property
    def images(self) -> Tensor:
        """W^T, (size, dim)."""
        return self._rows[1, : self.size]

    def add(self, block: Tensor, image: Tensor) -> None:
        """Take in further columns of Q, (dim, k), and their images."""
        grown = self.size + block.shape[1]
        if grown > self._rows.shape[1]:
            rows = self._rows.new_empty(2, grown + grown // 2, len(block))
            rows[:, : self.size] = self._rows[:, : self.size]
            self._rows = rows
        self._rows[0, self.size : grown] = block.T
        self._rows[1, self.size : grown] = image.T
        self.size = grown
        self.projected = _bordered(self.projected, self.inside(image))

    def inside(self, columns: Tensor) -> Tensor:
        """``Q^T x`` of the columns, (size, k), float64."""
        return dots(self.basis.T, columns)

    def without(self, columns: Tensor) -> Tensor:
        """``x - Q Q^T x`` of the columns, (dim, k)."""
        inside = self.inside(columns).to(columns.dtype)
        return columns - (inside.T @ self.basis).T

    def vectors(self, small: Tensor) -> Tensor:
        """``Q s``, (dim, k), of columns s (size, k)."""
        return (small.to(self._rows.dtype).T @ self.basis).T

    def errors(self, values: Tensor, small: Tensor) -> Tensor:
        """``W s - theta Q s``, (dim, k): what the Ritz pairs miss."""
        turn, lean = _both(small, values, self._rows.dtype)
        return (turn @ self.images - lean @ self.basis).T

    def residuals(self, values: Tensor, small: Tensor) -> Tensor:
        """Lengths of the `errors`, (k,) float64, without keeping them."""
        turn, lean = _both(small, values, self._rows.dtype)
        return self._lengths(turn, lean)

    def is_invariant(self) -> bool:
        """Whether A takes no vector of the subspace out of it, up to rounding.

        The last vectors came from residuals that were small themselves, and rounding
        grew with them: half of the digits are asked for.
        """
        dtype = self._rows.dtype
        eye = torch.eye(self.size, dtype=dtype, device=self._rows.device)
        lean = self.projected.to(dtype)
        floor = torch.finfo(dtype).eps ** 0.5 * self._lengths(eye, 0 * lean).max()
        return bool(self._lengths(eye, lean).max() <= floor)

    def _lengths(self, turn: Tensor, lean: Tensor) -> Tensor:
        """Lengths of ``turn W^T - lean Q^T``, row by row, float64."""
        squares = self.projected.new_zeros(len(turn))
        for piece in pieces(self._rows.shape[2]):
            part = turn @ self.images[:, piece]
            part -= lean @ self.basis[:, piece]
            squares += part.square().sum(1)
        return squares.sqrt()


def _innermost(high: int, low: int, num: int, width: int) -> slice:
    """Those of ``num`` values, ``low`` of them of the low end, next to the others."""
    edge = num - min(low, num)
    if not high:
        edge = 0
    return slice(max(edge - width, 0), edge + width)


def _bounds(
    values: Tensor, low: int, tol: float, tol_low: float | None, scale: float
) -> Tensor:
    """What each residual may be; the last ``low`` values are those of the low end."""
    size = max(float(values.abs().max()), scale, TINY)
    bounds = torch.full_like(values, tol * size)
    if tol_low is not None and low:
        high = values[:-low].abs().max() if low < len(values) else values.new_tensor(0)
        own = max(float(high), scale, tol * size)
        bounds[:-low] = tol * own
        own = max(float(values[-low:].abs().max()), tol * size)
        bounds[-low:] = min(tol * size, tol_low * own)
    return bounds


def _both(small: Tensor, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``s^T`` and ``theta s^T``, (k, size)."""
    return small.to(dtype).T, (small * values).to(dtype).T


def _start(
    operator: LinearOperator,
    start: Tensor | None,
    block_size: int | None,
    generator: torch.Generator,
) -> Tensor:
    """The first block: the given columns, filled up with random ones."""
    if start is not None and (start.ndim != 2 or len(start) != operator.dim):
        raise WorkbenchError(
            f"top_eigenpairs: start has shape {tuple(start.shape)}; expected columns "
            f"of {operator.dim} rows."
        )
    given = 0 if start is None else start.shape[1]
    size = min(operator.dim, max(block_size or given, given, 1))
    missing = _random(operator, size - given, generator)
    if start is None:
        return missing
    return torch.cat([start.to(missing.dtype).to(operator.device), missing], dim=1)


def _random(
    operator: LinearOperator, columns: int, generator: torch.Generator
) -> Tensor:
    shape = (operator.dim, max(columns, 0))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise.to(operator.device, operator.dtype)


def _orthonormal(block: Tensor, space: _Subspace | None) -> Tensor:
    """Orthonormal columns spanning the block off the subspace.

    Columns are scaled alike first; directions that are then at the level of rounding
    are dropped, so there may be fewer.
    """
    norms = lengths(block).to(block.dtype)
    block = block[:, norms > 0] / norms[norms > 0]
    if block.shape[1] == 0:
        return block
    if space is not None:
        block = space.without(block)
        if float(lengths(block).min()) < KEEPS:  # what is left has rounding in it
            block = space.without(block)
    block, corner = torch.linalg.qr(block)
    turn, size, _ = torch.linalg.svd(corner)
    left = block @ turn[:, size > 100 * torch.finfo(block.dtype).eps]
    amplified = bool(left.shape[1] and size[: left.shape[1]].min() < KEEPS)
    if space is not None and amplified:
        left, _ = torch.linalg.qr(space.without(left))
    return sharpened(left) if left.shape[1] else left


def _bordered(matrix: Tensor, columns: Tensor) -> Tensor:
    """A symmetric matrix grown by the columns that a new block brings."""
    old, size = len(matrix), len(columns)
    grown = torch.zeros(size, size, dtype=torch.float64, device=matrix.device)
    grown[:old, :old] = matrix
    grown[:, old:] = columns.double()
    grown[old:, :old] = grown[:old, old:].T
    corner = grown[old:, old:]
    grown[old:, old:] = (corner + corner.T) / 2
    return grown


def _chosen(matrix: Tensor, high: int, low: int) -> tuple[Tensor, Tensor]:
    """The highest and the lowest eigenpairs of a small matrix, descending."""
    values, vectors = torch.linalg.eigh(matrix)
    num = len(values)
    chosen = {*range(max(num - high, 0), num), *range(min(low, num))}
    index = torch.tensor(sorted(chosen, reverse=True), device=values.device)
    return values[index], vectors[:, index]
