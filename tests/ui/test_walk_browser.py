"""The walk in a real browser, without a kernel: in an exported page, and in compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.studies import make_study
from tests.ui.test_views_browser import Pair
from workbench.ui.views.linked import LinkedView

pytestmark = pytest.mark.browser
NAMES = ("$$x$$<b>a</b>", "b", "c", "d")


@pytest.fixture
def pair(chromium: Browser, tmp_path: Path) -> Iterator[Any]:
    view = LinkedView(make_study(4, 60, class_names=NAMES, num_moments=1))
    view.compare(make_study(4, 60, seed=1))
    pair = Pair(chromium, tmp_path, view)
    yield pair
    assert pair.issues == []
    pair.page.close()


def sentence(pair: Any) -> str:
    return pair.page.evaluate(
        "() => { const models = Bokeh.documents[0]._all_models.values();"
        "return [...models].find((m) => m.css_classes?.includes('wb-caption') &&"
        " /Pick an|Along|measured at/.test(m.text)).text }"
    )


def select(pair: Any, j: int) -> None:
    pair.page.evaluate(
        "(j) => { const state = Bokeh.documents[0].get_model_by_name('state');"
        "state.selected_outlier = j }",
        j,
    )


def seen(pair: Any) -> bool:
    return bool(
        pair.page.evaluate(
            "() => [...Bokeh.documents[0]._all_models.values()]"
            ".find((m) => m.css_classes?.includes('wb-walk')).visible"
        )
    )


def test_picking_an_outlier_draws_the_loss_of_all_and_of_each_class(pair: Any) -> None:
    study, other = make_study(4, 60, class_names=NAMES), make_study(4, 60, seed=1)
    assert study.walk is not None
    assert other.walk is not None
    assert not seen(pair)
    assert "Pick an eigenvector" in sentence(pair)
    select(pair, 1)
    assert seen(pair)
    assert "<b>Along outlier 2</b> " in sentence(pair)
    assert "<b>a</b>" not in sentence(pair)  # what a user typed
    names = pair.read("walk lines", "data.name")
    assert [names[0][:10], names[1]] == ["all, along", "all, along H’s lowest"]
    assert names[3:] == ["b", "c", "d", "all examples", "pinned: all examples"]
    lines = [
        [*map(float, line.values())] if isinstance(line, dict) else line
        for line in pair.page.evaluate(
            "() => Bokeh.documents[0].get_model_by_name('walk lines')"
            ".data.ys.map((y) => [...y])"
        )
    ]
    for c in range(4):
        wanted = study.walk.class_loss[1, :, c]
        np.testing.assert_allclose(lines[2 + c], wanted, rtol=1e-5)
    np.testing.assert_allclose(lines[6], study.walk.loss[1], rtol=1e-5)
    np.testing.assert_allclose(lines[7], other.walk.loss[1], rtol=1e-5)
    pair.page.keyboard.press("Escape")
    assert not seen(pair)


def test_at_an_earlier_epoch_no_walk_is_shown_and_the_bands_are_its_own(
    pair: Any,
) -> None:
    select(pair, 0)
    assert seen(pair)
    before = pair.read("chance of the bars", "data.left")
    pair.page.evaluate(
        "() => { Bokeh.documents[0].get_model_by_name('state').moment = 0 }"
    )
    pair.page.wait_for_function(
        "() => Bokeh.documents[0].get_model_by_name('stops').active === 0"
    )
    assert not seen(pair)
    assert "measured at the last epoch" in sentence(pair)
    assert pair.read("chance of the bars", "data.left") != before
