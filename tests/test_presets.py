"""The presets: each opens at once, and its sentence is true of its study."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.examples import SHIPPED, make
from workbench.errors import WorkbenchError
from workbench.page.presets import (
    CONTRASTS,
    PRESETS,
    Contrast,
    Preset,
    find_preset,
    find_shipped,
    load_example,
)
from workbench.page.settings import Limits, RunSettings
from workbench.study.convention import CONVENTIONS
from workbench.study.records import Study, load_study
from workbench.study.size import predicted_of, size_of
from workbench.ui.views.explain import explain
from workbench.ui.views.words import percent

Array = NDArray[np.float64]
FOLDER = Path(str(files("workbench") / "examples"))
NAMES = [preset.name for preset in PRESETS]
FILES = [shipped.name for shipped in SHIPPED]


def study_of(name: str) -> Study:
    return load_example(name)


def gap(study: Study) -> float:
    values = study.spectra["G"].eigenvalues
    return float(values[study.num_outliers - 1] / values[study.num_outliers])


def sizes(study: Study, weighting: str) -> float:
    """Median of the class part's first eigenvalues over G's."""
    part = study.levels[weighting].parts[CONVENTIONS[weighting].class_part][:9]
    return float(np.median(part / study.spectra["G"].eigenvalues[:9]))


def ratios(study: Study, num: int) -> Array:
    """The class part's first eigenvalues over G's, as the theory has it."""
    own = study.spectra["G"].eigenvalues[:num]
    return study.levels["icml"].parts["G1"][:num] / own


def share(study: Study) -> str:
    """What the page tells of the class part's size, in percent."""
    size = size_of(study, study.levels["icml"])
    assert size is not None
    return percent(size.class_part).replace("\u00a0", " ")


@pytest.mark.parametrize("shipped", SHIPPED, ids=FILES)
def test_what_is_shipped_is_the_study_of_its_own_settings(
    shipped: Preset | Contrast,
) -> None:
    run, asked = study_of(shipped.name).run, shipped.settings
    names = ("model", "per_class", "epochs", "seed")
    told = {name: run[name] for name in names}
    assert told == {name: getattr(asked, name) for name in told}
    assert run["data"].split(",")[0] == asked.data
    for name in ("lr", "weight_decay", "batch_size"):
        assert run["training"][name] == getattr(asked, name)
    assert run["root"] is None  # where the data lay is nobody's business
    assert RunSettings().changed(Limits(), **{"epochs": asked.epochs}).epochs


def test_all_examples_together_are_small() -> None:
    assert {path.stem for path in FOLDER.glob("*.study")} == set(FILES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8e6
    assert 4 <= len(PRESETS) <= 6
    for shipped in (*PRESETS, *CONTRASTS):
        assert shipped.sentence.count(". ") == 0
        assert shipped.sentence.endswith(".")
    assert len({shipped.name for shipped in (*PRESETS, *CONTRASTS)}) == len(
        (*PRESETS, *CONTRASTS)
    )


def test_the_picture_from_the_paper_is_ten_clear_outliers_made_by_the_class_part() -> (
    None
):
    study = study_of("paper")
    sentence = find_preset("paper").sentence
    assert study.num_outliers == study.num_classes == 10
    assert "ten outliers" in sentence
    assert gap(study) > 2
    assert study.levels["icml"].overlap[:10].min() > 0.99
    assert ratios(study, 9).min() >= 0.85
    assert f"at least {math.floor(100 * ratios(study, 10).min())} %" in sentence


@pytest.mark.parametrize("weighting", list(CONVENTIONS))
def test_collapse_predicts_the_picture_from_the_paper(weighting: str) -> None:
    study = study_of("paper")
    levels = study.levels[weighting]
    size, found = size_of(study, levels), predicted_of(study, levels)
    assert size is not None
    assert found is not None
    assert found.error < 0.05  # eigenvalues of the last layer's G
    assert abs(found.size - size.class_part) < 0.05


@pytest.mark.slow
def test_the_picture_from_the_paper_comes_again_from_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.examples.FOLDER", tmp_path)
    again = load_study(make(replace(find_preset("paper"), film=False)))
    shown = study_of("paper")
    assert ratios(again, 9).min() >= 0.85
    assert again.num_outliers == shown.num_outliers
    np.testing.assert_allclose(ratios(again, 10), ratios(shown, 10), atol=0.03)


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


def test_on_photographs_the_rule_counts_eleven_and_nine_point_along_the_means() -> None:
    study = study_of("fashion")
    assert study.num_outliers == 11
    values = study.spectra["G"].eigenvalues
    assert (values[:12] / values[1:13]).max() < 1.7  # no clear gap
    overlap = study.levels["icml"].overlap
    assert overlap[9:].max() < 0.3 < 0.85 < overlap[:9].min()


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(WorkbenchError, match="paper, training"):
        find_preset("<none>")


@pytest.mark.parametrize("contrast", CONTRASTS, ids=lambda contrast: contrast.name)
def test_a_contrast_tells_how_large_the_class_part_is_in_both(
    contrast: Contrast,
) -> None:
    one, other = study_of(contrast.of), study_of(contrast.name)
    for study in (one, other):
        assert re.search(rf"\b{re.escape(share(study))}", contrast.sentence)
    assert contrast.of in NAMES
    asked, usual = contrast.settings, find_preset(contrast.of).settings
    others = [contrast.classes is not None, contrast.moment is not None]
    num_things = len(asked.differing(usual)) + sum([contrast.shuffled, *others])
    assert num_things == 1


def test_with_little_weight_decay_the_directions_hold_and_collapse_does_not() -> None:
    loose = study_of("loose")
    assert loose.num_outliers == 10
    assert "ten outliers still point along the class means" in sentence_of("loose")
    assert loose.levels["icml"].overlap[:10].min() > 0.9
    found = predicted_of(loose, loose.levels["icml"])
    size = size_of(loose, loose.levels["icml"])
    assert found is not None
    assert size is not None
    assert found.size - size.class_part > 0.25  # the page says that it fails
    assert "fails here" in explain(loose)
    assert "The prediction holds" in explain(study_of("paper"))


def test_shuffled_labels_have_outliers_along_their_class_means_too() -> None:
    shuffled = study_of("shuffled")
    assert shuffled.num_outliers == 9
    assert "nine outliers point along the means" in sentence_of("shuffled")
    assert shuffled.levels["icml"].overlap[:9].min() > 0.9
    assert shuffled.run["train_accuracy"] == 1.0  # it has learnt them by heart


def test_two_classes_have_two_outliers() -> None:
    two = study_of("two")
    assert two.num_outliers == two.num_classes == 2
    assert "two outliers" in sentence_of("two")


def sentence_of(name: str) -> str:
    return find_shipped(name).sentence
