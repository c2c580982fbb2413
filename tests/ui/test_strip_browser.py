"""The strip of layers in a real browser, without a kernel."""

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


@pytest.fixture
def pair(chromium: Browser, tmp_path: Path) -> Iterator[Any]:
    pair = Pair(chromium, tmp_path, LinkedView(make_study(4, 60, num_moments=1)))
    yield pair
    assert pair.issues == []
    pair.page.close()


def of_class(pair: Any, name: str, what: str) -> Any:
    return pair.page.evaluate(
        "([name, what]) => { const models = Bokeh.documents[0]._all_models.values();"
        "return [...models].find((m) => m.css_classes?.includes(name)"
        " && (what !== 'text' || /arries|lies in|layers were/.test(m.text)))[what] }",
        [name, what],
    )


def test_a_column_picks_its_outlier_in_all_pictures(pair: Any) -> None:
    study = make_study(4, 60)
    assert study.layers is not None
    plain = pair.read("strip cells", "data.alpha")
    np.testing.assert_allclose(plain, 0.92 * study.layers.share.ravel(), rtol=1e-6)
    assert of_class(pair, "wb-strip", "visible")
    picked = pair.page.evaluate(
        "() => { const pairs = globalThis.workbenchPairs;"
        "const state = Bokeh.documents[0].get_model_by_name('state');"
        "pairs.get(state).actions.strip({x: 1.2, y: 0}, NaN);"
        "return state.selected_outlier }"
    )
    assert picked == 1
    said = of_class(pair, "wb-caption", "text")
    assert said.startswith("<b>Of outlier 2</b>, ")
    first = int(study.layers.share[:, 1].argmax())
    assert f"lies in <b>{study.layers.labels[first]}</b>" in said
    faded = np.reshape(pair.read("strip cells", "data.alpha"), (3, 4))
    there = np.reshape(plain, (3, 4))
    np.testing.assert_allclose(faded[:, 1], there[:, 1], rtol=1e-6)
    np.testing.assert_allclose(faded[:, 0], 0.35 * there[:, 0], rtol=1e-6)
    pair.page.keyboard.press("Escape")
    np.testing.assert_allclose(pair.read("strip cells", "data.alpha"), plain)


def test_at_an_earlier_epoch_no_strip_is_shown(pair: Any) -> None:
    pair.page.evaluate(
        "() => { Bokeh.documents[0].get_model_by_name('state').moment = 0 }"
    )
    pair.page.wait_for_function(
        "() => Bokeh.documents[0].get_model_by_name('stops').active === 0"
    )
    assert not of_class(pair, "wb-strip", "visible")
    assert "layers were measured at the last" in of_class(pair, "wb-caption", "text")
