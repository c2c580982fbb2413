"""G as a matrix in R^P, for networks with few parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.gram.coordinates import (
    Coordinates,
    checked_trace,
    dense_gauss_newton,
)
from workbench.curvature.means.averages import cross_class_means
from workbench.curvature.problem.blocks import blocks_of
from workbench.linalg.operator import Dense
from workbench.measurement.cost import Cost, Tally
from workbench.measurement.layers import BlockValues, from_matrix, num_in_block
from workbench.measurement.picture import Sample, products_of_means
from workbench.measurement.ways.way import Bound, Costs, MatrixWay
from workbench.progress.control import Report, span


@final
@dataclass(frozen=True, eq=False)
class DenseWay(MatrixWay):
    """The matrix of order P, and all its eigenvalues."""

    name: ClassVar = "dense"
    title: ClassVar = "dense, exact"

    bound: Bound
    coordinates: Coordinates

    @override
    @classmethod
    def costs(cls, tally: Tally) -> Costs:
        P = tally.sizes.num_params
        return Costs(
            prepare=tally.pair_means + tally.rows + tally.square,
            spectrum=tally.solved(P),
            dense_g=Cost(),
            split=tally.matrix_split(P),
            null=tally.matrix_null(P) + tally.null_passes,
            products=tally.picture(),
            blocks=tally.solved_blocks,
        )

    @override
    @classmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        return tally.matrix_numbers(tally.sizes.num_params, 3.0, whole)

    @override
    @classmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        dense = dense_gauss_newton(bound.risk, span(report, 0.0, 0.7))
        means = cross_class_means(bound.risk, span(report, 0.7)).double()
        trace = checked_trace(float(dense.matrix.trace()))
        return cls(bound, Coordinates(dense, means, trace))

    @override
    def in_parameters(self, vectors: Tensor) -> Tensor:
        return vectors.to(self.bound.risk.dtype)

    @override
    def dense_g(self, report: Report) -> Dense:
        return self.coordinates.matrix

    @override
    def block_values(self) -> BlockValues:
        risk, matrix = self.bound.risk, self.coordinates.matrix.matrix
        blocks, diagonal = blocks_of(risk), matrix.diagonal()
        num = num_in_block(risk.num_classes)
        values, errors = from_matrix(blocks, matrix, num, risk.dtype)
        return BlockValues(
            trace=torch.stack([diagonal[block.columns].sum() for block in blocks]),
            class_part=self.class_part_blocks(),
            eigenvalues=values.clamp(min=0.0),
            residuals=errors,
        )

    @override
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        bound = self.bound
        return products_of_means(bound.risk, self.coordinates, bound.settings, sample)
