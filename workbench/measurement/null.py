"""The null of what the class means carry: shuffled labels, and random directions.

A shuffle of the labels leaves every gradient delta_{i,k} as it is and changes only
which of them are averaged together. A random combination of the gradients, ``sum_{i,k}
z_{i,k} delta_{i,k}`` with normal z, knows no class at all, and lies where G is large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from workbench.curvature.means.averages import WeightedMeans
from workbench.curvature.means.parts_of_g import factor_eigenvalues, span_basis
from workbench.curvature.means.pullback import pull_back
from workbench.curvature.problem.cross_entropy import reflection
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.columns import dots
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import (
    Dense,
    LinearOperator,
    LowRank,
    Projected,
    Remembered,
)
from workbench.measurement.solver import IterativeSolver
from workbench.progress.control import Report
from workbench.study.convention import Convention
from workbench.study.null import Array, Null

NUM_SHUFFLES = 5  # draws of the labels, for overlaps and sizes
NUM_KNOCKED = 2  # of them, for knock-outs
NUM_RANDOM = 3  # draws of random combinations
FEW_SHUFFLES = 2  # where a draw costs many passes
FEW_KNOCKED = 1  # where each product with G does
NUMBERS = 2**24  # factors of random combinations that are held at once
NO_RANDOM_KNOCK_OUT = (
    "G without random combinations of the gradients was not measured, as that takes "
    "many products with G."
)
NOT_DRAWN = (
    "Labels were not shuffled, and no random combinations drawn: the loss weights some "
    "examples more than others, or has a label for each token."
)
ROWS = ("overlap", "class_part", "subtracted", "projected")


@dataclass(frozen=True, slots=True, eq=False)
class Nulls:
    """Of one study: by convention, and of random combinations."""

    shuffled: dict[str, Null]
    random: Null


def shuffles(labels: Tensor, seed: int, num: int = NUM_SHUFFLES) -> Iterator[Tensor]:
    """The same labels in other orders, so that classes stay as large."""
    for draw in range(num):
        order = np.random.default_rng([seed, 0, draw]).permutation(len(labels))
        yield labels[torch.from_numpy(order)]


def random_factors(probs: Tensor, seed: int, draw: int) -> Iterator[Tensor]:
    """Factors z_{i,k} of C random combinations, one by one, (N, C) as the p_{i,k}."""
    source = np.random.default_rng([seed, 1, draw])
    for _ in range(probs.shape[1]):
        yield torch.from_numpy(source.standard_normal(probs.shape)).to(probs.device)


@dataclass(slots=True, eq=False)
class Knocked:
    """Solves for what is left of G, again and again, from one remembered subspace."""

    g: LinearOperator
    pairs: EigenPairs
    solver: IterativeSolver
    report: Report  # told the share done
    num: int  # solves that there will be
    done: int = 0
    error: float = 0.0

    def without(self, factor: Tensor) -> Array:
        """Leading eigenvalues of ``G - F F^T``."""
        return self._values(self._own - LowRank(factor))

    def off(self, basis: Tensor) -> Array:
        """Of G without what lies along orthonormal columns."""
        return self._values(Projected(self._own, basis))

    @property
    def _own(self) -> LinearOperator:
        return Remembered(self.g, self.pairs.basis, self.pairs.images)

    def _values(self, operator: LinearOperator) -> Array:
        together = self.solver.together or isinstance(self.g, Dense)
        few = replace(self.solver, spare=0, together=together)
        start, scale = few.start_in(operator, self.pairs), float(self.pairs.values[0])
        found = few.pairs(operator, "LA", start, None, scale).alone()
        self.error = max(self.error, float(found.residuals.max()))
        self.done += 1
        self.report(self.done / self.num)
        return found.values.cpu().numpy()


def nulls_of(
    means_of: Callable[[Tensor], Mapping[str, WeightedMeans]],
    directions: Iterator[Tensor],
    labels: Tensor,
    seed: int,
    knocked: Knocked,
    asked: Sequence[str],
    exact: bool,
) -> Nulls:
    """Take the draws, in the coordinates of the knock-outs.

    Args:
        means_of: The delta_c of shuffled labels in each convention.
        directions: Each draw of the random combinations, (d, C).
        labels: The true ones, in the order of the examples.
        seed: Of the shuffles.
        knocked: Solves for what is left of G.
        asked: Conventions that are knocked out; each solve may take many products.
        exact: Whether products are cheap: then more draws are knocked out, and the
            random ones too.
    """
    vectors, num = knocked.pairs.vectors, NUM_KNOCKED if exact else FEW_KNOCKED
    rows: dict[str, dict[str, list[Array]]] = {}
    for draw, shuffled in enumerate(shuffles(labels, seed)):
        for name, means in means_of(shuffled).items():
            row = rows.setdefault(name, {row: [] for row in ROWS})
            factor = means.factor
            basis = span_basis(means.vectors.T)
            row["overlap"].append(along(basis, vectors))
            row["class_part"].append(factor_eigenvalues(factor).cpu().numpy())
            if draw < num and name in asked:
                row["subtracted"].append(knocked.without(factor))
                row["projected"].append(knocked.off(basis))
    random: dict[str, list[Array]] = {row: [] for row in ROWS}
    for columns in directions:
        basis = span_basis(columns)
        random["overlap"].append(along(basis, vectors))
        if exact:
            random["projected"].append(knocked.off(basis))
    left_out = (
        f"The knock-outs with shuffled labels were measured in {', '.join(asked)} "
        "alone, as each takes many products with G."
    )
    return Nulls(
        shuffled={
            name: stacked(row, knocked.error, "" if name in asked else left_out)
            for name, row in rows.items()
        },
        random=stacked(random, knocked.error, "" if exact else NO_RANDOM_KNOCK_OUT),
    )


def along(basis: Tensor, vectors: Tensor) -> Array:
    """Share of each unit vector in the span of orthonormal columns, (m,)."""
    share = dots(basis, vectors).square().sum(0).clamp(max=1.0)
    return share.cpu().numpy()


def stacked(rows: Mapping[str, list[Array]], error: float, note: str = "") -> Null:
    """One row a draw; where an iteration found fewer values, as many as all have."""

    def stack(found: list[Array]) -> Array:
        least = min(map(len, found), default=0)
        return np.array([row[:least] for row in found]).reshape(len(found), least)

    return Null(**{name: stack(rows[name]) for name in ROWS}, error=error, note=note)


def random_directions(risk: EmpiricalRisk, seed: int) -> Iterator[Tensor]:
    """Draws of C random combinations of all gradients, each (P, C), model's dtype.

    A backward pass over the data for each combination.
    """
    probs = torch.cat([risk.predictions(inputs) for inputs, _ in risk.whole()])
    turned = reflection(probs)  # of the delta, to the rows whose outer products are G
    for draw in range(NUM_RANDOM):
        factors = random_factors(probs, seed, draw)
        columns: list[Tensor] = []
        together = max(1, NUMBERS // probs.numel())
        while some := list(islice(factors, together)):
            mixed = torch.einsum("ikj,ikm->ijm", turned, torch.stack(some, dim=2))
            columns.append(pull_back(risk, mixed.flatten(0, 1)))
        yield torch.cat(columns, dim=1)


def not_drawn(conventions: Sequence[Convention], num_pairs: int) -> Nulls:
    """The record where a loss is not that of one label an example, all alike."""
    nothing, none = np.empty((0, num_pairs)), np.empty((0, 0))
    null = Null(nothing, none, none, none, note=NOT_DRAWN)
    return Nulls({one.name: null for one in conventions}, replace(null, note=""))
