"""The interface of every method of measuring, and shared implementations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from workbench.curvature.gram.coordinates import Coordinates
from workbench.curvature.means.averages import WeightedMeans, weighted_means
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
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.problem.relabelled import labels_of, relabelled
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense, LinearOperator, Remembered
from workbench.measurement.cost import Cost, Sizes, Tally, whole_hessian
from workbench.measurement.layers import BlockValues, class_parts, num_in_block
from workbench.measurement.null import (
    FEW_KNOCKED,
    NUM_KNOCKED,
    NUM_RANDOM,
    Knocked,
    Nulls,
    nulls_of,
    random_directions,
)
from workbench.measurement.picture import Sample
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.solver import IterativeSolver, whole_spectrum
from workbench.measurement.spectra import leading_means
from workbench.progress.control import Report, span
from workbench.study.convention import CONVENTIONS, Convention
from workbench.study.records import Levels
from workbench.study.spectrum import Spectrum

VANISHED = 1e-11  # of G's trace: smaller class means are only rounding errors


class Costs(NamedTuple):
    """The costs of a method's own steps, by the names of its functions."""

    prepare: Cost
    spectrum: Cost
    dense_g: Cost
    split: Cost  # in one convention
    null: Cost
    products: Cost  # including the embedding
    directions: Cost = Cost()  # G's eigenvectors in R^P, if computed elsewhere
    blocks: Cost = Cost()  # of G, layer by layer


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """A method of measuring with its counted costs."""

    way: type[Way]
    stages: dict[str, Cost]
    memory: int  # bytes at the peak

    @property
    def method(self) -> str:
        """The name of the method in studies."""
        return self.way.title

    @property
    def exact(self) -> bool:
        """Whether it finds every eigenvalue of G."""
        return self.way.exact

    def work(self, sizes: Sizes) -> float:
        """Return the work of all stages, in multiply-adds."""
        return sum(cost.work(sizes) for cost in self.stages.values())


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """The subject and settings of a measurement."""

    risk: EmpiricalRisk
    g: LinearOperator  # G in R^P, through its products
    settings: MeasureSettings


class Way(ABC):
    """A method of measuring: G and the class means in certain coordinates.

    The class predicts costs. An instance, made by `prepare`, is a record from which a
    measurement can resume.
    """

    name: ClassVar[str]  # in settings
    title: ClassVar[str]  # in plans and studies
    exact: ClassVar[bool]  # whether it finds every eigenvalue of G
    forms_pairs: ClassVar[bool]  # all pair means, which makes conventions cheap

    bound: Bound

    @classmethod
    def conventions(cls, settings: MeasureSettings) -> tuple[Convention, ...]:
        """Return the conventions in which G is split."""
        every = tuple(CONVENTIONS.values())
        return every if cls.forms_pairs else (settings.convention,)

    @classmethod
    def count(cls, sizes: Sizes, settings: MeasureSettings) -> Counted:
        """Return its cost, stage by stage."""
        tally = Tally(sizes, settings)
        costs = cls.costs(tally)
        hess, h = tally.iterated("Hess"), tally.iterated("H")
        whole = cls.exact and whole_hessian(sizes, settings)
        if whole:
            solved = tally.solved(sizes.num_params)
            hess = Cost(hess_products=sizes.num_params) + solved
            h = solved + costs.dense_g
        stages = {
            "means": costs.prepare,
            "G": costs.spectrum,
            "Hess": hess,
            "H": h,
            **{each.name: costs.split for each in cls.conventions(settings)},
            "picture": costs.products,
            "last_layer": tally.last_layer,
            "directions": costs.directions,
            "null": costs.null,
            "walk": tally.walk,
            "layers": costs.blocks + tally.hess_blocks(whole),
        }
        matrices, vectors = cls.numbers_held(tally, whole)
        vectors += tally.num_walked + 1  # and H's lowest
        return Counted(cls, stages, tally.memory(matrices, vectors))

    @classmethod
    @abstractmethod
    def costs(cls, tally: Tally) -> Costs:
        """Return the costs of its own steps."""

    @classmethod
    @abstractmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        """Return the float64 numbers and vectors of length P at its peak."""

    @classmethod
    @abstractmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        """Average the gradients, and form G if this method does.

        Raises:
            WorkbenchError: If there is nothing to measure.
        """

    @abstractmethod
    def spectrum(
        self, solver: IterativeSolver, report: Report
    ) -> tuple[EigenPairs, Spectrum]:
        """Return G's leading eigenpairs, and all its eigenvalues or their density."""

    @abstractmethod
    def in_parameters(self, vectors: Tensor) -> Tensor:
        """Map eigenvectors of G from its coordinates, (d, m), to R^P, (P, m).

        Their lengths are arbitrary; the dtype is the model's.
        """

    @abstractmethod
    def dense_g(self, report: Report) -> Dense:
        """Return G as a matrix in R^P."""

    @abstractmethod
    def split(
        self,
        convention: Convention,
        pairs: EigenPairs,
        solver: IterativeSolver,
        report: Report,
    ) -> Levels:
        """Split G into its parts, with its overlaps and knock-outs.

        Uses one of `conventions` and the leading eigenpairs of G.
        """

    @abstractmethod
    def null(self, pairs: EigenPairs, solver: IterativeSolver, report: Report) -> Nulls:
        """The same overlaps, sizes and knock-outs of what knows no class.

        From the leading eigenpairs of G.
        """

    @abstractmethod
    def block_values(self) -> BlockValues:
        """Return what is known of G's diagonal blocks, without products with it."""

    @abstractmethod
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        """Return inner products of a sample's gradients and all means, and a note."""


