r"""The means of the gradients delta_{i,c,c'}: over i, then over c', then over c."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.means.pullback import Onto, class_sums
from workbench.curvature.problem.cross_entropy import (
    combined_cotangents,
    delta_cotangents,
)
from workbench.curvature.problem.labelled import Labelled
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.study.convention import Convention


@dataclass(frozen=True, slots=True, eq=False)
class CrossClassMeans:
    r"""First averages, over the examples i of each class, in any coordinates of R^d.

    ``plain[c, k]`` is the mean of delta_{i,c,k}; ``weighted[c, k]`` the weighted mean
    of ``g_{i,c,k} = grad log p_k`` with weights ``w_i p_{i,k}``, total ``mass[c, k]``,
    w that of an example in G (`Labelled`), 1/N in the plain mean.
    """

    plain: Tensor  # (C, C, d)
    weighted: Tensor  # (C, C, d)
    mass: Tensor  # (C, C) sum_{i in c} w_i p_{ik}
    share: Tensor  # (C,) W_c = sum_{i in c} w_i, which is n_c / N in the plain mean

    def double(self) -> CrossClassMeans:
        """The same in float64."""
        plain, weighted = self.plain.double(), self.weighted.double()
        return CrossClassMeans(plain, weighted, self.mass, self.share)


@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """The three averages in one convention, with the weight of each in G."""

    convention: Convention
    cross: Tensor  # (C, C, d) delta_{c,k}
    cross_weight: Tensor  # (C, C)
    classes: Tensor  # (C, d) delta_c
    class_weight: (
        Tensor  # (C,) so that the class part is sum_c weight delta_c delta_c^T
    )
    everything: Tensor  # (d,) delta_G
    everything_weight: float


def cross_class_means(
    risk: EmpiricalRisk, report: Callable[[float], None] | None = None
) -> CrossClassMeans:
    r"""Average the gradients of each (true class, potential class) pair over examples.

    .. math:: \delta_{c,k} = \frac{\sum_{i \in c} w_i \delta_{i,k}}
       {\sum_{i \in c} w_i}, \quad
       g_{c,k} = \frac{\sum_{i \in c} w_i p_{ik} J_i^T (e_k - p_i)}
       {\sum_{i \in c} w_i p_{ik}}, \quad
       G = \sum_i w_i \sum_k \delta_{i,k} \delta_{i,k}^T

    with ``w = 1 / N`` in the plain mean cross-entropy. One forward and 2 C backward
    passes over the data; stores 2 C^2 vectors of length P.

    Args:
        risk: Network and data; every class has an example.
        report: Called with the share done.

    Reference:
        Papyan (2019), arXiv:1901.08244; Papyan (2020), arXiv:2008.11865.
    """
    C = risk.num_classes
    share = risk.classes("cross_class_means").to(risk.device)

    def cotangents(c: int, own: Labelled) -> Iterator[tuple[int, Tensor]]:
        probs = own.probs
        delta, first = delta_cotangents(probs), 2 * C * c
        for k in range(C):
            yield first + k, delta[:, k]
            yield first + C + k, probs[:, k, None].sqrt() * delta[:, k]

    sums, mass = class_sums(risk, 2 * C * C, cotangents, report=report)
    plain, weighted = sums.view(C, 2 * C, -1).split(C, dim=1)
    tiny = torch.finfo(risk.dtype).tiny  # a probability that underflowed
    plain /= share.to(risk.dtype)[:, None, None]
    weighted /= mass.to(risk.dtype).clamp(min=tiny)[..., None]
    return CrossClassMeans(plain, weighted, mass, share)


def pair_weights(convention: Convention, mass: Tensor, share: Tensor) -> Tensor:
    """Weight of each delta_{c,k} in G, (C, C): its mass, or the class's share W_c."""
    return mass if convention.weighted else share[:, None].expand_as(mass)


def included(convention: Convention, weight: Tensor) -> Tensor:
    """The weights of those delta_{c,k} that delta_c averages, of the others zero."""
    if convention.includes_true:
        return weight
    return weight.clone().fill_diagonal_(0.0)


def keep_column(values: Tensor, k: int) -> Tensor:
    """The values with all but column k zero, (N, C)."""
    alone = torch.zeros_like(values)
    alone[:, k] = values[:, k]
    return alone


