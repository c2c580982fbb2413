"""Inner products of the class means, where these are too many to be held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.means.class_means import Slice, class_sums, means_shape
from workbench.curvature.means.parts_of_g import PART_NAMES
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.columns import inner_products

SLICE = 2**28  # numbers of class means that are held where only their products are


@dataclass(frozen=True, slots=True, eq=False)
class ClassGram:
    """Inner products of the class means, where these are too many to be held."""

    weighting: str
    inner: Tensor  # (C, C) of the delta_c; but for "slide" (2 C, 2 C), the delta_{c,c}
    mass: Tensor  # (C, C) weight of each delta_{c,k} in G, float64; they sum to 1

    @property
    def inside(self) -> Tensor:
        """Weights of what delta_c averages: all but the k = c, for ``slide`` all."""
        if self.weighting == "slide":
            return self.mass
        return self.mass - self.mass.diagonal().diag()

    @property
    def averaged(self) -> Tensor:
        """``delta_c = sum_k averaged_{c,k} delta_{c,k}``, (C, C)."""
        return self.inside / self.inside.sum(1, keepdim=True)

    @property
    def classes(self) -> Tensor:
        """Of the delta_c alone, (C, C)."""
        C = len(self.mass)
        return self.inner[:C, :C]

    @property
    def everything(self) -> float:
        """Share of delta_G in the trace of G: its weight times its square."""
        weight = self.inside.sum(1)
        return float(weight @ self.classes @ weight / weight.sum())

    def eigenvalues(self) -> dict[str, Tensor]:
        """Of the parts that C vectors make each, descending."""
        C = len(self.mass)
        class_part, _, diagonal_part, *_ = PART_NAMES[self.weighting]
        found = {class_part: _weighted(self.classes, self.inside.sum(1))}
        if len(self.inner) > C:
            diagonal = self.inner[C:, C:]
            found[diagonal_part] = _weighted(diagonal, self.mass.diagonal())
        return found


def _weighted(inner: Tensor, weight: Tensor) -> Tensor:
    """Eigenvalues of ``sum_c weight_c v_c v_c^T`` from the inner products of the v."""
    root = weight.sqrt()
    values = torch.linalg.eigvalsh(root[:, None] * inner * root)
    return values.flip(0).clamp(min=0.0)


def class_gram(
    risk: EmpiricalRisk,
    weighting: str,
    report: Callable[[float], None] | None = None,
) -> ClassGram:
    """Inner products of the class means in bounded memory, exactly.

    The means are summed for some of the parameters at a time, as many as make 2^28
    numbers: for each such slice a gradient of the loss, or two for ``icml``.

    Args:
        risk: Network and data.
        weighting: Of the means.
        report: Called with the share done.
    """
    C, N = risk.num_classes, risk.num_examples
    counts = risk.classes("class_gram")
    rows, columns = means_shape(C, weighting, "c")
    width = max(1, SLICE // (rows * columns))
    starts = range(0, risk.dim, width)
    raw = torch.zeros(
        rows * columns, rows * columns, dtype=torch.float64, device=risk.device
    )
    mass = raw.new_zeros(C, C)
    for done, start in enumerate(starts):

        def told(share: float, done: int = done) -> None:
            if report:
                report((done + share) / len(starts))

        some = Slice(start, min(start + width, risk.dim))
        sums, mass = class_sums(risk, weighting, "c", some, None, told)
        raw += inner_products(sums.transpose(0, 1).flatten(0, 1).T)
    share = counts.to(raw) / N
    tiny = torch.finfo(risk.dtype).tiny  # a probability that underflowed
    if weighting == "jmlr":  # sum_k p_k (e_k - p) = 0
        own = mass.diagonal()
        over = torch.cat([(mass.sum(1) - own).clamp(min=tiny), -own.clamp(min=tiny)])
        raw = raw.repeat(2, 2)
    else:
        over = share.repeat(columns)
        mass = share[:, None].expand_as(mass)
    scale = 1 / over
    return ClassGram(weighting, scale[:, None] * raw * scale, mass.contiguous())
