"""What overlaps, sizes and knock-outs are worth: the same of what knows no class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SPREADS = 2.0  # standard deviations of the draws above their mean: more is an excess


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    """The null of one convention: labels shuffled before the class means are taken.

    Or, at `Study.random`, as many random combinations of all gradients as there are
    classes, in place of the class means. One row a draw. What has no row was not
    measured, and `note` says why.
    """

    overlap: Array  # (s, m) of G's eigenvector u_j, in the span of the shuffled means
    class_part: Array  # (s, r) eigenvalues of their class part, descending
    subtracted: Array  # (t, q) leading eigenvalues of G - that class part
    projected: Array  # (t, q) of G without that span
    error: float = 0.0  # the largest residual of these two, found by iterating
    note: str = ""  # what was not measured, and why


@dataclass(frozen=True, slots=True)
class Excess:
    """A measured number beside the same number of every draw."""

    value: float
    null: float  # mean over the draws
    spread: float  # standard deviation over the draws; 0.0 of a single one

    @property
    def beyond(self) -> bool:
        """Whether the number is above what the draws reach, beyond their spread."""
        return self.value > self.null + SPREADS * self.spread

    @property
    def below(self) -> bool:
        """Whether it is below what the draws reach, beyond their spread."""
        return self.value < self.null - SPREADS * self.spread


def excess(value: float, draws: Array) -> Excess | None:
    """Hold a number against the draws, (s,); None where there are none.

    Example:
        >>> excess(0.9, np.array([0.5, 0.6])).beyond
        True
    """
    if not len(draws):
        return None
    return Excess(float(value), float(draws.mean()), _spread(draws))


def band(draws: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over the draws, column by column, each (m,)."""
    if not len(draws):
        nothing = np.full(draws.shape[1], np.nan)
        return nothing, nothing
    spread = draws.std(axis=0, ddof=1) if len(draws) > 1 else 0 * draws[0]
    return draws.mean(axis=0), spread


def _spread(draws: Array) -> float:
    return float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
