r"""The means of the gradients delta_{i,c,c'}: over i, then over c', then over c."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.means.pullback import class_pullbacks
from workbench.curvature.problem.cross_entropy import delta_cotangents
from workbench.curvature.problem.risk import EmpiricalRisk


@dataclass(frozen=True, slots=True, eq=False)
class CrossClassMeans:
    r"""First averages, over the examples i of each class, in any coordinates of R^d.

    ``plain[c, k]`` is the mean of delta_{i,c,k}; ``weighted[c, k]`` the weighted mean
    of ``g_{i,c,k} = grad log p_k`` with weights ``p_{i,k} / N``, total ``mass[c, k]``.
    """

    plain: Tensor  # (C, C, d)
    weighted: Tensor  # (C, C, d)
    mass: Tensor  # (C, C) sum_{i in c} p_{ik} / N; sums to 1
    share: Tensor  # (C,) n_c / N


@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """The three averages in one weighting, with the weight of each in G."""

    weighting: str
    cross: Tensor  # (C, C, d) delta_{c,k}
    cross_weight: Tensor  # (C, C)
    classes: Tensor  # (C, d) delta_c
    class_weight: (
        Tensor  # (C,) so that the class part is sum_c weight delta_c delta_c^T
    )
    everything: Tensor  # (d,) delta_G
    everything_weight: float
    off_diagonal: bool  # whether delta_c leaves k = c out


def cross_class_means(
    risk: EmpiricalRisk, report: Callable[[float], None] | None = None
) -> CrossClassMeans:
    r"""Average the gradients of each (true class, potential class) pair over examples.

    .. math:: \delta_{c,k} = \frac1{n_c} \sum_{i \in c} \sqrt{p_{ik}} J_i^T (e_k - p_i),
       \quad g_{c,k} = \frac{\sum_{i \in c} p_{ik} J_i^T (e_k - p_i)}
       {\sum_{i \in c} p_{ik}}

    One forward and 2 C backward passes over the data; stores 2 C^2 vectors of length P.

    Args:
        risk: Network and data; every class has an example.
        report: Called with the share done.

    Reference:
        Papyan (2019), arXiv:1901.08244; Papyan (2020), arXiv:2008.11865.
    """
    num_classes = risk.num_classes
    counts = risk.classes("cross_class_means").to(risk.device)
    sums = torch.zeros(
        num_classes, 2 * num_classes, risk.dim, dtype=risk.dtype, device=risk.device
    )
    mass = torch.zeros(
        num_classes, num_classes, dtype=torch.float64, device=risk.device
    )

    def cotangents(c: int, probs: Tensor) -> Iterator[tuple[int, Tensor]]:
        mass[c] += probs.sum(0) / risk.num_examples
        delta = delta_cotangents(probs)
        for k in range(num_classes):
            yield k, delta[:, k]
            yield num_classes + k, probs[:, k, None].sqrt() * delta[:, k]

    for c, j, pulled in class_pullbacks(risk, cotangents, report):
        sums[c, j] += pulled
    for total in (sums, mass):
        risk.world.sum(total)
    plain, weighted = sums.split(num_classes, dim=1)
    tiny = torch.finfo(risk.dtype).tiny  # a probability that underflowed
    plain /= counts[:, None, None]
    weighted /= (mass * risk.num_examples).to(risk.dtype).clamp(min=tiny)[..., None]
    return CrossClassMeans(plain, weighted, mass, counts.double() / counts.sum())


def averages(means: CrossClassMeans, weighting: str) -> Averages:
    r"""Average further, over c' and over c, in one of the three conventions.

    ========= ============================== ========================================
    name      delta_c                        class part of G
    ========= ============================== ========================================
    ``slide`` mean of delta_{c,k}, all k     ``C sum_c n_c/N delta_c delta_c^T``
    ``icml``  mean of delta_{c,k}, k != c    ``(C-1) sum_c n_c/N delta_c delta_c^T``
    ``jmlr``  weighted mean of g_{c,k},      ``sum_c w_c g_c g_c^T``,
              k != c                         ``w_c = sum_{k != c} w_{c,k}``
    ========= ============================== ========================================

    Then ``delta_G`` is the mean of the delta_c, weighted as they are in G.
    """
    if weighting == "jmlr":
        return average_further(weighting, means.weighted, means.mass)
    share = means.share[:, None].expand_as(means.mass)
    return average_further(weighting, means.plain, share)


def average_further(weighting: str, cross: Tensor, cross_weight: Tensor) -> Averages:
    """`averages`, from the first averages (C, C, d) and their weights in G (C, C)."""
    inner = cross_weight.clone()
    if weighting != "slide":
        inner.fill_diagonal_(0.0)
    class_weight = inner.sum(1)
    normal = (inner / class_weight[:, None]).to(cross.dtype)
    classes = torch.einsum("ck,ckp->cp", normal, cross)
    everything, total = average_classes(classes, class_weight)
    return Averages(
        weighting=weighting,
        cross=cross,
        cross_weight=cross_weight,
        classes=classes,
        class_weight=class_weight,
        everything=everything,
        everything_weight=total,
        off_diagonal=weighting != "slide",
    )


def average_classes(classes: Tensor, class_weight: Tensor) -> tuple[Tensor, float]:
    """The third average, delta_G (d,), and its weight."""
    total = class_weight.sum()
    return (class_weight / total).to(classes.dtype) @ classes, float(total)
