"""How many eigenvalues stand apart from the bulk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def count_outliers(eigenvalues: NDArray[np.float64]) -> tuple[int, str]:
    r"""Count the eigenvalues above the widest gap, as a ratio of neighbours.

    .. math:: \hat\jmath = \arg\max_j \lambda_j / \lambda_{j+1}

    Knows nothing of classes, so that it can come out as C, C - 1 or anything else. A
    ratio near 1 means that no gap sets outliers apart; the sentence says it.

    Args:
        eigenvalues: Leading ones, positive, from largest to smallest, (m,).

    Returns:
        The count, 0 where there are fewer than two, and the rule in words.

    Example:
        >>> count_outliers(np.array([9.0, 8.0, 2.0, 1.9]))
        (2, 'widest gap among the first 4 eigenvalues of G: lambda_2 / lambda_3 = 4.00')
    """
    values = eigenvalues[eigenvalues > 0]
    if len(values) < 2:
        return 0, "fewer than two positive eigenvalues of G, so no gap"
    ratios = values[:-1] / values[1:]
    j = int(ratios.argmax()) + 1
    return j, (
        f"widest gap among the first {len(values)} eigenvalues of G: "
        f"lambda_{j} / lambda_{j + 1} = {ratios[j - 1]:.2f}"
    )
