"""What the three averages carry of G: parts, traces, overlaps and knock-outs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.means.averages import Averages
from workbench.linalg.columns import dots, inner_products, lengths, reorthonormalised
from workbench.linalg.operator import LinearOperator, LowRank, Projected
from workbench.study.convention import Convention


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    r"""Factors F of the low-rank parts ``F F^T`` of G in one convention.

    ``icml``: ``G = G0 + G1 + G2 + G3``; ``slide``: ``G = G_class + G_cross +
    G_within``; ``jmlr``: the same with ``G_diag``, the part of c' = c, apart. All but
    the last (G3, G_within: the spread over examples) are here.
    """

    convention: Convention
    factors: dict[str, Tensor]  # part -> (d, r)
    classes: Tensor  # (d, C) delta_c
    everything: Tensor  # (d, 1): delta_G times the root of its weight


def hierarchy(averages: Averages) -> Hierarchy:
    r"""Split the second moment of the means into its parts.

    With weights ``w_{c,k}`` of the means and ``w_c`` their sum over the k averaged:

    .. math::
        G_{class} = \sum_c w_c \delta_c \delta_c^T, \quad
        G_{cross} = \sum_{c,k} w_{c,k}
        (\delta_{c,k} - \delta_c)(\delta_{c,k} - \delta_c)^T

    over k != c for ``icml`` and ``jmlr``, whose diagonal part is
    ``sum_c w_{c,c} delta_{c,c} delta_{c,c}^T``. They sum to the means' part exactly.

    Reference:
        Papyan (2019), arXiv:1901.08244, and Papyan (2020), arXiv:2008.11865.
    """
    convention, cross = averages.convention, averages.cross
    weight = averages.cross_weight.sqrt().to(cross.dtype)[..., None]
    root = averages.class_weight.sqrt().to(cross.dtype)
    eye = torch.eye(len(cross), dtype=torch.bool, device=cross.device)
    inside = torch.ones_like(eye) if convention.includes_true else ~eye
    factors = {
        convention.class_part: (root[:, None] * averages.classes).T,
        convention.cross_part: (weight * (cross - averages.classes[:, None]))[inside].T,
        convention.means_part: (weight * cross).flatten(0, 1).T,
    }
    if not convention.includes_true:
        factors[convention.diagonal_part] = (weight * cross)[eye].T
    everything = averages.everything_weight**0.5 * averages.everything
    return Hierarchy(convention, factors, averages.classes.T, everything[:, None])


def factor_eigenvalues(factor: Tensor) -> Tensor:
    """Nonzero eigenvalues of ``F F^T``, from it or from ``F^T F``, descending."""
    wide = factor.shape[0] < factor.shape[1]
    small = inner_products(factor.T if wide else factor)
    values = torch.linalg.eigvalsh(small).flip(0).clamp(min=0.0)
    return values[: min(factor.shape)]


def kept_shares(
    convention: Convention, trace: Mapping[str, float], everything: float
) -> list[float]:
    """Share of trace G in: the gradients, their means over i, over c', over c."""
    kept = trace[convention.means_part], trace[convention.class_part], everything
    return [1.0] + [share / trace["G"] for share in kept]


def span_overlap(parts: Hierarchy, vectors: Tensor) -> Tensor:
    r"""Share of each unit vector u in span{delta_c}: ``||Q^T u||^2``, (m,)."""
    shares = dots(span_basis(parts.classes), vectors).square().sum(0)
    return shares.clamp(max=1.0)  # above by rounding


def overlaps(along: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    """`class_overlap` and `span_overlap` of vectors that are not there.

    Args:
        along: ``delta_c^T u`` of unit vectors u, (C, m).
        inner: Inner products of the delta_c, (C, C).
    """
    tiny = torch.finfo(inner.dtype).tiny
    each = along.square() / inner.diagonal().clamp(min=tiny)[:, None]
    size, turn = eigh_psd(inner)
    span = ((turn.T @ along).square() / size[:, None]).sum(0)
    return each.T.clamp(max=1.0), span.clamp(max=1.0)


def class_overlap(parts: Hierarchy, vectors: Tensor) -> Tensor:
    r"""Squared cosine of each unit vector with each delta_c, (m, C)."""
    norms = lengths(parts.classes).clamp(min=torch.finfo(vectors.dtype).tiny)
    return (dots(vectors, parts.classes) / norms).square().clamp(max=1.0)


def within(g: LinearOperator, parts: Hierarchy) -> LinearOperator:
    """G minus all its means: the spread over examples, positive semidefinite."""
    return g - LowRank(parts.factors[parts.convention.means_part])


def subtracted(g: LinearOperator, parts: Hierarchy) -> LinearOperator:
    """G minus its class part, positive semidefinite still: knock-out by subtraction."""
    return g - LowRank(parts.factors[parts.convention.class_part])


def projected(g: LinearOperator, parts: Hierarchy) -> LinearOperator:
    """``(I - Q Q^T) G (I - Q Q^T)``, Q = span{delta_c}: knock-out by projection."""
    return Projected(g, span_basis(parts.classes))


def eigh_psd(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenpairs of a positive semidefinite matrix, without those at rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    keep = values > len(values) * 1e-15 * values[-1]
    return values[keep], vectors[:, keep]


def span_basis(vectors: Tensor) -> Tensor:
    """Orthonormal basis of the columns' span, up to rounding; of zeros, nothing."""
    left, size, _ = torch.linalg.svd(vectors, full_matrices=False)
    floor = size.max() * 1e3 * torch.finfo(vectors.dtype).eps
    return reorthonormalised(left[:, size > floor])
