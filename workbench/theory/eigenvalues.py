"""Eigenvalues that come in groups of equal ones, and checks of what they come from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError


@dataclass(frozen=True, slots=True, eq=False)
class Eigenvalues:
    """The spectrum of a symmetric matrix: its different eigenvalues, and how many."""

    values: NDArray[np.float64]  # (m,) descending
    counts: NDArray[np.int64]  # (m,) how often each is there, at least once

    @staticmethod
    def of(pairs: Iterable[tuple[float, int]]) -> Eigenvalues:
        """From pairs of value and multiplicity in any order; 0 times is left out.

        Example:
            >>> Eigenvalues.of([(1.0, 3), (2.0, 1), (5.0, 0)]).all
            array([2., 1., 1., 1.])
        """
        there = sorted((pair for pair in pairs if pair[1]), reverse=True)
        values = np.array([value for value, _ in there], dtype=np.float64)
        return Eigenvalues(values, np.array([num for _, num in there], dtype=np.int64))

    @property
    def all(self) -> NDArray[np.float64]:
        """Every eigenvalue as often as it is there, descending."""
        return np.repeat(self.values, self.counts)


def check_whole(who: str, name: str, value: object, least: int) -> None:
    """Raise a `WorkbenchError` unless the value is a whole number of that size."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise WorkbenchError(
            f"{who}: {name} is {value!r}; give a whole number from {least}."
        )
    if value < least:
        raise WorkbenchError(
            f"{who}: {name} is {value}; give a whole number from {least}."
        )


def check_between(
    who: str, name: str, value: object, low: float, high: float, what: str = ""
) -> None:
    """Raise a `WorkbenchError` unless the value is a number from low to high."""
    if not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        most = f" to {high:g}" if math.isfinite(high) else ""
        raise WorkbenchError(
            f"{who}: {name} is {value!r}; give a number from {low:g}{most}{what}."
        )
