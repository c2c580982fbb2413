"""The spectra of G, Hess and H, from the space that G was found in."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from workbench.curvature.gram.coordinates import (
    Coordinates,
    dense_gauss_newton,
    primal_eigenvectors,
)
from workbench.curvature.means.class_gram import ClassGram
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.columns import dots, inner_products, lengths
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense, LinearOperator
from workbench.measurement.solver import NUM_LOW, Probe, whole_spectrum
from workbench.measurement.stages import Report, part_of
from workbench.study.spectrum import Spectrum

EDGE = 20.0  # times tol, of an end's own size: no gap sets the ends of a bulk apart
HELD = 0.6  # of a vector's square, in the span of eigenvectors; half: one of two copies


def of_g(
    risk: EmpiricalRisk, place: Coordinates, probe: Probe, report: Report
) -> tuple[EigenPairs, Spectrum]:
    """G's leading eigenpairs, and all its eigenvalues or their density."""
    if isinstance(place.means, ClassGram):  # no room for them, nor for the subspace
        pairs = probe.pairs(place.g, "LA", None, part_of(report, 0.0, 0.5)).alone()
        g = probe.spectrum(place.g, pairs, part_of(report, 0.5))
        return pairs, replace(g, trace=place.trace, trace_error=0.0)
    start = leading_means(place.averages(probe.settings.weighting).classes, probe.num)
    if isinstance(place.g, Dense):
        # products with a matrix are cheap: vectors then as good as its eigenvalues
        pairs = probe.pairs(place.g, "LA", start, part_of(report, 0.0, 0.5), tol=1e-9)
        rank = min(risk.dim, risk.num_examples * (risk.num_classes - 1))
        return pairs, whole_spectrum(place.g, risk, rank, place.method)
    pairs = probe.pairs(place.g, "LA", start, part_of(report, 0.0, 0.5))
    g = probe.spectrum(place.g, pairs, part_of(report, 0.5))
    return pairs, replace(g, trace=place.trace, trace_error=0.0)


def leading_means(classes: Tensor, num: int) -> Tensor:
    """The class means, (P, C); of more than ``num`` the main directions."""
    if len(classes) <= num:
        return classes.T
    inner = inner_products(classes.T)
    turn = torch.linalg.eigh(inner).eigenvectors[:, -num:]
    return classes.T @ turn.to(classes.dtype)


def whole_hess(risk: EmpiricalRisk, hess: Dense) -> tuple[Tensor, Spectrum]:
    """Hess as a matrix, and all its eigenvalues."""
    found = whole_spectrum(hess, risk, risk.dim, "dense, exact", risk.dim)
    return hess.matrix, found


def rest_of_hess(
    risk: EmpiricalRisk, place: Coordinates, hess: Tensor, report: Report
) -> Spectrum:
    """All eigenvalues of H = Hess - G."""
    g = dense_gauss_newton(risk, report) if place.gram else place.g
    assert isinstance(g, Dense)
    return whole_spectrum(Dense(hess - g.matrix), risk, risk.dim, "dense, exact")


def both_ends(
    risk: EmpiricalRisk,
    operator: LinearOperator,
    place: Coordinates,
    pairs: EigenPairs,
    probe: Probe,
    report: Report,
) -> Spectrum:
    """Both ends of Hess and its density, from a random vector.

    Eigenvectors of G to start from would cost more products than they save: with
    subspaces of one vector the polynomials have the highest degree. But G's tell
    whether one of several equal eigenvalues was missed, and are started from then.
    """
    told = part_of(report, 0.0, 0.5)
    found = probe.pairs(operator, "BE", None, told, low=EDGE).alone()
    if (missed := _missed(risk, place, pairs, found)) is not None:
        start = torch.cat([found.vectors, missed], dim=1)
        found = probe.pairs(operator, "BE", start, told, low=EDGE).alone()
    return probe.spectrum(operator, found, part_of(report, 0.5))


def bulk_ends(operator: LinearOperator, probe: Probe, report: Report) -> Spectrum:
    """Both ends of H, a bulk without outliers, and its density."""
    few = replace(probe, num=min(probe.num, NUM_LOW))
    told, tol = part_of(report, 0.0, 0.5), EDGE * probe.settings.tol
    found = few.pairs(operator, "BE", None, told, tol=tol, low=1.0).alone()
    return few.spectrum(operator, found, part_of(report, 0.5))


def _missed(
    risk: EmpiricalRisk, place: Coordinates, pairs: EigenPairs, found: EigenPairs
) -> Tensor | None:
    """Leading eigenvectors of G, (P, m), that Hess's found ones hold too little of.

    One of m equal eigenvalues that is found alone holds 1/m of each of their vectors.
    """
    least = found.values[min(len(pairs.values), len(found.values)) - 1]
    clear = pairs.values > least + found.residuals.max()
    leading = pairs.vectors[:, clear][:, : risk.num_classes]
    if not leading.shape[1]:
        return None
    leading = primal_eigenvectors(risk, place, leading)
    leading = leading / lengths(leading).to(leading.dtype)
    held = dots(found.vectors, leading).square().sum(0)
    far = held < HELD
    return leading[:, far] if far.any() else None
