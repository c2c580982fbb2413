"""Eigenvalues with multiplicities, and checks of arguments."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError


@dataclass(frozen=True, slots=True, eq=False)
class Eigenvalues:
    """The spectrum of a symmetric matrix: distinct eigenvalues and multiplicities."""

    values: NDArray[np.float64]  # (m,) descending
    counts: NDArray[np.int64]  # (m,) multiplicity of each, at least 1

    @staticmethod
    def of(pairs: Iterable[tuple[float, int]]) -> Eigenvalues:
        """Make it from (value, multiplicity) pairs in any order; skips multiplicity 0.

        Example:
            >>> Eigenvalues.of([(1.0, 3), (2.0, 1), (5.0, 0)]).all
            array([2., 1., 1., 1.])
        """
        there = sorted((pair for pair in pairs if pair[1]), reverse=True)
        values = np.array([value for value, _ in there], dtype=np.float64)
        return Eigenvalues(values, np.array([num for _, num in there], dtype=np.int64))

    @property
    def all(self) -> NDArray[np.float64]:
        """Every eigenvalue, repeated by its multiplicity, descending."""
        return np.repeat(self.values, self.counts)


def check_whole(who: str, name: str, value: object, least: int) -> None:
    """Raise a `WorkbenchError` unless the value is a whole number >= ``least``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise WorkbenchError(
            f"{who}: {name} is {value!r}; give a whole number, at least {least}."
        )
    if value < least:
        raise WorkbenchError(
            f"{who}: {name} is {value}; give a whole number, at least {least}."
        )


def check_between(
    who: str, name: str, value: object, low: float, high: float, what: str = ""
) -> None:
    """Raise a `WorkbenchError` unless the value is between ``low`` and ``high``."""
    if not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        most = f" to {high:g}" if math.isfinite(high) else ""
        raise WorkbenchError(
            f"{who}: {name} is {value!r}; give a number from {low:g}{most}{what}."
        )
