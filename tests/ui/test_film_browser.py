"""The film in a real browser: another epoch stands where the last one stood."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies import make_study
from tests.ui.test_views_browser import Pair

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
