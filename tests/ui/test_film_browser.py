"""The film in a real browser: another epoch stands where the last one stood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from tests.ui.test_views_browser import Pair
from workbench.ui.views.words import percent

pytestmark = pytest.mark.browser
FILM = make_study(num_moments=3)


@pytest.fixture
def pair(chromium, tmp_path):
    pair = Pair(chromium, tmp_path, FILM, reduced_motion="reduce")
    yield pair
    pair.page.close()
    assert pair.issues == []


def test_a_stop_moves_points_and_eigenvalues_and_the_last_brings_all_back(pair):
    before = pair.read("marks 0", "data.x"), pair.read("sticks", "data.x")
    curve = pair.read("density", "data.y")
    pair.press("1")  # the epoch
    pair.until("state", "moment", 1)
    moment = FILM.moments[1]
    dots = moment.embedding.points[moment.embedding.level == 0]
    np.testing.assert_allclose(pair.read("marks 0", "data.x"), dots[:, 0], rtol=1e-6)
    sticks = pair.read("sticks", "data.x")
    np.testing.assert_allclose(sticks, moment.spectra["G"].eigenvalues[: len(sticks)])
    assert pair.read("density", "data.y") != curve
    assert "epoch 1" in pair.read("when", "text")
    assert pair.read("count", "value") == moment.num_outliers
    share = moment.levels["icml"].class_overlap[0, 0]
    assert pair.read("cells", "data.value")[0] == pytest.approx(share)
    pair.press("30")
    pair.until("state", "moment", -1)
    assert (pair.read("marks 0", "data.x"), pair.read("sticks", "data.x")) == before
    assert pair.read("density", "data.y") == curve


def test_play_goes_through_the_epochs_and_a_drag_stays_where_it_ends(
    chromium, tmp_path
):
    pair = Pair(chromium, tmp_path, FILM)
    last = pair.read("sticks", "data.x")
    pair.press("More")
    pair.press("4×")
    pair.press("Play training")
    pair.until("state", "moment", 1)
    assert pair.read("sticks", "data.x") != last
    pair.until("state", "rolling", False)
    pair.until("rail", "value", 3)
    assert pair.read("state", "moment") == -1
    assert pair.read("sticks", "data.x") == last
    pair.page.evaluate(
        "Bokeh.documents[0].get_model_by_name('rail').setv({value: 1.4})"
    )
    pair.until("stops", "active", 1)
    pair.page.wait_for_timeout(300)
    assert pair.read("rail", "value") == 1.4
    between = [FILM.moments[n].spectra["G"].eigenvalues[0] for n in (1, 2)]
    assert min(between) < pair.read("sticks", "data.x")[0] < max(between)
    pair.press("the class part")  # both travel: sticks to what is left, and the film
    pair.press("0")
    pair.until("rail", "value", 0)
    left = FILM.moments[0].levels["icml"].subtracted[: len(last)].tolist()
    pair.page.wait_for_timeout(1000)  # longer than a knock-out takes
    pair.until("sticks", "data.x", pytest.approx(left))
    pair.page.close()
    assert pair.issues == []


def test_tooltips_tell_the_numbers_of_the_epoch_that_is_shown(chromium, tmp_path):
    early = replace(FILM.moments[0], num_outliers=4)
    film = replace(FILM, moments=(early, *FILM.moments[1:]))
    pair = Pair(chromium, tmp_path, film, reduced_motion="reduce")
    automatic = pair.page.get_by_role("button", name="Automatic")
    part = pair.page.get_by_role("button", name="G₁ class")
    for epoch, moment in (("0", early), ("30", film)):
        pair.press(epoch)
        pair.until("state", "moment", -1 if moment is film else 0)
        count = moment.num_outliers
        assert automatic.get_attribute("title") == f"Count as the rule does: {count}"
        trace = moment.levels["icml"].trace
        share = percent(trace["G1"] / trace["G"])
        assert f"{share} of G’s trace" in part.get_attribute("title")
    pair.page.close()
    assert pair.issues == []


def test_stepper_selection_and_knock_out_work_at_an_earlier_epoch(pair):
    pair.press("4")
    pair.press("Step ›")
    pair.press("the class part")
    pair.press("Trouser")
    moment = FILM.moments[2]
    means = moment.embedding.points[moment.embedding.level == 1]
    pair.until("state", "level", 1)
    found = np.unique(np.round(pair.read("marks 0", "data.x"), 4))
    assert set(found) <= set(np.unique(np.round(means[:, 0], 4).astype(float).round(4)))
    sticks = pair.read("sticks", "data.x")
    left = moment.levels["icml"].subtracted[: len(sticks)]
    np.testing.assert_allclose(sticks, left)
    shares = moment.levels["icml"].class_overlap[: len(sticks), 1]
    width = pair.read("sticks", "data.width")
    assert int(np.argmax(width)) == int(shares.argmax())
