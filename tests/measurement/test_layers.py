"""Layer by layer: against dense blocks by plain autograd, whatever the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from tests.cases import CASES, Problem, problem
from tests.worlds import together
from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.problem.blocks import blocks_of
from workbench.errors import WorkbenchError
from workbench.machine.distributed import World
from workbench.measurement import cost
from workbench.measurement import layers as found_by
from workbench.measurement.layers import FEW, FromGram, curved_blocks
from workbench.measurement.measurement import measure
from workbench.measurement.plan import bind, plan
from workbench.measurement.settings import METHODS, MeasureSettings
from workbench.page.recipe import recipe
from workbench.study.layers import Layers
from workbench.study.records import Study, load_study
from workbench.training.data import load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train

SETTINGS = MeasureSettings(device="cpu", embedding="pca", num_drawn=0, walk=False)


def smooth_convolution() -> Problem:
    """Curved in its first layers, and with batch norm."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(3 * 2 * 3, 3),
        )

    return problem(build, (1, 4, 5), (5, 3, 4))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "mlp with batch norm": CASES["batch_norm"],
    "convolutions": CASES["residual"],
    "smooth convolution": smooth_convolution,
}


@pytest.fixture(scope="module", params=PROBLEMS)
def case(request: pytest.FixtureRequest) -> Problem:
    return PROBLEMS[request.param]()


@pytest.fixture(scope="module", params=METHODS)
def study(case: Problem, request: pytest.FixtureRequest) -> Study:
    chosen = replace(SETTINGS, method=request.param, tol=1e-10)
    return measure(case.model, case.data, chosen)


def owned(case: Problem) -> dict[str, list[int]]:
    """Which numbers of a flat vector each module owns, from the names."""
    found: dict[str, list[int]] = {}
    start = 0
    for name, parameter in case.parameters.items():
        stop = start + parameter.numel()
        found.setdefault(name.rpartition(".")[0], []).extend(range(start, stop))
        start = stop
    return found


def block(matrix: Tensor, places: list[int]) -> np.ndarray:
    """All eigenvalues of a diagonal block, largest first."""
    return oracles.eigenvalues(matrix[places][:, places]).numpy()


def layers_of(study: Study) -> Layers:
    assert study.layers is not None
    return study.layers


def same(found: np.ndarray, wanted: np.ndarray, size: float) -> bool:
    """As many as there are, and NaN for the others."""
    kept = wanted[: len(found)]
    there = np.isfinite(found)
    return there.sum() == len(kept) and bool(
        (np.abs(found[there] - kept) <= 1e-9 * size).all()
    )


def test_the_layers_are_the_modules_that_own_parameters(
    study: Study, case: Problem
) -> None:
    layers, places = layers_of(study), owned(case)
    assert list(layers.names) == list(places)
    assert layers.num_parameters.tolist() == [len(own) for own in places.values()]
    assert [n for names in layers.parameters for n in names] == list(case.parameters)


def test_blocks_have_the_eigenvalues_and_traces_of_plain_autograd(
    study: Study, case: Problem
) -> None:
    layers = layers_of(study)
    true = {
        "G": oracles.gauss_newton(case),
        "Hess": oracles.hessian_by_autograd(case).double(),
    }
    size = float(oracles.eigenvalues(true["G"])[0])
    for name, matrix in true.items():
        for n, places in enumerate(owned(case).values()):
            assert same(layers.eigenvalues[name][n], block(matrix, places), size)
            errors = layers.residuals[name][n]
            assert (np.isnan(errors) == np.isnan(layers.eigenvalues[name][n])).all()
            trace = float(matrix[places][:, places].trace())
            assert name != "G" or abs(layers.trace[n] - trace) < 1e-9 * size
    assert layers.trace.sum() == pytest.approx(study.spectra["G"].trace, rel=1e-12)


def test_the_class_part_of_a_block_is_that_of_the_definition(
    study: Study, case: Problem
) -> None:
    layers, grads = layers_of(study), oracles.gradients(case)
    assert set(layers.class_part) == set(study.levels)
    for weighting, values in layers.class_part.items():
        name = study.levels[weighting].convention.class_part
        matrix = oracles.parts(grads, weighting).matrices[name]
        size = float(matrix.trace())
        for n, places in enumerate(owned(case).values()):
            assert same(values[n], block(matrix, places), size)


