"""The files that the page makes in its kernel, taken away by a real browser."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.drive import Workbench
from tests.conftest import ROOT
from workbench.study.records import load_study
from workbench.ui.views.words import stem

pytestmark = pytest.mark.browser
EXAMPLE = ROOT / "workbench" / "examples" / "paper.study"  # the one that opens


def test_the_study_the_tables_and_the_page_are_downloaded(
    workbench: Workbench, tmp_path: Path
) -> None:
    def take(words: str) -> tuple[str, bytes]:
        with workbench.page.expect_download() as saved:
            workbench.button(words).click()
        path = saved.value.path()
        return saved.value.suggested_filename, path.read_bytes()

    workbench.button("More").click()
    name, data = take("The study")
    (tmp_path / name).write_bytes(data)
    example, study = load_study(EXAMPLE), load_study(tmp_path / name)
    begin = stem(example)
    assert name == f"{begin}.study"
    assert study.created == example.created
    assert (study.embedding.points == example.embedding.points).all()
    name, page = take("This page (HTML)")
    assert name == f"{begin}.html"
    assert page.startswith(b"<!DOCTYPE html>")
    with workbench.page.expect_download() as saved:
        workbench.button("Tables (CSV)").click()
    assert f"{begin}-overlaps.csv" in zipfile.ZipFile(saved.value.path()).namelist()
    assert workbench.state("wanted") == ""


def test_a_file_that_cannot_be_made_is_said_and_leaves_nothing_changed(
    workbench: Workbench,
) -> None:
    page = workbench.page
    workbench.button("More").click()
    page.evaluate(
        "() => [...Bokeh.documents.at(-1)._all_models.values()]"
        ".find((m) => m.name === 'state').setv({wanted: 'nothing'})"
    )
    expect(page.get_by_text("nothing could not be made.")).to_be_visible()
    expect(workbench.problem).to_contain_text("'nothing' is not one of")
    before = workbench.read("embedding", "background_fill_color")
    page.evaluate("Bokeh.index.find_one = () => null")
    workbench.button("Gradients PNG").click()
    expect(page.get_by_text("This picture could not be made")).to_be_visible()
    assert workbench.read("embedding", "background_fill_color") == before


def test_the_same_file_can_be_taken_twice(workbench: Workbench) -> None:
    workbench.button("More").click()
    for _ in range(2):
        with workbench.page.expect_download() as saved:
            workbench.button("The study").click()
        assert load_study(saved.value.path()).created == load_study(EXAMPLE).created
