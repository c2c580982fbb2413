"""The dual of G: all inner products of the gradients, by either way of having them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import CASES
from tests.curvature.conftest import Solved
from tests.oracles import apart, eigenvalues
from workbench.curvature.gram import assembly as module
from workbench.curvature.gram.assembly import gram, risk_gram
from workbench.curvature.gram.gram import mean_coefficients
from workbench.curvature.gram.layer_gradients import layer_gradients
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.cross_entropy import hessian_root, reflection
from workbench.curvature.problem.labelled import Labelled
from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control, Progress


def rows(case: Solved) -> Tensor:
    """The combinations of the gradients of each example, (n, P)."""
    turned = reflection(case.gradients.probs)
    return torch.einsum("ikj,ikp->ijp", turned, case.gradients.delta).flatten(0, 1)


def inner_products(case: Solved) -> Tensor:
    return rows(case) @ rows(case).T


def test_entries_are_the_inner_products_of_the_gradients(case: Solved) -> None:
    found = risk_gram(case.risk)
    assert found.matrix.dtype == torch.float64
    assert apart(found.matrix, inner_products(case)) < 1e-12
    assert torch.equal(found.matrix, found.matrix.T)
    assert apart(found.probs, case.gradients.probs) < 1e-13
    assert torch.equal(found.labels, case.problem.labels)


def test_its_eigenvalues_over_n_are_the_nonzero_ones_of_g(case: Solved) -> None:
    dual = risk_gram(case.risk)
    num_examples = len(dual.labels)
    found = eigenvalues(dual.matrix / num_examples)
    primal = eigenvalues(case.g)
    num = min(len(found), len(primal))
    top = float(primal[0])
    assert float((found[:num] - primal[:num]).abs().max()) < 1e-9 * top
    for rest in (found[num:], primal[num:]):
        assert float(rest.abs().sum()) < 1e-12 * top
    assert len(found) == num_examples * (case.problem.num_classes - 1)


def test_the_rows_stand_for_all_gradients(case: Solved) -> None:
    dual = risk_gram(case.risk)
    num_examples, num_classes = dual.probs.shape
    size = num_examples * num_classes
    eye = torch.eye(size).double().view(num_examples, num_classes, size)
    factors = dual.combine(eye)
    delta = case.gradients.delta.flatten(0, 1)
    assert apart(factors.T @ dual.matrix @ factors, delta @ delta.T) < 1e-12


def test_the_reflection_has_orthonormal_columns_off_the_dependent_one(
    case: Solved,
) -> None:
    turned = reflection(case.gradients.probs)
    num_classes = case.problem.num_classes
    product = turned.transpose(1, 2) @ turned
    assert (
        apart(product, torch.eye(num_classes - 1).double().expand_as(product)) < 1e-13
    )
    dependent = case.gradients.probs.sqrt()[:, None] @ turned
    assert float(dependent.abs().max()) < 1e-13


@pytest.mark.parametrize("way", ["_add_by_rows", "_add_by_factors"])
def test_either_way_of_adding_a_layer_gives_the_same(case: Solved, way: str) -> None:
    problem = case.problem
    columns = hessian_root(case.gradients.probs)
    matrix = torch.zeros_like(inner_products(case))
    shares: list[float] = []
    for layer in layer_gradients(case.risk, problem.inputs, columns):
        by_rows = layer.inputs is None or way == "_add_by_rows"
        add = module._add_by_rows if by_rows else module._add_by_factors
        add(matrix, layer, case.risk, shares.append)
        assert shares[-1] == pytest.approx(1.0)
    module.mirror(matrix)
    assert apart(matrix, inner_products(case)) < 1e-12


@pytest.mark.parametrize("name", ["convolution", "residual", "ragged", "attention"])
@pytest.mark.parametrize("limit", ["CACHE_BYTES", "TILE", "BLOCK"])
def test_little_memory_gives_the_same(
    name: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = CASES[name]()
    risk = empirical_risk(problem.model, problem.data, batch_size=5)
    expected = risk_gram(risk)
    monkeypatch.setattr(module, limit, 1)
    added: list[tuple[str, ...]] = []
    original = module._add_layer

    def watch(matrix: Tensor, layer: module.LayerGradients, *rest: object) -> None:
        added.append(layer.names)
        original(matrix, layer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_add_layer", watch)
    assert apart(risk_gram(risk).matrix, expected.matrix) < 1e-13
    assert sorted(name for names in added for name in names) == sorted(risk.parameters)


def test_both_ways_are_taken_where_each_is_cheaper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: set[str] = set()
    for way in ("_add_by_rows", "_add_by_factors"):
        original = getattr(module, way)

        def watch(*args: object, way: str = way, original: object = original) -> None:
            taken.add(way)
            original(*args)  # type: ignore[operator]

        monkeypatch.setattr(module, way, watch)
    labels = torch.arange(6) % 3
    small = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    gram(small, (torch.randn(6, 1, 9, 9), labels))
    assert taken == {"_add_by_rows"}  # few parameters, many positions
    taken.clear()
    wide = torch.nn.Linear(500, 3)
    gram(wide, (torch.randn(6, 500), labels))
    assert taken == {"_add_by_factors"}


def test_coefficients_combine_the_gradients_into_their_means(case: Solved) -> None:
    plain, weighted, mass = mean_coefficients(
        Labelled(case.gradients.probs, case.gradients.labels, case.gradients.weight)
    )
    delta = case.gradients.delta
    for found, name in ((plain, "slide"), (weighted, "jmlr")):
        means = torch.einsum("ikcl,ikp->clp", found, delta)
        assert apart(means, case.parts(name).cross) < 1e-11
    assert apart(mass, case.means.mass) < 1e-13


def test_single_precision_is_good_to_its_rounding() -> None:
    problem = CASES["residual"]()
    exact = gram(problem.model, problem.data)
    single = gram(problem.model.float(), problem.data)
    assert single.matrix.dtype == torch.float64
    assert apart(single.matrix, exact.matrix) < 1e-5


def test_two_gradients_can_be_had_by_hand() -> None:
    """One example, two classes, p = 1/2: delta = +-(x, 1) / 2 sqrt 2."""
    model = torch.nn.Linear(1, 2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    inputs = torch.tensor([[3.0], [0.0]]).double()
    found = gram(model, (inputs, torch.tensor([0, 1])))
    # r = (e_1 - e_2) kron (x, 1) / 2 up to its sign: 2 (1/2)^2 (x y + 1)
    expected = torch.tensor([[5.0, 0.5], [0.5, 0.5]]).double()
    assert apart(found.matrix.abs(), expected) < 1e-14


def test_cancel_ends_it() -> None:
    problem = CASES["convolution"]()
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        gram(problem.model, problem.data, control=control)


def test_cancel_ends_it_within_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = CASES["convolution"]()
    control = Control()
    monkeypatch.setattr(module, "BLOCK", 4)
    shares: list[float] = []

    def watch(event: Progress) -> None:
        shares.append(event.fraction)
        if event.fraction > 0.1:
            control.cancel()

    with pytest.raises(Cancelled):
        gram(problem.model, problem.data, control=control, progress=watch)
    assert shares == sorted(shares)
    assert shares[-1] < 0.5


def test_a_matrix_that_does_not_fit_is_refused_with_what_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = CASES["unequal"]()
    monkeypatch.setattr(module, "device_memory", lambda _: 5000)
    with pytest.raises(WorkbenchError, match=r"26 gradients .* at most 10 examples"):
        gram(problem.model, problem.data)


def test_chosen_classes_have_their_own_matrix() -> None:
    problem = CASES["linear"]()
    found = gram(problem.model, problem.data, classes=[2, 0])
    assert found.matrix.shape == (6, 6)
    assert found.labels.sort().values.tolist() == [0, 0, 0, 1, 1, 1]