def test_the_shares_of_each_eigenvector_are_its_own_and_sum_to_one(
    study: Study, case: Problem
) -> None:
    layers = layers_of(study)
    _, vectors = torch.linalg.eigh(oracles.gauss_newton(case))
    leading = vectors.flip(1)[:, : case.num_classes].square().numpy()
    wanted = np.array([leading[own].sum(axis=0) for own in owned(case).values()])
    np.testing.assert_allclose(layers.share.sum(axis=0), 1.0, rtol=1e-14)
    np.testing.assert_allclose(layers.share, wanted, atol=1e-8)
    if study.spectra["G"].complete:
        assert layers.share_error.max() < 1e-6


def test_the_error_of_a_share_bounds_it_where_little_was_iterated() -> None:
    case = CASES["unequal"]()
    exact = layers_of(measure(case.model, case.data, SETTINGS))
    for tol in (0.3, 0.1, 1e-2):
        for seed in range(4):
            rough = replace(SETTINGS, method="krylov", tol=tol, seed=seed)
            found = layers_of(measure(case.model, case.data, rough))
            off = np.abs(found.share - exact.share).max(axis=0)
            assert (off <= found.share_error + 1e-12).all()
            for name, values in found.eigenvalues.items():
                few = min(values.shape[1], exact.eigenvalues[name].shape[1])
                gaps = values[:, :few] - exact.eigenvalues[name][:, :few]
                bars = found.residuals[name][:, :few]
                assert (np.abs(gaps) <= bars + 1e-12)[np.isfinite(gaps)].all()


def test_layer_by_layer_a_network_with_kinks_alone_is_not_curved() -> None:
    case = CASES["residual"]()
    risk = bind(case.model, case.data, SETTINGS)
    assert not any(curved_blocks(risk))
    places = owned(case).values()
    G, H = oracles.gauss_newton(case), oracles.hessian_by_autograd(case).double()
    assert all(oracles.apart(H[p][:, p], G[p][:, p]) < 1e-9 for p in places)
    assert oracles.apart(H, G) > 0.01  # only between layers
    smooth = smooth_convolution()
    risk = bind(smooth.model, smooth.data, SETTINGS)
    assert curved_blocks(risk) == (True, True, False)


def test_what_takes_too_many_products_is_left_out_and_the_plan_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = smooth_convolution()
    chosen = replace(SETTINGS, method="krylov")
    made = plan(case.model, case.data, chosen)
    assert "left out" not in made.line
    assert made.stages()["layers"] > 0
    some = FEW + 2
    counted = [min(cost.PER_PAIR["Hess"] * some, dim) for dim in (30, 6)]
    tally = cost.Tally(made.sizes, chosen)
    assert tally.block_products("Hess").hess_products == sum(counted)
    monkeypatch.setattr(cost, "BLOCKS_WORK", 0.0)
    made = plan(case.model, case.data, chosen)
    assert "of G and Hess in each layer are left out" in made.line
    assert made.stages()["layers"] == 0
    layers = layers_of(measure(case.model, case.data, chosen))
    assert layers.eigenvalues == {}
    assert layers.note in made.line
    assert layers.trace.sum() > 0
    exact = replace(SETTINGS, method="dual", exact_hessian=False)
    layers = layers_of(measure(case.model, case.data, exact))
    assert set(layers.eigenvalues) == {"G"}
    assert "of Hess in each layer" in layers.note


def test_without_layers_nothing_of_them_is_measured_or_planned() -> None:
    case = CASES["unequal"]()
    for method in METHODS:
        chosen = replace(SETTINGS, method=method, layers=False)
        assert plan(case.model, case.data, chosen).stages()["layers"] == 0
        assert measure(case.model, case.data, chosen).layers is None


def test_a_large_block_is_solved_for_its_leading_eigenvalues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = CASES["residual"]()
    whole = measure(case.model, case.data, SETTINGS)
    monkeypatch.setattr(found_by, "AT_ONCE", 4)
    for method in ("dense", "dual"):
        chosen = replace(SETTINGS, method=method)
        values = layers_of(measure(case.model, case.data, chosen)).eigenvalues["G"]
        np.testing.assert_allclose(
            values, layers_of(whole).eigenvalues["G"], atol=1e-10
        )


