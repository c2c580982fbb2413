"""Inner products for the embedding, against explicit vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import CASES, Problem
from tests.curvature.conftest import Solved
from tests.oracles import apart
from workbench.curvature.gram import unions as products
from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.unions import union_gram
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.labelled import Drawn


def explicit(case: Solved, chosen: Tensor, weighting: str) -> Tensor:
    """The gradients of some examples, and all the means, one below the other."""
    three = case.parts(weighting)
    return torch.cat(
        [
            case.gradients.delta[chosen].flatten(0, 1),
            three.cross.flatten(0, 1),
            three.classes,
            three.everything[None],
        ]
    )


CHOSEN = torch.tensor([1, 4, 5, 8])


def drawn(problem: Problem, chosen: Tensor) -> list[Drawn]:
    return [
        Drawn(problem.inputs[i : i + 1], 0, int(problem.labels[i]))
        for i in chosen.tolist()
    ]


def test_the_union_by_layers_is_that_of_explicit_vectors(
    case: Solved, weighting: str
) -> None:
    vectors = explicit(case, CHOSEN, weighting)
    means = vectors[len(CHOSEN) * case.problem.num_classes :]
    found = union_gram(case.risk, drawn(case.problem, CHOSEN), means)
    assert found.dtype == torch.float64
    assert apart(found, vectors @ vectors.T) < 1e-11


def test_the_union_from_the_dual_is_that_of_explicit_vectors(
    case: Solved, weighting: str
) -> None:
    vectors = explicit(case, CHOSEN, weighting)
    found = risk_gram(case.risk).products(CHOSEN, weighting)
    assert apart(found, vectors @ vectors.T) < 1e-9


def test_little_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = CASES["residual"]()
    risk = empirical_risk(problem.model, problem.data)
    vectors = torch.randn(3, risk.dim).double()
    chosen = drawn(problem, torch.arange(len(problem.inputs)))
    whole = union_gram(risk, chosen, vectors)
    monkeypatch.setattr(products, "TILE", 1)
    assert apart(union_gram(risk, chosen, vectors), whole) < 1e-13
