r"""Ranks of G and H for linear networks with cross-entropy.

``f = W_L ... W_1 x`` without biases, with weights in general position. The softmax
ignores a constant added to all logits, so C classes count as C - 1 outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.theory.eigenvalues import check_whole


def gauss_newton_rank(data_rank: int, widths: Sequence[int], num_classes: int) -> int:
    r"""Rank of G of a linear network.

    .. math:: \mathrm{rank}\, G = q (r + C - 1 - q), \quad q = \min(r, C - 1, w)

    with r the rank of the data and w the smallest hidden width. This is the dimension
    of the manifold of rank-q matrices that the network can move along.

    Args:
        data_rank: r, the number of independent inputs.
        widths: Of the hidden layers; none for softmax regression.
        num_classes: C, at least 2.

    Raises:
        WorkbenchError: If a number is no whole number, or too small.

    Reference:
        Singh, Bachmann, Hofmann (2021), arXiv:2106.16225.

    Example:
        >>> gauss_newton_rank(data_rank=8, widths=(3,), num_classes=5)
        27
    """
    r, outputs, hidden = _checked("gauss_newton_rank", data_rank, widths, num_classes)
    q = min(r, outputs, *hidden) if hidden else min(r, outputs)
    return q * (r + outputs - q)


def residual_rank(data_rank: int, widths: Sequence[int], num_classes: int) -> int:
    r"""Rank of H, the rest of the Hessian, of a linear network.

    .. math:: \mathrm{rank}\, H = 2 q M + 2 q s - L q^2, \quad
        q = \min(s, w), \quad s = \min(r, C - 1)

    with M the sum of all hidden widths and L the number of weight matrices. Without a
    hidden layer the logits are linear in the weights and H is zero.

    Args:
        data_rank: r, the number of independent inputs.
        widths: Of the hidden layers; none for softmax regression.
        num_classes: C, at least 2.

    Raises:
        WorkbenchError: If a number is no whole number, or too small.

    Reference:
        Singh, Bachmann, Hofmann (2021), arXiv:2106.16225.

    Example:
        >>> residual_rank(data_rank=8, widths=(3,), num_classes=5)  # 2 * 3 * 4
        24
    """
    r, outputs, hidden = _checked("residual_rank", data_rank, widths, num_classes)
    if not hidden:
        return 0
    s = min(r, outputs)
    q = min(s, *hidden)
    return 2 * q * sum(hidden) + 2 * q * s - (len(hidden) + 1) * q * q


def _checked(
    who: str, data_rank: int, widths: Sequence[int], num_classes: int
) -> tuple[int, int, tuple[int, ...]]:
    """Rank of the data, outputs that count, and hidden widths."""
    check_whole(who, "data_rank", data_rank, 1)
    check_whole(who, "num_classes", num_classes, 2)
    for width in widths:
        check_whole(who, "a width", width, 1)
    return int(data_rank), int(num_classes) - 1, tuple(int(w) for w in widths)