def test_two_processes_add_up_the_blocks_of_one() -> None:
    case = CASES["residual"]()

    def one(world: World) -> tuple[Tensor, Tensor]:
        risk = bind(case.model, case.data, SETTINGS, world=world)
        each = FromGram(risk)
        gram = risk_gram(risk, None, each)
        assert each.values.eigenvalues is not None
        return gram.matrix, each.values.eigenvalues

    risk = bind(case.model, case.data, SETTINGS)
    matrix = risk_gram(risk).matrix
    (_, alone), *_ = together(1, one)
    for found, values in together(2, one):
        assert oracles.apart(found, matrix) < 1e-13
        assert oracles.apart(values, alone) < 1e-12


def test_a_study_with_layers_survives_a_round_trip(tmp_path: Path) -> None:
    case = CASES["residual"]()
    study = measure(case.model, case.data, SETTINGS)
    again = layers_of(load_study(study.save(tmp_path / "run.study")))
    one = layers_of(study)
    assert (again.names, again.parameters) == (one.names, one.parameters)
    np.testing.assert_array_equal(again.share, one.share)
    np.testing.assert_array_equal(again.eigenvalues["Hess"], one.eigenvalues["Hess"])


@pytest.mark.parametrize("method", METHODS)
def test_the_block_of_some_parameters_is_measured_alone(method: str) -> None:
    case = CASES["residual"]()
    chosen = replace(SETTINGS, method=method, tol=1e-10, parameters=("last", "norm.w*"))
    study = measure(case.model, case.data, chosen)
    places = owned(case)["norm"][:3] + owned(case)["last"]
    wanted = block(oracles.gauss_newton(case), places)
    found = study.spectra["G"].eigenvalues
    np.testing.assert_allclose(found[:6], wanted[:6], atol=1e-9 * wanted[0])
    assert study.spectra["G"].dim == len(places) == study.run["num_params"]
    assert study.run["num_network_params"] == case.dim
    assert layers_of(study).names == ("norm", "last")
    assert "parameters=['last', 'norm.w*']" in recipe(study)


def test_a_checkpoint_keeps_its_fit_when_some_parameters_are_measured() -> None:
    data = load_data("digits", per_class=3)
    network = build_model("mlp", data)
    config = TrainConfig(epochs=2, device="cpu", snapshots=(1,))
    done = train(network, data, config)
    last = next(reversed(network.state_dict())).rpartition(".")[0]
    study = measure(done, replace(SETTINGS, parameters=last))
    assert study.run["train_loss"] == done.run["train_loss"]
    for one in study.film:
        assert one.run["num_params"] == one.spectra["G"].dim < done.run["num_params"]
    assert study.layers is not None
    assert study.moments[0].layers is None


def test_a_glob_that_matches_nothing_gets_a_sentence_with_the_names() -> None:
    case = CASES["residual"]()
    with pytest.raises(WorkbenchError) as error:
        measure(case.model, case.data, replace(SETTINGS, parameters="layer9.*"))
    said = str(error.value)
    assert "\n" not in said
    assert all(name in said for name in ("layer9.*", *case.parameters))
    with pytest.raises(WorkbenchError, match="parameters is"):
        measure(case.model, case.data, replace(SETTINGS, parameters=()))


def test_layers_of_chosen_classes_have_the_names_of_the_network_as_given() -> None:
    case = CASES["residual"]()
    study = measure(case.model, case.data, replace(SETTINGS, classes=(0, 2)))
    layers = layers_of(study)
    assert layers.names == ("first", "second", "norm", "last")
    assert [n for names in layers.parameters for n in names] == list(case.parameters)
    linear = nn.Linear(4, 3).double()
    data = (torch.randn(9, 4).double(), torch.arange(9) % 3)
    for classes in (None, (0, 1)):
        one = layers_of(measure(linear, data, replace(SETTINGS, classes=classes)))
        assert (one.names, one.parameters) == (("",), (("weight", "bias"),))
        assert one.labels == ["(Linear)"]


def test_blocks_lie_side_by_side_in_the_order_of_the_parameters() -> None:
    for make in CASES.values():
        case = make()
        risk = bind(case.model, case.data, SETTINGS)
        blocks = blocks_of(risk)
        assert [n for one in blocks for n in one.parameters] == list(risk.parameters)
        edges = [0, *(one.stop for one in blocks)]
        assert edges[:-1] == [one.start for one in blocks]
        assert edges[-1] == risk.dim
