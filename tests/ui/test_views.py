"""The linked pair without a browser: what its models hold is what the study says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from bokeh.core.validation import check_integrity
from bokeh.document import Document
from bokeh.models import CheckboxButtonGroup, ColumnDataSource, CustomJS, Div, Model

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.study import CLASS_PART, WEIGHTINGS
from workbench.ui.theme import LIGHT, class_style
from workbench.ui.views.linked import STATE, LinkedView
from workbench.ui.views.overlap import overlap_html
from workbench.ui.views.spectrum import build_spectrum, describe_spectrum

NASTY = ("$$x^2$$<img src=x onerror=alert(1)>", "<script>alert(2)</script>", 'a&b "c"')

SHAPES = {
    "10 classes": {},
    "2 classes": {"num_classes": 2},
    "100 classes": {"num_classes": 100},
    "one convention": {"weighting": "jmlr", "weightings": ("jmlr",)},
    "slide": {"weighting": "slide", "weightings": ("slide",)},
    "no Hess and no H": {"with_hess": False},
    "density": {"exact": False},
    "no single gradients": {"with_dots": False},
    "no outliers": {"num_outliers": 0},
    "more outliers than classes": {"num_outliers": 15},
    "one outlier": {"num_outliers": 1},
    "nasty names": {"num_classes": 3, "class_names": NASTY},
}
IN_EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES)


@cache
def view_of(shape: str) -> LinkedView:
    """The view of one shape of study, for tests that only read it."""
    return LinkedView(make_study(**SHAPES[shape]))


def find(view: LinkedView, name: str) -> Model:
    (found,) = [m for m in view.layout.references() if m.name == name]
    return found


def data(view: LinkedView, name: str) -> dict:
    source = find(view, name)
    assert isinstance(source, ColumnDataSource)
    return {column: np.asarray(values) for column, values in source.data.items()}


def told(view: LinkedView) -> dict:
    act = find(view, "act")
    assert isinstance(act, CustomJS)
    return act.args["told"]


# ---- every shape of study -------------------------------------------------------


@IN_EACH_SHAPE
def test_every_shape_of_study_gives_a_layout_that_bokeh_accepts(shape):
    view = view_of(shape)
    issues = check_integrity(list(view.layout.references()))
    assert (issues.error, issues.warning) == ([], [])


@IN_EACH_SHAPE
def test_every_shape_of_study_survives_the_way_to_the_browser(shape):
    document = Document()
    document.add_root(view_of(shape).layout)
    again = Document.from_json(document.to_json())
    assert len(again.models) == len(document.models)


@IN_EACH_SHAPE
def test_all_that_is_drawn_lies_within_its_frame(shape):
    view = view_of(shape)
    figure = find(view, "spectrum")
    for name in ("sticks", "class part"):
        drawn = data(view, name)
        assert (drawn["x"] >= figure.x_range.start).all()
        assert (drawn["x"] <= figure.x_range.end).all()
        assert (drawn["top"] <= figure.y_range.end).all()


def test_no_view_needs_torch():
    code = (
        "import sys, workbench.ui.views.linked, workbench.ui.views.explain\n"
        "assert not {'torch', 'umap', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- embedding and stepper ------------------------------------------------------


@pytest.mark.parametrize("weighting", WEIGHTINGS)
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


@pytest.mark.parametrize("weighting", WEIGHTINGS)
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


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_points_laid_out_for_another_convention_are_said_to_be(weighting):
    view = LinkedView(make_study(weighting="icml"), weighting=weighting)
    texts = [m.text for m in view.layout.references() if isinstance(m, Div)]
    said = "The points are laid out for icml; Measure again places them anew."
    assert any(said in text for text in texts) == (weighting != "icml")


@pytest.mark.parametrize("weighting", WEIGHTINGS)
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
    said = find(view, "now").text
    assert said.startswith(f"{one} = {root}(y")
    assert f"Σ<sub>c′</sub> {weight}{one}ᵀ {one}" in said


# ---- spectrum -------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_the_sticks_are_the_leading_eigenvalues_with_their_residuals(exact):
    study = make_study(exact=exact)
    sticks = data(LinkedView(study), "sticks")
    G = study.spectra["G"]
    many = len(sticks["x"])
    assert many == 10
    np.testing.assert_array_equal(sticks["x"], G.eigenvalues[:many])
    np.testing.assert_allclose(
        sticks["high"] - sticks["low"], 2 * G.residuals[:many], atol=1e-15
    )
    assert list(sticks["name"][[0, 8, 9]]) == [
        "outlier 1 of G",
        "outlier 9 of G",
        "eigenvalue 10 of G",
    ]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_orange_sticks_are_the_class_parts_eigenvalues(weighting):
    study = make_study(4, weighting=weighting)
    part = study.levels[weighting].parts[CLASS_PART[weighting]]
    drawn = data(LinkedView(study), "class part")["x"]
    np.testing.assert_array_equal(drawn, part[: len(drawn)])
    assert 3 <= len(drawn) <= 4
    assert (np.abs(part[len(drawn) :]) < 1e-9 * part[0]).all()


def test_the_knock_outs_are_those_that_were_measured():
    study = make_study()
    stored = data(LinkedView(study), "eigenvalues G")
    for name in ("subtracted", "projected"):
        np.testing.assert_array_equal(
            stored[name], getattr(study.levels["icml"], name)[: len(stored[name])]
        )


def test_both_ends_of_hess_and_h_stand_as_sticks():
    study = make_study()
    for name in ("Hess", "H"):
        stored = data(LinkedView(study), f"eigenvalues {name}")
        values = study.spectra[name].eigenvalues
        assert stored["value"].max() == values.max()
        assert stored["value"].min() == values.min() < 0
        assert not stored["outlier"].any()


def test_the_curve_is_the_logarithm_of_a_density_of_total_one():
    curve = data(LinkedView(make_study()), "density")
    inner = np.isfinite(curve["x"])
    total = np.trapezoid(10 ** curve["y"][inner], curve["x"][inner])
    assert total == pytest.approx(1, abs=0.02)
    exact = curve["high"][inner] - curve["low"][inner]
    np.testing.assert_allclose(exact, 0)


def test_an_estimated_density_has_a_band_and_says_so():
    study = make_study(exact=False)
    curve = data(LinkedView(study), "density")
    inner = np.isfinite(curve["x"])
    assert (curve["high"][inner] > curve["low"][inner]).any()
    assert "stochastic Lanczos quadrature, 4 probes" in describe_spectrum(study, "G")
    assert "Exact: all 120 eigenvalues" in describe_spectrum(make_study(), "G")


def test_the_log_axis_puts_the_negative_side_apart_and_in_order():
    study = make_study()
    view = build_spectrum(study, study.levels["icml"], LIGHT)
    x = np.asarray(view.curves["H/log"].data["x"])
    left, right = x[x < 0], x[x > 0]
    assert len(left)
    assert len(right)
    assert (np.diff(left) > 0).all()
    low, high = view.frames["H/log"]["x"]
    assert low < left.min() < 0 < right.max() < high
    assert "negative" in view.frames["H/log"]["x_label"]
    assert "negative" not in view.frames["G/log"]["x_label"]


def test_the_log_axis_keeps_the_powers_of_ten():
    study = make_study()
    view = build_spectrum(study, study.levels["icml"], LIGHT)
    grid = np.asarray(view.curves["G/log"].data["x"], dtype=float) + view.floor
    values = study.spectra["G"].eigenvalues
    smallest = values[values > 1e-12 * values[0]].min()
    span = np.log10(values[0]) - np.log10(smallest)
    assert np.nanmax(grid) == pytest.approx(np.log10(values[0]) + 0.04 * span, abs=1e-4)
    assert all(float(t).is_integer() for t in view.axes["log"]["ticker"].ticks)


def test_the_rule_that_counted_the_outliers_is_told():
    study = make_study(num_outliers=9)
    assert (
        "9 outliers of G by this rule: the widest gap"
        in find(LinkedView(study), "note").text
    )


# ---- overlap table --------------------------------------------------------------


def test_each_cell_holds_its_share_and_the_last_column_that_in_the_span():
    study = make_study()
    levels = study.levels["icml"]
    cells = data(LinkedView(study), "cells")
    total = cells["c"] == -1
    assert total.sum() == 10
    np.testing.assert_allclose(cells["value"][total], levels.overlap[:10])
    np.testing.assert_allclose(
        cells["value"][~total],
        levels.class_overlap[cells["j"][~total], cells["c"][~total]],
    )
    np.testing.assert_array_equal(
        cells["text"], [f"{100 * v:.0f}" for v in cells["value"]]
    )


def test_the_table_goes_on_below_the_outliers_and_marks_where_they_end():
    view = LinkedView(make_study(num_outliers=4))
    assert told(view)["ranks"][3:6] == ["outlier 4", "eigenvector 5", "eigenvector 6"]
    (edge,) = [
        m for m in find(view, "overlap").center if m.__class__.__name__ == "Span"
    ]
    assert edge.location == 3.5


def test_a_hundred_classes_are_shaded_and_not_written():
    cells = data(view_of("100 classes"), "cells")
    assert set(cells["text"]) == {""}
    assert cells["alpha"].max() > 0.1


def test_the_plain_table_holds_the_same_numbers_as_the_picture():
    study = make_study(3)
    html = overlap_html(study)
    share = study.levels["icml"].class_overlap[:3]
    assert html.count("<tr>") == 1 + len(share)
    for value in share.ravel():
        assert f"{100 * value:.0f}" in html or f"{100 * value:.1f}" in html
    assert '<th scope="col">1</th>' in html


# ---- names that a user typed ----------------------------------------------------


def test_no_name_reaches_html_unescaped():
    study = make_study(3, class_names=NASTY)
    view = LinkedView(study)
    assert "<script" not in overlap_html(study)
    assert "<img" not in overlap_html(study)
    for model in view.layout.references():
        if isinstance(model, Div):
            assert "<script" not in model.text
            assert "<img" not in model.text


def test_no_name_is_read_as_tex():
    view = LinkedView(make_study(3, class_names=NASTY))
    labels = find(view, "classes").labels
    drawn = data(view, "marks 2")["label"]
    axis = find(view, "overlap").xaxis[0].major_label_overrides.values()
    for text in (*labels, *drawn, *axis, *told(view)["classNames"]):
        assert "$$" not in text
    assert all(m.disable_math for m in view.layout.references() if isinstance(m, Div))


# ---- state, and what Python sees and sets ---------------------------------------


def test_only_the_state_talks_to_the_kernel():
    view = LinkedView(make_study())
    assert [m for m in view.layout.references() if m.syncable] == [view.state]


def test_each_control_and_each_part_of_the_state_acts_in_the_browser():
    view = LinkedView(make_study())
    act = find(view, "act")
    for name in STATE:
        assert view.state.js_property_callbacks[f"change:{name}"] == [act]
    for name in ("step", "back", "play", "clear", *(f"station {n}" for n in range(4))):
        assert find(view, name).js_event_callbacks["button_click"] == [act]
    for name in ("embedding", "spectrum", "overlap"):
        assert act in find(view, name).js_event_callbacks["tap"]


def test_python_is_told_what_was_picked_and_may_pick():
    view = LinkedView(make_study())
    seen = []
    view.observe(lambda state: seen.append(state.selected_class))
    view.state.selected_class = 3
    view.show(make_study(4))
    view.state.selected_class = 2
    assert seen == [3, 2]


def changes(view: LinkedView) -> list:
    document = Document()
    document.add_root(view.layout)
    seen: list = []
    document.on_change(seen.append)
    return seen


def test_another_study_comes_by_one_single_change():
    view = LinkedView(make_study())
    seen = changes(view)
    view.show(make_study(4))
    assert [(event.model, event.attr) for event in seen] == [(view.layout, "children")]
    assert len(find(view, "classes").labels) == 4


def test_what_is_shown_already_is_not_drawn_again():
    study = make_study()
    view = LinkedView(study)
    seen = changes(view)
    view.show(study)
    view.show(study, weighting="icml")
    assert seen == []


def test_another_weighting_draws_the_same_study_anew():
    study = make_study()
    view = LinkedView(study)
    before = find(view, "station 2").label.html
    view.show(study, weighting="slide")
    assert view.weighting == "slide"
    assert find(view, "station 2").label.html != before
    np.testing.assert_array_equal(
        data(view, "cells")["value"][:10], study.levels["slide"].class_overlap[0]
    )


def test_a_weighting_that_was_not_measured_is_answered_with_those_that_were():
    with pytest.raises(WorkbenchError, match="'slide'; it holds icml, jmlr"):
        LinkedView(make_study(weightings=("icml", "jmlr")), weighting="slide")


def test_the_switches_stay_and_the_selection_goes_with_another_study():
    view = LinkedView(make_study())
    view.state.update(operator="Hess", scale="log", speed=2.0, selected_class=7)
    view.show(make_study(4))
    state = view.state
    assert (state.operator, state.scale, state.speed) == ("Hess", "log", 2.0)
    assert state.selected_class == -1


def test_an_operator_that_the_new_study_lacks_gives_way_to_g():
    view = LinkedView(make_study())
    view.state.operator = "Hess"
    view.show(make_study(with_hess=False))
    assert view.state.operator == "G"


def test_what_a_class_button_shows_is_the_class_itself():
    group = find(LinkedView(make_study()), "classes")
    assert isinstance(group, CheckboxButtonGroup)
    css = group.stylesheets[-1].css
    for c in range(10):
        assert f"nth-child({c + 1})::before{{background:{LIGHT.classes[c]}" in css


def test_a_layout_stays_small():
    view = LinkedView(make_study(num_gradients=5000))
    document = Document()
    document.add_root(view.layout)
    assert len(json.dumps(document.to_json(), default=str)) < 1_500_000
    assert len(view.layout.references()) < 320
