"""The plain object that sums a study up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from tests.studies import make_study
from workbench.study.convention import CONVENTIONS
from workbench.study.summary import NUM_LEADING, everything, summary


@pytest.mark.parametrize("weighting", ["slide", "icml", "jmlr"])
def test_it_holds_what_the_command_line_promises(weighting: str) -> None:
    study = make_study(weighting=weighting)
    found = summary(study)
    assert list(found) == [
        "schema", "run", "spectra", "levels", "conventions", "last_layer", "random",
        "shared", "walk", "layers", "picture", "attribution", "snapshots",
    ]  # fmt: skip
    assert list(found["run"]) == [
        "data", "per_class", "model", "num_params", "num_classes", "num_examples",
        "epochs", "seed", "device", "train_loss", "train_accuracy",
    ]  # fmt: skip
    assert list(found["spectra"]) == ["G", "Hess", "H"]
    for name, one in found["spectra"].items():
        ends = ["top"] if name == "G" else ["top", "bottom"]
        assert list(one) == [*ends, "method", "num_matvecs", "trace", "trace_error"]
        assert all(set(pair) == {"value", "residual"} for pair in one["top"])
    levels = found["levels"]
    means = "G12" if weighting == "icml" else "G_means"
    assert list(levels["parts"]) == [*CONVENTIONS[weighting].parts, means]
    assert list(levels["trace"]) == [*CONVENTIONS[weighting].parts, means, "G"]
    assert list(found["conventions"]) == ["slide", "icml", "jmlr"]
    assert found["conventions"][weighting] == levels
    assert set(found["attribution"]) == {
        "overlap", "class_overlap", "num_outliers", "rule"
    }  # fmt: skip


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


def test_values_of_the_low_end_are_not_told_as_high_ones() -> None:
    study = make_study(4, exact=False)
    H = study.spectra["H"]
    values = np.array([0.9, 0.5, 0.3, 0.002, 0.001, -0.4])
    H = replace(H, eigenvalues=values, residuals=values**2, num_low=3)
    one = summary(replace(study, spectra={**study.spectra, "H": H}))["spectra"]["H"]
    assert [pair["value"] for pair in one["top"]] == [0.9, 0.5, 0.3]
    assert [pair["value"] for pair in one["bottom"]] == [-0.4, 0.001, 0.002]
    assert one["trace_error"] == H.trace_error > 0


def leaves(value: Any) -> Iterator[Any]:
    """Yield every number and string below a value."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def test_json_holds_everything_that_the_study_holds() -> None:
    study = make_study(4, 40, num_moments=2, exact=False)
    found = json.loads(json.dumps(everything(study), allow_nan=False))
    assert list(leaves(found["study"])) == list(leaves(study))
    assert [moment["run"]["epochs"] for moment in found["snapshots"]] == [0, 1]
    assert found["levels"]["subtracted"][0] == study.levels["icml"].subtracted[0]