class Search:
    """Computes leading eigenvalues of several operators in turn.

    Args:
        solver: How to iterate.
        scale: Scale for the residuals.
        report: Called with the completed share of all operators.
        num: Number of operators.
    """

    def __init__(
        self, solver: IterativeSolver, scale: float, report: Report, num: int
    ) -> None:
        self._solver, self._scale = solver, scale
        self._report, self._num = report, num
        self.residuals: dict[str, NDArray[np.float64]] = {}

    def pairs(
        self, name: str, operator: LinearOperator, start: Tensor | None = None
    ) -> EigenPairs:
        """Return the eigenpairs of the next operator; stores its residuals by name."""
        step = len(self.residuals)
        share = span(self._report, step / self._num, (step + 1) / self._num)
        found = self._solver.pairs(operator, "LA", start, share, self._scale).alone()
        self.residuals[name] = found.residuals.cpu().numpy()
        return found

    def values(
        self, name: str, operator: LinearOperator, start: Tensor | None = None
    ) -> NDArray[np.float64]:
        """Return the eigenvalues only."""
        return self.pairs(name, operator, start).values.cpu().numpy()


class PairWay(Way):
    """A method that forms all pair means and splits G with them."""

    forms_pairs: ClassVar = True
    coordinates: Coordinates

    @override
    def null(self, pairs: EigenPairs, solver: IterativeSolver, report: Report) -> Nulls:
        """By as many knock-outs as are cheap: in all conventions where G is there."""
        settings = self.bound.settings
        asked = tuple(CONVENTIONS) if self.exact else (settings.weighting,)
        num = (
            2 * NUM_KNOCKED * len(asked) + NUM_RANDOM if self.exact else 2 * FEW_KNOCKED
        )
        return nulls_of(
            self.shuffled_means,
            self.random_directions(),
            labels_of(self.bound.risk),
            settings.seed,
            Knocked(self.coordinates.g, pairs, solver, report, num),
            asked,
            self.exact,
        )

    def shuffled_means(self, labels: Tensor) -> dict[str, WeightedMeans]:
        """The delta_c of other labels in each convention, in the coordinates."""
        risk = relabelled(self.bound.risk, labels)
        found = weighted_means(risk, tuple(CONVENTIONS.values()))
        dtype = self.coordinates.g.dtype
        return {
            name: replace(means, vectors=means.vectors.to(dtype))
            for name, means in found.items()
        }

    def random_directions(self) -> Iterator[Tensor]:
        """Draws of C random combinations of the gradients, in the coordinates."""
        drawn = random_directions(self.bound.risk, self.bound.settings.seed)
        return (columns.to(self.coordinates.g.dtype) for columns in drawn)

    def class_part_blocks(self) -> dict[str, Tensor]:
        """The class part's eigenvalues layer by layer, where means are in R^P."""
        averages = {k: self.coordinates.averages(v) for k, v in CONVENTIONS.items()}
        risk = self.bound.risk
        return class_parts(blocks_of(risk), averages, num_in_block(risk.num_classes))

    @override
    def split(
        self,
        convention: Convention,
        pairs: EigenPairs,
        solver: IterativeSolver,
        report: Report,
    ) -> Levels:
        """Split G in the subspace of its eigenvectors."""
        coordinates = self.coordinates
        parts = hierarchy(coordinates.averages(convention))
        eigenvalues = {
            part: factor_eigenvalues(factor).cpu().numpy()
            for part, factor in parts.factors.items()
        }
        trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
        trace["G"] = coordinates.trace
        trace[convention.within_part] = coordinates.trace - trace[convention.means_part]
        if trace[convention.class_part] <= VANISHED * coordinates.trace:
            # rounding has no directions
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


class MatrixWay(PairWay):
    """A method that forms G as a matrix and computes all its eigenvalues."""

    exact: ClassVar = True

    @override
    def spectrum(
        self, solver: IterativeSolver, report: Report
    ) -> tuple[EigenPairs, Spectrum]:
        risk, g = self.bound.risk, self.coordinates.matrix
        start = leading_means(self.coordinates, solver)
        # products with a matrix are cheap, so make vectors as accurate as eigenvalues
        pairs = solver.pairs(g, "LA", start, span(report, 0.0, 0.5), tol=1e-9)
        rank = min(risk.dim, risk.num_rows)
        return pairs, whole_spectrum(g, risk, rank, self.title)
