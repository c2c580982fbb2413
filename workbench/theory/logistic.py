r"""Logistic regression on Gaussian classes, the model of Papyan (2020), section 8."""

from __future__ import annotations

from workbench.theory.eigenvalues import Eigenvalues, check_between, check_whole


def logistic_regression(
    num_classes: int, num_features: int, mean: float, error: float
) -> dict[str, Eigenvalues]:
    r"""All eigenvalues of G and of its four parts for logistic regression.

    The model has no bias. The classes are balanced, ``x = t e_c + z`` with z of mean 0
    and covariance I in R^D. Each example assigns the probability ``1 - alpha`` to its
    class and ``k = alpha / (C - 1)`` to every other. With ``s = t^2`` and ``b = k (2 -
    alpha C / (C - 1))``:

    ======= ============================ ============== ===========
    of      eigenvalue                   how many       in a figure
    ======= ============================ ============== ===========
    ``G``   ``k s (1 - alpha) + b``      C              outliers
    ``G``   ``k s / C + b``              C (C - 2)      mini-bulk
    ``G``   ``b``                        (C - 1)(D - C) bulk
    ``G0``  ``k s alpha (1 - alpha)``    C
    ``G1``  ``k s (1 - alpha)^2``        C
    ``G2``  ``k s / C``                  C (C - 2)
    ``G3``  ``b``                        (C - 1) D      bulk
    ======= ============================ ============== ===========

    and zero for the rest of the C D eigenvalues. The finite set of examples ``x = t e_c
    +- sqrt(D) e_j``, for all j and both signs, has exactly these moments.

    Args:
        num_classes: C, at least 2.
        num_features: D, at least C.
        mean: t, the length of the mean of each class.
        error: alpha, the total probability of the wrong classes, from 0 to (C - 1) / C,
            its value for guessing.

    Returns:
        The C D eigenvalues each of ``G``, ``G0``, ``G1``, ``G2`` and ``G3`` (`icml`).

    Raises:
        WorkbenchError: If no such model exists.

    Reference:
        Papyan (2020), arXiv:2008.11865, Theorem 8.1; rederived here for these
        constants.

    Example:
        >>> found = logistic_regression(10, 20, mean=6.0, error=0.05)
        >>> found["G"].values.round(6)  # outliers, mini-bulk, bulk, zeros
        array([0.200802, 0.030802, 0.010802, 0.      ])
        >>> found["G"].counts
        array([10, 80, 90, 20])
    """
    who = "logistic_regression"
    check_whole(who, "num_classes", num_classes, 2)
    check_whole(who, "num_features", num_features, num_classes)
    C, D, alpha = int(num_classes), int(num_features), float(error)
    check_between(who, "mean", mean, 0.0, 1e100)
    check_between(who, "error", error, 0.0, (C - 1) / C)
    k, s = alpha / (C - 1), float(mean) ** 2
    b = k * (2 - alpha * C / (C - 1))

    def spectrum(*pairs: tuple[float, int]) -> Eigenvalues:
        return Eigenvalues.of([*pairs, (0.0, C * D - sum(num for _, num in pairs))])

    return {
        "G": spectrum(
            (k * s * (1 - alpha) + b, C),
            (k * s / C + b, C * (C - 2)),
            (b, (C - 1) * (D - C)),
        ),
        "G0": spectrum((k * s * alpha * (1 - alpha), C)),
        "G1": spectrum((k * s * (1 - alpha) ** 2, C)),
        "G2": spectrum((k * s / C, C * (C - 2))),
        "G3": spectrum((b, (C - 1) * D)),
    }
