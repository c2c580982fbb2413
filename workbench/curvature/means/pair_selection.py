"""Pairs of classes whose gradients are too small to matter, with a proven bound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.problem.cross_entropy import others_sum
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.errors import WorkbenchError


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    r"""Which pairs (c, k) are looked at, and a bound of what the others hold.

    With the cotangents ``a_{i,k} = sqrt(p_k) (e_k - p)``, whose squared length is at
    most ``2 p_k``, and ``delta_{i,k} = J_i^T a_{i,k}``, the pairs left out hold of G

    .. math:: \sum_{i,k} w_i \|\delta_{i,k}\|^2 \le \max_i \|J_i\|_2^2 \; lost,
       \quad lost = \sum_{i,k} w_i \|a_{i,k}\|^2

    in trace, and no more in any eigenvalue.
    """

    pairs: Tensor  # (C, C) bool, True where looked at
    lost: float  # weighted sum of the squared lengths of the cotangents left out
    total: float  # of all: the trace of the loss's mean Hessian in the logits

    def __str__(self) -> str:
        num_left = int((~self.pairs).sum())
        share = self.lost / self.total if self.total else 0.0
        return (
            f"{num_left:,} of {self.pairs.numel():,} pairs of classes are left out: "
            f"{share:.1e} of the trace in the logits. They hold of G at most "
            f"{self.lost:.1e} times the largest squared norm of an example's Jacobian."
        )


def all_pairs(risk: EmpiricalRisk) -> Tensor:
    """The mask (C, C) that leaves nothing out."""
    shape = (risk.num_classes, risk.num_classes)
    return torch.ones(shape, dtype=torch.bool, device=risk.device)


def keep_pairs(risk: EmpiricalRisk, share: float) -> Kept:
    """Leave out the smallest pairs that together hold ``share`` of the logits' trace.

    One forward pass over the data.

    Args:
        risk: Network and data.
        share: From 0 (exactly nothing is lost) up to, but without, 1.

    Raises:
        WorkbenchError: If the share is not in that range.
    """
    if not 0 <= share < 1:
        raise WorkbenchError(
            f"skip: the share of the trace to leave out is {share}; expected a number "
            "from 0 up to, but without, 1."
        )
    pairs, sizes = all_pairs(risk), pair_sizes(risk)
    ordered, order = sizes.flatten().sort()
    small = ordered.cumsum(0) <= share * sizes.sum()
    pairs.view(-1)[order[small]] = False
    return _kept(pairs, sizes)


def keep_largest(risk: EmpiricalRisk, num: int) -> Kept:
    """Keep the ``num`` largest pairs of each true class. One forward pass."""
    sizes = pair_sizes(risk)
    best = sizes.topk(min(num, len(sizes)), dim=1).indices
    pairs = torch.zeros(sizes.shape, dtype=torch.bool, device=risk.device)
    return _kept(pairs.scatter_(1, best, True), sizes)


def pair_sizes(risk: EmpiricalRisk) -> Tensor:
    """What each pair holds of the trace in the logits, (C, C). One forward pass."""
    risk.classes("pair_sizes")
    shape = (risk.num_classes, risk.num_classes)
    sizes = torch.zeros(shape, dtype=torch.float64, device=risk.device)
    for inputs, targets in risk.batches():
        rows = risk.labelled(risk.predictions(inputs), targets)
        others = others_sum(rows.probs).square() + others_sum(rows.probs.square())
        sizes.index_add_(0, rows.labels, rows.weights[:, None] * rows.probs * others)
    return risk.world.sum(sizes)


def _kept(pairs: Tensor, sizes: Tensor) -> Kept:
    return Kept(pairs, float(sizes[~pairs].sum()), float(sizes.sum()))
