"""The last layer of a network: what is recorded of it, and where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.neural_collapse import measures
from tests.studies import make_study
from tests.worlds import together
from workbench import choose_classes, exact_spectrum
from workbench.curvature.gram.last_layer import find_last_layer
from workbench.machine.distributed import World
from workbench.measurement.last_layer import record_last_layer
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.measurement.plan import bind, plan
from workbench.measurement.solver import IterativeSolver
from workbench.measurement.subject import subject_of
from workbench.study.convention import CONVENTIONS
from workbench.study.records import LastLayer, Study, load_study
from workbench.study.summary import summary
from workbench.study.tables import csv_tables
from workbench.theory import collapse

Data = tuple[Tensor, Tensor]


def settings(**values: Any) -> MeasureSettings:
    return MeasureSettings(
        **{"embedding": "pca", "device": "cpu", "num_drawn": 50, **values}
    )


def record(
    model: nn.Module, data: Any, world: World | None = None, **values: Any
) -> LastLayer | None:
    """As a measurement does."""
    chosen = settings(**values)
    risk = bind(model, data, chosen)
    if world is not None:
        risk = replace(risk, world=world)
    solver = IterativeSolver(chosen, 12, torch.Generator().manual_seed(0))
    return record_last_layer(risk, solver, lambda share: None)


def examples(counts: tuple[int, ...] = (7, 4, 9), num_inputs: int = 6) -> Data:
    """Classes of unequal size around centres of their own, in a random order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels))]
    centres = 2 * torch.randn(len(counts), num_inputs)
    return centres[labels] + torch.randn(len(labels), num_inputs), labels


@pytest.fixture(autouse=True)
def _same_numbers() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def body(num_classes: int = 3, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, num_classes, bias=bias)
    )


@pytest.mark.parametrize("bias", [True, False])
def test_features_and_probabilities_are_those_of_the_classes(bias: bool) -> None:
    inputs, labels = examples()
    model = body(bias=bias)
    found = record(model, (inputs, labels))
    assert found is not None
    assert (found.name, found.bias) == ("2", bias)
    with torch.no_grad():
        features = model[:2].double()(inputs.double())
        probs = model.double()(inputs.double()).softmax(1)
    for c in range(3):
        own = labels == c
        np.testing.assert_allclose(found.class_means[c], features[own].mean(0))
        np.testing.assert_allclose(found.probabilities[c], probs[own].mean(0))
    np.testing.assert_allclose(found.shares, [0.35, 0.2, 0.45])
    h = np.c_[found.class_means, np.ones((3, int(bias)))]
    expected = h[0] @ h[1] / np.linalg.norm(h[0]) / np.linalg.norm(h[1])
    assert found.cosines[0, 1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("counts", [(7, 4, 9), (5, 6), (3, 3, 3, 3)])
def test_neural_collapse_is_measured_by_its_definitions(counts: Any) -> None:
    inputs, labels = examples(counts)
    inputs, model = inputs.double(), body(len(counts)).double()
    found = record(model, (inputs, labels))
    assert found is not None
    with torch.no_grad():
        features, chosen = model[:2](inputs), model(inputs).argmax(1)
    weight = model[2].weight.detach().numpy()
    expected = measures(features.numpy(), labels.numpy(), weight, chosen.numpy())
    assert list(found.neural_collapse) == list(expected)
    for name, value in expected.items():
        assert found.neural_collapse[name] == pytest.approx(value, abs=1e-9), name
    assert 0 < found.neural_collapse["NC4"] < 1 or len(counts) == 2


@pytest.mark.parametrize("num", [4, 40])  # fewer examples than features, and more
@pytest.mark.parametrize("bias", [True, False])
def test_its_g_is_that_of_its_parameters_alone(num: int, bias: bool) -> None:
    data = torch.randn(num, 6), torch.arange(num) % 3
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3, bias=bias))
    found = record(model, data)
    assert found is not None
    expected = exact_spectrum(
        model.double(), (data[0].double(), data[1]), parameters="2"
    )
    assert found.spectrum.complete
    assert found.spectrum.dim == len(expected.values) + expected.num_zeros
    values = found.spectrum.eigenvalues
    assert len(values) == 2 * min(num, 9 + bias)
    top = expected.values[: len(values)].numpy()
    np.testing.assert_allclose(values, top, atol=1e-13 * top[0])
    assert found.spectrum.trace == pytest.approx(top.sum(), rel=1e-12)
    iterated = record(model, data, exact_limit=0)
    assert iterated is not None
    assert not iterated.spectrum.complete
    leading = iterated.spectrum.eigenvalues
    there = np.r_[values, np.zeros(12)][: len(leading)]
    np.testing.assert_allclose(leading, there, atol=1e-6 * top[0])
    assert iterated.spectrum.trace == pytest.approx(top.sum(), rel=1e-12)


