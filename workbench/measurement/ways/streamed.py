"""G and the pair means through their products only, for many classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.gram.coordinates import (
    block_traces,
    checked_trace,
    dense_gauss_newton,
)
from workbench.curvature.means.averages import weighted_means
from workbench.curvature.means.class_gram import SLICE, ClassGram, class_gram
from workbench.curvature.means.parts_of_g import kept_shares, overlaps
from workbench.curvature.means.pullback import Onto
from workbench.curvature.means.streamed import ClassesOut, StreamedMeans, estimate_trace
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.problem.relabelled import labels_of, relabelled
from workbench.curvature.products.operators import network_of
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense
from workbench.measurement.cost import PER_PAIR, Cost, Tally
from workbench.measurement.layers import BlockValues, num_in_block, padded
from workbench.measurement.null import FEW_SHUFFLES, ROWS, Nulls, shuffles, stacked
from workbench.measurement.picture import SKETCHED, Sample, sketched_products
from workbench.measurement.solver import NUM_SIGNS, NUM_STREAMED, SPARE, IterativeSolver
from workbench.measurement.ways.way import VANISHED, Bound, Costs, Search, Way
from workbench.progress.control import Report, span
from workbench.study.convention import Convention
from workbench.study.null import Array, Null
from workbench.study.records import Levels
from workbench.study.spectrum import Spectrum

NO_KNOCK_OUT = (
    "The knock-outs with shuffled labels were not measured: with so many classes each "
    "takes many passes over the data."
)
NO_RANDOM = (
    "Random combinations of the gradients were not drawn: with so many classes as many "
    "of them take too many passes over the data."
)
_PRODUCTS = 9  # for five parts; not saved by the subspace of G's own pairs


@final
@dataclass(frozen=True, eq=False)
class StreamedWay(Way):
    """Block Krylov when there are too many pair means (C^2) to form."""

    name: ClassVar = "streamed"
    title: ClassVar = "block Krylov without the means of pairs"
    exact: ClassVar = False
    forms_pairs: ClassVar = False

    bound: Bound
    gram: ClassGram
    traces: Tensor  # of each layer's block of G, (l,), exact

    @override
    @classmethod
    def costs(cls, tally: Tally) -> Costs:
        P, C = tally.sizes.num_params, tally.sizes.num_classes
        slices = math.ceil(2.0 * C * P / SLICE)
        few = PER_PAIR["G"] * min(tally.num_leading, NUM_STREAMED)
        products = Cost(g_products=_PRODUCTS * few + NUM_STREAMED)
        return Costs(
            prepare=Cost(gradients=2.0 * slices * tally.classes_at_once) + tally.rows,
            spectrum=tally.iterated("G"),
            dense_g=tally.square,
            split=tally.split(P) + products,
            null=Cost(gradients=FEW_SHUFFLES * (2.0 * slices + 1)),
            products=tally.picture(),
            blocks=tally.g_blocks + tally.class_blocks,
        )

    @override
    @classmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        P, C, k = tally.sizes.num_params, tally.sizes.num_classes, tally.num_asked
        g, some = tally.subspace(P, k + SPARE), min(k, NUM_STREAMED)
        knocked = some + NUM_SIGNS + tally.subspace(P, some)
        return 0.0, k + max(g, tally.ends, knocked, min(2.0 * C, SLICE / P))

    @override
    @classmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        convention = bound.settings.convention
        layers = bound.settings.layers
        told = span(report, 0.0, 0.6)
        gram = class_gram(bound.risk, convention, told, by_layer=layers)
        traces = block_traces(bound.risk, span(report, 0.6))
        checked_trace(float(traces.sum()))
        return cls(bound, gram, traces)

    @property
    def trace(self) -> float:
        """Of G, exact."""
        return float(self.traces.sum())

    @override
    def spectrum(
        self, solver: IterativeSolver, report: Report
    ) -> tuple[EigenPairs, Spectrum]:
        g, half = self.bound.g, span(report, 0.0, 0.5)
        pairs = solver.pairs(g, "LA", None, half).alone()  # no memory for the subspace
        found = solver.spectrum(g, pairs, span(report, 0.5))
        return pairs, replace(found, trace=self.trace, trace_error=0.0)

    @override
    def in_parameters(self, vectors: Tensor) -> Tensor:
        return vectors.to(self.bound.risk.dtype)

    @override
    def dense_g(self, report: Report) -> Dense:
        return dense_gauss_newton(self.bound.risk, report)

    @override
    def split(
        self,
        convention: Convention,
        pairs: EigenPairs,
        solver: IterativeSolver,
        report: Report,
    ) -> Levels:
        """Split G using products alone.

        Exact are the parts made of C vectors (G1 and G0 in ``icml``) and the overlaps.
        For the others, the leading 20 eigenvalues are computed, and the trace of the
        means is estimated, with half its 95 % interval.
        """
        gram, g = self.gram, self.bound.g
        class_part, cross_part = convention.class_part, convention.cross_part
        means_part, within_part = convention.means_part, convention.within_part
        few = replace(solver, num=min(solver.num, NUM_STREAMED), spare=0)
        search = Search(few, float(pairs.values[0]), report, 5)
        eigenvalues = {part: v.cpu().numpy() for part, v in gram.eigenvalues().items()}
        trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
        if trace[class_part] <= VANISHED * self.trace:  # only rounding
            gram = replace(gram, inner=torch.zeros_like(gram.inner))
        means = StreamedMeans(self.bound.risk, network_of(g), gram)
        all_means = means.part(means_part)
        whole = search.pairs(means_part, all_means)
        own, spread = estimate_trace(
            all_means.quadratic, whole.vectors, NUM_SIGNS, solver.generator
        )
        trace[cross_part] = own - sum(trace.values())
        trace |= {means_part: own, within_part: self.trace - own, "G": self.trace}
        eigenvalues[means_part] = whole.values.cpu().numpy()
        eigenvalues[cross_part] = search.values(cross_part, means.part(cross_part))
        eigenvalues[within_part] = search.values(within_part, g - all_means)
        each, in_span = means.class_overlap(pairs.vectors)
        return Levels(
            weighting=convention.name,
            parts=eigenvalues,
            trace=trace,
            kept=np.asarray(kept_shares(convention, trace, gram.everything)),
            overlap=in_span.cpu().numpy(),
            class_overlap=each.cpu().numpy(),
            subtracted=search.values("subtracted", g - means.part(class_part)),
            projected=search.values("projected", ClassesOut(means, g)),
            trace_error=dict.fromkeys((cross_part, means_part, within_part), spread),
            residuals=search.residuals,
        )

    @override
    def null(self, pairs: EigenPairs, solver: IterativeSolver, report: Report) -> Nulls:
        """Overlaps and sizes of a few shuffles: no more than the class means take."""
        risk, settings = self.bound.risk, self.bound.settings
        convention = settings.convention
        onto = Onto(pairs.vectors)
        rows: dict[str, list[Array]] = {row: [] for row in ROWS}
        drawn = shuffles(labels_of(risk), settings.seed, FEW_SHUFFLES)
        for done, labels in enumerate(drawn):
            other = relabelled(risk, labels)
            gram = class_gram(other, convention)
            means = weighted_means(other, [convention], image=onto)[convention.name]
            _, in_span = overlaps(means.vectors, gram.classes)
            rows["overlap"].append(in_span.cpu().numpy())
            part = gram.eigenvalues()[convention.class_part]
            rows["class_part"].append(part.cpu().numpy())
            report((done + 1) / FEW_SHUFFLES)
        nothing = np.empty((0, pairs.vectors.shape[1]))
        none = np.empty((0, 0))
        random = Null(nothing, none, none, none, note=NO_RANDOM)
        return Nulls({convention.name: stacked(rows, 0.0, NO_KNOCK_OUT)}, random)

    @override
    def block_values(self) -> BlockValues:
        risk = self.bound.risk
        num, found = num_in_block(risk.num_classes), self.gram.blocks
        pairs = zip(blocks_of(risk), found, strict=True)
        part = torch.stack([padded(v[: block.dim], num) for block, v in pairs])
        return BlockValues(self.traces, {self.bound.settings.weighting: part})

    @override
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        found = sketched_products(self.bound.risk, self.bound.settings, sample)
        return found, f"The picture is drawn {SKETCHED}"
