"""What a Krylov subspace misses, as a second random vector sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.linalg.columns import dots
from workbench.linalg.subspace import Subspace

MISSED = 3e-3  # chance that random vectors hold too little of what is missing
FURTHER = torch.logspace(  # outwards, in steps of 3 %
    -4, 3, 500, dtype=torch.float64, device="cpu"
)
Reach = tuple[float, float]  # below which, and above which, nothing is missing
NOWHERE: Reach = (-math.inf, math.inf)


def seen(num: int) -> float:
    """What so many random numbers have of squares together, but for a chance of MISSED.

    For one ``pi / 2 MISSED^2``: no more than the quantile of chi-square.
    """
    half = num / 2
    return 2 * (MISSED * math.gamma(half + 1)) ** (1 / half)


@dataclass(slots=True, eq=False)
class Recurrence:
    """Alphas and betas of a Lanczos run, each beta to the next vector."""

    steps: list[tuple[float, float]] = field(default_factory=list)

    def mass(self, points: Tensor) -> Tensor:
        """The largest share of the first vector that an eigenvalue at a point can have.

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
        """The outermost Ritz values."""
        alphas, betas = torch.tensor(self.steps, dtype=torch.float64, device="cpu").T
        inner = alphas.diag() + betas[:-1].diag(1) + betas[:-1].diag(-1)
        values = torch.linalg.eigvalsh(inner)
        return float(values[0]), float(values[-1])


def reach_of(runs: list[Recurrence], dim: int) -> Reach:
    """How far the spectrum reaches that random vectors of so many dimensions saw."""
    if not all(run.steps for run in runs):
        return NOWHERE
    ends = [run.ends() for run in runs]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    widest = max(beta for run in runs for _, beta in run.steps)
    further, least = FURTHER * max(high - low, widest), seen(len(runs)) / dim

    def nearest(points: Tensor, none: float) -> float:
        """The first point at which no eigenvalue is, nor further out."""
        mass = torch.stack([run.mass(points) for run in runs]).sum(0)
        found = points[mass < least]
        return float(found[0]) if len(found) else none

    return nearest(low - further, -math.inf), nearest(high + further, math.inf)


def reach_of_start(inner: Tensor, width: int, dim: int) -> Reach:
    """How far A reaches, from what a subspace says that grew from random vectors.

    Args:
        inner: ``Q^T A Q`` of blocks of ``width`` columns, the first of them random and
            each next one what A makes of the last.
        width: Columns of a block.
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
    """A Lanczos run from a random vector off the subspace, for pairs that it misses.

    An eigenvector that is orthogonal to all of the subspace, a further copy of a
    repeated eigenvalue say, is met by a random vector of n dimensions with a squared
    component of at least ``c / n``, but for a chance of `MISSED`. Once the largest mass
    that the run allows (`Recurrence.mass`) is below ``c / n`` at the edges of what is
    returned, nothing is missing beyond them.
    """

    def __init__(
        self, first: int, values: Tensor, others: int, exponent: int | None
    ) -> None:
        self.first = first  # vectors that the subspace had before
        self.values = values
        self.others = others  # dimensions that the vector was drawn from
        self.exponent = exponent  # of the unit of the subspace, and of all here
        self.run = Recurrence()
        self.exhausted = False  # whether it met all that its vector has a part in

    def has_found(self, values: Tensor, bound: Tensor) -> bool:
        """Whether other pairs than before are the outermost now."""
        return bool(((values - self.values).abs() > bound).any())

    def take(self, projected: Tensor, image: Tensor, block: Tensor) -> None:
        """Take in a step, whose next vector is ``block``."""
        self.exhausted = block.shape[1] == 0
        beta = 0.0 if self.exhausted else abs(float(dots(block, image[:, -1:])[0, 0]))
        self.run.steps.append((float(projected[-1, -1]), beta))

    def excludes(self, points: Tensor) -> Tensor:
        """Whether nothing missing lies at each of the points, or further out."""
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
    r"""How far the j-th eigenvalue from either end may be from the j-th value.

    In the subspace and beyond it ``A = [[T, B^T], [B, D]]``, and of both A and D it is
    known how far they reach, ``D <= d``. So the eigenvalues of A are no less than those
    of T, and

    .. math:: \lambda_j(A) \le \lambda_j \begin{pmatrix} T & B^T \\ B & d I
        \end{pmatrix}

    which needs no more than ``B^T B``, what the images hold off the subspace. Likewise
    at the low end. Where nothing is known of D, one eigenvalue may have been missed
    near each: then those further in are each one place off.

    Args:
        space: The subspace, with T.
        root: F with ``F F^T = B^T B``, from `Subspace.leak_root`.
        values: Ritz values that are returned, descending.
        residuals: Of these.
        num_high: How many are of the high end.
        reach: How far A reaches, low and high; in the unit of the subspace.
        beyond: Likewise D.

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
            gaps = own.diff().abs()
            bound = torch.cat([gaps[:1], gaps]) + residuals.max()
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
