"""The walk and the bands without a browser: what the pictures are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from tests.views import data, find
from workbench.study.null import band
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.overlap import overlap_html
from workbench.ui.views.words import percent

STUDY = make_study()


def given(view: LinkedView, name: str):
    return find(view, "act").args["models"].get(name)


def test_the_browser_has_the_losses_row_by_row():
    walk = STUDY.walk
    walks = given(LinkedView(STUDY), "walk")["walks"]
    assert walks["leading"] == list(range(10))
    assert (walks["bulk"], walks["lowest"]) == (10, 11)
    assert walks["bulkRank"] == walk.rank[10]
    np.testing.assert_array_equal(walks["distance"], walk.distance)
    for row, losses in enumerate(walks["classes"]):
        for c, loss in enumerate(losses):
            np.testing.assert_allclose(loss, walk.class_loss[row, :, c], rtol=1e-6)
        np.testing.assert_allclose(walks["loss"][row], walk.loss[row], rtol=1e-6)
        assert walks["loss"][row].ndim == 1  # BokehJS flattens what has more axes


@pytest.mark.parametrize("with_hess", [True, False])
def test_what_was_not_walked_is_not_drawn(with_hess):
    study = make_study(3, 40, with_hess=with_hess)
    walks = given(LinkedView(study), "walk")["walks"]
    assert (walks["lowest"] >= 0) == with_hess
    text = LinkedView(study).layout.references()
    told = " ".join(str(getattr(model, "text", "")) for model in text)
    assert ("H’s lowest" in told) == with_hess
    some = study.walk
    few = replace(
        some,
        operator=some.operator[:3],
        rank=some.rank[:3],
        eigenvalue=some.eigenvalue[:3],
        class_loss=some.class_loss[:3],
    )
    walks = given(LinkedView(replace(study, walk=few)), "walk")["walks"]
    assert (walks["leading"], walks["bulk"]) == ([0, 1, 2], -1)


def test_a_study_of_before_has_no_walk_and_no_band():
    old = make_study(4, 40, with_null=False, with_walk=False)
    view = LinkedView(old)
    assert given(view, "walk") is None
    bands = data(view, "chance of the bars")
    assert np.isnan(bands["left"]).all()
    texts = [str(getattr(m, "text", "")) for m in view.layout.references()]
    assert not any("shuffled" in text for text in texts)
    html = overlap_html(old)
    assert html.count("<td>–</td>") == 2 * (html.count("<tr>") - 1)
    view.compare(make_study(4, 40))  # pinned, one of today
    assert given(view, "walk") is None


def test_a_pinned_study_brings_its_own_walk():
    view = LinkedView(STUDY)
    assert given(view, "walk")["pinned"] is None
    other = make_study(seed=1)
    view.compare(other)
    pinned = given(view, "walk")["pinned"]
    np.testing.assert_allclose(pinned["loss"][2], other.walk.loss[2], rtol=1e-6)
    view.compare(make_study(with_walk=False))
    assert given(view, "walk")["pinned"] is None


def test_each_bar_has_the_band_of_the_shuffled_labels_behind_it():
    view = LinkedView(STUDY)
    bands, cells = data(view, "chance of the bars"), data(view, "cells")
    mean, spread = band(STUDY.levels["icml"].null.overlap[:, :12])
    table = given(view, "overlap")
    left, width = table["left"], table["width"]
    middle = (bands["left"] + bands["right"]) / 2
    np.testing.assert_allclose((middle - left) / width, mean, rtol=1e-9)
    far = np.maximum(spread, 0.01)
    np.testing.assert_allclose((bands["right"] - bands["left"]) / width, 2 * far)
    assert next(iter(bands["told"])) == f"{percent(mean[0])} ± {percent(spread[0])}"
    bar = cells["c"] == -1
    np.testing.assert_allclose(cells["width"][bar] / width, cells["value"][bar])
    np.testing.assert_allclose(cells["x"][bar] - cells["width"][bar] / 2, left)


def test_the_table_has_the_null_of_overlaps_and_sizes_beside_them():
    html = overlap_html(STUDY, "jmlr")
    levels = STUDY.levels["jmlr"]
    own = STUDY.spectra["G"].eigenvalues
    mean, spread = band(levels.null.overlap)
    assert f"<td>{percent(levels.overlap[0])}</td>" in html
    assert f"<td>{percent(mean[0])} ± {percent(spread[0])}</td>" in html
    size = percent(levels.parts["G_class"][2] / own[2])
    mean, spread = (both[2] / own[2] for both in band(levels.null.class_part))
    assert f"<td>{size}</td><td>{percent(mean)} ± {percent(spread)}</td>" in html
    assert html.count('scope="col">shuffled') == 2


def test_bands_of_an_earlier_epoch_are_its_own():
    view = LinkedView(make_study(num_moments=2))
    texts = given(view, "film")["texts"]
    first, last = texts[0]["bands"], texts[-1]["bands"]
    assert not np.allclose(first["left"], last["left"])
    np.testing.assert_array_equal(
        last["left"], data(view, "chance of the bars")["left"]
    )
