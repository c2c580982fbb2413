"""A pinned study in a real browser: a ghost behind, or a pair beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.studies import make_study
from tests.ui.test_compare import PINNED, STUDY, compared
from tests.ui.test_views_browser import Pair
from workbench.ui.takeaway import FILES
from workbench.ui.views.linked import LinkedView

pytestmark = pytest.mark.browser


def test_the_ghost_follows_the_axis_and_the_selection_and_moves_beside(
    chromium, tmp_path: Path
):
    pair = Pair(chromium, tmp_path, compared(), reduced_motion="reduce")
    values = PINNED.spectra["G"].eigenvalues
    sticks = pair.read("pinned sticks", "data.x")
    np.testing.assert_allclose(sticks, values[: len(sticks)])
    assert len(pair.read("pinned density", "data.x")) == 401
    pair.press("log")
    pair.until("state", "scale", "log")
    moved = np.array(pair.read("pinned sticks", "data.x"))
    spread = np.diff(np.log10(values[: len(moved)]))
    np.testing.assert_allclose(np.diff(moved), spread, atol=1e-9)
    part = np.array(pair.read("pinned class part", "data.x"))
    ratio = PINNED.levels["icml"].parts["G1"][: len(part)] / values[: len(part)]
    np.testing.assert_allclose(part - moved[: len(part)], np.log10(ratio), atol=1e-9)
    pair.press("2")
    pair.until("state", "selected_class", 2)
    marks = pair.read("pinned marks 2", "data.alpha")
    assert [round(alpha, 2) for alpha in marks] == [0.07, 0.07, 1, 0.07]
    pair.press("beside")
    pair.until("plane", "visible", True)
    pair.page.wait_for_function(
        "() => Bokeh.documents[0].get_model_by_name('plane').inner_width > 50"
    )
    pair.page.close()
    assert pair.issues == []


UNTITLED = """() => {
  const inside = (root) => [...root.querySelectorAll("*")].flatMap(
    (one) => [one, ...(one.shadowRoot ? inside(one.shadowRoot) : [])])
  const titled = (one) => one && (one.title || titled(one.parentElement ?? one.getRootNode().host))
  return inside(document).filter((one) => one.matches("button, [role=slider]"))
    .filter((one) => one.checkVisibility() && !titled(one))
    .map((one) => one.innerText || one.outerHTML)
}"""  # noqa: E501


def test_every_button_and_slider_says_what_it_does_and_the_switch_which_is_on(
    chromium, tmp_path: Path
):
    view = LinkedView(STUDY, files=FILES)  # with a film
    view.compare(PINNED)
    pair = Pair(chromium, tmp_path, view, reduced_motion="reduce")
    pair.press("More")
    pair.page.get_by_role("button", name="The study").wait_for()
    assert pair.page.get_by_role("slider").count() >= 3
    assert pair.page.evaluate(UNTITLED) == []
    where = pair.page.get_by_role("group", name="Where the pinned study is drawn")
    pair.press("beside")
    pair.until("plane", "visible", True)
    pressed = where.get_by_role("button", pressed=True)
    assert pressed.all_inner_texts() == ["beside"]
    assert "of its own" in pressed.get_attribute("title")
    pair.page.close()
    assert pair.issues == []


def test_a_page_of_a_study_with_another_one_beside_opens_like_that(
    chromium, tmp_path: Path
):
    view = compared(make_study(3, 60), mode="beside")
    pair = Pair(chromium, tmp_path, view)
    pair.page.wait_for_function(
        "() => Bokeh.documents[0].get_model_by_name('plot').inner_width > 50"
    )
    assert pair.page.get_by_text("only the spectra are compared").is_visible()
    pair.page.close()
    assert pair.issues == []
