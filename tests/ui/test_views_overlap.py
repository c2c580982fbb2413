"""The overlap table without a browser: picture and HTML hold the same numbers."""

from __future__ import annotations

import numpy as np
from bokeh.models import Span

from tests.studies import make_study
from tests.views import data, find, view_of
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.overlap import overlap_html


def test_each_cell_holds_its_share_and_the_last_column_that_in_the_span():
    study = make_study()
    levels = study.levels["icml"]
    cells = data(LinkedView(study), "cells")
    total = cells["c"] == -1
    assert total.sum() == 12
    np.testing.assert_allclose(cells["value"][total], levels.overlap[:12])
    np.testing.assert_allclose(
        cells["value"][~total],
        levels.class_overlap[cells["j"][~total], cells["c"][~total]],
    )
    np.testing.assert_array_equal(
        cells["text"], [f"{100 * v:.0f}" for v in cells["value"]]
    )


def test_the_table_goes_on_below_the_outliers_and_marks_where_they_end():
    view = LinkedView(make_study(num_outliers=4))
    assert set(data(view, "cells")["j"]) == set(range(12))
    (edge,) = [m for m in find(view, "overlap").center if isinstance(m, Span)]
    assert edge.location == 3.5
    assert edge.visible


def test_a_hundred_classes_are_shaded_and_not_written():
    view = view_of("100 classes")
    assert set(data(view, "cells")["text"]) == {""}
    models = find(view, "act").args["models"]
    share = make_study(num_classes=100).levels["icml"].class_overlap
    assert models["overlap"]["most"] == share[: models["overlap"]["num_rows"]].max()


def test_the_plain_table_holds_the_same_numbers_as_the_picture():
    study = make_study(3)
    html = overlap_html(study)
    share = study.levels["icml"].class_overlap[:5]
    assert html.count("<tr>") == 1 + len(share)
    for value in share.ravel():
        assert f"{100 * value:.0f}" in html or f"{100 * value:.1f}" in html
    assert '<th scope="col">1</th>' in html
