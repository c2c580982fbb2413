"""The linked pair for tests: studies of each shape, and what the view's models hold."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from bokeh.models import ColumnDataSource, CustomJS, Model

from tests.studies import make_study
from workbench.ui.views.linked import LinkedView

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
