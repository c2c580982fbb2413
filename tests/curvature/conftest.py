"""The small problems with their slow answers, computed once each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import pytest
from torch import Tensor

from tests import oracles
from tests.cases import CASES, Problem
from workbench.curvature.means.averages import CrossClassMeans, cross_class_means
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products.operators import operators


@dataclass(frozen=True, eq=False)
class Solved:
    """A problem and what the oracles say of it. Shared by tests: not to be changed."""

    name: str
    problem: Problem

    @cached_property
    def risk(self) -> EmpiricalRisk:
        problem = self.problem
        return empirical_risk(
            problem.model, problem.data, batch_size=problem.batch_size
        )

    @cached_property
    def matrices(self) -> dict[str, Tensor]:
        """What the operators of the package are as matrices."""
        problem = self.problem
        ops = operators(problem.model, problem.data, batch_size=problem.batch_size)
        return {kind: operator.to_dense() for kind, operator in ops.items()}

    @cached_property
    def gradients(self) -> oracles.Gradients:
        return oracles.gradients(self.problem)

    @cached_property
    def g(self) -> Tensor:
        return oracles.gauss_newton(self.problem)

    @cached_property
    def hess(self) -> Tensor:
        return oracles.hessian_by_autograd(self.problem)

    @cached_property
    def means(self) -> CrossClassMeans:
        """What the package finds the first averages to be."""
        return cross_class_means(self.risk)

    def parts(self, weighting: str) -> oracles.Parts:
        return _parts(self, weighting)


@cache
def _parts(case: Solved, weighting: str) -> oracles.Parts:
    return oracles.parts(case.gradients, weighting)


@cache
def solve(name: str) -> Solved:
    """The problem of a name, solved once."""
    return Solved(name, CASES[name]())


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Solved:
    """Each problem in turn."""
    return solve(request.param)


@pytest.fixture(params=["slide", "icml", "jmlr"])
def weighting(request: pytest.FixtureRequest) -> str:
    return str(request.param)
