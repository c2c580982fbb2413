r"""All C^2 means of the gradients as linear maps: none of them is ever formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.means.class_gram import ClassGram
from workbench.curvature.means.parts_of_g import eigh_psd, overlaps
from workbench.curvature.problem.labelled import Labelled, alone, together
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products.proof import Products
from workbench.linalg.columns import dots
from workbench.linalg.operator import LinearOperator

BLOCK = 32  # vectors that share a forward pass


@dataclass(frozen=True, eq=False)
class StreamedMeans:
    r"""The means over the examples, for any number of classes, by passes over the data.

    .. math:: \delta_{c,k} = \frac{1}{W_{c,k}}
        \sum_{i \in c} w_i s_{ik} J_i^T (e_k - p_i)

    with ``s = sqrt(p)``, W the sum of the w, and in ``jmlr`` ``s = p``, W that of
    ``w p``. One pass pushes vectors forward and averages: ``delta_{c,k}^T v`` are C^2
    numbers. Another pulls a combination of the delta_{c,k} back. So each part of G is
    known by its products, at the price of G's and C^2 numbers a vector.
    """

    risk: EmpiricalRisk
    network: Products  # takes the products, as `Curvature` has it
    gram: ClassGram  # inner products of the class means, and the convention

    @property
    def weight(self) -> Tensor:
        """Of each mean in G, (C, C)."""
        return self.gram.weight

    def inner(self, vectors: Tensor) -> Tensor:
        """``delta_{c,k}^T v``: (P, m) to (C, C, m), float64. Half of a product."""
        vectors = vectors.to(self.risk.device, self.risk.dtype)
        found = [self._inner(part) for part in vectors.split(BLOCK, dim=1)]
        return self._share()[..., None] * self.risk.world.sum(torch.cat(found, dim=2))

    def combine(self, factors: Tensor) -> Tensor:
        """``sum_{c,k} y_{c,k} delta_{c,k}``: (C, C, m) to (P, m). Half of a product."""
        factors = self._share()[..., None] * factors

        def cotangents(targets: Tensor, predictions: Tensor) -> Tensor:
            rows = self.risk.labelled(predictions, targets)
            sizes = self._sizes(rows)[..., None] * factors[rows.labels]
            columns = sizes - rows.probs[..., None] * sizes.sum(1, keepdim=True)
            return together(columns, tuple(predictions.shape))

        return self.risk.world.sum(self.network.pull(cotangents, factors.shape[2]))

    def classes(self, inner: Tensor) -> Tensor:
        """``delta_c^T v`` of ``delta_{c,k}^T v``: (C, C, m) to (C, m)."""
        return torch.einsum("ck,ckm->cm", self.gram.averaged, inner)

    def part(self, name: str) -> StreamedPart:
        """One of the parts of G that the means carry, or all of them."""
        return StreamedPart(self, name)

    def class_overlap(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        r"""Squared cosines of unit vectors with each delta_c, and with their span.

        (P, m) to (m, C) and (m,); `class_overlap` and `span_overlap` of `Hierarchy`.
        """
        return overlaps(self.classes(self.inner(vectors)), self.gram.classes)

    def _inner(self, vectors: Tensor) -> Tensor:
        """The sums over this process's examples."""
        shape = (*self.weight.shape, vectors.shape[1])
        total = torch.zeros(shape, dtype=torch.float64, device=self.risk.device)
        for targets, predictions, pushed in self.network.push(vectors):
            rows = self.risk.labelled(predictions, targets)
            found = alone(pushed.double(), tuple(predictions.shape))
            # relative to the likeliest class, so that 1 - p_k keeps its digits
            likeliest = rows.probs.argmax(1)[:, None, None]
            moved = found - found.gather(1, likeliest.expand(-1, 1, found.shape[2]))
            apart = moved - (rows.probs[..., None] * moved).sum(1, keepdim=True)
            total.index_add_(0, rows.labels, self._sizes(rows)[..., None] * apart)
        return total

    def _sizes(self, rows: Labelled) -> Tensor:
        """``w s``, (R, C)."""
        sizes: Tensor = self.gram.convention.sizes(rows.probs)
        return rows.weights[:, None] * sizes

    def _share(self) -> Tensor:
        """1 / W."""
        tiny = torch.finfo(self.risk.dtype).tiny  # a probability that underflowed
        return 1 / self.weight.clamp(min=tiny)


@dataclass(frozen=True, eq=False, repr=False)
class StreamedPart(LinearOperator):
    """A part of G by its products: two passes over the data, as for G itself."""

    means: StreamedMeans
    name: str

    def __post_init__(self) -> None:
        for name in ("dim", "dtype", "device"):
            object.__setattr__(self, name, getattr(self.means.risk, name))

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self.means.combine(self._mix(self.means.inner(vectors)))

    def quadratic(self, vectors: Tensor) -> Tensor:
        """``v^T A v`` of each column, (m,), at half of a product."""
        inner = self.means.inner(vectors)
        return (self._mix(inner) * inner).sum((0, 1))

    def _mix(self, inner: Tensor) -> Tensor:
        """What each mean enters the product with, of its own products with v."""
        gram, convention = self.means.gram, self.means.gram.convention
        everything = gram.weight[..., None] * inner
        if self.name == convention.means_part:
            return everything
        classes = gram.inside[..., None] * self.means.classes(inner)[:, None]
        if self.name == convention.class_part:
            return classes
        outside = (gram.weight - gram.inside)[..., None] * inner
        if self.name == convention.diagonal_part:
            return outside
        return everything - outside - classes


@dataclass(frozen=True, eq=False, repr=False)
class ClassesOut(LinearOperator):
    """``(I - Q Q^T) A (I - Q Q^T)``, Q = span{delta_c}: three times the price of A."""

    means: StreamedMeans
    operator: LinearOperator

    def __post_init__(self) -> None:
        for name in ("dim", "dtype", "device"):
            object.__setattr__(self, name, getattr(self.operator, name))

    @override
    def _matmat(self, vectors: Tensor) -> Tensor:
        return self._out(self.operator.matmat(self._out(vectors)))

    def _out(self, vectors: Tensor) -> Tensor:
        gram = self.means.gram
        size, turn = eigh_psd(gram.classes)
        along = self.means.classes(self.means.inner(vectors))
        factors = turn @ ((turn.T @ along) / size[:, None])
        spread = gram.averaged[..., None] * factors[:, None]
        return vectors - self.means.combine(spread).to(vectors.dtype)


def estimate_trace(
    quadratic: Callable[[Tensor], Tensor],
    known: Tensor,
    num_probes: int,
    generator: torch.Generator,
) -> tuple[float, float]:
    r"""The trace of A >= 0 and half its 95 % interval, from random vectors.

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
    signs = torch.randint(2, shape, generator=generator, dtype=torch.int8, device="cpu")
    probes = (2 * signs - 1).to(known.device, known.dtype)
    probes -= known @ dots(known, probes).to(probes.dtype)
    from scipy.special import stdtrit

    found = quadratic(torch.cat([known, probes], dim=1)).double()
    rest = found[known.shape[1] :]
    trace = float(found[: known.shape[1]].sum() + rest.mean())
    few = float(stdtrit(num_probes - 1, 0.975))  # Student's, as they are few
    return trace, few * float(rest.std() / num_probes**0.5)
