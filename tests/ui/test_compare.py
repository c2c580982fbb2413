"""A pinned study: its numbers are drawn along, on the same axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bokeh.core.validation import check_integrity
from bokeh.models import Div, HoverTool, Model
from scipy.spatial.distance import cdist

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.ui.views.linked import LinkedView

STUDY = make_study(4, 200, num_moments=2)
PINNED = make_study(4, 150, seed=5, signal=1.0)


def find(view: LinkedView, name: str) -> Model:
    (found,) = [m for m in view.layout.references() if m.name == name]
    return found


def names(view: LinkedView) -> set[str]:
    return {m.name for m in view.layout.references() if m.name}


def pinned_sticks(view: LinkedView) -> dict:
    """What the browser draws the pinned study's sticks from."""
    return find(view, "act").args["models"]["compare"]["eigenvalues"]["G"]


def compared(pinned=PINNED, **options) -> LinkedView:
    view = LinkedView(STUDY)
    view.compare(pinned, **options)
    return view


def test_the_pinned_numbers_are_drawn_behind():
    view = compared()
    values = PINNED.spectra["G"].eigenvalues
    sticks = pinned_sticks(view)["value"]
    np.testing.assert_array_equal(sticks, values[: len(sticks)])
    assert len(sticks) >= PINNED.num_outliers
    for level in range(3):
        marks = find(view, f"pinned marks {level}").data
        rows = PINNED.embedding.level == level
        points = PINNED.embedding.points[rows]
        drawn = np.stack([marks["x"], marks["y"]], axis=1)
        apart, was = cdist(drawn, drawn), cdist(points, points)
        assert apart / apart.max() == pytest.approx(was / was.max(), abs=1e-4)
        assert marks["c"].tolist() == PINNED.embedding.true_class[rows].tolist()


def test_both_stand_on_the_same_axes():
    view = compared()
    figure = find(view, "spectrum")
    for study in (STUDY, PINNED):
        top = study.spectra["G"].eigenvalues[0]
        assert figure.x_range.start < 0 < top < figure.x_range.end
    assert find(view, "plot").x_range is figure.x_range
    assert find(view, "plane").y_range is find(view, "embedding").y_range
    (anchor,) = [r for r in find(view, "embedding").renderers if r.name == "corners"]
    corners = anchor.data_source.data
    for level in range(3):
        marks = find(view, f"pinned marks {level}").data
        assert corners["x"][0] <= min(marks["x"])
        assert max(marks["x"]) <= corners["x"][1]


def test_each_mark_and_stick_of_the_pinned_study_says_what_it_is():
    view = compared()
    for name, levels in (("embedding", (1, 2)), ("plane", (0, 1, 2))):
        tips = {
            renderer.data_source.name: tool.tooltips
            for tool in find(view, name).toolbar.tools
            if isinstance(tool, HoverTool)
            for renderer in tool.renderers
        }
        for level in levels:
            assert "pinned: " in tips[f"pinned marks {level}"]
    for name in ("spectrum", "plot"):
        (tip,) = [
            tool.tooltips
            for tool in find(view, name).toolbar.tools
            if isinstance(tool, HoverTool)
            and tool.renderers[0].data_source.name == "pinned sticks"
        ]
        assert "pinned: @name: @told" in tip
    assert pinned_sticks(view)["name"][0] == "eigenvalue 1 of G"


def test_pinning_keeps_what_is_selected_and_unpinning_leaves_nothing():
    view = LinkedView(STUDY)
    view.state.update(selected_class=2, level=1, operator="Hess", moment=0)
    view.compare(PINNED, mode="beside")
    state = view.state
    assert (state.selected_class, state.level, state.moment) == (2, 1, 0)
    assert (state.operator, state.compare) == ("Hess", "beside")
    assert check_integrity(list(view.layout.references())).error == []
    assert {"pinned", "pinned sticks", "pinned marks 2", "plane"} <= names(view)
    view.compare(None)
    assert names(view) == names(LinkedView(STUDY))


def test_what_is_pinned_stays_when_another_study_is_shown():
    view = compared()
    view.show(make_study(4, 60, seed=9))
    assert view.pinned is PINNED
    assert "Pinned:" in find(view, "pinned").text


def test_studies_of_other_classes_are_compared_by_their_spectra_only():
    view = compared(make_study(3, 60))
    text = find(view, "pinned").text
    assert "3 classes and this study 4" in text
    marks = {f"pinned marks {level}" for level in range(3)}
    assert names(compared()) - names(view) == marks | {"plane"}
    assert len(pinned_sticks(view)["value"]) > 2
    assert find(view, "plot") is not None


def test_names_of_the_pinned_study_are_text():
    nasty = replace(PINNED, run={**PINNED.run, "data": "<img src=x>"})
    view = compared(nasty)
    assert "&lt;img src=x&gt;" in find(view, "pinned").text
    texts = [m.text for m in view.layout.references() if isinstance(m, Div)]
    assert not [text for text in texts if "<img" in text]


def test_an_unknown_mode_is_refused():
    with pytest.raises(WorkbenchError, match="'above' is not one of ghost, beside"):
        LinkedView(STUDY).compare(PINNED, mode="above")
