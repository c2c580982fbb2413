"""The null by its definition: dense, in float64, on each way to measure."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests import oracles
from tests.cases import CASES, Problem
from workbench.curvature.problem.relabelled import labels_of, relabelled
from workbench.curvature.products.operators import curvatures
from workbench.measurement.cost import STAGES
from workbench.measurement.measurement import measure
from workbench.measurement.null import (
    NUM_KNOCKED,
    NUM_RANDOM,
    NUM_SHUFFLES,
    Nulls,
    random_factors,
    shuffles,
)
from workbench.measurement.plan import bind, plan
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.solver import IterativeSolver
from workbench.measurement.ways import WAYS, Bound, Way
from workbench.study.convention import CONVENTIONS
from workbench.study.null import Null, band, excess
from workbench.study.records import load_study
from workbench.study.summary import summary
from workbench.ui.views.explain import explain

BY_NAME = {way.name: way for way in WAYS}
NUM = 5  # leading eigenpairs
EACH_WAY = pytest.mark.parametrize("name", list(BY_NAME))


@cache
def problem() -> Problem:
    return CASES["unequal"]()


@cache
def nulls(name: str, weighting: str = "icml") -> Nulls:
    """As a measurement by that way takes them."""
    case = problem()
    settings = MeasureSettings(
        method=name, device="cpu", tol=1e-11, weighting=weighting, seed=3
    )
    loader = [(case.inputs[a : a + 4], case.labels[a : a + 4]) for a in (0, 4, 8)]
    rest = (case.inputs[12:], case.labels[12:])
    risk = bind(case.model, [*loader, rest] if len(rest[1]) else loader, settings)
    bound = Bound(risk, curvatures(risk)["G"], settings)
    way: Way = BY_NAME[name].prepare(bound, lambda share: None)
    solver = IterativeSolver(settings, NUM, torch.Generator().manual_seed(0))
    pairs, _ = way.spectrum(solver, lambda share: None)
    told: list[float] = []
    found = way.null(pairs, solver, told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    return found


Numbers = NDArray[np.float64]


@cache
def expected(draw: int, weighting: str) -> dict[str, Numbers]:
    """Of one shuffle: matrices, and eigenvectors of the whole of G."""
    case = problem()
    labels = list(shuffles(case.labels, 3))[draw]
    shuffled = replace(oracles.gradients(case), labels=labels)
    parts = oracles.parts(shuffled, weighting)
    left = oracles.gauss_newton(case) - parts.matrices[parts.class_part]
    basis = torch.linalg.svd(parts.classes.T, full_matrices=False)
    return {
        "class_part": descending(parts.matrices[parts.class_part]),
        "subtracted": descending(left),
        **in_span(basis.U[:, 1e-9 * basis.S[0] < basis.S]),
    }


def in_span(basis: torch.Tensor) -> dict[str, Numbers]:
    """Overlaps of G's first eigenvectors, and G without the span."""
    G = oracles.gauss_newton(problem())
    vectors = torch.linalg.eigh(G).eigenvectors.flip(1)[:, :NUM]
    keep = torch.eye(len(G), dtype=G.dtype) - basis @ basis.T
    return {
        "overlap": (basis.T @ vectors).square().sum(0).numpy(),
        "projected": descending(keep @ G @ keep),
    }


def descending(matrix: torch.Tensor) -> Numbers:
    values: Numbers = torch.linalg.eigvalsh(matrix).flip(0).numpy()
    return values


def close(found: Numbers, wanted: Numbers) -> None:
    num = min(len(found), len(wanted))
    assert num >= 3
    np.testing.assert_allclose(found[:num], wanted[:num], rtol=0, atol=1e-9)


@EACH_WAY
@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_the_null_is_what_shuffled_labels_make_of_the_gradients(
    name: str, weighting: str
) -> None:
    found = nulls(name, weighting).shuffled
    exact, streamed = name in ("dense", "dual"), name == "streamed"
    knocked_out = {"dense": 2, "dual": 2, "krylov": 1, "streamed": 0}
    assert list(found) == ([weighting] if streamed else list(CONVENTIONS))
    null = found[weighting]
    assert len(null.overlap) == len(null.class_part) == (2 if streamed else 5)
    assert len(null.subtracted) == len(null.projected) == knocked_out[name]
    assert bool(null.note) == streamed
    for draw, row in enumerate(null.overlap):
        close(row, expected(draw, weighting)["overlap"])
        close(null.class_part[draw], expected(draw, weighting)["class_part"])
    for which in ("subtracted", "projected"):
        for draw, row in enumerate(getattr(null, which)):
            close(row, expected(draw, weighting)[which])
    others = [one for other, one in found.items() if other != weighting]
    for one in others:
        assert len(one.projected) == (NUM_KNOCKED if exact else 0)
        assert ("alone" in one.note) == (not exact)


