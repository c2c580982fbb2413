"""The code that makes a study runs as pasted, and gives the same numbers."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from tests.studies import make_study
from workbench import recipe as recipes
from workbench.recipe import recipe
from workbench.study import load_study


def test_the_code_that_makes_a_study_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = wb.load_data("digits", per_class=4, seed=3)
    model = wb.build_model("linear", data, seed=5)
    config = wb.TrainConfig(epochs=2, lr=0.1, seed=5, batch_size=16, snapshots=(1,))
    settings = wb.MeasureSettings(weighting="jmlr", embedding="pca", num_drawn=20)
    study = wb.measure(wb.train(model, data, config), settings)
    code = recipe(load_study(study.save(tmp_path / "first.study")))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    again = load_study("run.study")
    assert again.run == load_study("first.study").run
    for name, spectrum in study.spectra.items():
        np.testing.assert_array_equal(
            again.spectra[name].eigenvalues, spectrum.eigenvalues
        )
    np.testing.assert_array_equal(again.embedding.points, study.embedding.points)
    assert len(again.moments) == 1


def test_what_is_left_out_is_what_is_taken_by_itself() -> None:
    train = asdict(wb.TrainConfig())
    train["snapshots"] = list(train["snapshots"])
    for usual, taken in (
        (recipes.TRAIN, train),
        (recipes.MEASURE, asdict(wb.MeasureSettings())),
    ):
        assert usual == {name: taken[name] for name in usual}
    taken = inspect.signature(wb.load_data).parameters
    assert {name: taken[name].default for name in recipes.DATA} == recipes.DATA


def test_data_given_in_python_are_said_to_be_filled_in() -> None:
    study = make_study(2, 30)
    study.run["reloadable"] = False
    assert "# These data were tensors given in Python" in recipe(study)
    study.run["data"] = "x'); import os  #"
    compile(recipe(study), "recipe", "exec")
    assert "\nimport os" not in recipe(study)
