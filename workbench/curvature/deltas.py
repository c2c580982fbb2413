r"""The means of the gradients delta_{i,c,c'}: over i, then over c', then over c."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.risk import EmpiricalRisk, evaluating
from workbench.curvature.softmax import delta_cotangents, probabilities


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
    shape = (num_classes, num_classes, risk.dim)
    plain = torch.zeros(shape, dtype=risk.dtype, device=risk.device)
    weighted = torch.zeros_like(plain)
    mass = torch.zeros(shape[:2], dtype=torch.float64, device=risk.device)
    parameters = list(risk.parameters.values())
    done = 0
    with evaluating(risk.model):
        for c, inputs in risk.class_batches():
            with torch.enable_grad():
                logits = risk.model(inputs)
            probs = probabilities(logits.detach())
            cotangents = delta_cotangents(probs)  # (B, k, logit)
            mass[c] += probs.sum(0) / risk.num_examples
            for k in range(num_classes):
                for target, factor in (
                    (plain, torch.ones_like(probs[:, k])),
                    (weighted, probs[:, k].sqrt()),
                ):
                    column = (cotangents[:, k] * factor[:, None]).to(logits.dtype)
                    grads = torch.autograd.grad(
                        logits,
                        parameters,
                        column,
                        retain_graph=True,
                        materialize_grads=True,
                    )
                    target[c, k] += risk.flatten(grads)
            done += len(inputs)
            if report:
                report(done / risk.num_own)
    for total in (plain, weighted, mass):
        risk.world.sum(total)
    counts = risk.class_counts.to(risk.device)
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
    num_classes = len(means.share)
    others = 1.0 - torch.eye(num_classes, dtype=torch.float64, device=means.mass.device)
    if weighting == "jmlr":
        cross, cross_weight = means.weighted, means.mass
        inner = cross_weight * others
    else:
        cross = means.plain
        cross_weight = means.share[:, None].expand(-1, num_classes)
        inner = cross_weight * (
            others if weighting == "icml" else torch.ones_like(others)
        )
    class_weight = inner.sum(1)
    normal = (inner / class_weight[:, None]).to(cross.dtype)
    classes = torch.einsum("ck,ckp->cp", normal, cross)
    total = class_weight.sum()
    everything = (class_weight / total).to(cross.dtype) @ classes
    return Averages(
        weighting=weighting,
        cross=cross,
        cross_weight=cross_weight,
        classes=classes,
        class_weight=class_weight,
        everything=everything,
        everything_weight=float(total),
        off_diagonal=weighting != "slide",
    )
