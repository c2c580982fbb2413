"""Procrustes alignment of points in the plane. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def align(points: Matrix, to: Matrix, along: Matrix | None = None) -> Matrix:
    r"""Align points with others: same mean and spread, rotated and mirrored to fit.

    .. math:: \min_{R^T R = I} \sum_i \|s R (x_i - \bar x) - (y_i - \bar y)\|^2,
              \quad s = \sqrt{\sum \|y_i - \bar y\|^2 / \sum \|x_i - \bar x\|^2}

    Distances keep their ratios, so the picture keeps its meaning. The least-squares s
    would shrink points that correlate little with the others, so spreads are matched
    instead. If all points coincide, they are placed at the mean of the others.

    Args:
        points: Points to fit, (n, 2).
        to: The points to fit them to, row by row, (n, 2).
        along: Points to move by that fit, (m, 2); by default ``points``.

    Reference:
        Schoenemann and Carroll (1970), Psychometrika 35.

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> turned = 3 * square @ np.array([[0.0, -1.0], [1.0, 0.0]]) + 7
        >>> bool(np.allclose(align(turned, square), square))
        True
    """
    middle = points.mean(0)
    moved = (points if along is None else along) - middle
    centred, wanted = points - middle, to - to.mean(0)
    size = (centred**2).sum()
    if size == 0:
        return 0 * moved + to.mean(0)
    left, _, right = np.linalg.svd(centred.T @ wanted)
    factor = np.sqrt((wanted**2).sum() / size)
    found: Matrix = factor * moved @ (left @ right) + to.mean(0)
    return found
