"""Other coordinates for G and the means: every number stays what it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.cases import CASES, problem
from tests.curvature.conftest import Solved
from tests.oracles import apart, eigenvalues
from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.coordinates import (
    Coordinates,
    dense_gauss_newton,
    dual_coordinates,
    primal_eigenvectors,
    trace_gauss_newton,
)
from workbench.curvature.means.averages import averages
from workbench.curvature.means.parts_of_g import (
    class_overlap,
    hierarchy,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.products.operators import operators
from workbench.errors import WorkbenchError
from workbench.linalg.operator import Dense
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.ways import WAYS, Bound, Way
from workbench.measurement.ways.dense import DenseWay
from workbench.measurement.ways.dual import DualWay
from workbench.measurement.ways.krylov import KrylovWay
from workbench.study.convention import CONVENTIONS


def dual(case: Solved) -> Coordinates:
    return dual_coordinates(risk_gram(case.risk))[0]


def matrix(place: Coordinates) -> torch.Tensor:
    assert isinstance(place.g, Dense)
    return place.g.matrix


def test_eigenvalues_in_the_dual_are_those_of_g(case: Solved) -> None:
    place = dual(case)
    found, expected = eigenvalues(matrix(place)), eigenvalues(case.g)
    num = min(len(found), len(expected))
    assert apart(found[:num], expected[:num]) < 1e-9
    assert float(found[num:].abs().sum()) < 1e-11 * float(expected[0])
    assert abs(place.trace / float(case.g.trace()) - 1) < 1e-10


def test_inner_products_of_the_means_are_kept_in_the_dual(
    case: Solved, weighting: str
) -> None:
    found = averages(dual(case).means, CONVENTIONS[weighting])
    expected = case.parts(weighting)
    ours = torch.cat([found.cross.flatten(0, 1), found.classes, found.everything[None]])
    theirs = torch.cat(
        [expected.cross.flatten(0, 1), expected.classes, expected.everything[None]]
    )
    assert apart(ours @ ours.T, theirs @ theirs.T) < 1e-9


def test_overlaps_of_leading_eigenvectors_are_kept_in_the_dual(
    case: Solved, weighting: str
) -> None:
    """Of eigenvectors whose eigenvalues stand apart: others are not determined."""
    there, here = dual(case), Dense(case.g)
    found = hierarchy(averages(there.means, CONVENTIONS[weighting]))
    expected = hierarchy(averages(case.means, CONVENTIONS[weighting]))
    values, vectors = torch.linalg.eigh(matrix(there))
    plain_values, plain_vectors = torch.linalg.eigh(here.matrix)
    num = 6
    values, plain_values = values.flip(0)[: num + 1], plain_values.flip(0)[: num + 1]
    gaps = (plain_values[:-1] - plain_values[1:]) / plain_values[0]
    apart_from = torch.minimum(gaps, torch.cat([torch.ones(1).double(), gaps[:-1]]))
    clear = apart_from > 1e-4
    assert clear.any()
    ours = vectors.flip(1)[:, :num][:, clear]
    plain = plain_vectors.flip(1)[:, :num][:, clear]
    for overlap in (class_overlap, span_overlap):
        difference = overlap(found, ours) - overlap(expected, plain)
        assert float(difference.abs().max()) < 1e-7


def test_parts_and_knock_outs_have_the_same_eigenvalues_in_the_dual(
    case: Solved, weighting: str
) -> None:
    place = dual(case)
    found = hierarchy(averages(place.means, CONVENTIONS[weighting]))
    expected = hierarchy(averages(case.means, CONVENTIONS[weighting]))
    top = float(eigenvalues(case.g)[0])
    for change in (within, subtracted, projected):
        ours = eigenvalues(change(place.g, found).to_dense())
        plain = eigenvalues(change(Dense(case.g), expected).to_dense())
        num = min(len(ours), len(plain))
        assert float((ours[:num] - plain[:num]).abs().max()) < 1e-8 * top


def test_eigenvectors_found_in_the_dual_are_those_of_g(case: Solved) -> None:
    gram = risk_gram(case.risk)
    place, root = dual_coordinates(gram)
    values, vectors = torch.linalg.eigh(matrix(place))
    values, vectors = values.flip(0)[:5], vectors.flip(1)[:, :5]
    found = primal_eigenvectors(case.risk, root, vectors)
    assert found.shape == (case.problem.dim, 5)
    error = case.g @ found - found * values
    assert float(error.abs().max()) < 1e-10 * float(values[0] * found.abs().max())
    found = found / found.norm(dim=0)
    assert apart(found.T @ found, torch.eye(5).double()) < 1e-7
    bound = Bound(case.risk, Dense(case.g), MeasureSettings())
    primal = KrylovWay.prepare(bound, lambda share: None)
    assert primal.in_parameters(case.g) is case.g


def test_the_dense_matrix_is_g(case: Solved) -> None:
    assert apart(dense_gauss_newton(case.risk).matrix, case.g) < 1e-12


def test_the_trace_is_exact_without_the_matrix(case: Solved) -> None:
    assert abs(trace_gauss_newton(case.risk) / float(case.g.trace()) - 1) < 1e-12


@pytest.mark.parametrize("way", [DenseWay, DualWay, KrylovWay])
@pytest.mark.parametrize("name", ["convolution", "recomputed", "wide_data"])
def test_g_is_the_same_in_each_space(name: str, way: type[Way]) -> None:
    wide = problem(lambda: torch.nn.Linear(3, 2), (3,), (9, 4))  # P = 8, N = 13
    found = wide if name == "wide_data" else CASES[name]()
    risk = empirical_risk(found.model, found.data)
    ops = operators(found.model, found.data)
    shares: list[float] = []
    bound = Bound(risk, ops["G"], MeasureSettings())
    prepared: Any = way.prepare(bound, shares.append)
    place = prepared.coordinates
    assert isinstance(place.g, Dense) == way.exact
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    expected = ops["G"].to_dense()
    values = eigenvalues(place.g.to_dense())
    num = min(len(values), len(expected))
    assert apart(values[:num], eigenvalues(expected)[:num]) < 1e-9
    assert place.trace == pytest.approx(float(expected.trace()), rel=1e-9)


def test_a_network_that_is_sure_of_everything_gets_a_sentence() -> None:
    found = CASES["linear"]()
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter *= 1e6
    risk = empirical_risk(found.model, found.data)
    g = operators(found.model, found.data)["G"]
    for way in WAYS:
        with pytest.raises(
            WorkbenchError, match="G is zero, because every probability"
        ):
            way.prepare(Bound(risk, g, MeasureSettings()), lambda share: None)


def test_gradients_that_overflow_get_a_sentence() -> None:
    found = CASES["unequal"]()
    risk = empirical_risk(found.model, found.data)
    dual = risk_gram(risk)
    broken = replace(dual, matrix=torch.full_like(dual.matrix, torch.nan))
    with pytest.raises(WorkbenchError, match="NaN or infinite"):
        dual_coordinates(broken)
