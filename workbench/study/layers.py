"""Where in the network the curvature lies, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WHOLE = "the network itself"
FEWEST = 4  # rows; fewer say too little


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Each module that owns parameters, and its diagonal blocks of G and Hess.

    Missing eigenvalues are NaN: a block may have fewer parameters than there are
    columns.
    """

    names: tuple[str, ...]  # (l,) of the modules, in order; "": the network itself
    kinds: tuple[str, ...]  # (l,) their classes, such as "Linear"
    parameters: tuple[tuple[str, ...], ...]  # (l,) names of those that it owns
    num_parameters: NDArray[np.int64]  # (l,) the numbers in them
    share: Array  # (l, d) of the squared length of G's first eigenvectors; columns
    # sum to 1
    share_error: Array  # (d,) bound on the error of each: the eigenvector is found to
    # its residual over its gap
    trace: Array  # (l,) of each block of G, exact; they sum to its trace
    eigenvalues: dict[str, Array]  # "G", "Hess" -> (l, m) leading ones of the blocks
    residuals: dict[str, Array]  # their error bars
    class_part: dict[str, Array]  # convention -> (l, r) leading ones of the class
    # part's blocks
    note: str = ""  # what was left out, and why

    @property
    def labels(self) -> list[str]:
        """Name and class of each; numbers alone say little."""
        pairs = zip(self.names, self.kinds, strict=True)
        return [" ".join(filter(None, (name, f"({kind})"))) for name, kind in pairs]

    @property
    def trace_share(self) -> Array:
        """Share of G's trace in each layer, (l,)."""
        return self.trace / self.trace.sum()

    def outlier_share(self, num_outliers: int) -> Array:
        """Mean of the shares over the outliers, (l,); over all if there are none."""
        found: Array = self.share[:, : num_outliers or None].mean(axis=1)
        return found

    def rows(self, most: int) -> list[tuple[str, list[int]]]:
        """Group the layers into at most so many rows, by the modules they are in.

        Modules of the deepest level that has few enough; if those are fewer than four,
        neighbours of the next level.

        Returns:
            The label of each row and the numbers of its layers.
        """
        if len(self.names) <= most:
            return [(label, [n]) for n, label in enumerate(self.labels)]
        depth = max(name.count(".") for name in self.names) + 1
        finer = _runs([tuple(name.split(".")) for name in self.names])
        for level in range(depth, 0, -1):
            rows = _runs([tuple(name.split(".")[:level]) for name in self.names])
            if FEWEST <= len(rows) <= most:
                return rows
            if len(rows) < FEWEST:
                break
            finer = rows
        joined = np.array_split(np.arange(len(finer)), most)
        return [_together([finer[n] for n in some]) for some in joined]


def _runs(keys: Sequence[tuple[str, ...]]) -> list[tuple[str, list[int]]]:
    """Join layers with the same key, in order of first appearance."""
    found: dict[tuple[str, ...], list[int]] = {}
    for n, key in enumerate(keys):
        found.setdefault(key, []).append(n)
    return [(".".join(key) or WHOLE, at) for key, at in found.items()]


def _together(rows: Sequence[tuple[str, list[int]]]) -> tuple[str, list[int]]:
    first, last = rows[0][0], rows[-1][0]
    return (
        first if len(rows) == 1 else f"{first} to {last}",
        [n for _, at in rows for n in at],
    )
