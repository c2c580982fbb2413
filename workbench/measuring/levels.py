"""What the three averages carry of G, in one weighting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from workbench.curvature.coordinates import Coordinates
from workbench.curvature.hierarchy import (
    PART_NAMES,
    Hierarchy,
    class_overlap,
    factor_eigenvalues,
    kept_shares,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.curvature.streamed import MeanProducts, estimate_trace
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import LinearOperator, LowRank, Remembered
from workbench.measuring.probe import Probe
from workbench.measuring.stages import part_of
from workbench.study import Levels

NUM_STREAMED = 20  # leading eigenvalues of a part that is known by its products alone
NUM_SIGNS = 10  # random vectors that a trace is estimated by


def split_levels(
    place: Coordinates,
    weighting: str,
    pairs: EigenPairs,
    probe: Probe,
    report: Callable[[float], None],
    means: MeanProducts | None = None,
) -> Levels:
    """Split G into its parts, in the subspace that its eigenvectors were found in.

    Args:
        place: G and the means in some coordinates.
        weighting: Of the means.
        pairs: Leading eigenpairs of G.
        probe: How to iterate.
        report: Told the share done.
        means: The part of all means by its products, where ``place`` does not hold
            them: of it and of what it enters the leading eigenvalues are found, and the
            traces are estimated.
    """
    parts = place.parts(weighting)
    eigenvalues = {
        part: factor_eigenvalues(factor).cpu().numpy()
        for part, factor in parts.factors.items()
    }
    trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
    trace["G"] = place.trace
    g = Remembered(place.g, pairs.basis, pairs.images)

    few = replace(probe, num=min(probe.num, NUM_STREAMED))
    scale = float(pairs.values[0])
    steps = iter(range(5))
    total = 3 if means is None else 5

    def leading(operator: LinearOperator, known: bool = True) -> EigenPairs:
        """Led by all that is known of G; where its products are not, by a few."""
        step = next(steps)
        told = part_of(report, step / total, (step + 1) / total)
        if known:
            return probe.pairs(operator, "LA", pairs.basis, told, scale)
        start = pairs.vectors[:, : few.num]
        return few.pairs(operator, "LA", start, told, scale)

    error: dict[str, float] = {}
    if means is not None:
        _, cross_part, *_ = PART_NAMES[weighting]
        whole = leading(means, known=False)
        cross = leading(_without(means, parts), known=False)
        own, spread = estimate_trace(
            means.quadratic, whole.vectors, NUM_SIGNS, probe.generator
        )
        eigenvalues[parts.means_part] = whole.values.cpu().numpy()
        eigenvalues[cross_part] = cross.values.cpu().numpy()
        trace[cross_part] = own - sum(trace[part] for part in parts.factors)
        trace[parts.means_part] = own
        names = (cross_part, parts.means_part, parts.within_part)
        error = dict.fromkeys(names, spread)
    trace[parts.within_part] = place.trace - trace[parts.means_part]
    rest = within(g, parts) if means is None else g - means
    spread_part = leading(rest, known=means is None)
    eigenvalues[parts.within_part] = spread_part.values.cpu().numpy()
    return Levels(
        weighting=parts.weighting,
        parts=eigenvalues,
        trace=trace,
        kept=np.asarray(kept_shares(parts, trace)),
        overlap=span_overlap(parts, pairs.vectors).cpu().numpy(),
        class_overlap=class_overlap(parts, pairs.vectors).cpu().numpy(),
        subtracted=leading(subtracted(g, parts)).values.cpu().numpy(),
        projected=leading(projected(g, parts)).values.cpu().numpy(),
        trace_error=error,
    )


def _without(means: MeanProducts, parts: Hierarchy) -> LinearOperator:
    """The cross part: all the means minus the parts that C vectors each make."""
    left: LinearOperator = means
    for factor in parts.factors.values():
        left = left - LowRank(factor)
    return left
