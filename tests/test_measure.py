"""Measuring a checkpoint: one truth by three routes, steered, repeated and refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout

from tests import oracles
from tests.cases import Problem
from workbench.curvature.products.operators import curvatures
from workbench.errors import WorkbenchError
from workbench.measurement import MeasureSettings, measure, picture, plan
from workbench.measurement.ways import Bound
from workbench.progress.control import Cancelled, Control, Progress
from workbench.study.convention import CONVENTIONS
from workbench.study.records import Embedding, Study, load_study
from workbench.study.spectrum import Spectrum
from workbench.training.checkpoint import Checkpoint
from workbench.training.data import Dataset, load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train

Array = NDArray[Any]
# 234 parameters: below N (C - 1) = 450 for five examples a class, above 180 for two.
PER_CLASS = {"dense": 5, "dual": 2}


def small() -> nn.Module:
    return nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8),
        nn.ReLU(), nn.Linear(8, 10),
    )  # fmt: skip


def settings(**values: Any) -> MeasureSettings:
    chosen = {"embedding": "pca", "device": "cpu", "tol": 1e-5, **values}
    return MeasureSettings(**chosen)


@pytest.fixture(scope="module", params=PER_CLASS)
def route(request: pytest.FixtureRequest) -> str:
    """Which exact way the data lead to."""
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(route: str) -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small()
    data = load_data("digits", per_class=PER_CLASS[route])
    return train(model, data, TrainConfig(epochs=20, device="cpu"))


@pytest.fixture(scope="module")
def exact(checkpoint: Checkpoint) -> Study:
    return measure(checkpoint, settings())


@pytest.fixture(scope="module")
def iterated(checkpoint: Checkpoint) -> Study:
    return measure(checkpoint, settings(exact_limit=0))


@pytest.fixture(scope="module")
def quick() -> Checkpoint:
    """Where the route does not matter."""
    return untrained(small())


def drawn(checkpoint: Checkpoint, chosen: MeasureSettings) -> Embedding:
    """The picture alone, by the way that `measure` takes to it."""
    risk = plan.bind(checkpoint, None, chosen)
    way = plan.checked(plan.make_plan(risk, chosen)).way
    bound = Bound(risk, curvatures(risk)["G"], chosen)
    return picture.draw(risk, way.prepare(bound, lambda _: None).products, chosen)


def untrained(model: nn.Module) -> Checkpoint:
    data = load_data("digits", per_class=3)
    return train(model, data, TrainConfig(epochs=0, device="cpu"))


def problem_of(checkpoint: Checkpoint) -> Problem:
    data = checkpoint.load_data()
    model = checkpoint.load_model().double()
    return Problem(model, data.images.double(), data.labels)


def arrays(value: Any, name: str = "") -> dict[str, Array]:
    """All arrays and numbers of a study, by their path."""
    if isinstance(value, np.ndarray):
        return {name: value}
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = [(k, v) for k, v in value.items()] if hasattr(value, "items") else []
    found: dict[str, Array] = {}
    for key, inner in pairs:
        if isinstance(inner, (dict, np.ndarray)):
            found |= arrays(inner, f"{name}/{key}")
        elif isinstance(inner, (int, float)):
            found[f"{name}/{key}"] = np.array(inner)
    return found


def same_bits(first: Study, second: Study) -> bool:
    one, two = arrays(asdict(first)), arrays(asdict(second))
    assert len(one) > 30
    return one.keys() == two.keys() and all(
        np.array_equal(one[name], two[name], equal_nan=True) for name in one
    )


# ----- what is found, against explicit matrices


def test_each_route_says_which_it_took(
    route: str, exact: Study, iterated: Study
) -> None:
    assert exact.spectra["G"].method == f"{route}, exact"
    assert exact.spectra["G"].complete
    assert exact.spectra["Hess"].method == "dense, exact"
    for spectrum in iterated.spectra.values():
        assert spectrum.method.startswith("block Krylov (converged)")
        assert not spectrum.complete


def test_exact_spectra_are_those_of_the_explicit_matrices(
    checkpoint: Checkpoint, exact: Study
) -> None:
    problem = problem_of(checkpoint)
    g, hess = oracles.gauss_newton(problem), oracles.hessian_by_autograd(problem)
    for kind, matrix in (("G", g), ("Hess", hess), ("H", hess - g)):
        spectrum = exact.spectra[kind]
        expected = oracles.eigenvalues(matrix).numpy()
        found = spectrum.eigenvalues
        rest = expected[len(found) :]
        error = np.abs(found - expected[: len(found)])
        assert error.max() < 1e-9 * np.abs(expected).max()
        assert np.abs(rest).sum() < 1e-9 * expected.max()
        assert spectrum.trace == pytest.approx(float(matrix.trace()), rel=1e-9)
        assert spectrum.trace_error == 0.0
        assert spectrum.dim == problem.dim


def test_every_eigenvalue_lies_within_its_residual_of_a_true_one(
    exact: Study, iterated: Study
) -> None:
    for kind in ("G", "Hess", "H"):
        true = exact.spectra[kind]
        found = iterated.spectra[kind]
        whole = np.append(true.eigenvalues, 0.0)
        distance = np.abs(found.eigenvalues[:, None] - whole).min(1)
        rounding = 1e-11 * np.abs(whole).max()
        assert (distance <= found.residuals + rounding).all()


def test_iterated_eigenvalues_are_the_leading_ones(
    exact: Study, iterated: Study
) -> None:
    for kind, num, low in (("G", 17, 0), ("Hess", 17, 5), ("H", 5, 5)):  # 17: C + 7
        true, found = (
            exact.spectra[kind].eigenvalues,
            iterated.spectra[kind].eigenvalues,
        )
        assert len(found) == num + low
        ends = np.concatenate([true[:num], true[len(true) - low :]])
        slack = (1e-5 if kind != "H" else 2e-4) * np.abs(true).max()
        assert np.abs(found - ends).max() < slack


def test_the_density_is_that_of_the_exact_spectrum(
    exact: Study, iterated: Study
) -> None:
    for kind in ("G", "Hess", "H"):
        true, found = exact.spectra[kind], iterated.spectra[kind]
        sticks = found.eigenvalues
        assert found.nodes.shape == found.weights.shape == (3, 16 + len(sticks))
        assert (found.nodes[:, 16:] == sticks).all()
        np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-12)
        size = np.abs(true.eigenvalues).max()
        values = np.concatenate(
            [true.eigenvalues, np.zeros(true.dim - len(true.eigenvalues))]
        )
        # the second moment, exact for each probe, has this spread over probes; the
        # sticks have none
        rest = (values**4).sum() - (sticks**4).sum()
        spread = np.sqrt(2 * max(rest, 0)) / true.dim + 1e-6 * (values**2).mean()
        moment = (found.weights * found.nodes**2).sum(1).mean()
        assert abs(moment - (values**2).mean()) < 5 * spread / np.sqrt(2)
        assert (np.abs(found.nodes[found.weights > 1e-10]) < size * (1 + 1e-9)).all()
    assert iterated.spectra["G"].trace == pytest.approx(exact.spectra["G"].trace)


def test_the_trace_errs_by_what_lies_beside_the_sticks(
    exact: Study, iterated: Study
) -> None:
    for kind in ("Hess", "H"):
        true, found = exact.spectra[kind], iterated.spectra[kind]
        rest = (true.eigenvalues**2).sum() - (found.eigenvalues**2).sum()
        spread = np.sqrt(2 * rest / 3)  # of the mean of three probes
        assert abs(found.trace - true.trace) < 5 * spread
        assert found.trace_error < 5 * spread


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_parts_of_g_are_those_of_their_definition(
    checkpoint: Checkpoint, exact: Study, iterated: Study, weighting: str
) -> None:
    expected = oracles.parts(oracles.gradients(problem_of(checkpoint)), weighting)
    top = exact.spectra["G"].eigenvalues[0]
    for study in (exact, iterated):
        levels = study.levels[weighting]
        assert len(levels.subtracted) == len(levels.projected) == 17
        assert set(levels.parts) >= set(CONVENTIONS[weighting].parts)
        for part, matrix in expected.matrices.items():
            values = oracles.eigenvalues(matrix).numpy()
            found = levels.parts[part]
            error = np.abs(found - values[: len(found)])
            assert error.max(initial=0.0) < 2e-5 * top, part
            assert levels.trace[part] == pytest.approx(values.sum(), rel=1e-8)
        total = sum(levels.trace[part] for part in CONVENTIONS[weighting].parts)
        assert total == pytest.approx(levels.trace["G"], rel=1e-10)
        class_trace = levels.trace[CONVENTIONS[weighting].class_part]
        means_trace = levels.trace[CONVENTIONS[weighting].means_part]
        kept = np.array([levels.trace["G"], means_trace, class_trace])
        np.testing.assert_allclose(levels.kept[:3], kept / levels.trace["G"])


def test_both_routes_find_the_same_levels(exact: Study, iterated: Study) -> None:
    for weighting in CONVENTIONS:
        one, two = exact.levels[weighting], iterated.levels[weighting]
        np.testing.assert_allclose(one.kept, two.kept, rtol=1e-8)
        for part in one.parts.keys() - {"G3", "G_within"}:
            one_values, two_values = one.parts[part], two.parts[part]
            np.testing.assert_allclose(
                one_values, two_values, atol=1e-9 * one_values.max()
            )
        assert one.overlap.shape == two.overlap.shape == (17,)
        assert one.class_overlap.shape == two.class_overlap.shape == (17, 10)
        for overlaps in (one.overlap, two.overlap, one.class_overlap):
            assert (overlaps >= 0).all()
            assert (overlaps <= 1).all()
        np.testing.assert_allclose(one.overlap[:6], two.overlap[:6], atol=1e-3)
    ours, theirs = exact.levels[exact.weighting], iterated.levels[exact.weighting]
    top = exact.spectra["G"].eigenvalues[0]
    for name in ("subtracted", "projected"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), atol=2e-5 * top
        )
    assert exact.num_outliers == iterated.num_outliers


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_knock_outs_are_those_of_the_explicit_matrices(
    checkpoint: Checkpoint, exact: Study, weighting: str
) -> None:
    problem = problem_of(checkpoint)
    g = oracles.gauss_newton(problem)
    expected = oracles.parts(oracles.gradients(problem), weighting)
    classes = expected.classes.T
    keep = torch.eye(len(g)).double() - classes @ torch.linalg.pinv(classes)
    levels, top = exact.levels[weighting], exact.spectra["G"].eigenvalues[0]
    for found, matrix in (
        (levels.subtracted, g - expected.matrices[CONVENTIONS[weighting].class_part]),
        (levels.projected, keep @ g @ keep),
    ):
        values = oracles.eigenvalues(matrix).numpy()[: len(found)]
        assert len(found) == 17
        assert np.abs(found - values).max() < 1e-5 * top


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_both_routes_draw_the_same_picture(
    checkpoint: Checkpoint, weighting: str
) -> None:
    chosen = {"weighting": weighting, "num_drawn": 300, "seed": 2}
    one, two = (
        drawn(checkpoint, settings(**chosen, exact_limit=limit)) for limit in (5000, 0)
    )
    points = one.points * np.sign((one.points * two.points).sum(0))
    np.testing.assert_allclose(points, two.points, atol=1e-4)
    for column in ("level", "example", "true_class", "potential_class"):
        np.testing.assert_array_equal(getattr(one, column), getattr(two, column))


def test_the_picture_holds_a_balanced_sample_and_all_means(
    checkpoint: Checkpoint, exact: Study
) -> None:
    picture, labels = exact.embedding, checkpoint.load_data().labels.numpy()
    per_class = min(15, checkpoint.run["per_class"])
    assert np.bincount(picture.level).tolist() == [per_class * 100, 100, 10, 1]
    single = picture.level == 0
    assert (labels[picture.example[single]] == picture.true_class[single]).all()
    assert np.bincount(picture.true_class[single]).tolist() == [per_class * 10] * 10
    assert (picture.example[~single] == -1).all()
    assert (picture.potential_class[picture.level >= 2] == -1).all()
    assert picture.true_class[picture.level == 2].tolist() == list(range(10))
    assert picture.num_total == len(labels) * 10
    assert np.isfinite(picture.points).all()
    np.testing.assert_array_equal(drawn(checkpoint, settings()).points, picture.points)
    few = drawn(checkpoint, settings(num_drawn=0))
    assert np.bincount(few.level).tolist() == [100, 100, 10, 1]


# ----- the same again, and from a file


def test_the_same_seed_gives_the_same_bits(
    checkpoint: Checkpoint, exact: Study, iterated: Study
) -> None:
    assert same_bits(exact, measure(checkpoint, settings()))
    assert same_bits(iterated, measure(checkpoint, settings(exact_limit=0)))
    other = measure(checkpoint, settings(exact_limit=0, seed=1))
    assert not same_bits(iterated, other)
    np.testing.assert_allclose(
        other.spectra["G"].eigenvalues, iterated.spectra["G"].eigenvalues, atol=1e-4
    )


def test_the_global_random_numbers_are_left_alone(quick: Checkpoint) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    measure(quick, settings(exact_limit=0))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]


def test_a_study_comes_back_from_its_file_as_it_was(
    exact: Study, iterated: Study, tmp_path: Path
) -> None:
    for study in (exact, iterated):
        found = load_study(study.save(tmp_path / "one.study"))
        assert same_bits(found, study)
        assert found.settings == study.settings
        assert found.run == study.run
        assert found.outlier_rule == study.outlier_rule
        assert found.class_names == study.class_names
        assert found.versions == study.versions


def test_the_study_says_what_was_run(checkpoint: Checkpoint, exact: Study) -> None:
    run = {**exact.run, "training": 0}
    assert run.pop("products").keys() == {"G", "Hess", "H"}
    assert run == {**checkpoint.run, "training": 0}
    assert exact.run["training"]["lr"] == checkpoint.settings["lr"]
    assert exact.settings == asdict(settings())
    assert exact.history["epoch"].tolist() == [float(e + 1) for e in range(20)]
    assert set(exact.versions) >= {"torch", "numpy", "python", "hessian-workbench"}


# ----- progress and cancel


@pytest.mark.parametrize("limit", [0, 5000])
def test_progress_never_falls_and_ends_at_one(
    checkpoint: Checkpoint, limit: int
) -> None:
    events: list[Progress] = []
    measure(checkpoint, settings(exact_limit=limit), progress=events.append)
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert len({event.stage for event in events}) == 12
    assert max(b - a for a, b in zip(fractions, fractions[1:])) < 0.45  # noqa: B905, RUF007


STAGES = (
    "Averaging the gradients", "Eigenvalues of G", "Eigenvalues of Hess",
    "Eigenvalues of H", "Splitting G into its parts",
    "Placing the gradients in the plane", "Measuring the last layer",
)  # fmt: skip


@pytest.mark.parametrize("limit", [0, 5000])
@pytest.mark.parametrize("stage", STAGES)
def test_a_cancel_is_obeyed_at_the_next_step_of_any_stage(
    checkpoint: Checkpoint, stage: str, limit: int
) -> None:
    control, events = Control(), []

    def watch(event: Progress) -> None:
        events.append(event)
        if event.stage == stage:
            control.cancel()

    with pytest.raises(Cancelled):
        measure(
            checkpoint, settings(exact_limit=limit), progress=watch, control=control
        )
    assert [event.stage for event in events].count(stage) == 1
    assert events[-1].stage == stage


def test_a_cancel_during_the_embedding_is_obeyed_after_it(
    quick: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control()

    def embed(gram: Array, **names: Any) -> Array:
        control.cancel()
        return np.zeros((len(gram), 2))

    monkeypatch.setattr(picture, "embed", embed)
    with pytest.raises(Cancelled):
        measure(quick, settings(), control=control)


def test_a_cancel_within_a_pass_over_the_data_ends_within_a_batch() -> None:
    data = load_data("digits", per_class=150)  # 1,500 examples: several pieces
    done = train(build_model("linear", data), data, TrainConfig(epochs=0, device="cpu"))
    control, calls = Control(), []

    class Watched(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            if len(calls) == 40:
                control.cancel()
            return self.model(x)

    watched = replace(
        done,
        module=Watched(done.load_model()),
        weights={f"model.{k}": v for k, v in done.weights.items()},
    )
    with pytest.raises(Cancelled):
        measure(watched, settings(), control=control)
    assert 40 <= len(calls) < 60


# ----- networks and settings


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("limit", [0, 5000])
def test_softmax_regression_has_no_residual_h(num_classes: int, limit: int) -> None:
    digits = load_data("digits", per_class=6)
    keep = digits.labels < num_classes
    images = nn.functional.avg_pool2d(digits.images[keep], 2)
    data = Dataset.from_tensors(images, digits.labels[keep])
    model = build_model("linear", data)
    done = train(model, data, TrainConfig(epochs=5, device="cpu"))
    study = measure(done, settings(exact_limit=limit))
    g, hess, h = (study.spectra[kind] for kind in ("G", "Hess", "H"))
    top = float(g.eigenvalues[0])
    assert np.abs(h.eigenvalues).max() < 1e-12 * top
    num = min(len(g.eigenvalues), len(hess.eigenvalues)) - 5
    error = np.abs(hess.eigenvalues[:num] - g.eigenvalues[:num]).max()
    assert error < 1e-5 * top
    assert study.num_classes == num_classes
    assert np.isfinite(study.embedding.points).all()
    assert study.levels["icml"].class_overlap.shape[1] == num_classes


def test_two_classes_have_one_class_direction_each_way() -> None:
    """C = 2: icml and jmlr have no spread over c', as there is one c' only."""
    digits = load_data("digits", per_class=8)
    keep = digits.labels < 2
    data = Dataset.from_tensors(digits.images[keep], digits.labels[keep])
    model = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 2)
    )
    done = train(model, data, TrainConfig(epochs=3, device="cpu"))
    for limit in (0, 5000):
        study = measure(done, settings(exact_limit=limit))
        for weighting, part in (("icml", "G2"), ("jmlr", "G_cross")):
            assert study.levels[weighting].trace[part] == pytest.approx(0, abs=1e-20)
            assert study.levels[weighting].trace["G"] > 0
        assert len(study.spectra["G"].eigenvalues) == (9 if limit == 0 else 16)


def test_single_precision_is_as_good_as_its_error_bars_say(
    checkpoint: Checkpoint, exact: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "DOUBLE_LIMIT", 0)
    single = measure(checkpoint, settings())
    for kind in ("G", "Hess", "H"):
        true, found = exact.spectra[kind], single.spectra[kind]
        assert found.residuals[0] > 100 * true.residuals[0]
        error = np.abs(found.eigenvalues - true.eigenvalues)
        assert (error <= found.residuals).all()
    krylov = measure(checkpoint, settings(exact_limit=0, tol=1e-3))
    top = exact.spectra["G"].eigenvalues[0]
    assert np.abs(
        krylov.spectra["G"].eigenvalues - exact.spectra["G"].eigenvalues[:17]
    ).max() < 1e-3 * float(top)


def test_more_eigenvalues_than_there_are_give_all(checkpoint: Checkpoint) -> None:
    study = measure(checkpoint, settings(num_eigenvalues=500))
    dim = min(234, study.run["num_examples"] * 9)
    assert len(study.levels["icml"].overlap) == dim
    assert len(study.levels["icml"].subtracted) == dim


BAD = {
    "weighting": ["math", None, ""],
    "embedding": ["isomap", None],
    "metric": ["manhattan", None],
    "num_drawn": [-1, 2.5, "many", None],
    "num_eigenvalues": [0, -3, 2.5, "all"],
    "tol": [0, 1, -1e-3, float("nan"), float("inf"), "small", None],
    "num_steps": [1, 0, 2.5, None],
    "num_probes": [1, 0, "two", None],
    "exact_limit": [-1, 1e3, None],
    "seed": [-1, 0.5, "a", None],
    "device": ["tpu", "cuda:99", ""],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
)
def test_a_bad_setting_gets_a_sentence_with_its_value(
    quick: Checkpoint, name: str, value: object
) -> None:
    with pytest.raises(WorkbenchError) as error:
        measure(quick, settings(**{name: value}))
    assert {"embedding": "method"}.get(name, name) in str(error.value)
    assert repr(value) in str(error.value)
    assert "\n" not in str(error.value)


def broken(change: Callable[[dict[str, Tensor]], object]) -> Callable[[], Checkpoint]:
    def make() -> Checkpoint:
        done = untrained(small())
        weights = {k: v.clone() for k, v in done.weights.items()}
        change(weights)
        return replace(done, weights=weights)

    return make


def without_a_class() -> Checkpoint:
    done = untrained(small())
    data = done.load_data()
    keep = data.labels != 4
    return replace(
        done, data=replace(data, images=data.images[keep], labels=data.labels[keep])
    )


def swapped(model: nn.Module) -> Callable[[], Checkpoint]:
    """A checkpoint of a network that training itself would not take."""

    def make() -> Checkpoint:
        done = untrained(small())
        return replace(done, module=model, weights=dict(model.state_dict()))

    return make


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(dropout(x.flatten(1), 0.5))


UNMEASURABLE: dict[str, tuple[Callable[[], Checkpoint], str]] = {
    "nan": (
        broken(lambda w: w["5.weight"].fill_(torch.nan)),
        "1 parameters hold NaN or infinite weights, the first is 5.weight",
    ),
    "nan_statistics": (
        broken(lambda w: w["3.running_var"].fill_(torch.nan)),
        "NaN or infinite logits",
    ),
    "missing_class": (without_a_class, r"classes \[4\] have no example"),
    "frozen": (swapped(small().requires_grad_(False)), "no parameter that requires"),
    "no_parameters": (
        swapped(nn.Sequential(nn.AvgPool2d((2, 3)), nn.Flatten())),
        "no parameter that requires",
    ),
    "random": (swapped(Dropping()), "two passes over the same inputs"),
    "no_statistics": (
        swapped(
            nn.Sequential(
                nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False),
                nn.Linear(64, 10),
            )
        ),
        "set track_running_stats=True",
    ),
    "sure": (
        broken(lambda w: [w[f"5.{name}"].mul_(1e10) for name in ("weight", "bias")]),
        "G is zero, because every probability is 0 or 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNMEASURABLE)
def test_what_cannot_be_measured_gets_a_sentence(name: str) -> None:
    make, sentence = UNMEASURABLE[name]
    with pytest.raises(WorkbenchError, match=sentence) as error:
        measure(make(), settings())
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_each_embedding_is_the_same_for_the_same_seed(
    quick: Checkpoint, method: str
) -> None:
    chosen = settings(embedding=method, num_drawn=100)
    first, again = (measure(quick, chosen).embedding for _ in range(2))
    np.testing.assert_array_equal(first.points, again.points)
    assert first.method == method
    assert np.linalg.norm(first.points, axis=1).max() == pytest.approx(1.0)


def test_residuals_are_never_negative_and_values_fall(
    exact: Study, iterated: Study
) -> None:
    spectra: list[Spectrum] = [*exact.spectra.values(), *iterated.spectra.values()]
    for spectrum in spectra:
        assert (spectrum.residuals >= 0).all()
        assert (np.diff(spectrum.eigenvalues) <= 0).all()
        assert spectrum.num_matvecs >= 0
    assert exact.spectra["Hess"].num_matvecs == 234
