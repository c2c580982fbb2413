"""Leading eigenpairs by block Krylov subspaces, and Lanczos tridiagonalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.operator import LinearOperator

TINY = 1e-300
LOOK = 10  # steps of the look outside an invariant subspace
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


def top_eigenpairs(
    operator: LinearOperator,
    k: int,
    *,
    tol: float = 1e-3,
    scale: float = 0.0,
    start: Tensor | None = None,
    which: Which = "LA",
    k_low: int | None = None,
    block_size: int | None = None,
    max_matvecs: int | None = None,
    generator: torch.Generator | None = None,
    report: Callable[[float], None] | None = None,
) -> EigenPairs:
    r"""Leading eigenpairs of a symmetric operator by a block Krylov subspace.

    Grows an orthonormal basis Q, keeps ``W = A Q``, and takes Ritz pairs of
    ``Q^T A Q``. The next block holds the largest residuals ``W s - theta Q s`` of the
    wanted pairs, orthogonalised twice against all of Q: from a block of start vectors
    these are the next directions of span{V, A V, A^2 V, ...}. The residuals are formed
    from W, not from a recurrence, so that they hold also where orthogonality is only as
    good as float32, at no further matvec. Where the subspace turns out to be invariant,
    a random vector and its images are added, until they bring no new pair: so multiple
    eigenvalues are found one copy after the other. Where a block narrower than the
    number of copies converges before that, copies may be missing: the values are
    eigenvalues still, but not all of the highest.

    .. math:: \min_\mu |\mu - \theta| \le \|A v - \theta v\|, \quad \|v\| = 1

    Costs one matvec a column and ``O(dim m^2)``; stores ``2 dim m`` numbers.

    Args:
        operator: The symmetric operator A.
        k: How many pairs at the chosen end; for ``"BE"`` at the high one.
        tol: Stop when each residual is at most ``tol`` times the largest ``|theta|``.
        scale: Take at least this in its place: the size of the matrix that A is a
            part of, say.
        start: Columns that the subspace starts from, (dim, r); for G the class means
            are a good choice. Random columns fill it up to the block.
        which: ``"LA"`` largest, ``"SA"`` smallest (most negative), ``"BE"`` both ends.
        k_low: For ``"BE"``, how many at the low end; by default k.
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
    basis = block.new_empty(dim, 0)
    images = block.new_empty(dim, 0)
    projected = torch.empty(0, 0, dtype=torch.float64, device=block.device)
    known: Tensor | None = None  # the values before the last look outside
    steps = 0  # left of that look
    while True:
        if block.shape[1] == 0:  # an invariant subspace: look outside it
            block = _orthonormal(_random(operator, 1, generator), basis)
        image = operator.matmat(block)
        if not image.isfinite().all():
            raise WorkbenchError(
                "top_eigenpairs: the operator returned NaN or infinity; the weights or "
                "the data are not finite, or too large for this dtype."
            )
        basis = torch.cat([basis, block], dim=1)
        images = torch.cat([images, image], dim=1)
        projected = _bordered(projected, basis.T @ image)
        values, small = _chosen(projected, high, low)
        turn = small.to(basis.dtype)
        vectors = basis @ turn
        errors = images @ turn - vectors * values.to(basis.dtype)
        residuals = errors.double().norm(dim=0)
        bound = tol * max(float(values.abs().max()), scale, TINY)
        worst = float(residuals.max()) / bound
        if report:
            report(worst * tol)
        size = basis.shape[1]
        order = residuals.argsort(descending=True)
        order = order[residuals[order] > bound][: min(width, limit - size)]
        block = _orthonormal(errors[:, order], basis)
        if size < num_wanted:
            continue
        if worst <= 1 or size >= limit or block.shape[1] == 0:
            if size < limit and _invariant(basis, images, projected):
                if known is None or float((values - known).abs().max()) > bound:
                    known, steps = values, LOOK  # copies, and what start has no part in
                    block = block[:, :0]
                    continue
            elif size < limit and steps > 0:
                steps -= 1
                block = _orthonormal(image, basis)
                continue
            exact = size == dim or (worst > 1 and size < limit)
            status: Status = "converged" if worst <= 1 else "max_steps"
            if exact:
                status = "breakdown"
            return EigenPairs(values, vectors, residuals, size, status, basis, images)


def tridiagonalise(
    operator: LinearOperator,
    start: Tensor,
    num_steps: int,
    report: Callable[[float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Lanczos from several unit vectors at once, each with its own basis.

    .. math:: A Q_j^T = Q_j^T T_j + \beta_{j,m} q_{j,m+1} e_m^T

    The recurrences share each product of A with a block of all current vectors. Full
    reorthogonalisation, twice. A recurrence that breaks down ends with ``beta = 0``.

    Args:
        operator: The symmetric operator A.
        start: Columns, (dim, num_probes); normalised here.
        num_steps: m, matvecs a probe; at most dim.
        report: Called with the share of the steps done.

    Returns:
        Diagonals (num_probes, m) and off-diagonals (num_probes, m - 1), float64.
    """
    dim, num_probes = start.shape
    num_steps = min(num_steps, dim)
    current = start / start.norm(dim=0)
    basis = start.new_zeros(num_probes, num_steps, dim)
    alpha = torch.zeros(num_probes, num_steps, dtype=torch.float64, device=start.device)
    beta = torch.zeros_like(alpha)
    floor = 10 * torch.finfo(start.dtype).eps
    scale = torch.zeros(num_probes, dtype=torch.float64, device=start.device)
    for m in range(num_steps):
        basis[:, m] = current.T
        rest = operator.matmat(current).T  # (num_probes, dim)
        alpha[:, m] = (rest.double() * basis[:, m].double()).sum(1)
        for _ in range(2):
            done = basis[:, : m + 1]
            inner = torch.einsum("jmp,jp->jm", done, rest)
            rest = rest - torch.einsum("jm,jmp->jp", inner, done)
        norm = rest.double().norm(dim=1)
        scale = torch.maximum(scale, alpha[:, m].abs() + norm)
        alive = norm > floor * scale
        beta[:, m] = torch.where(alive, norm, 0.0)
        safe = torch.where(alive, norm, 1.0).to(rest.dtype)
        current = torch.where(alive[:, None], rest / safe[:, None], 0.0).T
        if report:
            report((m + 1) / num_steps)
    return alpha, beta[:, :-1]


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


def _orthonormal(block: Tensor, basis: Tensor | None) -> Tensor:
    """Orthonormal columns spanning the block off the basis.

    Columns are scaled alike first; directions that are then at the level of rounding
    are dropped, so there may be fewer.
    """
    norms = block.norm(dim=0)
    block = block[:, norms > 0] / norms[norms > 0]
    if block.shape[1] == 0:
        return block
    if basis is not None:
        for _ in range(2):
            block = block - basis @ (basis.T @ block)
    left, size, _ = torch.linalg.svd(block, full_matrices=False)
    left = left[:, size > 100 * torch.finfo(block.dtype).eps]
    if basis is not None and left.shape[1]:  # small remainders were amplified
        left = left - basis @ (basis.T @ left)
        left, _ = torch.linalg.qr(left)
    return left


def _invariant(basis: Tensor, images: Tensor, projected: Tensor) -> bool:
    """Whether A takes no vector of the subspace out of it, up to rounding.

    The last vectors came from residuals that were small themselves, and rounding grew
    with them: half of the digits are asked for.
    """
    rest = images - basis @ projected.to(basis.dtype)
    floor = torch.finfo(basis.dtype).eps ** 0.5 * images.norm(dim=0).max()
    return bool(rest.norm(dim=0).max() <= floor)


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
