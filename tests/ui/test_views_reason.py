"""Where the size comes from, in words and as a point beside the curve."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from workbench.study.convention import CONVENTIONS
from workbench.study.size import predicted_of, size_of
from workbench.theory import collapse_of
from workbench.ui.views.explain import explain
from workbench.ui.views.ratio import closed_form, ratio_html
from workbench.ui.views.seen import seen_html
from workbench.ui.views.words import number, percent

FILM = make_study(5, 100, num_moments=2)


@pytest.mark.parametrize("weighting", list(CONVENTIONS))
def test_every_share_of_the_size_is_told(weighting):
    study = make_study(5)
    levels = study.levels[weighting]
    size, told = size_of(study, levels), explain(study, weighting)
    for share in (size.class_part, size.cross, size.within):
        assert percent(share) in told
    assert ("G<sub>2</sub> and G<sub>0</sub>" in told) == (weighting == "icml")
    found = predicted_of(study, levels)
    assert f"{percent(found.size)} of that sum would be the class part" in told
    assert f"cosine is r = {number(found.cosine)}" in told
    assert f"error of at most {percent(found.error)}." in told
    assert f"add up to {percent(found.share)} of that sum" in told


def test_a_prediction_that_holds_is_said_to_hold_and_one_that_fails_to_fail():
    assert "The prediction holds" in explain(make_study(5, noise=0.0))
    varied = make_study(5, noise=1.5)
    size = size_of(varied, varied.levels["icml"])
    told = explain(varied)
    assert "<b>The prediction fails here</b>" in told
    assert f"variation within classes ({percent(size.within)})" in told
    assert "prediction holds" not in told


def test_what_was_not_measured_is_not_told():
    study = make_study(4)
    levels = study.levels["icml"]
    few = replace(levels, parts=levels.parts | {"G12": levels.parts["G12"][:1]})
    told = explain(replace(study, levels={"icml": few}))
    assert "the rest was not split up" in told
    assert "–" not in told.split("Where the size comes")[1].split("</p>")[0]
    old = explain(make_study(4, with_last_layer=False))
    assert "Predicted" not in old
    assert "data-shows" not in old


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("cosine", [-0.1, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("weighting", list(CONVENTIONS))
def test_the_curve_is_that_of_collapsed_networks(weighting, cosine, num_classes):
    C, eps = num_classes, 1e-7
    features = np.linalg.cholesky((1 - cosine) * np.eye(C) + cosine)
    even = np.full((C, C), eps) + (1 - C * eps) * np.eye(C)
    found = collapse_of(features, even, convention=weighting)
    part, whole = (one.all[: C - 1].sum() for one in (found.class_part, found.G))
    assert closed_form(cosine, C, weighting) == pytest.approx(part / whole, rel=2e-3)


def circles(html: str, kind: str) -> list[tuple[float, float]]:
    """Centres of the circles of a kind; not of the one in the legend."""
    found = re.findall(rf'<circle class="{kind}" cx="([\d.]+)" cy="([\d.]+)"', html)
    return [(float(x), float(y)) for x, y in found][:-1]


def test_each_epoch_has_its_point_and_the_one_that_is_shown_stands_out():
    for moment in (0, 1, 2):
        html = ratio_html(FILM, "icml", moment)
        points = circles(html, "wb-moment")
        (here,) = circles(html, "wb-here")
        assert len(points) == 3
        assert here == points[moment]
        of = FILM.film[moment]
        assert f"r = {number(of.last_layer.cosine)}" in html
        share = size_of(of, of.levels["icml"]).class_part
        assert f"{percent(share)}" in html
    assert len(set(points)) == 3


def test_a_pinned_study_has_its_point_where_it_has_as_many_classes():
    same, other = make_study(5, seed=3), make_study(4)
    assert circles(ratio_html(FILM, "icml", -1, same), "wb-other")
    assert not circles(ratio_html(FILM, "icml", -1, other), "wb-other")
    assert "pinned" in seen_html(FILM, "icml", -1, same)


def test_nothing_is_drawn_without_a_last_layer():
    assert ratio_html(make_study(4, with_last_layer=False), "icml") == ""
