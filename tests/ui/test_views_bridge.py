"""BokehJS reaches the page once a cell, and only as much of it as is used."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from bokeh.models import Column, ColumnDataSource, Div, Plot, Scatter

from workbench.ui import bridge


@pytest.fixture
def cell(monkeypatch):
    """A notebook whose cells publish into a list."""
    shell = SimpleNamespace(execution_count=1, published=[])
    monkeypatch.setattr(bridge, "_loaded_by", None)
    monkeypatch.setattr(bridge, "get_ipython", lambda: shell)
    monkeypatch.setattr(bridge, "publish_display_data", shell.published.append)
    return shell


def test_two_widgets_of_a_cell_load_bokehjs_once(cell):
    bridge.widget(Div())
    bridge.widget(Div())
    assert len(cell.published) == 1
    cell.execution_count = 2
    bridge.widget(Div())
    assert len(cell.published) == 2


def test_nothing_is_published_outside_a_notebook(monkeypatch, capsys):
    monkeypatch.setattr(bridge, "get_ipython", lambda: None)
    assert bridge.widget(Div(text="a")).render_bundle["docs_json"]
    assert capsys.readouterr().out == ""


def test_bokehjs_comes_inline_and_slim(cell):
    bridge.load_bokehjs()
    (bundle,) = cell.published
    script = bundle["application/javascript"]
    assert 1_500_000 < len(script) < 1_800_000
    assert script.startswith("if (window.Bokeh?.version !== ")


def test_a_change_goes_in_three_messages_however_many_arrays_it_has(monkeypatch):
    monkeypatch.setattr(bridge, "get_ipython", lambda: None)
    layout, sent = Column(), []
    picture = bridge.widget(layout)
    monkeypatch.setattr(picture, "send", lambda *message: sent.append(message))
    plot = Plot()
    for n in range(100):
        columns = {"x": np.arange(3.0), "y": np.full(3, n)}
        plot.add_glyph(ColumnDataSource(columns), Scatter())
    layout.children = [plot]
    header, metadata, content = (json.loads(m["payload"]) for (m,) in sent)
    assert (header["msgtype"], metadata) == ("PATCH-DOC", {})
    (event,) = content["events"]
    assert (event["kind"], event["attr"]) == ("ModelChanged", "children")
    assert json.dumps(event).count('"type": "ndarray"') == 200
