"""The dual of G by products, and the whole spectrum from the smaller matrix."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.cases import CASES
from tests.curvature.conftest import Solved, solve
from tests.oracles import apart, eigenvalues
from tests.worlds import together
from workbench.curvature.gram import coordinates, exact
from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.exact import exact_spectrum
from workbench.curvature.products.dual import Dual, density_in_parameters, dual_operator
from workbench.errors import WorkbenchError
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import top_eigenpairs
from workbench.progress.control import Cancelled, Control, Progress

NAMES = ("unequal", "ragged", "residual", "layer_norm", "attention", "time_first")


def dual(case: Solved) -> Dual:
    problem = case.problem
    return dual_operator(problem.model, problem.data, batch_size=problem.batch_size)


@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_with_the_matrix(name: str) -> None:
    case = solve(name)
    matrix = risk_gram(case.risk).matrix / len(case.problem.labels)
    assert apart(dual(case).to_dense(), matrix) < 1e-11


def test_processes_find_the_products_that_one_finds() -> None:
    case = solve("ragged")
    operator = dual(case)
    vectors = torch.randn(operator.dim, 2, dtype=torch.float64)
    expected = operator.matmat(vectors)
    for found in together(
        3,
        lambda world: replace(
            operator, risk=replace(operator.risk, world=world), network=None
        ).matmat(vectors),
    ):
        assert apart(found, expected) < 1e-12


def test_vectors_of_another_length_get_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match=r"dual of G times .* \(7, 2\); exp"):
        dual(solve("ragged")).matmat(torch.ones(7, 2))


def test_the_density_from_the_dual_is_that_of_g_with_all_its_zeros() -> None:
    case = solve("convolution")  # 24 rows, 84 parameters
    operator = dual(case)
    found = spectral_density(operator, num_steps=operator.dim, num_probes=200)
    found = density_in_parameters(found, operator.dim, case.problem.dim)
    values = eigenvalues(case.g)
    assert float((found.weights.sum(1) - 1).abs().max()) < 1e-12
    for power in (1, 2):
        expected = float(values.pow(power).mean())
        each = (found.weights * found.nodes**power).sum(1)
        error = float(each.std()) / 200**0.5
        assert abs(float(each.mean()) - expected) < 4 * error
    zeros = (found.weights * (found.nodes.abs() < 1e-9 * values[0])).sum(1).mean()
    assert float(zeros) >= 60 / 84 - 1e-12
    leading = top_eigenpairs(operator, 3, tol=1e-8)
    found = spectral_density(operator, num_steps=8, num_probes=2, deflate=leading)
    found = density_in_parameters(found, operator.dim, case.problem.dim)
    total = found.weights.sum(1) + found.stick_weight * len(found.sticks)
    assert float((total - 1).abs().max()) < 1e-12
    assert found.stick_weight == pytest.approx(1 / 84)
    assert apart(found.sticks, values[:3]) < 1e-7
    with pytest.raises(WorkbenchError, match="use the density of G itself"):
        density_in_parameters(found, 85, 84)


def test_data_that_are_shuffled_each_time_are_refused() -> None:
    problem = CASES["unequal"]()
    data = TensorDataset(*problem.data)
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(data, batch_size=5, shuffle=True, generator=generator)
    with pytest.raises(WorkbenchError, match="pass a loader that does not shuffle"):
        dual_operator(problem.model, loader)
    assert dual_operator(problem.model, DataLoader(data, batch_size=5)).dim == 26


@pytest.mark.parametrize("name", ["convolution", "residual", "linear", "two_classes"])
def test_the_whole_spectrum_comes_from_the_smaller_matrix(name: str) -> None:
    problem, case = CASES[name](), solve(name)
    found = exact_spectrum(problem.model, problem.data)
    n = len(problem.labels) * (problem.num_classes - 1)
    assert found.method.startswith("dual" if n < problem.dim else "matrix")
    assert len(found.values) == min(n, problem.dim)
    assert len(found.values) + found.num_zeros == problem.dim
    expected = eigenvalues(case.g)[: len(found.values)]
    assert apart(found.values, expected) < 1e-9


def test_the_matrix_is_the_same_in_small_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = solve("residual")
    monkeypatch.setattr("workbench.curvature.gram.assembly.BLOCK", 7)
    found = coordinates.dense_gauss_newton(case.risk).matrix
    assert apart(found, case.g) < 1e-12
    assert torch.equal(found, found.T)


def test_it_reports_and_is_cancelled_before_the_eigensolver() -> None:
    problem, control = CASES["convolution"](), Control()
    events: list[Progress] = []

    def watch(event: Progress) -> None:
        events.append(event)
        if event.fraction >= 0.5:
            control.cancel()

    with pytest.raises(Cancelled):
        exact_spectrum(problem.model, problem.data, progress=watch, control=control)
    assert {event.stage for event in events} == {"Multiplying the gradients"}


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = CASES["convolution"]()
    monkeypatch.setattr(exact, "device_memory", lambda _: 10_000)
    with pytest.raises(WorkbenchError, match="need two matrices of order 24"):
        exact_spectrum(problem.model, problem.data)
