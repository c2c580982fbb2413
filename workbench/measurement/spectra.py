"""The spectra of G, Hess and H, from the space in which G was computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from workbench.curvature.gram.coordinates import Coordinates
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.columns import dots, inner_products, lengths
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense, LinearOperator
from workbench.measurement.solver import NUM_LOW, IterativeSolver, whole_spectrum
from workbench.progress.control import Report, span
from workbench.study.spectrum import Spectrum

EDGE = 20.0  # times tol, relative to the end itself: the ends of a bulk have no gap
HELD = 0.6  # share of a vector in a span of eigenvectors; one of two copies gives half
Lift = Callable[[Tensor], Tensor]  # maps eigenvectors of G from its coordinates to R^P


def leading_means(coordinates: Coordinates, solver: IterativeSolver) -> Tensor:
    """Return the class means, (P, C); if there are too many, their main directions."""
    classes = coordinates.averages(solver.settings.convention).classes
    if len(classes) <= solver.num:
        return classes.T
    inner = inner_products(classes.T)
    turn = torch.linalg.eigh(inner).eigenvectors[:, -solver.num :]
    return classes.T @ turn.to(classes.dtype)


def whole_hess(
    risk: EmpiricalRisk, hess: Dense, num: int
) -> tuple[Tensor, Tensor, Spectrum]:
    """Return Hess as a matrix, its first eigenvectors (P, num), all its eigenvalues."""
    found = whole_spectrum(hess, risk, risk.dim, "dense, exact", risk.dim)
    vectors = torch.linalg.eigh(hess.matrix).eigenvectors[:, -num:].flip(1)
    return hess.matrix, vectors, found


def rest_of_hess(
    risk: EmpiricalRisk, hess: Tensor, g: Dense
) -> tuple[Tensor, Spectrum]:
    """Return H's lowest eigenvector, (P, 1), and all eigenvalues of H = Hess - G."""
    h = hess - g.matrix
    lowest = torch.linalg.eigh(h).eigenvectors[:, :1].clone()
    return lowest, whole_spectrum(Dense(h), risk, risk.dim, "dense, exact")


def both_ends(
    risk: EmpiricalRisk,
    operator: LinearOperator,
    lift: Lift,
    pairs: EigenPairs,
    solver: IterativeSolver,
    report: Report,
) -> tuple[Tensor, Spectrum]:
    """Compute both ends of Hess and its density, starting from a random vector.

    Also returns the eigenvectors of the high end, largest first, (P, k).

    Starting from eigenvectors of G would cost more products than it saves, because
    subspaces grown from one vector reach the highest polynomial degree. But G's
    eigenvectors reveal whether one of several equal eigenvalues was missed; then the
    search restarts from them.
    """
    half = span(report, 0.0, 0.5)
    found = solver.pairs(operator, "BE", None, half, low=EDGE).alone()
    if (missed := _missed(risk, lift, pairs, found)) is not None:
        start = torch.cat([found.vectors, missed], dim=1)
        found = solver.pairs(operator, "BE", start, half, low=EDGE).alone()
    high = found.vectors[:, : found.num_high]
    return high, solver.spectrum(operator, found, span(report, 0.5))


def bulk_ends(
    operator: LinearOperator, solver: IterativeSolver, report: Report
) -> tuple[Tensor, Spectrum]:
    """Compute both ends of H, a bulk without outliers, and its density.

    Also returns the lowest eigenvector, (P, 1).
    """
    few = replace(solver, num=min(solver.num, NUM_LOW))
    half, tol = span(report, 0.0, 0.5), EDGE * solver.settings.tol
    found = few.pairs(operator, "BE", None, half, tol=tol, low=1.0).alone()
    return found.vectors[:, -1:], few.spectrum(operator, found, span(report, 0.5))


def _missed(
    risk: EmpiricalRisk, lift: Lift, pairs: EigenPairs, found: EigenPairs
) -> Tensor | None:
    """Leading eigenvectors of G, (P, m), that are missing in the span of Hess's.

    If only one of m equal eigenvalues was found, its vector has 1/m of each of theirs.
    """
    least = found.values[min(len(pairs.values), len(found.values)) - 1]
    clear = pairs.values > least + found.residuals.max()
    leading = pairs.vectors[:, clear][:, : risk.num_classes]
    if not leading.shape[1]:
        return None
    leading = lift(leading)
    leading = leading / lengths(leading).to(leading.dtype)
    held = dots(found.vectors, leading).square().sum(0)
    far = held < HELD
    return leading[:, far] if far.any() else None
