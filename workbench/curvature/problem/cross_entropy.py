r"""Closed forms of the softmax cross-entropy, in float64.

With logits f in R^C, ``p = softmax(f)`` and label y: the loss is ``-log p_y``, its
gradient in f is ``p - e_y``, and its Hessian in f is ``diag(p) - p p^T``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the last axis, in float64."""
    return logits.double().softmax(-1)


def loss_gradient(probs: Tensor, labels: Tensor) -> Tensor:
    r"""Gradient of the loss in the logits, ``p - e_y``, without cancellation.

    ``1 - p_y`` is formed as the sum of the other probabilities: once the network is
    sure of the label, the difference would lose all its digits.

    Args:
        probs: Probabilities p, shape (N, C), float64.
        labels: Labels y, shape (N,).

    Returns:
        Shape (N, C).
    """
    index = labels[:, None]
    gradient = probs.scatter(1, index, 0.0)
    return gradient.scatter(1, index, -gradient.sum(1, keepdim=True))


def hessian_product(probs: Tensor, vectors: Tensor) -> Tensor:
    """``(diag(p) - p p^T) v`` for each example: (N, C) and (N, C) to (N, C).

    Without cancellation: constants are in the kernel, so v is first taken relative to
    its entry at the likeliest class, where ``p v - p (p . v)`` would lose all digits.
    """
    likeliest = probs.argmax(-1, keepdim=True)
    vectors = vectors - vectors.gather(-1, likeliest)
    return probs * (vectors - (probs * vectors).sum(-1, keepdim=True))


def log_prob_cotangents(probs: Tensor) -> Tensor:
    """The vectors ``e_k - p``, indexed ``[i, k, :]``: (N, C) to (N, C, C).

    ``J^T (e_k - p)`` is the gradient of ``log p_k``. The diagonal ``1 - p_k`` is
    formed as the sum of the other probabilities.
    """
    num_classes = probs.shape[-1]
    cotangents = -probs[:, None, :].expand(-1, num_classes, -1).clone()
    others = probs[:, None, :].expand(-1, num_classes, -1).clone()
    others.diagonal(dim1=1, dim2=2).zero_()
    cotangents.diagonal(dim1=1, dim2=2).copy_(others.sum(-1))
    return cotangents


def others_sum(values: Tensor) -> Tensor:
    """Sum of the other entries along the last axis, for each entry of values >= 0.

    Without cancellation: only at the largest entry would a difference lose digits.
    """
    largest = values.argmax(-1, keepdim=True)
    rest = values.scatter(-1, largest, 0.0)
    total = rest.sum(-1, keepdim=True)
    others = total + values.gather(-1, largest) - values
    return others.scatter(-1, largest, total)


def combined_cotangents(probs: Tensor, factors: Tensor) -> Tensor:
    r"""``sum_k s_k (e_k - p)`` for factors s >= 0: (N, C) and (N, C) to (N, C).

    .. math:: \sum_k s_k (e_k - p) = s \, (1 - p) - p \, (S - s), \quad
       S = \sum_k s_k

    One backward pass with it is that combination of all C gradients of an example.
    """
    return factors * others_sum(probs) - probs * others_sum(factors)


def delta_cotangents(probs: Tensor) -> Tensor:
    r"""Cotangents of the gradients delta: ``sqrt(p_k) (e_k - p)``, (N, C) to (N, C, C).

    .. math:: \delta_{i,c,k} = J_i^T \sqrt{p_k} (e_k - p), \quad
              \sum_k p_k (e_k - p) (e_k - p)^T = \mathrm{diag}(p) - p p^T
    """
    return probs.sqrt()[..., None] * log_prob_cotangents(probs)


def reflection(probs: Tensor) -> Tensor:
    """The Householder reflection of sqrt(p) to the last axis, without its last column.

    (N, C) to (N, C, C - 1), with orthonormal columns U of each example: the reduced
    gradients are ``r_{i,j} = sum_k U[i, k, j] delta_{i,k}``, and ``delta_{i,k} =
    sum_j U[i, k, j] r_{i,j}``.
    """
    normal = _normal(probs)
    eye = torch.eye(probs.shape[1], dtype=probs.dtype, device=probs.device)
    turned: Tensor = (eye - 2 * normal[:, :, None] * normal[:, None, :])[..., :-1]
    return turned


def hessian_root(probs: Tensor) -> Tensor:
    r"""A root B of the softmax Hessian with C - 1 columns: ``B B^T = diag(p) - p p^T``.

    The C columns of `delta_cotangents` are dependent, ``sum_k sqrt(p_k) a_k = 0``:
    `reflection` turns the last one into zero and leaves ``B B^T`` as it is.

    Args:
        probs: Probabilities p, shape (N, C), float64.

    Returns:
        B, shape (N, C, C - 1), indexed ``[i, logit, column]``.
    """
    columns = delta_cotangents(probs).transpose(1, 2)  # (N, logit, k)
    normal = _normal(probs)
    reflected = columns - 2 * (columns @ normal[..., None]) * normal[:, None, :]
    return reflected[..., :-1]


def _normal(probs: Tensor) -> Tensor:
    """Unit normal of the plane of `reflection`, (N, C)."""
    unit = probs.sqrt()
    normal = unit / unit.norm(dim=-1, keepdim=True)
    normal[:, -1] += 1.0  # nonnegative entries: no cancellation
    return normal / normal.norm(dim=-1, keepdim=True)
