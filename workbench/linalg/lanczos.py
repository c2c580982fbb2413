"""Leading eigenpairs from block Krylov subspaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.look import NOWHERE, Look, Reach, place_errors, reach_of_start
from workbench.linalg.operator import AnyOperator, LinearOperator, as_operator
from workbench.linalg.precision import full_precision
from workbench.linalg.subspace import Subspace, orthonormal
from workbench.study.card import Card, Described, numbers

TINY = 1e-300
INNER = 8  # times the columns per step: pairs whose residuals are formed each step
SLACK = 1e-6  # of A: allowed distance from a Krylov subspace
LOOK = 10  # most steps of a look outside the subspace; and a third of those before
IN_WORK = 8  # blocks of vectors a step holds besides the subspace, measured
FREE = 2**24  # numbers in a basis small enough to allow more vectors
Which = Literal["LA", "SA", "BE"]
Status = Literal["converged", "max_steps", "breakdown"]
ENDED: Mapping[Status, str] = {  # in words
    "converged": "converged",
    "max_steps": "not converged",
    "breakdown": "exact",
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EigenPairs(Described):
    """Eigenpairs with their residuals, and how the iteration ended."""

    values: Tensor  # (m,) float64, from largest to smallest
    vectors: Tensor  # (dim, m) orthonormal columns, in the operator's dtype
    residuals: Tensor  # (m,) ||A v - lam v||: some eigenvalue is this close to lam
    num_matvecs: int
    status: Status  # "breakdown": an invariant subspace, so the pairs are exact
    errors: Tensor  # (m,) bounds on the distance to the j-th eigenvalue of its end,
    # which fail with a probability of about one percent
    num_high: int  # the first num_high are of the high end, the others of the low
    basis: Tensor  # (dim, m) orthonormal columns of the subspace
    images: Tensor  # (dim, m) A times the basis

    def card(self) -> Card:
        """What it is, in a few lines."""
        num, high = len(self.values), self.num_high
        worst = float(self.residuals.max()) if num else 0.0
        ends = f", {high} largest and {num - high} smallest" if high < num else ""
        return Card(
            f"{num} eigenpairs of a matrix of order {len(self.vectors):,}{ends}",
            {
                "values": numbers(self.values.tolist()),
                "residuals": f"at most {worst:.2g}",
                "status": f"{ENDED[self.status]}, after {self.num_matvecs:,} products",
            },
        )

    def alone(self) -> EigenPairs:
        """Return the pairs without the subspace, freeing its ``2 dim m`` numbers."""
        empty = self.vectors[:, :0].clone()
        return replace(self, basis=empty, images=empty)


@full_precision()
def top_eigenpairs(
    operator: AnyOperator,
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
    max_vectors: int | None = None,
    generator: torch.Generator | None = None,
    report: Callable[[float], None] | None = None,
) -> EigenPairs:
    r"""Compute leading eigenpairs of a symmetric operator in a block Krylov subspace.

    Grows an orthonormal basis Q, keeps ``W = A Q``, and takes Ritz pairs of ``Q^T A
    Q``. The next block holds the largest residuals ``W s - theta Q s`` of the wanted
    pairs, orthogonalised against all of Q: from a block of start vectors these are the
    next directions of span{V, A V, A^2 V, ...}. The residuals are formed from W, not
    from a recurrence, so they are valid even if orthogonality is only as good as
    float32, and cost no further matvecs. A full basis is replaced by the leading Ritz
    vectors (a thick restart).

    A subspace grown from one vector contains only one copy of a repeated eigenvalue. So
    before returning, the method looks outside it with a random vector (`Look`), using
    at most ten products and at most a third of those before, and continues if that
    finds another pair. Typically three to six products show that nothing is missing.
    How far everything missing can reach, and how it couples to the subspace, bounds the
    eigenvalues of each rank from the other side than the Ritz values do
    (`place_errors`). At the edge of a bulk, `EigenPairs.errors` exceed the residuals.

    .. math:: \min_\mu |\mu - \theta| \le \|A v - \theta v\|, \quad \|v\| = 1

    Costs one matvec per column and ``O(dim m^2)``; stores `subspace_vectors` vectors.
    The result does not depend on the scale of A, except that A is refused if its
    products are so small that the dtype loses digits.

    Args:
        operator: The symmetric operator A, or a matrix: see `as_operator`.
        k: Number of pairs at the chosen end; for ``"BE"``, at the high end.
        tol: Stop when each residual is at most ``tol`` times the largest ``|theta|``.
        scale: Lower bound for that largest ``|theta|``, such as the size of a matrix of
            which A is a part.
        start: Columns to start the subspace from, (dim, r): approximate eigenvectors,
            or several for an eigenvalue whose copies must not be missed. By default one
            random vector, which needs the fewest products. Random columns fill up the
            block.
        which: ``"LA"`` largest, ``"SA"`` smallest (most negative), ``"BE"`` both ends.
        k_low: For ``"BE"``, the number of pairs at the low end; by default k.
        tol_low: For ``"BE"``, hold residuals at the low end also to this times the
            largest ``|theta|`` there, and at the high end to ``tol`` times the largest
            there; either counts as at least ``tol`` times the largest of all. Set it if
            one end has large outliers: ``tol`` then says little about the other end.
        block_size: Columns per step; by default as many as ``start`` has, else 1. With
            as many columns as the largest multiplicity, every copy is found at once.
        max_matvecs: Limit on matvecs; by default ``20 k + 100``.
        max_vectors: Size at which the basis restarts from Ritz vectors; as many images
            are stored too. By default four for each wanted pair and a few more; for a
            small operator, dim.
        generator: Random generator of the start.
        report: Called after each step with ``tol`` times the worst ratio of a residual
            to its bound.

    Returns:
        k pairs (k + k_low for ``"BE"``; fewer if dim is smaller), sorted by value.

    Raises:
        WorkbenchError: If a count or tolerance is not positive, ``which`` is unknown,
            ``start`` does not fit, or the operator returns NaN or numbers too small for
            its dtype.

    Reference:
        Parlett (1998), The Symmetric Eigenvalue Problem, chapters 4 and 13;
        Saad (2011), Numerical Methods for Large Eigenvalue Problems, chapters 6 and 8;
        Wu and Simon (2000), SIAM J. Matrix Anal. Appl. 22(2), for the restart.
    """
    operator = as_operator(operator, "top_eigenpairs")
    _check(k, tol, scale, which, k_low, tol_low, block_size, max_matvecs)
    dim = operator.dim
    k = min(k, dim)
    high, low = _ends(k, which, k_low)
    num_wanted = min(dim, high + low)
    generator = generator or torch.Generator().manual_seed(0)
    first = _start(operator, start, block_size, generator)
    block = orthonormal(first, None)
    if block.shape[1] == 0:  # only zeros were given
        block = orthonormal(_random(operator, 1, generator), None)
    width = block_size or first.shape[1]
    room = _room(dim, num_wanted, max(width, first.shape[1]), max_vectors)
    limit = max(num_wanted, max_matvecs or 20 * k + 100)
    if room >= dim:
        limit = min(limit, dim)
    space = Subspace(block, room)
    look: Look | None = None
    # of the basis, what grew from random vectors alone, in whole blocks
    grown = step = block.shape[1] if start is None else 0
    growing = start is None
    reach = NOWHERE  # of all of A, as these vectors saw it
    num_matvecs = 0

    def restart() -> None:
        """Keep the leading Ritz vectors, once what the random start says is read."""
        nonlocal growing, grown, reach
        reach = _reach(space, space.leak_root(), grown, step, reach)
        growing, grown = False, 0
        space.compress(_restart_vectors(space, high, low, num_wanted, room - width))

    while True:
        image = operator.matmat(block)
        if not image.isfinite().all():
            raise WorkbenchError(
                "top_eigenpairs: the operator returned NaN or infinity; the weights or "
                "the data are not finite, or too large for this dtype."
            )
        image = space.add(block, image)
        num_matvecs += block.shape[1]
        left = min(limit - num_matvecs, dim - space.size)
        values, small = _chosen(space.projected, high, low)
        bound = _bounds(values, low, tol, tol_low, scale / space.unit)
        looks = [slice(None)]
        if start is None:  # the innermost converge last, so check only them
            looks.insert(0, _innermost(high, low, len(values), INNER * width))
        for part in looks:
            some, turns = values[part], small[:, part]
            residuals = space.residuals(some, turns)
            worst = float((residuals / bound[part]).max())
            order = residuals.argsort(descending=True)
            order = order[(residuals > bound[part])[order]]
            order = order[: min(width, left)]
            block = orthonormal(space.errors(some[order], turns[:, order]), space)
            if worst > 1 and block.shape[1]:
                break
        if report and look is None:
            report(worst * tol)
        if space.size < num_wanted:
            if block.shape[1] == 0:
                growing = False
                block = orthonormal(_random(operator, 1, generator), space)
            growing = growing and block.shape[1] == step
            grown += step * growing
            continue
        unfinished = worst > 1 and block.shape[1] > 0
        if left > 0 and unfinished:
            look = None
            if space.size + block.shape[1] > room:
                restart()
            growing = growing and block.shape[1] == step
            grown += step * growing
            continue
        if left > 0:
            other_unit = look is not None and look.exponent != space.exponent
            if look is None or other_unit or look.has_found(values, bound):
                if space.size + min(left, LOOK) > room:
                    restart()
                growing = False
                block = orthonormal(_random(operator, 1, generator), space)
                look = Look(space.size, values, dim - space.size, space.exponent)
                continue
            block = orthonormal(image, space)
            look.take(space.projected, image, block)
            steps = min(max(look.first // 3, 4), LOOK, room - look.first)
            edges = _edges(values, bound, high, low)
            if space.size < look.first + steps and not look.excludes(edges).all():
                continue
        status: Status = "converged" if worst <= 1 else "max_steps"
        if space.exponent is None or space.size == dim or (worst > 1 and left > 0):
            status = "breakdown"
        num_high = _num_high(len(values), high, low)
        root = space.leak_root()
        reach = _reach(space, root, grown, step, reach)
        errors = place_errors(
            space,
            root,
            values,
            residuals,
            num_high,
            reach=(reach[0] / space.unit, reach[1] / space.unit),
            beyond=look.reach() if look else NOWHERE,
        )
        return EigenPairs(
            values=values * space.unit,
            vectors=space.vectors(small),
            residuals=residuals * space.unit,
            num_matvecs=num_matvecs,
            status=status,
            errors=errors * space.unit,
            num_high=num_high,
            basis=space.basis.T,
            images=space.images_as_they_are().T,
        )


def _reach(
    space: Subspace, root: Tensor, grown: int, width: int, before: Reach
) -> Reach:
    """How far A reaches, from what grew from random vectors; else as known before.

    As far as what A makes of all but the last block is inside, nearly: residuals of
    pairs that have converged lean away from that. What is not is added.
    """
    inner = space.projected
    least = SLACK * float(inner.abs().max()) if grown else 0.0
    while grown > width:
        leaks = root[: grown - width], inner[: grown - width, grown:]
        off = math.hypot(*(float(leak.norm()) for leak in leaks))
        if off <= least:
            low, high = reach_of_start(inner[:grown, :grown], width, space.dim)
            return (low - off) * space.unit, (high + off) * space.unit
        grown -= width
    return before


def subspace_vectors(
    dim: int,
    k: int,
    *,
    which: Which = "LA",
    k_low: int | None = None,
    block_size: int = 1,
    max_vectors: int | None = None,
) -> int:
    """Return the most vectors of ``dim`` numbers that `top_eigenpairs` stores at once.

    Args:
        dim: Order of the operator.
        k: As for `top_eigenpairs`, like ``which``, ``k_low`` and ``max_vectors``.
        which: The end or ends.
        k_low: Pairs at the low end.
        block_size: Columns per step, or of ``start`` if that has more.
        max_vectors: Limit of the basis.

    Returns:
        The number of vectors in the basis, its images, the returned pairs and temporary
        blocks, without the operator's own memory.

    Example:
        >>> subspace_vectors(11_000_000, 10)
        122
    """
    k = min(k, dim)
    num_wanted = min(dim, sum(_ends(k, which, k_low)))
    room = _room(dim, num_wanted, block_size, max_vectors)
    return 2 * room + num_wanted + IN_WORK * block_size


def _innermost(high: int, low: int, num: int, width: int) -> slice:
    """The innermost of ``num`` values, of which ``low`` are of the low end."""
    edge = num - min(low, num)
    if not high:
        edge = 0
    return slice(max(edge - width, 0), edge + width)


def _bounds(
    values: Tensor, low: int, tol: float, tol_low: float | None, scale: float
) -> Tensor:
    """Bound of each residual; the last ``low`` values are those of the low end."""
    size = max(float(values.abs().max()), scale, TINY)
    bounds = torch.full_like(values, tol * size)
    if tol_low is not None and low:
        high = values[:-low].abs().max() if low < len(values) else values.new_tensor(0)
        own = max(float(high), scale, tol * size)
        bounds[:-low] = tol * own
        own = max(float(values[-low:].abs().max()), tol * size)
        bounds[-low:] = min(tol * size, tol_low * own)
    return bounds


def _check(
    k: int,
    tol: float,
    scale: float,
    which: Which,
    k_low: int | None,
    tol_low: float | None,
    block_size: int | None,
    max_matvecs: int | None,
) -> None:
    if which not in ("LA", "SA", "BE"):
        raise WorkbenchError(
            f"top_eigenpairs: which is {which!r}; expected 'LA', 'SA' or 'BE'."
        )
    counts = {"k": k, "k_low": k_low, "block_size": block_size}
    for name, count in {**counts, "max_matvecs": max_matvecs}.items():
        if count is not None and (count != round(count) or count < 1):
            raise WorkbenchError(
                f"top_eigenpairs: {name} is {count}; expected a whole number, at "
                "least 1 (for the high end alone, use which='LA')."
            )
    for name, tolerance in {"tol": tol, "tol_low": tol_low}.items():
        if tolerance is not None and not 0 < tolerance < math.inf:
            raise WorkbenchError(
                f"top_eigenpairs: {name} is {tolerance}; expected a positive fraction "
                "of the largest eigenvalue, such as 1e-3."
            )
    if not 0 <= scale < math.inf:
        raise WorkbenchError(
            f"top_eigenpairs: scale is {scale}; expected the size of a matrix, at "
            "least 0."
        )


def _ends(k: int, which: Which, k_low: int | None) -> tuple[int, int]:
    """Return the number of pairs at the high and at the low end."""
    low = {"LA": 0, "SA": k, "BE": k if k_low is None else k_low}[which]
    return (0 if which == "SA" else k), low


def _num_high(num: int, high: int, low: int) -> int:
    """How many of the pairs are of the high end; if too few, shared in proportion."""
    return high if high + low <= num else num - num * low // (high + low)


def _edges(values: Tensor, bound: Tensor, high: int, low: int) -> Tensor:
    """The values beyond which another eigenvalue would be one of the wanted."""
    above, below = (values + bound)[:high][-1:], (values - bound)[-low:][:1]
    return torch.cat([above, below]) if low else above


def _room(dim: int, num_wanted: int, width: int, max_vectors: int | None) -> int:
    """How many vectors the basis has room for."""
    if max_vectors is None:
        least = 4 * num_wanted + 2 * width + LOOK
        return min(dim, max(least, FREE // dim))
    least = min(dim, num_wanted + 2 * width)
    if max_vectors < least:
        raise WorkbenchError(
            f"top_eigenpairs: max_vectors is {max_vectors}; expected at least "
            f"{least}, for {num_wanted} pairs and two steps of {width} columns."
        )
    return min(dim, max_vectors)


def _restart_vectors(
    space: Subspace, high: int, low: int, num_wanted: int, most: int
) -> Tensor:
    """Ritz vectors that a restart keeps: the wanted ones, and half of the rest."""
    extra = (most - num_wanted) // 2
    above = extra if not low else extra // 2 if high else 0
    below = extra - above
    return _chosen(space.projected, high and high + above, low and low + below)[1]


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
    if start is not None and not start.isfinite().all():
        raise WorkbenchError(
            "top_eigenpairs: start contains NaN or infinity; expected finite columns."
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
    noise = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return noise.to(operator.device, operator.dtype)


def _chosen(matrix: Tensor, high: int, low: int) -> tuple[Tensor, Tensor]:
    """The highest and the lowest eigenpairs of a small matrix, descending."""
    values, vectors = torch.linalg.eigh(matrix)
    num = len(values)
    chosen = {*range(max(num - high, 0), num), *range(min(low, num))}
    index = torch.tensor(sorted(chosen, reverse=True), device=values.device)
    return values[index], vectors[:, index]
