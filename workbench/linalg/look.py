"""Detects what a Krylov subspace misses, with a second random vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.linalg.columns import dots

MISSED = 3e-3  # probability that a random vector has too little of what is missing
SEEN = math.pi / 2 * MISSED**2  # bound of a square of mean 1, at that chance


class Look:
    """A Lanczos run from a random vector off the subspace, to find missing pairs.

    Consider an eigenvector orthogonal to the whole subspace, such as a further copy of
    a repeated eigenvalue. A random vector of n dimensions has a squared component of at
    least ``c / n`` along it, except with probability `MISSED`. Given the alphas and
    betas of m steps, the largest mass possible at a point x is the Christoffel number
    ``1 / sum_{j <= m} p_j(x)^2`` of the orthonormal polynomials, which falls as x moves
    outwards. Once it is below ``c / n`` at the edges of the returned values, nothing is
    missing beyond them.
    """

    def __init__(self, first: int, values: Tensor, others: int) -> None:
        self.first = first  # size of the subspace before
        self.values = values
        self.others = others  # dimension of the space the vector was drawn from
        self.steps: list[tuple[float, float]] = []  # alpha, beta
        self.exhausted = False  # whether the run is complete for its vector

    def has_found(self, values: Tensor, bound: Tensor) -> bool:
        """Whether the outermost pairs have changed."""
        return bool(((values - self.values).abs() > bound).any())

    def take(self, projected: Tensor, image: Tensor, block: Tensor) -> None:
        """Record a step, whose next vector is ``block``."""
        self.exhausted = block.shape[1] == 0
        if not self.exhausted:
            beta = abs(float(dots(block, image[:, -1:])[0, 0]))
            self.steps.append((float(projected[-1, -1]), beta))

    def excludes(self, points: Tensor) -> Tensor:
        """Whether nothing is missing at each of the points or further out."""
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
    """Bound how far the j-th eigenvalue from either end is from the j-th value.

    If a look cannot exclude it, there may be one missing eigenvalue near each value;
    those further in are then off by one place.
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