def pair_cotangents(sizes: Tensor, probs: Tensor, k: int) -> Tensor:
    """Cotangents of ``s_k g_k`` for each example, (N, C)."""
    return combined_cotangents(probs, keep_column(sizes, k))


def class_cotangents(convention: Convention, probs: Tensor, c: int) -> Tensor:
    """Cotangents of ``sum_k s_k g_k``, over the k that delta_c averages, (N, C)."""
    sizes = convention.sizes(probs)
    if not convention.includes_true:
        sizes = sizes.clone()
        sizes[:, c] = 0.0
    return combined_cotangents(probs, sizes)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedMeans:
    """The delta_c in one convention, in any coordinates."""

    vectors: Tensor  # (C, d)
    weight: Tensor  # (C,) float64: the class part is sum_c weight v_c v_c^T

    @property
    def factor(self) -> Tensor:
        """F with ``F F^T`` the class part, (d, C)."""
        return (self.weight.sqrt().to(self.vectors.dtype)[:, None] * self.vectors).T


def weighted_means(
    risk: EmpiricalRisk,
    conventions: Sequence[Convention],
    image: Onto | None = None,
) -> dict[str, WeightedMeans]:
    """The delta_c by their definition, in several conventions.

    One forward pass over the data, and a backward pass a convention.

    Args:
        risk: Network and data; every class has an example.
        conventions: Of the averages.
        image: What is kept of each vector of length P; by default all of it.
    """
    C = risk.num_classes
    share = risk.classes("weighted_means").to(risk.device)

    def cotangents(c: int, own: Labelled) -> Iterator[tuple[int, Tensor]]:
        for n, convention in enumerate(conventions):
            yield n * C + c, class_cotangents(convention, own.probs, c)

    dtype = torch.float64 if image else None
    num = len(conventions) * C
    sums, mass = class_sums(risk, num, cotangents, image=image, dtype=dtype)
    found = {}
    for convention, total in zip(conventions, sums.split(C), strict=True):
        weight = pair_weights(convention, mass, share)
        weight = included(convention, weight).sum(1)
        over = weight.to(total.dtype).clamp(min=torch.finfo(risk.dtype).tiny)
        found[convention.name] = WeightedMeans(total / over[:, None], weight)
    return found


def class_factors(
    convention: Convention, probs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The same as combinations of the delta: factors (N, C, C), and the weights (C,).

    Entry ``[i, k, c]`` is the factor of delta_{i,k} in delta_c.
    """
    N, C = probs.shape
    member = torch.nn.functional.one_hot(labels, C).to(probs.dtype)
    weight = pair_weights(convention, member.T @ probs / N, member.mean(0))
    allowed = included(convention, torch.ones_like(weight))  # (c, k)
    weight = included(convention, weight).sum(1)
    sizes = probs.sqrt() if convention.weighted else torch.ones_like(probs)
    factors = torch.einsum("ic,ck,ik->ikc", member, allowed, sizes) / N
    return factors / weight.clamp(min=torch.finfo(probs.dtype).tiny), weight


def averages(means: CrossClassMeans, convention: Convention) -> Averages:
    """Average further, over c' and over c; delta_G is weighted as the delta_c in G."""
    weight = pair_weights(convention, means.mass, means.share)
    first = means.weighted if convention.weighted else means.plain
    return average_further(convention, first, weight)


def average_further(
    convention: Convention, cross: Tensor, cross_weight: Tensor
) -> Averages:
    """`averages`, from the first averages (C, C, d) and their weights in G (C, C)."""
    inner = included(convention, cross_weight)
    class_weight = inner.sum(1)
    normal = (inner / class_weight[:, None]).to(cross.dtype)
    classes = torch.einsum("ck,ckp->cp", normal, cross)
    everything, total = average_classes(classes, class_weight)
    return Averages(
        convention=convention,
        cross=cross,
        cross_weight=cross_weight,
        classes=classes,
        class_weight=class_weight,
        everything=everything,
        everything_weight=total,
    )


def average_classes(classes: Tensor, class_weight: Tensor) -> tuple[Tensor, float]:
    """The third average, delta_G (d,), and its weight."""
    total = class_weight.sum()
    return (class_weight / total).to(classes.dtype) @ classes, float(total)
