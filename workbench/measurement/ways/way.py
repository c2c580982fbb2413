"""What every way to measure can do, and what some have in common."""

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
from workbench.curvature.problem.relabelled import labels_of, relabelled
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense, LinearOperator, Remembered
from workbench.measurement.cost import Cost, Sizes, Tally, whole_hessian
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

VANISHED = 1e-11  # of G's trace: class means of no more are zero but for rounding


class Costs(NamedTuple):
    """Of what a way does by itself, each as the method of the name."""

    prepare: Cost
    spectrum: Cost
    dense_g: Cost
    split: Cost  # in one convention
    null: Cost
    products: Cost  # and placing them in the plane
    directions: Cost = Cost()  # G's eigenvectors in R^P, where they are elsewhere


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """One way to measure, counted."""

    way: type[Way]
    stages: dict[str, Cost]
    memory: int  # bytes at its peak

    @property
    def method(self) -> str:
        """The way, as a study calls it."""
        return self.way.title

    @property
    def exact(self) -> bool:
        """Whether it finds every eigenvalue of G."""
        return self.way.exact

    def work(self, sizes: Sizes) -> float:
        """Of all stages, in multiply-adds."""
        return sum(cost.work(sizes) for cost in self.stages.values())


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """What is measured, and how."""

    risk: EmpiricalRisk
    g: LinearOperator  # G in R^P, by its products
    settings: MeasureSettings


class Way(ABC):
    """G and the class means in some coordinates, and all that depends on which.

    The class counts what it would cost. An instance, made by `prepare`, is a record
    that a measurement can be resumed from.
    """

    name: ClassVar[str]  # in settings
    title: ClassVar[str]  # in plans and studies
    exact: ClassVar[bool]  # whether it finds every eigenvalue of G
    forms_pairs: ClassVar[bool]  # the means of pairs, with which a convention is cheap

    bound: Bound

    @classmethod
    def conventions(cls, settings: MeasureSettings) -> tuple[Convention, ...]:
        """Those that G is split in."""
        every = tuple(CONVENTIONS.values())
        return every if cls.forms_pairs else (settings.convention,)

    @classmethod
    def count(cls, sizes: Sizes, settings: MeasureSettings) -> Counted:
        """What it costs, stage by stage."""
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
        }
        matrices, vectors = cls.numbers_held(tally, whole)
        vectors += tally.num_walked + 1  # and H's lowest
        return Counted(cls, stages, tally.memory(matrices, vectors))

    @classmethod
    @abstractmethod
    def costs(cls, tally: Tally) -> Costs:
        """What is done by itself."""

    @classmethod
    @abstractmethod
    def numbers_held(cls, tally: Tally, whole: bool) -> tuple[float, float]:
        """Float64 numbers and vectors of length P at its peak; Hess may be whole."""

    @classmethod
    @abstractmethod
    def prepare(cls, bound: Bound, report: Report) -> Self:
        """Average the gradients, and form G where it is formed.

        Raises:
            WorkbenchError: If there is nothing to measure.
        """

    @abstractmethod
    def spectrum(
        self, solver: IterativeSolver, report: Report
    ) -> tuple[EigenPairs, Spectrum]:
        """G's leading eigenpairs, and all its eigenvalues or their density."""

    @abstractmethod
    def in_parameters(self, vectors: Tensor) -> Tensor:
        """Eigenvectors of G in R^P, (P, m), from those in the coordinates, (d, m).

        Up to their lengths; in the model's dtype.
        """

    @abstractmethod
    def dense_g(self, report: Report) -> Dense:
        """G as a matrix in R^P."""

    @abstractmethod
    def split(
        self,
        convention: Convention,
        pairs: EigenPairs,
        solver: IterativeSolver,
        report: Report,
    ) -> Levels:
        """Split G into its parts, with its overlaps and knock-outs.

        In one of `conventions`, from the leading eigenpairs of G.
        """

    @abstractmethod
    def null(self, pairs: EigenPairs, solver: IterativeSolver, report: Report) -> Nulls:
        """The same overlaps, sizes and knock-outs of what knows no class.

        From the leading eigenpairs of G.
        """

    @abstractmethod
    def products(self, sample: Sample) -> tuple[Tensor, str]:
        """Inner products of a sample's gradients and all means; how exact, if not."""


class Search:
    """Leading eigenvalues of some operators, one after the other.

    Args:
        solver: How to iterate.
        scale: What residuals are held against.
        report: Told the share done of all of them.
        num: How many operators.
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


class PairWay(Way):
    """One that has all the means of pairs: G is split by them."""

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

    @override
    def split(
        self,
        convention: Convention,
        pairs: EigenPairs,
        solver: IterativeSolver,
        report: Report,
    ) -> Levels:
        """In the subspace that G's eigenvectors were found in."""
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
    """One that has G as a matrix: all its eigenvalues are solved for."""

    exact: ClassVar = True

    @override
    def spectrum(
        self, solver: IterativeSolver, report: Report
    ) -> tuple[EigenPairs, Spectrum]:
        risk, g = self.bound.risk, self.coordinates.matrix
        start = leading_means(self.coordinates, solver)
        # products with a matrix are cheap: vectors then as good as its eigenvalues
        pairs = solver.pairs(g, "LA", start, span(report, 0.0, 0.5), tol=1e-9)
        rank = min(risk.dim, risk.num_examples * (risk.num_classes - 1))
        return pairs, whole_spectrum(g, risk, rank, self.title)
