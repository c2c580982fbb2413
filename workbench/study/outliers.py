"""How many eigenvalues stand apart from the bulk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 5  # ratios of the bulk's first eigenvalues that a drop is held against
BEYOND = 7  # eigenvalues more than classes that the rule sees, however many there are
ZERO = 1e-6  # of the largest eigenvalue: smaller ones are zero, to how well it is known
NOT_COUNTED = "not counted"  # how the rule's sentence begins where it saw too few


def num_seen(num_classes: int) -> int:
    """How many leading eigenvalues of G the rule sees, whatever was measured.

    C and a few more, so that C + 1 outliers are the most that it can count. A window
    that grew with what was measured gave 23, 10 or 1 for one network.
    """
    return num_classes + BEYOND


def count_in_window(
    eigenvalues: NDArray[np.float64], num_classes: int, num_there: int
) -> tuple[int, str]:
    """Count outliers among the first `num_seen` eigenvalues of G, or say why not.

    Args:
        eigenvalues: Those that were measured, from largest to smallest.
        num_classes: C.
        num_there: How many there are at all, but for zeros.

    Returns:
        The count and the rule in words; 0, and a sentence that begins with
        `NOT_COUNTED`, where fewer were measured than the rule sees.
    """
    seen = num_seen(num_classes)
    if len(eigenvalues) < min(seen, num_there):
        return 0, (
            f"{NOT_COUNTED}: the rule sees the first {seen} eigenvalues of G, and "
            f"{len(eigenvalues)} were asked for"
        )
    return count_outliers(eigenvalues[:seen])


def count_outliers(eigenvalues: NDArray[np.float64]) -> tuple[int, str]:
    r"""Count the eigenvalues before the sharpest drop: the elbow of the log scree plot.

    .. math:: \hat\jmath = \arg\max_j \log\frac{\lambda_j}{\lambda_{j+1}}
              - \frac15 \sum_{s=1}^{5} \log\frac{\lambda_{j+s}}{\lambda_{j+s+1}}

    Outliers may lie as far from each other as from the bulk, so the widest gap alone
    often ends after the first; in the bulk neighbours are close, and the last drop
    before it is the one that exceeds those that follow. Knows nothing of classes: it
    can come out as C, C - 1 or anything else. The sentence gives both ratios; where
    they are alike, no drop sets outliers apart.

    Args:
        eigenvalues: Leading ones, from largest to smallest, (m,); those not positive,
            or below 1e-6 of the largest, are left out.

    Returns:
        The count, 0 where there are fewer than three, and the rule in words.

    Example:
        >>> count_outliers(np.array([9.0, 6.0, 1.0, 0.9, 0.8, 0.75, 0.7, 0.65]))[0]
        2
    """
    values = eigenvalues[eigenvalues > ZERO * eigenvalues.max(initial=0.0)]
    if len(values) < 3:
        return 0, "fewer than three positive eigenvalues of G, so no drop to compare"
    drops = np.log(values[:-1] / values[1:])
    window = min(WINDOW, len(drops) // 2)  # of few, so that more than one j is left
    after = np.array(
        [drops[j + 1 : j + 1 + window].mean() for j in range(len(drops) - window)]
    )
    j = int((drops[: len(after)] - after).argmax()) + 1
    return j, (
        f"sharpest drop among the first {len(values)} eigenvalues of G: "
        f"lambda_{j} / lambda_{j + 1} = {np.exp(drops[j - 1]):.2f}, and "
        f"{np.exp(after[j - 1]):.2f} on average for the {window} ratios after it"
    )
