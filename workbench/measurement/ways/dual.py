"""G in the span of all gradients, for fewer gradients than parameters."""

from __future__ import annotations

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
from workbench.linalg.operator import Dense
from workbench.measurement.cost import Cost, Tally
from workbench.measurement.picture import Sample, of_single
from workbench.measurement.ways.way import Bound, Costs, MatrixWay
from workbench.progress.control import Report


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

    @override
    @classmethod
    def costs(cls, tally: Tally) -> Costs:
        n = tally.num_gradients
        return Costs(
            prepare=tally.rows + tally.gram + Cost(algebra=1.5 * float(n) ** 3),
            spectrum=tally.solved(n),
            dense_g=tally.square,
            split=tally.matrix_split(n),
            products=tally.picture(from_gram=True),
        )

    @override
    @classmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        return tally.matrix_numbers(tally.num_gradients, 4.1, whole)

    @override
    @classmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        gram = risk_gram(bound.risk, report)
        coordinates, root = dual_coordinates(gram)
        return cls(bound, coordinates, gram, root)

    @override
    def in_parameters(self, vectors: Tensor) -> Tensor:
        return primal_eigenvectors(self.bound.risk, self.root, vectors)

    @override
    def dense_g(self, report: Report) -> Dense:
        return dense_gauss_newton(self.bound.risk, report)

    @override
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        settings, chosen = self.bound.settings, torch.from_numpy(sample.chosen)
        found = self.gram.products(chosen, settings.weighting)
        return of_single(settings, self.gram.classes.at(chosen).probs, found), ""
