"""Measuring any network on any data: what the study says, and what it leaves alone."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from workbench.cli.terminal import print_summary
from workbench.errors import WorkbenchError
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.measurement.plan import bind, plan
from workbench.page.recipe import recipe
from workbench.study.records import Study, load_study
from workbench.study.summary import everything, summary
from workbench.study.tables import csv_tables
from workbench.training.checkpoint import Checkpoint
from workbench.training.data import Dataset, load_data
from workbench.training.train import TrainConfig, train
from workbench.ui.export import page_html
from workbench.ui.views.explain import explain

CLASSES = 3


def settings(**values: Any) -> MeasureSettings:
    chosen = {"embedding": "pca", "device": "cpu", "num_drawn": 60, **values}
    return MeasureSettings(**chosen)


class Small(nn.Sequential):
    """A network whose class has a name."""

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, CLASSES)
            )


def examples(seed: int = 0, num: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % CLASSES
    centres = torch.randn(CLASSES, 1, 4, 4, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(num, 1, 4, 4, generator=generator)
    return centres[labels] + 0.5 * noise, labels


def as_dataset(inputs: Tensor, labels: Tensor) -> Dataset:
    return Dataset.from_tensors(inputs, labels, ["cat", "dog", "fox"], name="pets")


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits.detach(), labels)


FORMS = {
    "dataset": lambda x, y: as_dataset(x, y),
    "tensors": lambda x, y: (x, y),
    "batches": lambda x, y: list(zip(x.split(7), y.split(7), strict=True)),
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7),
}


def opened_everywhere(study: Study, folder: Path) -> None:
    """Save, read and show it in every form there is."""
    again = load_study(study.save(folder / "one.study"))
    json.dumps(everything(again), allow_nan=False)
    screen = io.StringIO()
    print_summary(summary(again), Console(file=screen, width=200))
    assert "None" not in screen.getvalue()
    assert len(csv_tables(again)) == 15
    assert explain(again)
    assert page_html(again).startswith("<!DOCTYPE html>")
    compile(recipe(again), "recipe", "exec")


@pytest.mark.parametrize("form", FORMS)
def test_any_network_is_measured_on_data_in_any_form(form: str, tmp_path: Path) -> None:
    model, (inputs, labels) = Small(), examples()
    inputs, labels = (part[labels.argsort(stable=True)] for part in (inputs, labels))
    study = measure(model, FORMS[form](inputs, labels), settings())
    own = measure(model, (inputs, labels), settings())
    for name, spectrum in own.spectra.items():
        found = study.spectra[name].eigenvalues
        np.testing.assert_allclose(found, spectrum.eigenvalues, atol=1e-12)
    assert study.run["model"] == "Small"
    assert study.run["num_examples"] == 30
    assert study.run["num_params"] == sum(p.numel() for p in model.parameters())
    loss = float(mean_loss(model(inputs), labels))
    assert study.run["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert study.history == {}
    assert "epochs" not in study.run
    named = form == "dataset"
    assert study.class_names == (("cat", "dog", "fox") if named else ("0", "1", "2"))
    assert study.run["data"] == ("pets" if named else "your data")
    assert study.run.get("held_out") is None
    opened_everywhere(study, tmp_path)


def test_a_network_is_left_as_it_was() -> None:
    model, data = Small(), examples()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    measure(model, data, settings(), snapshots=[(0, Small(1).state_dict())])
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])


@pytest.fixture(scope="module")
def trained() -> Checkpoint:
    data = as_dataset(*examples(num=60))
    return train(Small(), data, TrainConfig(epochs=3, device="cpu", snapshots=(1,)))


def test_settings_stand_where_data_do_for_a_checkpoint(trained: Checkpoint) -> None:
    one, two = measure(trained, settings()), measure(trained, settings=settings())
    assert one.run == two.run
    assert len(one.moments) == 1
    assert plan(trained, settings()).num_moments == 1
    with pytest.raises(WorkbenchError, match="without data; pass a Dataset"):
        measure(Small(), settings())
    with pytest.raises(WorkbenchError, match="is a dict; expected a torch"):
        measure({}, examples())  # type: ignore[arg-type]


def test_a_held_out_set_is_named_by_the_study(
    trained: Checkpoint, tmp_path: Path
) -> None:
    inputs, labels = examples(seed=5, num=24)
    study = measure(trained, (inputs, labels), settings(), data_name="test set")
    run, model = study.run, trained.load_model()
    assert (run["data"], run["held_out"]) == ("test set", True)
    assert run["num_examples"] == 24
    assert run["loss"] == pytest.approx(float(mean_loss(model(inputs), labels)))
    assert run["train_loss"] == trained.run["train_loss"]  # of the training data still
    assert study.class_names == ("cat", "dog", "fox")
    assert [moment.run["held_out"] for moment in study.film] == [True, True]
    assert "measured on test set, which the network was not trained on" in (
        explain(study)
    )
    opened_everywhere(study, tmp_path)
    alone = measure(model, (inputs, labels), settings(), held_out=True)
    assert "train_loss" not in alone.run
    assert alone.run["loss"] == pytest.approx(run["loss"])
    opened_everywhere(alone, tmp_path)


def test_own_checkpoints_become_moments(trained: Checkpoint, tmp_path: Path) -> None:
    model, data = Small(3), examples()
    states = [(0, Small(1).state_dict()), (4, Small(2)), (2, trained)]
    study = measure(model, data, settings(), snapshots=states)
    assert [moment.run["epochs"] for moment in study.film] == [0, 2, 4, 5]
    losses = [
        float(mean_loss(network(data[0]), data[1]))
        for network in (Small(1), trained.load_model(), Small(2), model)
    ]
    assert [m.run["train_loss"] for m in study.film] == pytest.approx(losses, rel=1e-5)
    opened_everywhere(study, tmp_path)
    alone = measure(Small(2), data, settings())
    np.testing.assert_allclose(
        study.moments[2].spectra["G"].eigenvalues[:10],
        alone.spectra["G"].eigenvalues[:10],
        rtol=1e-4,
    )
    last = [(0, Small(1).state_dict()), (8, model.state_dict())]
    study = measure(model, data, settings(), snapshots=last)
    assert [moment.run["epochs"] for moment in study.film] == [0, 8]
    study = measure(model, data, settings(), snapshots=states, epoch=90)
    assert study.run["epochs"] == 90


BAD: dict[str, tuple[Any, str]] = {
    "no_pair": ([3], "a snapshot is a int; expected a pair"),
    "no_state": ([(0, 3)], "the weights of the snapshot at epoch 0 are a int"),
    "negative": ([(-1, Small().state_dict())], "epoch of a snapshot is -1"),
    "half": ([(0.5, Small().state_dict())], "epoch of a snapshot is 0.5"),
    "foreign": (
        [(0, nn.Linear(3, 3).state_dict())],
        "at epoch 0 belongs to another network: 6 of its tensors do not fit",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_snapshot_gets_a_sentence(name: str) -> None:
    snapshots, sentence = BAD[name]
    with pytest.raises(WorkbenchError, match=sentence):
        measure(Small(), examples(), settings(), snapshots=snapshots)
    later = [(9, Small(1).state_dict())]
    with pytest.raises(WorkbenchError, match="has epoch 9 and the network has epoch 2"):
        measure(Small(), examples(), settings(), snapshots=later, epoch=2)


class Casting(nn.Module):
    """One that goes on in single precision, whatever it is given."""

    def __init__(self, stop: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 6), nn.Linear(6, CLASSES)
        self.stop = stop

    def forward(self, x: Tensor) -> Tensor:
        if self.stop:
            return self.last(torch.tanh(self.first(x.flatten(1).float())))
        logits: Tensor = self.last(torch.tanh(self.first(x.flatten(1)))).float()
        return logits


@pytest.mark.parametrize("stop", [True, False])
def test_a_network_that_casts_inside_is_measured_in_its_own_dtype(stop: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Casting(stop)
    assert bind(model, examples(), settings()).dtype == torch.float32
    study = measure(model, examples(), settings())
    plain = nn.Sequential(nn.Flatten(), model.first, nn.Tanh(), model.last)
    assert bind(plain, examples(), settings()).dtype == torch.float64
    true = measure(plain, examples(), settings()).spectra["G"].eigenvalues
    np.testing.assert_allclose(study.spectra["G"].eigenvalues[:8], true[:8], rtol=1e-4)


def test_a_fault_of_the_network_is_told_as_its_own() -> None:
    with pytest.raises(WorkbenchError, match=r"does not take inputs of shape \(2, 5\)"):
        measure(Small(), (torch.randn(12, 5), torch.arange(12) % 3), settings())


def test_some_classes_are_told_with_their_own_loss() -> None:
    data = load_data("digits", per_class=20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    done = train(model, data, TrainConfig(epochs=2, device="cpu"))
    study = measure(done, settings(classes=2))
    chosen = [data.class_names.index(name) for name in study.class_names]
    keep = torch.isin(data.labels, torch.tensor(chosen))
    logits = done.load_model()(data.images[keep])[:, chosen]
    labels = (data.labels[keep] == chosen[1]).long()
    loss = float(mean_loss(logits, labels))
    assert study.run["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert study.run["train_accuracy"] == pytest.approx(
        float((logits.argmax(1) == labels).double().mean())
    )
    assert study.run["trained"]["train_loss"] == done.run["train_loss"]
    assert study.history == {}
    worse = {**study.run, "train_loss": 0.65}
    assert "its training loss on these classes is 0.650" in (
        explain(replace(study, run=worse))
    )


@pytest.fixture(scope="module")
def studies() -> dict[str, Study]:
    """One checkpoint by every way."""
    data = load_data("digits", per_class=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 10)
        )
    done = train(model, data, TrainConfig(epochs=30, lr=0.1, device="cpu"))
    ways: dict[str, dict[str, Any]] = {
        name: {"method": name} for name in ("dense", "dual", "krylov", "streamed")
    }
    ways |= {"seven": {"num_eigenvalues": 7, "method": "krylov"}}
    ways |= {"forty": {"num_eigenvalues": 40}, "exact_seven": {"num_eigenvalues": 7}}
    return {name: measure(done, settings(**way)) for name, way in ways.items()}


def test_the_number_of_outliers_is_the_same_by_every_way(
    studies: dict[str, Study],
) -> None:
    assert len({study.num_outliers for study in studies.values()}) == 1
    for study in studies.values():
        assert "among the first 17 eigenvalues" in study.outlier_rule


def test_the_way_that_is_named_is_taken(studies: dict[str, Study]) -> None:
    for name, method in (
        ("dense", "dense, exact"),
        ("dual", "dual, exact"),
        ("krylov", "block Krylov ("),
        ("streamed", "block Krylov ("),
    ):
        assert studies[name].spectra["G"].method.startswith(method)
    assert list(studies["streamed"].levels) == ["icml"]


def test_what_was_found_by_iterating_has_residuals(studies: dict[str, Study]) -> None:
    for study in studies.values():
        for levels in study.levels.values():
            within = "G3" if levels.weighting == "icml" else "G_within"
            assert set(levels.residuals) >= {within, "subtracted", "projected"}
            for name, errors in levels.residuals.items():
                values = levels.parts.get(name)
                if values is None:
                    values = getattr(levels, name)
                assert len(errors) == len(values)
                assert (errors >= 0).all()


@pytest.mark.parametrize("limit", [0, 5000])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_of_zeros_is_measured(limit: int, classes: int) -> None:
    inputs, labels = torch.randn(30, 1, 4, 4), torch.arange(30) % classes
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, classes)
    )
    nn.init.zeros_(model[3].weight)
    nn.init.zeros_(model[3].bias)
    study = measure(model, (inputs, labels), settings(exact_limit=limit))
    assert np.isfinite(study.embedding.points).all()
    assert study.num_outliers < 14
    slide = study.levels["slide"]  # its class means are zero, and have no span
    assert slide.trace["G_class"] < 1e-10 * slide.trace["G"]
    assert (slide.overlap == 0).all()
    np.testing.assert_allclose(
        slide.projected[:5], study.spectra["G"].eigenvalues[:5], rtol=1e-2
    )
    explain(study, "slide")
