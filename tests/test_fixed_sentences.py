"""Sentences that never change, held against the numbers of the studies they stand by.

Presets, tour and glossary stand beside every study that ships, so what they claim of
spectra has to be true of each. What was once said and is false is said nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.studies import make_study
from workbench.page.presets import PRESETS, load_example
from workbench.study.records import Study
from workbench.ui.theme import THEMES
from workbench.ui.views.glossary import GLOSSARY
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.scene import make_scene
from workbench.ui.views.stepper import describe_levels
from workbench.ui.views.titles import build_titles
from workbench.ui.views.tour import STOPS

TOUR = {title: text for _, title, text in STOPS}
Claim = tuple[str, str, Callable[[Study], bool]]


@cache
def study_of(name: str) -> Study:
    """One of a preset, or one that has all that is measured today."""
    return make_study() if name == "synthetic" else load_example(name)


NAMES = [preset.name for preset in PRESETS]


def in_the_bulk(study: Study) -> bool:
    """All but the outliers and C more are small beside the largest, of all weights."""
    G = study.spectra["G"]
    small = np.abs(G.eigenvalues) < 0.1 * G.eigenvalues[0]
    return bool(G.dim - (~small).sum() > 0.8 * G.dim)


def shrinks_by_the_class_part(study: Study) -> bool:
    """No outlier grows, and together they lose no more than the class part has."""
    for levels in study.levels.values():
        many = min(study.num_outliers, len(levels.subtracted))
        own = study.spectra["G"].eigenvalues[:many]
        lost = own - levels.subtracted[:many]
        error = 1e-3 * own[0]
        carried = levels.trace[levels.convention.class_part]
        if (lost < -error).any() or lost.sum() > carried + many * error:
            return False
    return True


def needed_by_some(study: Study) -> bool:
    """Removing all directions of the class means makes some outlier go."""
    first = study.spectra["G"].eigenvalues[: study.num_outliers]
    return all(
        levels.projected[: len(first)].sum() < 0.9 * first.sum()
        for levels in study.levels.values()
    )


def steepest_is_of_g(study: Study) -> bool:
    """H's largest eigenvalue is below G's."""
    spectra = study.spectra
    if "H" not in spectra:
        return True
    return bool(spectra["H"].eigenvalues[0] < spectra["G"].eigenvalues[0])


def bulk_is_flat(study: Study) -> bool:
    """Along one of the bulk the loss curves by a fifth of what it does at most."""
    if (walk := study.walk) is None:
        return True
    bulk = [j for j, name in enumerate(walk.operator) if name == "G"][-1]
    return bool(abs(walk.curvature[bulk]) < 0.2 * walk.curvature[0])


CLAIMS: dict[str, Claim] = {
    "the bulk": (
        TOUR["The outliers"],
        "Nearly all eigenvalues lie in the bulk near zero; a few stand apart",
        in_the_bulk,
    ),
    "the class part taken away": (
        TOUR["Break it"],
        "the outliers shrink by what it carries",
        shrinks_by_the_class_part,
    ),
    "the directions taken away": (
        TOUR["Break it"],
        "to see which outliers need them",
        needed_by_some,
    ),
    "one eigenvalue per class": (
        GLOSSARY["class part"],
        "one eigenvalue per class",
        lambda study: all(
            (one.parts[one.convention.class_part][study.num_classes :] < 1e-9).all()
            for one in study.levels.values()
        ),
    ),
    "the part that stands apart": (
        GLOSSARY["G"],
        "whose largest eigenvalues stand apart",
        steepest_is_of_g,
    ),
    "along the bulk": (
        GLOSSARY["bulk"],
        "Along these directions the loss curves little",
        bulk_is_flat,
    ),
    "H": (
        GLOSSARY["H"],
        "it may be small or not",
        lambda study: True,  # it claims nothing
    ),
}

# Found false by measuring: numbers.md of the project's notes has the studies.
FALSE = {
    "class means reach .80 before training": r"before training[^.]*hardly matter",
    "outliers do not always become clearer": r"the longer [^.]*the clearer",
    "random directions take outliers away too": r"made by what (was|is) taken",
    "H stays large in a group norm net": r"(H|Hessian)[^.]*shrinks as|vanishes as the",
    "a knock-out proves no cause": r"proves? (that|the cause)|the class means cause",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("claim", CLAIMS)
def test_what_tour_and_glossary_claim_is_true_of_every_study(
    claim: str, name: str
) -> None:
    text, said, true = CLAIMS[claim]
    assert said in text, "reworded: hold the new sentence against the studies"
    assert true(study_of(name))


def test_along_the_bulk_of_a_study_with_walks_the_loss_curves_little() -> None:
    assert study_of("synthetic").walk is not None
    assert bulk_is_flat(study_of("synthetic"))


@pytest.mark.parametrize("name", NAMES)
def test_g_is_called_nearly_all_of_the_curvature_only_where_it_is(name: str) -> None:
    for moment in study_of(name).film:
        said = describe_levels(make_scene(moment, THEMES["light"]))[0]
        g, hess = (moment.spectra[which] for which in ("G", "Hess"))
        near = abs(g.trace - hess.trace) + hess.trace_error < 0.1 * hess.trace
        assert ("nearly all of the loss's curvature" in said) == near


def test_where_g_is_a_part_of_the_hessian_its_share_is_told() -> None:
    study = study_of("synthetic")
    hess = study.spectra["Hess"]
    for trace, error, words in (
        (
            5 * study.spectra["G"].trace,
            0.0,
            "20\u00a0% of the loss's curvature, by its",
        ),
        (hess.trace, 0.0, "nearly all of the loss's curvature"),
        (hess.trace, 0.2 * hess.trace, "a part of the loss's curvature"),
        (0.1, 3.0, "a part of the loss's curvature"),
    ):
        other = replace(hess, trace=trace, trace_error=error)
        changed = replace(study, spectra=study.spectra | {"Hess": other})
        said = describe_levels(make_scene(changed, THEMES["light"]))[0]
        assert words in said
    alone = make_study(with_hess=False)
    assert "a part of the" in describe_levels(make_scene(alone, THEMES["light"]))[0]


def said_on_the_page() -> list[str]:
    """All fixed texts of the page."""
    view = LinkedView(study_of("synthetic"), files={"Study": "it"})
    titles = build_titles(view.scene, {})
    tips = [t for one in titles.values() for t in ([one] if type(one) is str else one)]
    return [
        *(preset.sentence for preset in PRESETS),
        *TOUR.values(),
        *GLOSSARY.values(),
        *map(str, tips),
    ]


@pytest.mark.parametrize("false", FALSE)
def test_what_was_found_false_is_said_nowhere(false: str) -> None:
    texts = said_on_the_page()
    assert len(texts) > 60
    assert not [text for text in texts if re.search(FALSE[false], text, re.I)]


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMBERS += ("ten", "eleven", "twelve")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_outliers_that_a_preset_counts_are_those_of_the_rule(preset) -> None:
    study = load_example(preset.name)
    found = re.findall(rf"\b({'|'.join(NUMBERS)}) outliers\b", preset.sentence, re.I)
    for word in found:
        assert NUMBERS.index(word.lower()) == study.num_outliers
    if "fewer outliers than classes" in preset.sentence:
        assert study.num_outliers < study.num_classes
    if counted := re.search(r"counts only (\w+)", preset.sentence):
        assert NUMBERS.index(counted[1]) == study.num_outliers
    if along := re.search(r"(\w+) eigenvectors point along", preset.sentence):
        overlap = study.levels[study.weighting].overlap
        assert NUMBERS.index(along[1]) == (overlap > 0.9).sum()
    stand = re.search(r"stands? (clear|apart)", preset.sentence)
    if stand and found:
        values = study.spectra["G"].eigenvalues
        assert values[study.num_outliers - 1] > 1.5 * values[study.num_outliers]
