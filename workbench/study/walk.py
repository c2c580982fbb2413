"""The loss along eigenvectors: what an outlier is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_DISTANCES = 21


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    r"""The loss at ``theta + t v`` for unit eigenvectors v, a class at a time.

    The distances t are the same for all: 21 from -T to T with ``lam_1 T^2 / 2 = 1``, so
    that along the first eigenvector of G its quadratic model climbs by one at the ends.
    Each v points to where the loss climbs more. Batch norm and dropout are in eval
    mode, with their statistics held. NaN: a loss that is not finite.
    """

    operator: tuple[str, ...]  # (d,) "G" or "H"
    rank: NDArray[np.int64]  # (d,) from 1, by size; -1: the lowest
    eigenvalue: Array  # (d,) of that operator
    distance: Array  # (n,) t, evenly from -T to T; the middle one is 0
    class_loss: Array  # (d, n, C) mean loss over the examples of each class
    shares: Array  # (C,) n_c / N

    @property
    def loss(self) -> Array:
        """Over all examples, (d, n)."""
        found: Array = self.class_loss @ self.shares
        return found

    @property
    def curvature(self) -> Array:
        """Second difference of the loss at 0, about ``v^T Hess v``, (d,)."""
        here = len(self.distance) // 2
        step = self.distance[here + 1] - self.distance[here]
        loss = self.loss
        found: Array = loss[:, here + 1] - 2 * loss[:, here] + loss[:, here - 1]
        return found / step**2

    @property
    def climb(self) -> Array:
        """How much the loss of each class is higher at the higher end, (d, C)."""
        loss = self.class_loss
        here = loss[:, len(self.distance) // 2]
        return np.fmax(loss[:, 0], loss[:, -1]) - here

    @property
    def names(self) -> list[str]:
        """What each v is, in words."""
        pairs = zip(self.operator, self.rank.tolist(), strict=True)
        return [
            f"lowest eigenvector of {name}"
            if rank < 0
            else f"eigenvector {rank} of {name}"
            for name, rank in pairs
        ]