@EACH_WAY
def test_random_combinations_are_those_of_all_gradients(name: str) -> None:
    null, grads = nulls(name).random, oracles.gradients(problem())
    if name == "streamed":
        assert len(null.overlap) == len(null.projected) == 0
        assert null.overlap.shape == (0, NUM)
        assert "not drawn" in null.note
        return
    assert len(null.overlap) == NUM_RANDOM
    assert len(null.projected) == (0 if name == "krylov" else NUM_RANDOM)
    assert ("without random" in null.note) == (name == "krylov")
    for draw in range(NUM_RANDOM):
        factors = random_factors(grads.probs, 3, draw)
        columns = [torch.einsum("ik,ikp->p", z, grads.delta) for z in factors]
        basis = torch.linalg.qr(torch.stack(columns, dim=1)).Q
        wanted = in_span(basis)
        close(null.overlap[draw], wanted["overlap"])
        if len(null.projected):
            close(null.projected[draw], wanted["projected"])


def test_a_shuffle_keeps_the_classes_as_large_and_every_draw_is_another() -> None:
    labels = problem().labels
    drawn = [tuple(one.tolist()) for one in shuffles(labels, 0)]
    assert len(set(drawn)) == NUM_SHUFFLES
    assert all(sorted(one) == sorted(labels.tolist()) for one in drawn)
    again = [tuple(one.tolist()) for one in shuffles(labels, 0)]
    assert drawn == again
    assert drawn != [tuple(one.tolist()) for one in shuffles(labels, 1)]


class Loader:
    """Batches that are made anew on each pass."""

    def __init__(self, case: Problem) -> None:
        self.case = case

    def __iter__(self) -> Any:
        sizes = [3, 5, len(self.case.labels) - 8]
        yield from zip(
            self.case.inputs.split(sizes), self.case.labels.split(sizes), strict=True
        )


def test_a_loaders_examples_get_their_new_labels_one_by_one() -> None:
    case = problem()
    risk = bind(case.model, Loader(case), MeasureSettings(device="cpu"))
    assert torch.equal(labels_of(risk), case.labels)
    (other, *_) = shuffles(case.labels, 0)
    assert torch.equal(labels_of(relabelled(risk, other)), other)
    both = [(x, y) for x, y in relabelled(risk, other).data]
    assert torch.equal(torch.cat([x for x, _ in both]), case.inputs)
    assert torch.equal(labels_of(risk), case.labels)


def test_an_excess_is_beyond_the_spread_of_the_draws() -> None:
    draws = np.array([0.5, 0.6, 0.7])
    assert excess(0.81, draws).beyond  # type: ignore[union-attr]
    assert not excess(0.79, draws).beyond  # type: ignore[union-attr]
    assert excess(0.39, draws).below  # type: ignore[union-attr]
    assert not excess(0.41, draws).below  # type: ignore[union-attr]
    assert excess(0.9, np.empty(0)) is None
    mean, spread = band(np.array([[1.0, 2.0], [3.0, 2.0]]))
    assert mean.tolist() == [2.0, 2.0]
    np.testing.assert_allclose(spread, [2**0.5, 0.0])
    assert np.isnan(band(np.empty((0, 3)))[0]).all()


def test_the_plan_counts_the_null_and_the_walk() -> None:
    case = problem()
    chosen = MeasureSettings(device="cpu")
    told = plan(case.model, case.data, chosen)
    free = plan(case.model, case.data, replace(chosen, walk=False))
    assert set(told.stages()) == set(STAGES)
    for method, other in zip(told.methods, free.methods, strict=True):
        assert method.stages["null"].work(told.sizes) > 0
        passes = method.stages["walk"].gradients * 3
        C = told.sizes.num_classes
        assert passes == 20 * (C + 2) + 1  # the bulk's, H's lowest; 0 is common
        assert other.stages["walk"].work(told.sizes) == 0


def test_a_null_has_as_many_rows_as_draws() -> None:
    null = nulls("dual").shuffled["icml"]
    assert isinstance(null, Null)
    assert null.overlap.shape == (NUM_SHUFFLES, NUM)
    assert 0 <= null.error < 1e-9


def test_where_a_loss_weights_its_classes_it_is_said_that_nothing_was_shuffled(
    tmp_path: Path,
) -> None:
    case = problem()
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    study = measure(
        case.model,
        case.data,
        loss=nn.CrossEntropyLoss(weight=weight),
        device="cpu",
        embedding="pca",
        num_drawn=0,
    )
    study = load_study(study.save(tmp_path / "x.study"))
    assert study.walk is None
    for levels in study.levels.values():
        assert levels.null is not None
        assert levels.null.overlap.shape == (0, len(levels.overlap))
        assert "the loss weights some examples" in levels.null.note
    told = explain(study)
    assert "the loss weights some examples" in told
    assert "shuffled labels were not tried" in told
    assert summary(study)["levels"]["null"]["num_draws"] == 0
