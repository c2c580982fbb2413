"""G in the span of all gradients, for fewer gradients than parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.coordinates import (
    Coordinates,
    dense_gauss_newton,
    dual_coordinates,
    primal_eigenvectors,
)
from workbench.curvature.gram.gram import Gram
from workbench.curvature.means.averages import WeightedMeans, class_factors
from workbench.linalg.operator import Dense
from workbench.measurement.cost import Cost, Tally
from workbench.measurement.layers import BlockValues, FromGram
from workbench.measurement.null import NUM_RANDOM, random_factors
from workbench.measurement.picture import Sample, of_single
from workbench.measurement.ways.way import Bound, Costs, MatrixWay
from workbench.progress.control import Report
from workbench.study.convention import CONVENTIONS


@final
@dataclass(frozen=True, eq=False)
class DualWay(MatrixWay):
    """The Gram matrix of order N (C - 1), and all its eigenvalues.

    Every mean is a combination of gradients, so no further pass over the data is
    needed.
    """

    name: ClassVar = "dual"
    title: ClassVar = "dual, exact"

    bound: Bound
    coordinates: Coordinates
    gram: Gram
    root: Tensor  # from the coordinates back to the gradients
    blocks: BlockValues | None  # of G, from each layer's share of the Gram matrix

    @override
    @classmethod
    def costs(cls, tally: Tally) -> Costs:
        n = tally.num_gradients
        return Costs(
            prepare=tally.rows
            + tally.gram
            + tally.gram_blocks
            + Cost(algebra=1.5 * float(n) ** 3),
            spectrum=tally.solved(n),
            dense_g=tally.square,
            split=tally.matrix_split(n),
            null=tally.matrix_null(n),
            products=tally.picture(from_gram=True),
            directions=Cost(gradients=(1 + 2 * tally.num_walked) / 3),
        )

    @override
    @classmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        return tally.matrix_numbers(tally.num_gradients, 4.1, whole)

    @override
    @classmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        each = FromGram(bound.risk) if bound.settings.layers else None
        gram = risk_gram(bound.risk, report, each)
        coordinates, root = dual_coordinates(gram)
        return cls(bound, coordinates, gram, root, each.values if each else None)

    @override
    def in_parameters(self, vectors: Tensor) -> Tensor:
        return primal_eigenvectors(self.bound.risk, self.root, vectors)

    @override
    def dense_g(self, report: Report) -> Dense:
        return dense_gauss_newton(self.bound.risk, report)

    @override
    def shuffled_means(self, labels: Tensor) -> dict[str, WeightedMeans]:
        probs = self.gram.classes.probs
        found = {}
        for convention in CONVENTIONS.values():
            factors, weight = class_factors(convention, probs, labels.to(probs.device))
            vectors = self._placed(factors).T
            found[convention.name] = WeightedMeans(vectors, weight)
        return found

    @override
    def random_directions(self) -> Iterator[Tensor]:
        probs = self.gram.classes.probs
        for draw in range(NUM_RANDOM):
            factors = random_factors(probs, self.bound.settings.seed, draw)
            yield self._placed(torch.stack(list(factors), dim=2))

    def _placed(self, factors: Tensor) -> Tensor:
        """Combinations of the delta, (N, C, m), in the coordinates, (n, m)."""
        return self.root.T @ self.gram.combine(factors)

    @override
    def block_values(self) -> BlockValues:
        assert self.blocks is not None
        return self.blocks

    @override
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        settings, chosen = self.bound.settings, torch.from_numpy(sample.chosen)
        found = self.gram.products(chosen, settings.weighting)
        return of_single(settings, self.gram.classes.at(chosen).probs, found), ""
