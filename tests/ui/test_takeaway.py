"""What the page hands out of its kernel."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import pytest

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.study.records import load_study
from workbench.study.tables import csv_tables
from workbench.ui.takeaway import FILES, answer
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.words import stem


def taken(view: LinkedView, wanted: str) -> tuple[str, bytes]:
    view.state.wanted = wanted
    answer(view)
    assert view.state.wanted == ""
    return view.state.download["name"], base64.b64decode(view.state.download["data"])


def test_each_file_is_the_one_that_was_wanted(tmp_path: Path) -> None:
    study = make_study(3, 40)
    view = LinkedView(study, weighting="jmlr", files=FILES)
    name, page = taken(view, "This page (HTML)")
    assert name == "synthetic-linear.html"
    assert "in the median (<i>jmlr</i>" in page.decode()
    name, archive = taken(view, "Tables (CSV)")
    with zipfile.ZipFile(io.BytesIO(archive)) as tables:
        text = tables.read("synthetic-linear-overlaps.csv").decode()
    assert text == csv_tables(study)["overlaps"]
    name, data = taken(view, "The study")
    (tmp_path / name).write_bytes(data)
    assert load_study(tmp_path / name).run == study.run


def test_the_page_that_is_taken_away_holds_what_is_pinned() -> None:
    view = LinkedView(make_study(3, 40), files=FILES)
    assert b"Pinned:" not in taken(view, "This page (HTML)")[1]
    view.compare(make_study(3, 30, seed=1), mode="beside")
    page = taken(view, "This page (HTML)")[1]
    assert b"Pinned:" in page
    assert b'"compare":"beside"' in page


def test_nothing_is_made_that_was_not_wanted_and_nothing_twice() -> None:
    view = LinkedView(make_study(3, 40), files=FILES)
    answer(view)
    assert view.state.download == {}
    view.state.wanted = "/etc/passwd"
    with pytest.raises(WorkbenchError, match="is not one of This page"):
        answer(view)
    assert view.state.download == {"name": "/etc/passwd"}  # and no data: it failed
    answer(view)


def test_a_file_is_named_in_plain_letters() -> None:
    study = make_study(2, 30, class_names=("a", "b"))
    study.run["data"] = "folder:../../<b>Ä</b>"
    assert stem(study) == "folder-b-b-linear"
    study.run.clear()
    assert stem(study) == "study"
