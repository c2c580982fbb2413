"""What a Krylov subspace misses, as a second random vector sees it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.linalg.columns import dots

MISSED = 3e-3  # chance that a random vector holds too little of what is missing
SEEN = math.pi / 2 * MISSED**2  # of a square of mean 1, but for this chance


class Look:
    """A Lanczos run from a random vector off the subspace, for pairs that it misses.

    An eigenvector that is orthogonal to all of the subspace, a further copy of a
    repeated eigenvalue say, is met by a random vector of n dimensions with a squared
    component of at least ``c / n``, but for a chance of `MISSED`. The largest mass that
    a point x can have beside the alphas and betas found in m steps is the Christoffel
    number ``1 / sum_{j <= m} p_j(x)^2`` of the orthonormal polynomials, which falls as
    x moves out. Once it is below ``c / n`` at the edges of what is returned, nothing
    is missing beyond them.
    """

    def __init__(self, first: int, values: Tensor, others: int) -> None:
        self.first = first  # vectors that the subspace had before
        self.values = values
        self.others = others  # dimensions that the vector was drawn from
        self.steps: list[tuple[float, float]] = []  # alpha, beta
        self.exhausted = False  # whether it met all that its vector has a part in

    def has_found(self, values: Tensor, bound: Tensor) -> bool:
        """Whether other pairs than before are the outermost now."""
        return bool(((values - self.values).abs() > bound).any())

    def take(self, projected: Tensor, image: Tensor, block: Tensor) -> None:
        """Take in a step, whose next vector is ``block``."""
        self.exhausted = block.shape[1] == 0
        if not self.exhausted:
            beta = abs(float(dots(block, image[:, -1:])[0, 0]))
            self.steps.append((float(projected[-1, -1]), beta))

    def excludes(self, points: Tensor) -> Tensor:
        """Whether nothing missing lies at each of the points, or further out."""
        if self.exhausted:
            return torch.ones_like(points, dtype=torch.bool)
        now, before = torch.ones_like(points), torch.zeros_like(points)
        total, last = now.clone(), 0.0
        for alpha, beta in self.steps:
            now, before = ((points - alpha) * now - last * before) / beta, now
            total, last = total + now * now, beta
        return total.nan_to_num(math.inf) > self.others / SEEN


def place_errors(
    values: Tensor, residuals: Tensor, num_high: int, look: Look | None, all_: bool
) -> Tensor:
    """How far the j-th eigenvalue from either end may be from the j-th value.

    What a look does not exclude may be one eigenvalue near each: then those further in
    are each one place off.
    """
    if all_ or len(values) == 1:
        return residuals
    high = torch.arange(len(values), device=values.device) < num_high
    outward = torch.where(high, residuals, -residuals)
    seen = look.excludes(values + outward) if look else torch.zeros_like(high)
    ends = []
    for end in (values[:num_high], values[num_high:].flip(0)):
        gaps = end.diff().abs()
        ends.append(torch.cat([gaps[:1], gaps]) if len(gaps) else 0 * end)
    shift = torch.cat([ends[0], ends[1].flip(0)]) + residuals.max()
    return torch.where(seen, residuals, torch.maximum(residuals, shift))
