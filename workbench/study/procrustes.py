"""Points in the plane, laid upon others. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def align(points: Matrix, to: Matrix, along: Matrix | None = None) -> Matrix:
    r"""Lay points upon others: same middle and spread, turned and mirrored to fit.

    .. math:: \min_{R^T R = I} \sum_i \|s R (x_i - \bar x) - (y_i - \bar y)\|^2,
              \quad s = \sqrt{\sum \|y_i - \bar y\|^2 / \sum \|x_i - \bar x\|^2}

    Distances keep their ratios, so the picture says what it said. The best s would
    shrink points that have little to do with the others. Points that all lie in one
    place stay there, at the mean of the others.

    Args:
        points: What is fitted, (n, 2).
        to: Where the same things lay, row by row, (n, 2).
        along: What is moved by that fit, (m, 2); by default the points themselves.

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
