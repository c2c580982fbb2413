"""The three averages, against their definitions as loops."""

from __future__ import annotations

import pytest
import torch

from tests.cases import CASES
from tests.curvature.conftest import Solved
from tests.oracles import apart
from workbench.curvature.means.averages import (
    CrossClassMeans,
    averages,
    cross_class_means,
)
from workbench.curvature.problem.binding import empirical_risk
from workbench.study.convention import CONVENTIONS


def test_first_averages_are_the_means_over_examples(case: Solved) -> None:
    means = case.means
    assert apart(means.plain, case.parts("slide").cross) < 1e-12
    assert apart(means.weighted, case.parts("jmlr").cross) < 1e-10
    share = case.problem.labels.bincount().double() / len(case.problem.labels)
    assert apart(means.share, share) < 1e-15
    assert float(means.mass.sum()) == pytest.approx(1.0, abs=1e-14)
    assert apart(means.mass.sum(1), share) < 1e-13


def test_further_averages_are_those_of_their_convention(
    case: Solved, weighting: str
) -> None:
    found = averages(case.means, CONVENTIONS[weighting])
    expected = case.parts(weighting)
    assert apart(found.cross, expected.cross) < 1e-10
    assert apart(found.classes, expected.classes) < 1e-10
    assert apart(found.everything, expected.everything) < 1e-10


@pytest.mark.parametrize("name", ["unequal", "residual", "time_first"])
def test_batches_of_any_size_give_the_same_means(name: str) -> None:
    problem = CASES[name]()
    expected = cross_class_means(empirical_risk(problem.model, problem.data))
    for batch_size in (1, 4, 5):
        risk = empirical_risk(problem.model, problem.data, batch_size=batch_size)
        found = cross_class_means(risk)
        assert apart(found.plain, expected.plain) < 1e-12
        assert apart(found.weighted, expected.weighted) < 1e-12


def test_gradients_of_an_example_are_dependent(case: Solved) -> None:
    """``sum_k sqrt(p_k) delta_{i,k} = 0``; so a class's weighted means sum to zero."""
    delta, probs = case.gradients.delta, case.gradients.probs
    total = torch.einsum("ik,ikp->ip", probs.sqrt(), delta)
    assert float(total.abs().max() / delta.abs().max()) < 1e-14
    means = case.means
    total = torch.einsum("ck,ckp->cp", means.mass, means.weighted)
    assert float(total.abs().max() / means.weighted.abs().max()) < 1e-13


def test_averages_of_numbers_can_be_had_by_hand() -> None:
    """Two classes of three and one examples, in one dimension."""
    means = CrossClassMeans(
        plain=torch.tensor([[[1.0], [4.0]], [[2.0], [8.0]]]).double(),
        weighted=torch.tensor([[[1.0], [6.0]], [[5.0], [7.0]]]).double(),
        mass=torch.tensor([[0.5, 0.25], [0.05, 0.2]]).double(),
        share=torch.tensor([0.75, 0.25]).double(),
    )
    slide, icml, jmlr = (averages(means, each) for each in CONVENTIONS.values())
    assert slide.classes.flatten().tolist() == [2.5, 5.0]
    assert slide.everything.tolist() == [0.75 * 2.5 + 0.25 * 5.0]
    assert slide.class_weight.tolist() == [1.5, 0.5]  # C n_c / N
    assert icml.classes.flatten().tolist() == [4.0, 2.0]
    assert icml.everything.tolist() == [3.5]
    assert icml.class_weight.tolist() == [0.75, 0.25]  # (C - 1) n_c / N
    assert jmlr.classes.flatten().tolist() == [6.0, 5.0]
    assert jmlr.class_weight.tolist() == pytest.approx([0.25, 0.05])
    assert jmlr.everything.tolist() == pytest.approx([(0.25 * 6 + 0.05 * 5) / 0.3])
    assert jmlr.everything_weight == pytest.approx(0.3)


def test_a_probability_that_underflows_leaves_no_nan() -> None:
    problem = CASES["linear"]()
    with torch.no_grad():
        problem.model.weight *= 1e4  # type: ignore[operator]
    means = cross_class_means(empirical_risk(problem.model, problem.data))
    assert float(means.mass.min()) == 0.0
    assert means.weighted.isfinite().all()
    assert averages(means, CONVENTIONS["jmlr"]).classes.isfinite().all()


def test_the_share_done_rises_to_one() -> None:
    problem = CASES["unequal"]()
    shares: list[float] = []
    risk = empirical_risk(problem.model, problem.data, batch_size=4)
    cross_class_means(risk, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) >= 3  # a class each
