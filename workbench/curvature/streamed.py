r"""The second moment of all C^2 means by its products: none of them is ever formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.general import General
from workbench.curvature.layerwise import LayerWise
from workbench.curvature.risk import EmpiricalRisk
from workbench.linalg.operator import LinearOperator

BLOCK = 32  # vectors that share a forward pass


@dataclass(frozen=True, eq=False)
class MeanProducts(LinearOperator):
    r"""The part of G that its means over the examples carry, for any number of classes.

    .. math:: G_{means} = \sum_{c,k} w_{c,k} \delta_{c,k} \delta_{c,k}^T, \quad
        \delta_{c,k} = \frac{1}{W_{c,k}} \sum_{i \in c} s_{ik} J_i^T (e_k - p_i)

    with ``s = sqrt(p)``, W the number of examples, and in ``jmlr`` ``s = p``, W their
    sum. One pass pushes the vectors forward and averages: ``delta_{c,k}^T v`` are C^2
    numbers; the next pulls ``sum_{c,k}`` back. Costs as G times a vector, and a forward
    pass a block where passes are not kept; memory: C^2 numbers a vector.
    """

    risk: EmpiricalRisk
    network: LayerWise | General
    weighting: str
    factor: Tensor  # (C, C) w / W^2

    def __post_init__(self) -> None:
        for name in ("dim", "dtype", "device"):
            object.__setattr__(self, name, getattr(self.risk, name))

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        inner = self.factor[..., None] * self._inner(vectors)

        def cotangents(labels: Tensor, probs: Tensor) -> Tensor:
            sizes = self._sizes(probs)[..., None] * inner[labels]
            return sizes - probs[..., None] * sizes.sum(1, keepdim=True)

        total = self.network.pull(cotangents, vectors.shape[1])
        return self.risk.world.sum(total)

    def quadratic(self, vectors: Tensor) -> Tensor:
        """``v^T G_means v`` of each column, (m,), at half of a product."""
        inner = [self._inner(part) for part in vectors.split(BLOCK, dim=1)]
        return (self.factor[..., None] * torch.cat(inner, 2).square()).sum((0, 1))

    def _inner(self, vectors: Tensor) -> Tensor:
        """``W_{c,k} delta_{c,k}^T v``: (P, m) to (C, C, m), float64."""
        vectors = vectors.to(self.device, self.dtype)
        shape = (*self.factor.shape, vectors.shape[1])
        total = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for labels, probs, pushed in self.network.push(vectors):
            # relative to the likeliest class, so that 1 - p_k keeps its digits
            likeliest = probs.argmax(1)[:, None, None].expand(-1, 1, pushed.shape[2])
            moved = pushed.double() - pushed.double().gather(1, likeliest)
            apart = moved - (probs[..., None] * moved).sum(1, keepdim=True)
            total.index_add_(0, labels, self._sizes(probs)[..., None] * apart)
        return self.risk.world.sum(total)

    def _sizes(self, probs: Tensor) -> Tensor:
        return probs if self.weighting == "jmlr" else probs.sqrt()


def mean_products(
    risk: EmpiricalRisk, network: LayerWise | General, weighting: str
) -> MeanProducts:
    """The operator of one weighting; one forward pass over the data for ``jmlr``.

    Args:
        risk: Network and data.
        network: How products with G are taken, as `Curvature` has it.
        weighting: ``"slide"``, ``"icml"`` or ``"jmlr"``.
    """
    C, N = risk.num_classes, risk.num_examples
    total = torch.zeros(C, C, dtype=torch.float64, device=risk.device)
    if weighting == "jmlr":
        for inputs, labels in risk.batches():
            total.index_add_(0, labels, risk.probabilities(inputs))
        risk.world.sum(total)
    else:
        total += risk.class_counts.to(total)[:, None]
    tiny = torch.finfo(risk.dtype).tiny  # a probability that underflowed
    factor = 1 / (N * total.clamp(min=tiny))
    return MeanProducts(risk, network, weighting, factor)


def estimate_trace(
    quadratic: Callable[[Tensor], Tensor],
    known: Tensor,
    num_probes: int,
    generator: torch.Generator,
) -> tuple[float, float]:
    r"""The trace of A >= 0 and its standard error, from random vectors.

    .. math:: \mathrm{tr} A = \sum_j v_j^T A v_j + E\, z^T (I - VV^T) A (I - VV^T) z

    with orthonormal columns V, exact on their span: where that holds the leading
    eigenvectors, little is left to chance.

    Args:
        quadratic: ``v^T A v`` of each column.
        known: V, (dim, r).
        num_probes: Vectors z with entries -1 and 1.
        generator: Their source.

    Reference:
        Hutchinson (1989); Meyer et al. (2021), SOSA, Hutch++.
    """
    shape = (len(known), num_probes)
    signs = torch.randint(2, shape, generator=generator, dtype=torch.int8)
    probes = (2 * signs - 1).to(known.device, known.dtype)
    probes -= known @ (known.T @ probes)
    found = quadratic(torch.cat([known, probes], dim=1)).double()
    rest = found[known.shape[1] :]
    trace = float(found[: known.shape[1]].sum() + rest.mean())
    return trace, float(rest.std() / num_probes**0.5)