class Tied(nn.Module):
    """The last layer's weight is used before, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) + x @ self.last.weight.T @ self.last.weight)


class Twice(nn.Module):
    """The last layer is called before, too."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.last(x))


class Frozen(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6), nn.Linear(6, 3))
        self[1].requires_grad_(False)


class SometimesMore(nn.Module):
    """More than a linear layer, but not of the examples that come first."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        far = torch.relu(x.norm(dim=1, keepdim=True) - 9)
        return self.last(x) * (1 + far)


NONE: dict[str, Callable[[], nn.Module]] = {
    "ends in a nonlinearity": lambda: nn.Sequential(nn.Linear(6, 3), nn.Softplus()),
    "ends in a convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 3, 1), nn.Flatten()
    ),
    "a weight that is used twice": Tied,
    "a layer that is called twice": Twice,
    "a weight that is frozen": Frozen,
    "a scaled output": lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)),
}


@pytest.mark.parametrize("name", NONE)
def test_without_a_last_layer_nothing_is_recorded_and_that_is_said(name: str) -> None:
    model = NONE[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_var.fill_(2.0)
    data = examples((6, 6, 6, 6, 6, 6) if name.startswith("a layer") else (7, 4, 9))
    assert record(model, data) is None
    line = plan(model, data, settings()).line
    assert "The logits do not come from a linear layer with its own weight" in line
    assert "last layer" not in plan(body(), examples(), settings()).line


def test_where_other_parameters_are_looked_at_nothing_is_recorded() -> None:
    model, data = body(), examples()
    for chosen, there in (("0", False), ("2", True), ("2.weight", False)):
        subject = subject_of(model, data)
        risk = bind(subject, None, settings(parameters=chosen))
        assert (find_last_layer(risk) is not None) == there


def test_a_study_without_a_last_layer_is_shown_as_such(tmp_path: Path) -> None:
    data = examples()
    study = measure(NONE["ends in a nonlinearity"](), data, settings())
    assert study.last_layer is None
    found = load_study(study.save(tmp_path / "x.study"))
    assert found.last_layer is None
    assert summary(found)["last_layer"] is None
    assert csv_tables(found)["last_layer"] == "name,value,epoch\n"


def test_what_holds_of_the_first_examples_alone_is_noticed() -> None:
    inputs, labels = examples((60, 60, 60))
    inputs, model = inputs / inputs.norm(dim=1, keepdim=True), SometimesMore()
    assert record(model, (inputs, labels)) is not None
    inputs[5] *= 100
    piece = bind(model, (inputs, labels), settings()).piece[0]
    assert piece.norm(dim=1).max() < 2
    assert record(model, (inputs, labels)) is None


def test_a_log_softmax_after_the_layer_changes_nothing() -> None:
    data = examples()
    model = body()
    plain, logged = (
        record(model, data),
        record(nn.Sequential(model, nn.LogSoftmax(1)), data),
    )
    assert plain is not None
    assert logged is not None
    assert logged.name == "0.2"
    np.testing.assert_allclose(
        logged.spectrum.eigenvalues, plain.spectrum.eigenvalues, atol=1e-14
    )


def test_of_some_classes_it_is_the_layer_of_these() -> None:
    inputs, labels = examples((7, 4, 9, 5))
    model, chosen = body(4), (2, 0)
    found = record(model, (inputs, labels), classes=chosen)
    assert found is not None
    assert found.name == "model.2"
    small, data = choose_classes(model, (inputs, labels), chosen)
    expected = exact_spectrum(small, data, parameters="model.2").values
    values = found.spectrum.eigenvalues
    top = expected[: len(values)].double().numpy()
    np.testing.assert_allclose(values, top, atol=1e-6 * top[0])
    assert found.class_means.shape == (2, 5)
    np.testing.assert_allclose(found.shares, [9 / 16, 7 / 16])


@pytest.mark.parametrize("limit", [0, 5000])
def test_processes_find_what_one_finds(limit: int) -> None:
    data, model = examples(), body()
    batches = [(data[0][a : a + 7], data[1][a : a + 7]) for a in (0, 7, 14)]
    alone = record(model, batches, exact_limit=limit)
    shared = together(2, lambda w: record(model, batches, w, exact_limit=limit))
    assert alone is not None
    for found in shared:
        assert found is not None
        np.testing.assert_allclose(found.class_means, alone.class_means)
        np.testing.assert_allclose(
            found.spectrum.eigenvalues, alone.spectrum.eigenvalues
        )
        assert found.neural_collapse == pytest.approx(alone.neural_collapse)


def planted(features: Tensor, scale: float) -> tuple[nn.Module, Data]:
    """A linear network whose class features are these, sure of each class."""
    C = len(features)
    model = nn.Linear(features.shape[1], C, bias=False).double()
    target = scale * (torch.eye(C).double() - 1 / C)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(features, target).solution.T)
    labels = torch.arange(C).repeat(3)
    return model, (features[labels], labels)


def of_study(study: Study, convention: str = "icml") -> np.ndarray:
    """The class part's eigenvalues over G's."""
    levels = study.levels[convention]
    part = levels.parts[levels.convention.class_part]
    return part / study.spectra["G"].eigenvalues[: len(part)]


@pytest.mark.parametrize("C", [3, 6, 10])
def test_one_hot_features_planted_make_the_class_part_all_of_the_outliers(
    C: int,
) -> None:
    study = measure(*planted(torch.eye(C).double(), 17.0), settings())
    np.testing.assert_allclose(of_study(study)[:C], 1.0, rtol=1e-5)
    values = study.spectra["G"].eigenvalues
    np.testing.assert_allclose(values[:C], values[0], rtol=1e-5)
    assert values[C] < 1.01 * values[0] / C


@pytest.mark.parametrize("C", [3, 6, 10])
def test_constant_features_planted_leave_the_class_part_half_and_a_bit(C: int) -> None:
    features = 300.0 + torch.eye(C).double()
    study = measure(*planted(features, 17.0), settings())
    expected = C / (2 * (C - 1))
    np.testing.assert_allclose(of_study(study)[: C - 1], expected, rtol=1e-4)
    values = study.spectra["G"].eigenvalues
    assert values[C - 1] < 1e-4 * values[C - 2]


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.8])
def test_a_collapsed_network_has_the_spectrum_that_is_predicted(cosine: float) -> None:
    """By the closed form, and from what the study has recorded."""
    C = 6
    gram = (1 - cosine) * torch.eye(C).double() + cosine
    study = measure(*planted(torch.linalg.cholesky(gram), 17.0), settings())
    layer = study.last_layer
    assert layer is not None
    assert layer.cosine == pytest.approx(cosine, abs=1e-9)
    assert layer.within == pytest.approx(0.0, abs=1e-15)
    assert layer.neural_collapse["NC1"] == pytest.approx(0.0, abs=1e-15)
    eps = float(layer.probabilities[0, 1])
    G = study.spectra["G"].eigenvalues[: C * (C - 1)]
    closed = collapse(cosine, C, eps)
    np.testing.assert_allclose(closed.G.all, G, atol=1e-5 * G[0])
    for convention in CONVENTIONS:
        found = layer.collapsed(convention)
        np.testing.assert_allclose(found.G.all, G, atol=1e-10 * G[0])
        np.testing.assert_allclose(
            found.ratio[: C - 1], of_study(study, convention)[: C - 1], rtol=1e-6
        )
    np.testing.assert_allclose(
        layer.spectrum.eigenvalues[: len(G)], G, atol=1e-10 * G[0]
    )


def test_a_film_has_the_last_layer_of_every_epoch_in_every_format() -> None:
    study = make_study(3, 20, num_moments=2)
    tables = csv_tables(study)
    epochs = {row.split(",")[-1] for row in tables["class_pairs"].splitlines()[1:]}
    assert epochs == {"0", "1", "30"}
    for name in ("last_layer", "class_features"):
        rows = tables[name].splitlines()
        assert (
            len(
                {
                    len(row) - len(row.replace(",", ""))
                    for row in rows
                    if "NC2" not in row
                }
            )
            == 1
        )
    found = summary(study)
    layer = study.last_layer
    assert layer is not None
    assert found["last_layer"]["neural_collapse"] == layer.neural_collapse
    first = found["snapshots"][0]["last_layer"]["spectrum"]
    assert first["trace"] > 1.5 * layer.spectrum.trace
    top = [pair["value"] for pair in found["last_layer"]["spectrum"]["top"]]
    np.testing.assert_allclose(top[:5], layer.spectrum.eigenvalues[:5])
    predicted = found["last_layer"]["predicted"]["G"]
    np.testing.assert_allclose(predicted, layer.collapsed().G.all[:20])
