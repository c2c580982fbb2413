"""The spectra of G, Hess and H, from the space that G was found in."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from workbench.curvature.coordinates import (
    Coordinates,
    dense_gauss_newton,
    primal_eigenvectors,
)
from workbench.curvature.hierarchy import inner_products
from workbench.curvature.risk import EmpiricalRisk
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense, LinearOperator
from workbench.measuring.probe import BLOCK_SIZE, NUM_LOW, Probe, whole_spectrum
from workbench.measuring.stages import Report, part_of
from workbench.spectrum import Spectrum

EDGE = 20.0  # times tol for H: no gap sets its ends apart, so they converge slowly


def of_g(
    risk: EmpiricalRisk, place: Coordinates, probe: Probe, report: Report
) -> tuple[EigenPairs, Spectrum]:
    """G's leading eigenpairs, and all its eigenvalues or their density."""
    start = leading_means(place.classes(probe.settings.weighting), probe.num)
    if isinstance(place.g, Dense):
        # products with a matrix are cheap: vectors then as good as its eigenvalues
        pairs = probe.pairs(place.g, "LA", start, part_of(report, 0.0, 0.5), tol=1e-9)
        rank = min(risk.dim, risk.num_examples * (risk.num_classes - 1))
        return pairs, whole_spectrum(place.g, risk, rank, place.method)
    pairs, g = probe.both(place.g, "LA", start, report)
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
    led: bool,
    place: Coordinates,
    pairs: EigenPairs,
    probe: Probe,
    report: Report,
) -> Spectrum:
    """Both ends of Hess or H, and the density; Hess is led by G's eigenvectors.

    H has a bulk and no outliers: where it ends is what its eigenvalues tell.
    """
    noise = torch.randn(risk.dim, BLOCK_SIZE, generator=probe.generator)
    first, tol = noise.to(risk.device, risk.dtype), EDGE * probe.settings.tol
    if led:  # its outliers lean on G's; the noise sees the low end
        leading = primal_eigenvectors(risk, place, pairs.vectors)
        first, tol = torch.cat([leading, first], dim=1), probe.settings.tol
    else:
        probe = replace(probe, num=min(probe.num, NUM_LOW))
    return probe.both(operator, "BE", first, report, tol=tol)[1]
