"""What the three averages carry of G, in one weighting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workbench.curvature.coordinates import Coordinates
from workbench.curvature.deltas import averages
from workbench.curvature.hierarchy import (
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
from workbench.measuring.probe import Probe
from workbench.study import Levels


def split_levels(
    place: Coordinates,
    weighting: str,
    pairs: EigenPairs,
    probe: Probe,
    report: Callable[[float], None],
) -> Levels:
    """Split G into its parts, in the subspace that its eigenvectors were found in."""
    parts = hierarchy(averages(place.means, weighting))
    eigenvalues = {
        part: factor_eigenvalues(factor).cpu().numpy()
        for part, factor in parts.factors.items()
    }
    trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
    trace["G"] = place.trace
    trace[parts.within_part] = place.trace - trace[parts.means_part]

    g = Remembered(place.g, pairs.basis, pairs.images)

    def leading(operator: LinearOperator, done: float) -> NDArray[np.float64]:
        def third(share: float) -> None:
            report((done + share) / 3)

        scale = float(pairs.values[0])
        found = probe.pairs(operator, "LA", pairs.basis, third, scale)
        return found.values.cpu().numpy()

    eigenvalues[parts.within_part] = leading(within(g, parts), 0)
    return Levels(
        weighting=parts.weighting,
        parts=eigenvalues,
        trace=trace,
        kept=np.asarray(kept_shares(parts, place.trace)),
        overlap=span_overlap(parts, pairs.vectors).cpu().numpy(),
        class_overlap=class_overlap(parts, pairs.vectors).cpu().numpy(),
        subtracted=leading(subtracted(g, parts), 1),
        projected=leading(projected(g, parts), 2),
    )
