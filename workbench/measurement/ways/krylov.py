"""G through its products, with all pair means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

from torch import Tensor
from typing_extensions import override

from workbench.curvature.gram.coordinates import (
    Coordinates,
    block_traces,
    checked_trace,
    dense_gauss_newton,
)
from workbench.curvature.means.averages import cross_class_means
from workbench.linalg.lanczos import FREE, IN_WORK, EigenPairs
from workbench.linalg.operator import Dense
from workbench.measurement.cost import KNOCK_OUT, Cost, Tally
from workbench.measurement.layers import BlockValues
from workbench.measurement.null import FEW_KNOCKED
from workbench.measurement.picture import Sample, products_of_means
from workbench.measurement.solver import RICHER, SPARE, IterativeSolver
from workbench.measurement.spectra import leading_means
from workbench.measurement.ways.way import Bound, Costs, PairWay
from workbench.progress.control import Report, span
from workbench.study.spectrum import Spectrum


@final
@dataclass(frozen=True, eq=False)
class KrylovWay(PairWay):
    """Leading eigenpairs from a subspace that starts at the class means."""

    name: ClassVar = "krylov"
    title: ClassVar = "block Krylov"
    exact: ClassVar = False

    bound: Bound
    coordinates: Coordinates
    traces: Tensor  # of each layer's block of G, (l,)

    @override
    @classmethod
    def costs(cls, tally: Tally) -> Costs:
        sizes = tally.sizes
        P, N, C = sizes.num_params, sizes.num_examples, sizes.num_classes
        split = tally.split(P) + tally.pair_factors(P)
        return Costs(
            prepare=tally.pair_means + tally.rows + Cost(algebra=float(N) * C * P),
            spectrum=tally.iterated("G"),
            dense_g=tally.square,
            split=split + Cost(g_products=3 * KNOCK_OUT),
            null=tally.null_passes + Cost(g_products=2 * FEW_KNOCKED * KNOCK_OUT),
            products=tally.picture(),
            blocks=tally.g_blocks,
        )

    @override
    @classmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        P, C, k = tally.sizes.num_params, tally.sizes.num_classes, tally.num_asked
        g = tally.subspace(P, k + SPARE, start=min(C, k))
        start = RICHER * k if k * P > FREE else int(g) // 2
        knocked = tally.factors + tally.subspace(P, k, start=start)
        held = g - IN_WORK * max(tally.step, min(C, k))
        later = held + max(tally.ends, knocked, 2.0 * C**2)
        return 0.0, 2.0 * C**2 + max(g, later)

    @override
    @classmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        means = cross_class_means(bound.risk, span(report, 0.0, 0.6))
        traces = block_traces(bound.risk, span(report, 0.6))
        trace = checked_trace(float(traces.sum()))
        return cls(bound, Coordinates(bound.g, means, trace), traces)

    @override
    def spectrum(
        self, solver: IterativeSolver, report: Report
    ) -> tuple[EigenPairs, Spectrum]:
        g, start = self.bound.g, leading_means(self.coordinates, solver)
        pairs = solver.pairs(g, "LA", start, span(report, 0.0, 0.5))
        found = solver.spectrum(g, pairs, span(report, 0.5))
        return pairs, replace(found, trace=self.coordinates.trace, trace_error=0.0)

    @override
    def in_parameters(self, vectors: Tensor) -> Tensor:
        return vectors.to(self.bound.risk.dtype)

    @override
    def dense_g(self, report: Report) -> Dense:
        return dense_gauss_newton(self.bound.risk, report)

    @override
    def block_values(self) -> BlockValues:
        return BlockValues(self.traces, self.class_part_blocks())

    @override
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        bound = self.bound
        return products_of_means(bound.risk, self.coordinates, bound.settings, sample)
