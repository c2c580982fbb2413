"""What the three averages carry of G, in one convention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.curvature.gram.coordinates import Coordinates
from workbench.curvature.means.parts_of_g import (
    class_overlap,
    factor_eigenvalues,
    hierarchy,
    kept_shares,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import LinearOperator, Remembered
from workbench.measurement.solver import Probe
from workbench.progress.control import Report, span
from workbench.study.convention import Convention
from workbench.study.records import Levels

VANISHED = 1e-11  # of G's trace: class means of no more are zero but for rounding


class Search:
    """Leading eigenvalues of some operators, one after the other.

    Args:
        solver: How to iterate.
        scale: What residuals are held against.
        report: Told the share done of all of them.
        num: How many operators.
    """

    def __init__(self, solver: Probe, scale: float, report: Report, num: int) -> None:
        self._solver, self._scale = solver, scale
        self._report, self._num = report, num
        self.residuals: dict[str, NDArray[np.float64]] = {}

    def pairs(
        self, name: str, operator: LinearOperator, start: Tensor | None = None
    ) -> EigenPairs:
        """Of the next one; its residuals are kept under its name."""
        step = len(self.residuals)
        share = span(self._report, step / self._num, (step + 1) / self._num)
        found = self._solver.pairs(operator, "LA", start, share, self._scale).alone()
        self.residuals[name] = found.residuals.cpu().numpy()
        return found

    def values(
        self, name: str, operator: LinearOperator, start: Tensor | None = None
    ) -> NDArray[np.float64]:
        """The same without vectors."""
        return self.pairs(name, operator, start).values.cpu().numpy()


def split_levels(
    coordinates: Coordinates,
    convention: Convention,
    pairs: EigenPairs,
    solver: Probe,
    report: Report,
) -> Levels:
    """Split G into its parts, in the subspace that its eigenvectors were found in.

    Args:
        coordinates: G and the means in them.
        convention: Of the means.
        pairs: Leading eigenpairs of G.
        solver: How to iterate.
        report: Told the share done.
    """
    parts = hierarchy(coordinates.averages(convention))
    eigenvalues = {
        part: factor_eigenvalues(factor).cpu().numpy()
        for part, factor in parts.factors.items()
    }
    trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
    trace["G"] = coordinates.trace
    trace[convention.within_part] = coordinates.trace - trace[convention.means_part]
    if (
        trace[convention.class_part] <= VANISHED * coordinates.trace
    ):  # rounding has no directions
        parts = replace(parts, classes=torch.zeros_like(parts.classes))
    g = Remembered(coordinates.g, pairs.basis, pairs.images)
    few = replace(solver, spare=0)
    search = Search(few, float(pairs.values[0]), report, 3)

    def leading(name: str, operator: LinearOperator) -> NDArray[np.float64]:
        return search.values(name, operator, few.start_in(operator, pairs))

    within_part = convention.within_part
    eigenvalues[within_part] = leading(within_part, within(g, parts))
    everything = float(parts.everything.double().square().sum())
    return Levels(
        weighting=convention.name,
        parts=eigenvalues,
        trace=trace,
        kept=np.asarray(kept_shares(convention, trace, everything)),
        overlap=span_overlap(parts, pairs.vectors).cpu().numpy(),
        class_overlap=class_overlap(parts, pairs.vectors).cpu().numpy(),
        subtracted=leading("subtracted", subtracted(g, parts)),
        projected=leading("projected", projected(g, parts)),
        residuals=search.residuals,
    )
