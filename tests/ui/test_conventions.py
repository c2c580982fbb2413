"""The list "Averages": each convention of a shipped example draws its own picture."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fake_work import FakeWork
from tests.views import data, find
from workbench.page.presets import PRESETS, load_example
from workbench.page.session import Session
from workbench.study.convention import CONVENTIONS
from workbench.study.records import Study
from workbench.ui.app import Workbench
from workbench.ui.theme import LIGHT
from workbench.ui.views.explain import explain
from workbench.ui.views.scene import make_scene
from workbench.ui.views.spectrum import leading
from workbench.ui.views.stepper import build_stepper


def read(stations: list[str], what: str) -> list[str]:
    """The formula, or the share of G's trace, of each station."""
    pattern = rf'class="wb-{what}">(.*?)</span><span class="wb-(?:count|bar)'
    return [re.search(pattern, html)[1] for html in stations]


def shown(study: Study, weighting: str) -> dict[str, Any]:
    """What hangs on the convention, as it is put into the picture."""
    scene = make_scene(study, LIGHT, weighting)
    stepper = build_stepper(scene)
    stations = [station.label.html for station in stepper.stations]
    (part,) = [p for p in scene.parts if p.role == "class"]
    G = leading(study, scene.levels, "G").data
    return {
        "formulas": read(stations, "formula"),
        "shares": read(stations, "kept"),
        "sentences": stepper.sentences,
        "words": explain(study, weighting),
        "overlaps": scene.overlap,
        "class part": part.eigenvalues,
        "G without it": G["subtracted"],
        "G without its directions": G["projected"],
    }


@pytest.mark.parametrize("preset", [preset.name for preset in PRESETS])
def test_each_convention_has_its_own_formulas_shares_and_spectrum(preset: str) -> None:
    study = load_example(preset)
    assert len(study.levels) == 3
    found = {name: shown(study, name) for name in study.levels}
    for one, other in combinations(found, 2):
        for what, value in found[one].items():
            same = np.array_equal(value, found[other][what])
            assert not same, f"{what} of {one} and {other}"


def test_the_list_of_conventions_draws_the_example_by_the_one_that_is_chosen(
    tmp_path: Path,
) -> None:
    page = Workbench(Session(folder=tmp_path, worker=FakeWork()))
    study = page.session.study
    assert study is not None
    for name in ("slide", "jmlr"):
        page.measuring.weighting.value = name
        assert page.session.problem is None
        view, wanted = page.study.view, shown(study, name)
        assert view is not None
        assert f"in the median (<i>{name}</i>" in page.study.words.value
        stations = [find(view, f"station {n}").label.html for n in range(4)]
        assert read(stations, "formula") == wanted["formulas"]
        assert read(stations, "kept") == wanted["shares"]
        part = study.levels[name].parts[CONVENTIONS[name].class_part]
        drawn = data(view, "class part")["value"]
        np.testing.assert_array_equal(drawn, part[: len(drawn)])
        left = data(view, "eigenvalues G")["subtracted"]
        np.testing.assert_array_equal(left, wanted["G without it"])
