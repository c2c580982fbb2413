"""Embedding and stepper without a browser: marks, their means, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bokeh.models import Div

from tests.studies import make_study
from tests.views import data, find
from workbench.study.convention import CONVENTIONS
from workbench.ui.theme import LIGHT, class_style
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.scene import make_scene
from workbench.ui.views.stepper import build_stepper


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_each_mark_travels_to_the_average_that_it_is_part_of(weighting):
    study = make_study(4, 200, weighting)
    view = LinkedView(study)
    home = {}
    for level in range(4):
        marks = data(view, f"marks {level}")
        for c, k, x, y in zip(
            marks["c"], marks["k"], marks["home_x"], marks["home_y"], strict=True
        ):
            home[level, c if level < 3 else -1, k if level == 1 else -1] = (x, y)
    for level, parent in ((0, lambda c, k: (1, c, k)), (1, lambda c, _: (2, c, -1))):
        marks = data(view, f"marks {level}")
        for row in range(len(marks["c"])):
            target = marks["target_x"][row], marks["target_y"][row]
            assert target == home[parent(marks["c"][row], marks["k"][row])]
    last = data(view, "marks 2")
    assert {*zip(last["target_x"], last["target_y"], strict=True)} == {home[3, -1, -1]}


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_the_mean_of_the_true_class_is_left_out_except_on_the_slides(weighting):
    marks = data(LinkedView(make_study(4, 200, weighting)), "marks 1")
    own = marks["c"] == marks["k"]
    np.testing.assert_array_equal(marks["stays"] == 1, own & (weighting != "slide"))


def test_a_mark_without_its_average_keeps_its_place():
    study = make_study(3, 60)
    keep = study.embedding.level != 1
    columns = ("points", "level", "example", "true_class", "potential_class")
    fewer = {name: getattr(study.embedding, name)[keep] for name in columns}
    view = LinkedView(replace(study, embedding=replace(study.embedding, **fewer)))
    marks = data(view, "marks 0")
    np.testing.assert_array_equal(marks["target_x"], marks["home_x"])


def test_colour_and_marker_say_the_true_class_at_every_level():
    view = LinkedView(make_study(12, 300))
    for level in range(3):
        marks = data(view, f"marks {level}")
        for c, *style in zip(marks["c"], marks["color"], marks["marker"], strict=True):
            assert tuple(style) == class_style(c, LIGHT)


def test_the_embedding_has_no_axes_and_tells_what_it_left_out():
    view = LinkedView(make_study())
    assert not any(axis.visible for axis in find(view, "embedding").axis)
    captions = [m.text for m in view.layout.references() if isinstance(m, Div)]
    (caption,) = [text for text in captions if "drawn." in text]
    assert "UMAP of cosine distances" in caption
    assert "1,500 of 2,400 gradients drawn" in caption


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_points_laid_out_for_another_convention_are_said_to_be(weighting):
    view = LinkedView(make_study(weighting="icml"), weighting=weighting)
    texts = [m.text for m in view.layout.references() if isinstance(m, Div)]
    said = "The points are laid out for icml, until the network is measured again."
    assert any(said in text for text in texts) == (weighting != "icml")


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_the_stations_tell_counts_and_the_share_that_is_kept(weighting):
    study = make_study(weighting=weighting)
    view = LinkedView(study)
    html = [find(view, f"station {n}").label.html for n in range(4)]
    for text, number in zip(html, ("2,400", "100", "10", "1"), strict=True):
        assert f'"wb-count">{number}<' in text
    kept = study.levels[weighting].kept
    assert f"{100 * kept[1]:.0f}\u00a0%" in html[1]
    assert ("≠ c" in html[2]) == (weighting != "slide")
    for text in html[1:]:
        assert ("wAve" in text) == (weighting == "jmlr")


@pytest.mark.parametrize(
    ("weighting", "symbol", "root", "weight"),
    [
        ("slide", "δ", "√p<sub>c′</sub> ", ""),
        ("icml", "δ", "√p<sub>c′</sub> ", ""),
        ("jmlr", "g", "", "p<sub>c′</sub> "),
    ],
)
def test_the_root_of_p_is_in_the_gradient_or_p_is_in_the_sum(
    weighting, symbol, root, weight
):
    view = LinkedView(make_study(), weighting=weighting)
    one = f"{symbol}<sub>i,c,c′</sub>"
    assert one in find(view, "station 0").label.html
    words, maths = find(view, "now").text.split('<span class="wb-maths">')
    assert words.startswith("<b>2,400 gradients</b>")
    assert "<sub>" not in words
    said = maths
    assert said.startswith(f"{one} = {root}(y")
    assert f"Σ<sub>c′</sub> {weight}{one}ᵀ {one}" in said


def test_each_level_says_what_is_averaged_on_the_way_to_it():
    for weighting in CONVENTIONS:
        study = make_study(4, 200, weighting)
        said = build_stepper(make_scene(study, LIGHT, weighting)).doing
        assert len(said) == 4
        assert ("all but c itself" in said[2]) == (weighting != "slide")
        assert ("weighted by p" in said[1]) == (weighting == "jmlr")
