"""Detects what a Krylov subspace misses, with a second random vector."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.linalg.columns import dots
from workbench.linalg.subspace import Subspace

MISSED = 3e-3  # probability that random vectors have too little of what is missing
FURTHER = torch.logspace(  # outwards, in steps of 3 %
    -4, 3, 500, dtype=torch.float64, device="cpu"
)
Reach = tuple[float, float]  # nothing is missing below the first, above the second
NOWHERE: Reach = (-math.inf, math.inf)


def seen(num: int) -> float:
    """Bound a sum of squared normal numbers from below, except with chance `MISSED`.

    For one number it is ``pi / 2 MISSED^2``; at most the quantile of chi-square.
    """
    half = num / 2
    return 2 * (MISSED * math.gamma(half + 1)) ** (1 / half)


@dataclass(slots=True, eq=False)
class Recurrence:
    """Alphas and betas of a Lanczos run; each beta leads to the next vector."""

    steps: list[tuple[float, float]] = field(default_factory=list)

    def mass(self, points: Tensor) -> Tensor:
        """Bound the share of the first vector that an eigenvalue at a point has.

        The Christoffel number ``1 / sum_{j <= m} p_j(x)^2`` of the orthonormal
        polynomials, which falls as x moves out.
        """
        now, before = torch.ones_like(points), torch.zeros_like(points)
        total, last = now.clone(), 0.0
        for alpha, beta in self.steps:
            now, before = ((points - alpha) * now - last * before) / beta, now
            total, last = total + now * now, beta
        return 1 / total.nan_to_num(math.inf)

    def ends(self) -> Reach:
        """Return the outermost Ritz values."""
        alphas, betas = torch.tensor(self.steps, dtype=torch.float64, device="cpu").T
        inner = alphas.diag() + betas[:-1].diag(1) + betas[:-1].diag(-1)
        values = torch.linalg.eigvalsh(inner)
        return float(values[0]), float(values[-1])


def reach_of(runs: list[Recurrence], dim: int) -> Reach:
    """Bound how far a spectrum reaches, given runs from random vectors."""
    if not all(run.steps for run in runs):
        return NOWHERE
    ends = [run.ends() for run in runs]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    widest = max(beta for run in runs for _, beta in run.steps)
    further, least = FURTHER * max(high - low, widest), seen(len(runs)) / dim

    def nearest(points: Tensor, none: float) -> float:
        """Return the first point with no eigenvalue at it or further out."""
        mass = torch.stack([run.mass(points) for run in runs]).sum(0)
        found = points[mass < least]
        return float(found[0]) if len(found) else none

    return nearest(low - further, -math.inf), nearest(high + further, math.inf)


def reach_of_start(inner: Tensor, width: int, dim: int) -> Reach:
    """Bound how far A reaches, using a subspace grown from random vectors.

    Args:
        inner: ``Q^T A Q`` of blocks of ``width`` columns; the first is random, and each
            following one comes from A times the one before.
        width: Columns per block.
        dim: Order of A.
    """
    num_steps = len(inner) // width - 1
    least = 1e-14 * float(inner.abs().max())
    runs = []
    for start in torch.eye(len(inner), dtype=inner.dtype, device=inner.device)[:width]:
        basis, run = start[:, None], Recurrence()
        for _ in range(num_steps):
            image = inner @ basis[:, -1]
            alpha = float(image @ basis[:, -1])
            for _ in range(2):
                image = image - basis @ (basis.T @ image)
            beta = float(image.norm())
            if beta <= least:
                break
            run.steps.append((alpha, beta))
            basis = torch.cat([basis, image[:, None] / beta], dim=1)
        runs.append(run)
    return reach_of(runs, dim)


class Look:
    """A Lanczos run from a random vector off the subspace, to find missing pairs.

    Consider an eigenvector orthogonal to the whole subspace, such as a further copy of
    a repeated eigenvalue. A random vector of n dimensions has a squared component of at
    least ``c / n`` along it, except with probability `MISSED`. Once the largest mass
    that the run allows (`Recurrence.mass`) is below ``c / n`` at the edges of the
    returned values, nothing is missing beyond them.
    """

    def __init__(
        self, first: int, values: Tensor, others: int, exponent: int | None
    ) -> None:
        self.first = first  # size of the subspace before
        self.values = values
        self.others = others  # dimension of the space the vector was drawn from
        self.exponent = exponent  # of the subspace's unit, which is used here too
        self.run = Recurrence()
        self.exhausted = False  # whether the run is complete for its vector

    def has_found(self, values: Tensor, bound: Tensor) -> bool:
        """Whether the outermost pairs have changed."""
        return bool(((values - self.values).abs() > bound).any())

    def take(self, projected: Tensor, image: Tensor, block: Tensor) -> None:
        """Record a step, whose next vector is ``block``."""
        self.exhausted = block.shape[1] == 0
        beta = 0.0 if self.exhausted else abs(float(dots(block, image[:, -1:])[0, 0]))
        self.run.steps.append((float(projected[-1, -1]), beta))

    def excludes(self, points: Tensor) -> Tensor:
        """Whether nothing is missing at each of the points or further out."""
        if self.exhausted:
            return torch.ones_like(points, dtype=torch.bool)
        return self.run.mass(points) < seen(1) / self.others

    def reach(self) -> Reach:
        """Below which, and above which, nothing is missing."""
        if self.exhausted:
            return self.run.ends()
        return reach_of([self.run], self.others)


def place_errors(
    space: Subspace,
    root: Tensor,
    values: Tensor,
    residuals: Tensor,
    num_high: int,
    reach: Reach,
    beyond: Reach,
) -> Tensor:
    r"""Bound how far the j-th eigenvalue from either end is from the j-th value.

    In a basis of the subspace and its complement, ``A = [[T, B^T], [B, D]]``, and
    bounds are known for A and ``D <= d``. The eigenvalues of A are at least those of T,
    and

    .. math:: \lambda_j(A) \le \lambda_j \begin{pmatrix} T & B^T \\ B & d I
        \end{pmatrix}

    which needs only ``B^T B``, from the part of the images outside the subspace. The
    low end is treated alike. If nothing is known of D, there may be one missing
    eigenvalue near each value; those further in are then off by one place.

    Args:
        space: The subspace, with T.
        root: F with ``F F^T = B^T B``, from `Subspace.leak_root`.
        values: The returned Ritz values, descending.
        residuals: Their residuals.
        num_high: How many belong to the high end.
        reach: Lower and upper bound of A's spectrum, in the unit of the subspace.
        beyond: The same for D.

    Reference:
        Parlett (1998), The Symmetric Eigenvalue Problem, sections 10.3 and 10.5.
    """
    if space.size == space.dim:
        return residuals
    errors, place = residuals.clone(), torch.arange(len(values), device=values.device)
    for sign, index, most, d in (
        (1.0, place[:num_high], reach[1], beyond[1]),
        (-1.0, place[num_high:].flip(0), -reach[0], -beyond[0]),
    ):
        own = sign * values[index]
        if not len(own):
            continue
        d = min(d, most)
        if math.isinf(d):
            gaps = own.diff().abs() if len(own) > 1 else torch.zeros_like(own)
            bound = torch.cat([gaps[:1], gaps])[: len(own)] + residuals.max()
        else:
            found = _upper(sign * space.projected, root, d)[: len(own)]
            bound = found.clamp(max=most) - own
        errors[index] = torch.maximum(residuals[index], bound)
    return errors


def _upper(inner: Tensor, root: Tensor, d: float) -> Tensor:
    """Upper bounds of all eigenvalues, from the largest, (size,)."""
    beyond = d * torch.eye(root.shape[1], dtype=inner.dtype, device=inner.device)
    rows = torch.cat([inner, root], dim=1), torch.cat([root.T, beyond], dim=1)
    found = torch.linalg.eigvalsh(torch.cat(rows)).flip(0)
    return found[: len(inner)].clamp(min=d)
