"""The code that makes a study runs as pasted, and gives the same numbers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.fuzz.damage import TEXTS, VALUES
from tests.fuzz.use import check_code
from tests.studies import make_study
from workbench.page import recipe as recipes
from workbench.page.presets import load_example
from workbench.page.recipe import recipe
from workbench.study.records import load_study


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
        assert usual == taken  # what is not named there is not written
    taken = inspect.signature(wb.load_data).parameters
    assert {name: taken[name].default for name in recipes.DATA} == recipes.DATA


def test_data_given_in_python_are_said_to_be_filled_in() -> None:
    study = make_study(2, 30)
    study.run["reloadable"] = False
    assert "# These data were tensors given in Python" in recipe(study)
    study.run["data"] = "x'); import os  #"
    compile(recipe(study), "recipe", "exec")
    assert "\nimport os" not in recipe(study)


def test_a_training_that_was_stopped_gives_the_numbers_of_its_last_whole_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = wb.load_data("digits", per_class=4)
    config = wb.TrainConfig(epochs=6, lr=0.1, batch_size=16, snapshots=(0, 2))
    stopped = wb.train(wb.build_model("linear", data), data, config).at_epoch(2)
    study = wb.measure(stopped, wb.MeasureSettings(embedding="pca", num_drawn=20))
    code = recipe(study)
    assert "# This training was stopped after 2 full epochs of 6;" in code
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    again = load_study("run.study")
    assert again.run["epochs"] == 2
    np.testing.assert_array_equal(
        again.spectra["G"].eigenvalues, study.spectra["G"].eigenvalues
    )
    assert len(again.moments) == len(study.moments) == 1


def test_a_network_given_in_python_is_said_to_be_filled_in() -> None:
    study = make_study(2, 30)
    own = replace(study, run={**study.run, "model": "MyNet"})
    code = recipe(own)
    assert "# This network was given in Python: build it here" in code
    assert "build_model" not in code
    sly = replace(study, run={**study.run, "model": "x\nimport os"})
    compile(recipe(sly), "recipe", "exec")
    assert "\nimport os" not in recipe(sly)


def test_data_are_fetched_where_they_are_missing_and_looked_for_where_they_lay() -> (
    None
):
    fashion = load_example("fashion")
    call = "load_data('fashion', per_class=50, download=True)"
    assert call in recipe(fashion)
    rooted = replace(fashion, run={**fashion.run, "root": "/data"})
    assert "per_class=50, root='/data', download=True)" in recipe(rooted)
    assert "download" not in recipe(load_example("paper"))


def _places(value: Any) -> list[Callable[[Any], None]]:
    """Return what puts another value, or another key, into each place of a tree."""
    found: list[Callable[[Any], None]] = []
    for key, inner in list(value.items()):
        found.append(lambda new, key=key: value.__setitem__(key, new))
        if isinstance(inner, dict):
            found += _places(inner)
    found.append(lambda new: value.__setitem__(f"{new}", 1))
    return found


def test_whatever_stands_in_a_study_its_code_is_ours_and_its_values_are_plain() -> None:
    study = load_example("paper")
    hostile = (
        *TEXTS,
        *VALUES,
        "0); import os; os.abort(",
        "'+__import__('os').getcwd()+'",
        "\\",
        "\r\nimport os",
        "\x0cimport os",
        "\u2028import os",
        ["'); import os #"],
        10**4000,
        object(),
    )
    for attribute in ("run", "settings"):
        for n in range(len(_places(dict(getattr(study, attribute))))):
            for value in hostile:
                plain = json.loads(json.dumps(getattr(study, attribute)))
                _places(plain)[n](
                    value if type(value) is not int else min(value, 9**999)
                )
                code = recipe(replace(study, **{attribute: plain}))
                check_code(code)
                assert code.isascii() or code.encode()
