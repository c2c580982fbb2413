"""What the three averages carry of G, in one weighting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.curvature.gram.coordinates import Coordinates
from workbench.curvature.means.parts_of_g import (
    PART_NAMES,
    class_overlap,
    factor_eigenvalues,
    hierarchy,
    kept_shares,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.curvature.means.streamed import ClassesOut, StreamedMeans, estimate_trace
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import LinearOperator, Remembered
from workbench.measurement.solver import NUM_SIGNS, NUM_STREAMED, Probe
from workbench.measurement.stages import part_of
from workbench.study.records import Levels

VANISHED = 1e-11  # of G's trace: class means of no more are zero but for rounding


def split_levels(
    place: Coordinates,
    weighting: str,
    pairs: EigenPairs,
    probe: Probe,
    report: Callable[[float], None],
) -> Levels:
    """Split G into its parts, in the subspace that its eigenvectors were found in.

    Args:
        place: G and the means in some coordinates.
        weighting: Of the means.
        pairs: Leading eigenpairs of G.
        probe: How to iterate.
        report: Told the share done.
    """
    parts = hierarchy(place.averages(weighting))
    eigenvalues = {
        part: factor_eigenvalues(factor).cpu().numpy()
        for part, factor in parts.factors.items()
    }
    trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
    trace["G"] = place.trace
    trace[parts.within_part] = place.trace - trace[parts.means_part]
    if trace[parts.class_part] <= VANISHED * place.trace:  # rounding has no directions
        parts = replace(parts, classes=torch.zeros_like(parts.classes))
    g = Remembered(place.g, pairs.basis, pairs.images)
    scale = float(pairs.values[0])
    few = replace(probe, spare=0)
    residuals: dict[str, NDArray[np.float64]] = {}

    def leading(name: str, operator: LinearOperator) -> NDArray[np.float64]:
        step = len(residuals)
        told = part_of(report, step / 3, (step + 1) / 3)
        start = few.start_in(operator, pairs)
        found = few.pairs(operator, "LA", start, told, scale).alone()
        residuals[name] = found.residuals.cpu().numpy()
        return found.values.cpu().numpy()

    within_part = parts.within_part
    eigenvalues[within_part] = leading(within_part, within(g, parts))
    everything = float(parts.everything.double().square().sum())
    return Levels(
        weighting=weighting,
        parts=eigenvalues,
        trace=trace,
        kept=np.asarray(kept_shares(weighting, trace, everything)),
        overlap=span_overlap(parts, pairs.vectors).cpu().numpy(),
        class_overlap=class_overlap(parts, pairs.vectors).cpu().numpy(),
        subtracted=leading("subtracted", subtracted(g, parts)),
        projected=leading("projected", projected(g, parts)),
        residuals=residuals,
    )


def split_streamed(
    place: Coordinates,
    means: StreamedMeans,
    pairs: EigenPairs,
    probe: Probe,
    report: Callable[[float], None],
) -> Levels:
    """The same from products alone, for more means than can be held.

    What C vectors each make, G1 and G0 in ``icml``, and the overlaps are as exact as
    above. Of all else the leading 20 eigenvalues are found, and the trace of the means
    is estimated, with half its 95 % interval.

    Args:
        place: G by its products.
        means: Likewise, in one weighting.
        pairs: Leading eigenpairs of G.
        probe: How to iterate.
        report: Told the share done.
    """
    gram, g = means.gram, place.g
    weighting = gram.weighting
    class_part, cross_part, _, means_part, within_part = PART_NAMES[weighting]
    few = replace(probe, num=min(probe.num, NUM_STREAMED), spare=0)
    scale = float(pairs.values[0])
    residuals: dict[str, NDArray[np.float64]] = {}

    def leading(name: str, operator: LinearOperator) -> EigenPairs:
        step = len(residuals)
        told = part_of(report, step / 5, (step + 1) / 5)
        found = few.pairs(operator, "LA", None, told, scale).alone()
        residuals[name] = found.residuals.cpu().numpy()
        return found

    eigenvalues = {part: v.cpu().numpy() for part, v in gram.eigenvalues().items()}
    trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
    if trace[class_part] <= VANISHED * place.trace:  # rounding has no directions
        gram = replace(gram, inner=torch.zeros_like(gram.inner))
        means = replace(means, gram=gram)
    all_means = means.part(means_part)
    whole = leading(means_part, all_means)
    own, spread = estimate_trace(
        all_means.quadratic, whole.vectors, NUM_SIGNS, probe.generator
    )
    trace[cross_part] = own - sum(trace.values())
    trace |= {means_part: own, within_part: place.trace - own, "G": place.trace}
    eigenvalues[means_part] = whole.values.cpu().numpy()
    for part, operator in (
        (cross_part, means.part(cross_part)),
        (within_part, g - all_means),
    ):
        eigenvalues[part] = leading(part, operator).values.cpu().numpy()
    each, span = means.class_overlap(pairs.vectors)
    return Levels(
        weighting=weighting,
        parts=eigenvalues,
        trace=trace,
        kept=np.asarray(kept_shares(weighting, trace, gram.everything)),
        overlap=span.cpu().numpy(),
        class_overlap=each.cpu().numpy(),
        subtracted=leading("subtracted", g - means.part(class_part))
        .values.cpu()
        .numpy(),
        projected=leading("projected", ClassesOut(means, g)).values.cpu().numpy(),
        trace_error=dict.fromkeys((cross_part, means_part, within_part), spread),
        residuals=residuals,
    )
