"""The epochs that a training kept, measured as moments of the study of its last one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.studies import make_study
from workbench.measurement.measurement import MeasureSettings, measure, measure_moments
from workbench.measurement.snapshots import as_snapshot, thinned_out
from workbench.progress.control import Cancelled, Control, Progress
from workbench.study.records import ROWS, Study, load_study
from workbench.study.spectrum import density_curve
from workbench.training.checkpoint import Checkpoint
from workbench.training.data import load_data
from workbench.training.train import TrainConfig, train

KEPT = (0, 1, 3, 8)


def settings(**values: Any) -> MeasureSettings:
    chosen = {"embedding": "pca", "device": "cpu", "num_drawn": 100, **values}
    return MeasureSettings(**chosen)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    data = load_data("digits", per_class=6)
    config = TrainConfig(epochs=8, snapshots=KEPT, device="cpu", lr=0.1)
    return train(model, data, config)


@pytest.fixture(scope="module")
def alone(checkpoint: Checkpoint) -> Study:
    return measure(checkpoint, settings(moments=False))


@pytest.fixture(scope="module")
def study(checkpoint: Checkpoint) -> Study:
    return measure(checkpoint, settings())


def test_each_kept_epoch_before_the_last_is_a_moment(
    study: Study, checkpoint: Checkpoint
) -> None:
    assert [moment.run["epochs"] for moment in study.film] == [0, 1, 3, 8]
    losses = [moment.run["train_loss"] for moment in study.film]
    kept = [checkpoint.snapshot_runs[epoch]["train_loss"] for epoch in KEPT]
    assert losses == kept
    assert [len(moment.history["epoch"]) for moment in study.film] == [0, 1, 3, 8]


def test_moments_leave_the_study_itself_as_it_is(study: Study, alone: Study) -> None:
    assert alone.moments == ()
    np.testing.assert_array_equal(study.embedding.points, alone.embedding.points)
    for name, spectrum in alone.spectra.items():
        found = study.spectra[name].eigenvalues
        np.testing.assert_array_equal(found, spectrum.eigenvalues)


def test_a_moment_is_what_measuring_its_epoch_finds(
    study: Study, checkpoint: Checkpoint
) -> None:
    own = measure(checkpoint.at_epoch(1), settings(tol=1e-6))
    moment = study.moments[1]
    rows = len(moment.spectra["G"].eigenvalues)
    expected = own.spectra["G"].eigenvalues[:rows]
    found = moment.spectra["G"].eigenvalues
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected[0])
    layer, its = moment.last_layer, own.last_layer
    assert layer is not None
    assert its is not None
    np.testing.assert_allclose(layer.class_means, its.class_means, rtol=1e-6)
    assert layer.neural_collapse == its.neural_collapse
    values = layer.spectrum.eigenvalues
    np.testing.assert_allclose(
        values, its.spectrum.eigenvalues[: len(values)], rtol=1e-6
    )
    for name in ("Hess", "H"):
        found, error = moment.spectra[name].eigenvalues, moment.spectra[name].residuals
        whole = own.spectra[name].eigenvalues
        apart = np.abs(found[:, None] - whole).min(1)
        assert (apart <= error + 1e-5 * np.abs(whole).max()).all()
    for name, levels in own.levels.items():
        kept = moment.levels[name].kept
        np.testing.assert_allclose(kept, levels.kept, rtol=1e-4, atol=1e-6)
    assert moment.num_outliers == own.num_outliers


def test_every_moment_draws_the_same_gradients(study: Study) -> None:
    for moment in study.moments:
        for column in ROWS:
            found = getattr(moment.embedding, column)
            np.testing.assert_array_equal(found, getattr(study.embedding, column))


def test_points_move_less_than_those_of_pictures_by_themselves(
    study: Study, checkpoint: Checkpoint
) -> None:
    def path(points: list[np.ndarray]) -> float:
        steps = [b - a for a, b in pairwise(points)]
        return float(np.mean([np.linalg.norm(s, axis=1).mean() for s in steps]))

    aligned = path([moment.embedding.points for moment in study.film])
    lone = [
        measure(checkpoint.at_epoch(epoch), settings(moments=False)).embedding.points
        for epoch in KEPT
    ]
    assert aligned < 0.95 * path(lone)


def test_a_film_is_read_back_as_it_was_measured(study: Study, tmp_path: Any) -> None:
    read = load_study(study.save(tmp_path / "film.study"))
    for before, after in zip(study.film, read.film, strict=True):
        for name, spectrum in before.spectra.items():
            for column in ("eigenvalues", "residuals", "nodes", "weights"):
                found = getattr(after.spectra[name], column)
                np.testing.assert_array_equal(found, getattr(spectrum, column))
        points = after.embedding.points
        np.testing.assert_array_equal(points, before.embedding.points)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_moment_draws_the_density_of_all_its_eigenvalues(scale: str) -> None:
    whole = make_study(10, 100)
    values = np.sort(10.0 ** np.random.default_rng(0).uniform(-8, 1, 3000))[::-1]
    spectrum = replace(
        whole.spectra["G"], eigenvalues=values, residuals=0 * values, dim=5000
    )
    moment = as_snapshot(replace(whole, spectra={"G": spectrum}))
    kept = moment.spectra["G"]
    assert kept.nodes.size < 700
    assert kept.weights.sum() == pytest.approx(1.0)
    first, second = (density_curve(s, scale=scale) for s in (spectrum, kept))
    seen = second.density.max() * 0.01
    at = np.interp(first.grid, second.grid, second.density, left=0, right=0)
    both = (first.density > seen) & (at > seen)
    ratio = np.abs(np.log10(at[both] / first.density[both]))
    assert both.mean() > 0.05
    assert np.median(ratio) < 0.05
    np.testing.assert_allclose(kept.eigenvalues[:10], values[:10], rtol=1e-6)


def test_progress_never_falls_and_a_cancel_ends_a_moment(
    checkpoint: Checkpoint,
) -> None:
    seen: list[Progress] = []
    control = Control()

    def told(event: Progress) -> None:
        seen.append(event)
        if "epoch 1" in event.detail:
            control.cancel()

    with pytest.raises(Cancelled):
        measure(checkpoint, settings(), progress=told, control=control)
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions)
    assert 0.3 < fractions[-1] < 1.0
    assert any("epoch 3" in event.detail for event in seen)


def test_little_time_gives_fewer_moments_and_never_none(
    alone: Study, checkpoint: Checkpoint
) -> None:
    found = measure_moments(alone, checkpoint, settings(), seconds=0.0)
    assert [moment.run["epochs"] for moment in found.film] == [3, 8]


def test_few_moments_are_spread_over_the_training() -> None:
    assert thinned_out((0, 1, 2, 4, 8), 2) == (0, 8)
    assert thinned_out((0, 1, 2, 4, 8), 1) == (0,)
    assert thinned_out((0, 1, 2), 3) == (0, 1, 2)
    assert thinned_out((0, 1, 2), 0) == ()
