"""The plain object that sums a study up."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from workbench.study import PARTS
from workbench.summary import NUM_LEADING, summary


@pytest.mark.parametrize("weighting", ["slide", "icml", "jmlr"])
def test_it_holds_what_the_command_line_promises(weighting: str) -> None:
    study = make_study(weighting=weighting)
    found = summary(study)
    assert list(found) == [
        "schema", "run", "spectra", "levels", "picture", "attribution"
    ]  # fmt: skip
    assert list(found["run"]) == [
        "data", "per_class", "model", "num_params", "num_classes", "num_examples",
        "epochs", "seed", "device", "train_loss", "train_accuracy",
    ]  # fmt: skip
    assert list(found["spectra"]) == ["G", "Hess", "H"]
    for name, one in found["spectra"].items():
        ends = ["top"] if name == "G" else ["top", "bottom"]
        assert list(one) == [*ends, "method", "num_matvecs", "trace"]
        assert all(set(pair) == {"value", "residual"} for pair in one["top"])
    levels = found["levels"]
    means = "G12" if weighting == "icml" else "G_means"
    assert list(levels["parts"]) == [*PARTS[weighting], means]
    assert list(levels["trace"]) == [*PARTS[weighting], means, "G"]
    assert set(found["attribution"]) == {"overlap", "num_outliers", "rule"}


def test_each_end_is_in_order_from_its_far_side() -> None:
    study = make_study()
    for name, one in summary(study)["spectra"].items():
        values = study.spectra[name].eigenvalues
        top = [pair["value"] for pair in one["top"]]
        assert top == sorted(values[values > 0], reverse=True)[:NUM_LEADING]
        if name != "G":
            bottom = [pair["value"] for pair in one["bottom"]]
            assert bottom == sorted(values[values < 0])[:NUM_LEADING]
            assert bottom


def test_residuals_stay_with_their_eigenvalues() -> None:
    study = make_study()
    found = study.spectra["Hess"]
    marked = replace(found, residuals=np.arange(len(found.residuals), dtype=float))
    study = replace(study, spectra={"G": study.spectra["G"], "Hess": marked})
    one = summary(study)["spectra"]["Hess"]
    for pair in one["top"] + one["bottom"]:
        assert found.eigenvalues[int(pair["residual"])] == pair["value"]


def test_numbers_that_do_not_exist_are_null_in_json() -> None:
    study = make_study(4)
    study = replace(study, run={**study.run, "train_loss": float("nan"), "epochs": 0})
    found = summary(study)
    assert found["run"]["train_loss"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_of_some_classes_alone_their_number_is_told() -> None:
    study = make_study(4)
    trained = {**study.run, "num_classes": 100, "num_examples": 10_000}
    run = summary(replace(study, run=trained))["run"]
    assert run["num_classes"] == 4
    assert run["num_examples"] == study.run["num_examples"]


def test_an_operator_that_was_not_measured_is_left_out() -> None:
    assert list(summary(make_study(4, with_hess=False))["spectra"]) == ["G"]
