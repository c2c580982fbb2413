"""The presets: each opens at once, and its sentence is true of its study."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.page.presets import PRESETS, Preset, find_preset
from workbench.page.settings import Limits, RunSettings
from workbench.study.convention import CONVENTIONS
from workbench.study.records import Study, load_study

FOLDER = Path(str(files("workbench") / "examples"))
NAMES = [preset.name for preset in PRESETS]


def study_of(name: str) -> Study:
    return load_study(FOLDER / find_preset(name).file)


def gap(study: Study) -> float:
    values = study.spectra["G"].eigenvalues
    return float(values[study.num_outliers - 1] / values[study.num_outliers])


def sizes(study: Study, weighting: str) -> float:
    """Median of the class part's first eigenvalues over G's."""
    part = study.levels[weighting].parts[CONVENTIONS[weighting].class_part][:9]
    return float(np.median(part / study.spectra["G"].eigenvalues[:9]))


@pytest.mark.parametrize("preset", PRESETS, ids=NAMES)
def test_a_preset_is_the_study_of_its_own_settings(preset: Preset) -> None:
    run, asked = study_of(preset.name).run, preset.settings
    told = {
        name: run[name] for name in ("data", "model", "per_class", "epochs", "seed")
    }
    assert told == {name: getattr(asked, name) for name in told}
    assert run["training"]["lr"] == asked.lr
    assert run["root"] is None  # where the data lay is nobody's business
    assert RunSettings().changed(Limits(), **{"epochs": asked.epochs}).epochs


def test_all_examples_together_are_small() -> None:
    assert {path.stem for path in FOLDER.glob("*.study")} == set(NAMES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8e6
    assert 4 <= len(PRESETS) <= 6
    for preset in PRESETS:
        assert preset.sentence.count(". ") == 0
        assert preset.sentence.endswith(".")


def test_the_picture_from_the_paper_is_nine_clear_outliers_along_the_means() -> None:
    study = study_of("paper")
    assert study.num_outliers == study.num_classes - 1 == 9
    assert gap(study) > 2
    assert study.levels["icml"].overlap[:9].min() > 0.9
    assert sizes(study, "jmlr") > 0.5


def test_with_too_few_examples_no_gap_tells_the_number_but_directions_hold() -> None:
    study = study_of("few")
    assert study.num_outliers < 8
    assert gap(study) < 1.5
    assert study.levels["icml"].overlap[:9].min() > 0.8


def test_where_the_theory_fits_badly_the_next_eigenvectors_leave_the_span() -> None:
    study = study_of("misfit")
    assert study.num_outliers < 9
    overlap = study.levels["icml"].overlap
    assert overlap[study.num_outliers : 9].max() < 0.7 < overlap[0]
    assert sizes(study, "jmlr") < 0.2


def test_before_training_the_class_part_is_small_and_it_grows() -> None:
    fresh, *_, trained = study_of("training").film
    assert (fresh.run["epochs"], trained.run["epochs"]) == (0, 30)
    assert sizes(fresh, "jmlr") < 0.1 < 0.4 < sizes(trained, "jmlr")
    films = [p for p in PRESETS if len(study_of(p.name).film) >= 5]
    assert {p.name for p in films} == {p.name for p in PRESETS if p.film}
    assert len(films) >= 2


def test_on_photographs_the_rule_counts_few_and_nine_point_along_the_means() -> None:
    study = study_of("fashion")
    assert study.num_outliers < 9
    overlap = study.levels["icml"].overlap
    assert overlap[9] < 0.3 < 0.9 < overlap[:9].min()


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(WorkbenchError, match="paper, training"):
        find_preset("<none>")
