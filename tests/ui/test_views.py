"""The linked pair without a browser: every shape of study, names, state."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from bokeh.core.validation import check_integrity
from bokeh.document import Document
from bokeh.models import CheckboxButtonGroup, Div

from tests.studies import make_study
from tests.views import IN_EACH_SHAPE, NASTY, data, find, told, view_of
from workbench.errors import WorkbenchError
from workbench.ui.views.linked import STATE, LinkedView
from workbench.ui.views.overlap import overlap_html

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
    for name in ("eigenvalues G", "class part"):
        drawn = data(view, name)["value"]
        assert len(drawn) > 0
        assert (drawn >= figure.x_range.start).all()
        assert (drawn <= figure.x_range.end).all()


def test_no_view_needs_torch():
    code = (
        "import sys, workbench.ui.views.linked, workbench.ui.views.explain\n"
        "assert not {'torch', 'umap', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
    with pytest.raises(WorkbenchError, match="'slide'; choose one of icml, jmlr"):
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
    view.show(make_study())
    view.state.operator = "all"
    view.show(make_study(4))
    assert view.state.operator == "all"
    view.show(make_study(with_hess=False))
    assert view.state.operator == "G"


def test_what_a_class_button_shows_is_the_class_itself():
    group = find(LinkedView(make_study()), "classes")
    assert isinstance(group, CheckboxButtonGroup)
    css = group.stylesheets[-1].css
    for c in range(10):
        assert f"nth-child({c + 1})::before{{background:var(--wb-class-{c})" in css


def test_a_layout_stays_small():
    view = LinkedView(make_study(num_gradients=5000))
    document = Document()
    document.add_root(view.layout)
    assert len(json.dumps(document.to_json(), default=str)) < 1_500_000
    assert len(view.layout.references()) < 480
