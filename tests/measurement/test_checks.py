"""What holds between G, Hess and H is looked at before a study is returned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.studies import make_study
from workbench.linalg.operator import LinearOperator
from workbench.measurement import measurement
from workbench.measurement.checks import breaches, established, traces_apart
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.study.records import Study
from workbench.study.spectrum import Spectrum

SHIFT = 0.5


@pytest.fixture(scope="module")
def study() -> Study:
    """Of exact numbers, with both ends of Hess and H told apart."""
    found = make_study(4, exact=False)
    spectra = {
        name: replace(s, num_low=0 if name == "G" else 3)
        for name, s in found.spectra.items()
    }
    return replace(found, spectra=spectra)


def moved(study: Study, name: str, row: int, by: float) -> dict[str, Spectrum]:
    """One eigenvalue somewhere else, its error as small as it was."""
    spectrum = study.spectra[name]
    values = spectrum.eigenvalues.copy()
    values[row] += by * study.spectra["G"].eigenvalues[0]
    return {**study.spectra, name: replace(spectrum, eigenvalues=values)}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("classes", [2, 4, 10])
def test_true_numbers_break_nothing(exact: bool, classes: int) -> None:
    true = make_study(classes, exact=exact)
    assert breaches(true.spectra, true.levels) == ()
    assert traces_apart(true.spectra) == 0.0


WRONG = {
    "a low end of H above that of Hess": ("H", -1, +SHIFT, "H is at most Hess"),
    "a top of Hess below G": ("Hess", 0, -SHIFT, "Hess is at least G plus H"),
    "a top of G below its part": ("G", 0, -2 * SHIFT, "G is at least its part"),
    "a negative eigenvalue of G": ("G", 7, -SHIFT, "no eigenvalue of G is negative"),
    "a top of G far below Hess": ("G", 1, -SHIFT, "at most G plus H's highest"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_number_that_another_rules_out_is_noticed_and_marked(
    case: str, study: Study
) -> None:
    name, row, by, rule = WRONG[case]
    spectra = moved(study, name, row, by)
    row %= len(spectra[name].eigenvalues)
    found = breaches(spectra, study.levels)
    assert (name, row) in {(breach.of, breach.row) for breach in found}
    assert any(rule in breach.rule for breach in found)
    asked: list[str] = []

    def again(of: str) -> Spectrum:
        asked.append(of)
        return spectra[of]

    marked = established(spectra, study.levels, again)
    assert name in asked
    assert len(set(asked)) == len(asked)
    assert "not established" in marked[name].method
    assert breaches(marked, study.levels) == ()
    true = study.spectra
    assert established(spectra, study.levels, true.__getitem__) == true


def test_traces_that_do_not_add_up_are_noticed_and_marked(study: Study) -> None:
    hess = study.spectra["Hess"]
    wrong = replace(hess, trace=hess.trace + 20 * hess.trace_error)
    spectra = {**study.spectra, "Hess": wrong}
    assert traces_apart(spectra) > 0
    marked = established(spectra, study.levels, spectra.__getitem__)
    assert traces_apart(marked) == 0
    assert "trace not established" in marked["Hess"].method


def test_a_study_whose_low_end_is_wrong_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        data = torch.randn(40, 6), torch.arange(40) % 3
    ends, calls = measurement.bulk_ends, []

    def wrong_once(operator: LinearOperator, *rest: Any) -> tuple[Tensor, Spectrum]:
        lowest, found = ends(operator, *rest)
        calls.append(found)
        if len(calls) > 1:
            return lowest, found
        values = found.eigenvalues.copy()
        values[-2:] = 1e-3
        return lowest, replace(found, eigenvalues=values)

    monkeypatch.setattr(measurement, "bulk_ends", wrong_once)
    settings = MeasureSettings(
        embedding="pca", device="cpu", num_drawn=0, exact_limit=0, num_steps=4
    )
    study = measure(model, data, settings)
    assert len(calls) == 2
    assert (study.spectra["H"].eigenvalues == calls[1].eigenvalues).all()
    assert np.abs(study.spectra["H"].residuals).max() < 0.1
    assert "not established" not in study.spectra["H"].method
