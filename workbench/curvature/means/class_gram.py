"""Inner products of the class means, where these are too many to be held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.means.averages import included, pair_weights
from workbench.curvature.means.class_means import mean_sums, means_shape
from workbench.curvature.means.pullback import Slice
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.columns import inner_products
from workbench.progress.control import Report, span
from workbench.study.convention import Convention

SLICE = 2**28  # numbers of class means that are held where only their products are


@dataclass(frozen=True, slots=True, eq=False)
class ClassGram:
    """Inner products of the class means, where these are too many to be held."""

    convention: Convention
    inner: Tensor  # (C, C) of the delta_c; or (2 C, 2 C), then the delta_{c,c}
    weight: Tensor  # (C, C) of each delta_{c,k} in G, float64
    # of the class part, the eigenvalues in each layer's parameters alone: (C,) each
    blocks: tuple[Tensor, ...] = ()

    @property
    def inside(self) -> Tensor:
        """Weights of what delta_c averages."""
        return included(self.convention, self.weight)

    @property
    def averaged(self) -> Tensor:
        """``delta_c = sum_k averaged_{c,k} delta_{c,k}``, (C, C)."""
        return self.inside / self.inside.sum(1, keepdim=True)

    @property
    def classes(self) -> Tensor:
        """Of the delta_c alone, (C, C)."""
        C = len(self.weight)
        return self.inner[:C, :C]

    @property
    def everything(self) -> float:
        """Share of delta_G in the trace of G: its weight times its square."""
        weight = self.inside.sum(1)
        return float(weight @ self.classes @ weight / weight.sum())

    def eigenvalues(self) -> dict[str, Tensor]:
        """Of the parts that C vectors make each, descending."""
        C = len(self.weight)
        class_part = self.convention.class_part
        found = {class_part: _weighted(self.classes, self.inside.sum(1))}
        if len(self.inner) > C:
            diagonal = self.inner[C:, C:]
            own = self.weight.diagonal()
            found[self.convention.diagonal_part] = _weighted(diagonal, own)
        return found


def _weighted(inner: Tensor, weight: Tensor) -> Tensor:
    """Eigenvalues of ``sum_c weight_c v_c v_c^T`` from the inner products of the v."""
    root = weight.sqrt()
    values = torch.linalg.eigvalsh(root[:, None] * inner * root)
    return values.flip(0).clamp(min=0.0)


def class_gram(
    risk: EmpiricalRisk,
    convention: Convention,
    report: Report = lambda share: None,
    *,
    by_layer: bool = False,
) -> ClassGram:
    """Inner products of the class means in bounded memory, exactly.

    The means are summed for some of the parameters at a time, as many as make 2^28
    numbers: for each such slice a gradient of the loss, or two for ``icml``.

    Args:
        risk: Network and data.
        convention: Of the means.
        report: Called with the share done.
        by_layer: Also solve for the class part in each layer's parameters, at
            ``C^3`` multiplications each.
    """
    C = risk.num_classes
    share = risk.classes("class_gram").to(risk.device)
    rows, columns = means_shape(C, convention, "c")
    width = max(1, SLICE // (rows * columns))
    starts = range(0, risk.dim, width)
    raw = torch.zeros(
        rows * columns, rows * columns, dtype=torch.float64, device=risk.device
    )
    mass = raw.new_zeros(C, C)
    left = blocks_of(risk) if by_layer else ()
    own = raw.new_zeros(C, C)  # of the delta_c in the first block that is left
    found: list[Tensor] = []
    for done, start in enumerate(starts):
        told = span(report, done / len(starts), (done + 1) / len(starts))
        some = Slice(start, min(start + width, risk.dim))
        sums, mass = mean_sums(risk, convention, "c", some, None, told)
        raw += inner_products(sums.transpose(0, 1).flatten(0, 1).T)
        while left and left[0].start < some.stop:
            low, high = max(left[0].start, start), min(left[0].stop, some.stop)
            own += inner_products(sums[:, 0, low - start : high - start].T)
            if left[0].stop > some.stop:
                break
            scale, weight = _scale(risk, convention, mass, share)
            inside = included(convention, weight).sum(1)
            found.append(_weighted(scale[:C, None] * own * scale[:C], inside))
            own, left = torch.zeros_like(own), left[1:]
    scale, weight = _scale(risk, convention, mass, share)
    if convention.weighted:  # sum_k p_k (e_k - p) = 0
        raw = raw.repeat(2, 2)
    inner = scale[:, None] * raw * scale
    return ClassGram(convention, inner, weight.contiguous(), tuple(found))


def _scale(
    risk: EmpiricalRisk, convention: Convention, mass: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Factors from the sums to the means, (C,) or (2 C,), and the means' weights."""
    tiny = torch.finfo(risk.dtype).tiny  # a probability that underflowed
    if convention.weighted:  # the delta_{c,c} are multiples of the delta_c
        own = mass.diagonal()
        over = torch.cat([(mass.sum(1) - own).clamp(min=tiny), -own.clamp(min=tiny)])
    else:
        over = share.repeat(1 + convention.sums_diagonal)
    return 1 / over, pair_weights(convention, mass, share)
