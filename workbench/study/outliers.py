"""Count the eigenvalues that stand apart from the bulk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 5  # ratios after a drop that it is compared with
BEYOND = 7  # eigenvalues beyond the number of classes that the rule looks at
ZERO = 1e-6  # times the largest eigenvalue: smaller ones are taken as zero
NOT_COUNTED = "not counted"  # begins the rule's sentence if too few were measured


def num_seen(num_classes: int) -> int:
    """Return how many leading eigenvalues of G the rule looks at.

    C and a few more, so it can count at most C + 1 outliers. The number does not depend
    on how many were measured: a window that did gave 23, 10 or 1 for the same network.
    """
    return num_classes + BEYOND


def count_in_window(
    eigenvalues: NDArray[np.float64], num_classes: int, num_there: int
) -> tuple[int, str]:
    """Count the outliers among the first `num_seen` eigenvalues of G, or say why not.

    Args:
        eigenvalues: The measured ones, from largest to smallest.
        num_classes: C.
        num_there: How many nonzero eigenvalues there are in total.

    Returns:
        The count and the rule in words. If fewer were measured than the rule needs, 0
        and a sentence that begins with `NOT_COUNTED`.
    """
    seen = num_seen(num_classes)
    if len(eigenvalues) < min(seen, num_there):
        return 0, (
            f"{NOT_COUNTED}: the rule needs the first {seen} eigenvalues of G, but "
            f"only {len(eigenvalues)} were computed"
        )
    return count_outliers(eigenvalues[:seen])


def count_outliers(eigenvalues: NDArray[np.float64]) -> tuple[int, str]:
    r"""Count the eigenvalues before the sharpest drop: the elbow of the log scree plot.

    .. math:: \hat\jmath = \arg\max_j \log\frac{\lambda_j}{\lambda_{j+1}}
              - \frac15 \sum_{s=1}^{5} \log\frac{\lambda_{j+s}}{\lambda_{j+s+1}}

    Outliers can be as far from each other as from the bulk, so the widest gap alone
    often comes right after the first one. In the bulk, neighbours are close; the last
    drop before it stands out from those that follow. The rule does not know the number
    of classes and can return C, C - 1 or any other number. The sentence gives both
    ratios; if they are similar, no clear drop sets outliers apart.

    Args:
        eigenvalues: Leading ones, from largest to smallest, (m,). Those that are not
            positive, or below 1e-6 of the largest, are left out.

    Returns:
        The count (0 if there are fewer than three eigenvalues) and the rule in words.

    Example:
        >>> count_outliers(np.array([9.0, 6.0, 1.0, 0.9, 0.8, 0.75, 0.7, 0.65]))[0]
        2
    """
    values = eigenvalues[eigenvalues > ZERO * eigenvalues.max(initial=0.0)]
    if len(values) < 3:
        return 0, "fewer than three positive eigenvalues of G, so no drop to compare"
    drops = np.log(values[:-1] / values[1:])
    window = min(WINDOW, len(drops) // 2)  # fewer if needed, so that several j remain
    after = np.array(
        [drops[j + 1 : j + 1 + window].mean() for j in range(len(drops) - window)]
    )
    j = int((drops[: len(after)] - after).argmax()) + 1
    return j, (
        f"sharpest drop among the first {len(values)} eigenvalues of G: "
        f"lambda_{j} / lambda_{j + 1} = {np.exp(drops[j - 1]):.2f}, and "
        f"{np.exp(after[j - 1]):.2f} on average for the {window} ratios after it"
    )
