"""The same notebook in JupyterLab."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.conftest import ROOT

pytestmark = pytest.mark.browser


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("lab")
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab"
    for name, values in {  # the notebook of the checkout stays as it is
        "docmanager-extension/plugin": {"autosave": False},
    }.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    with serving(folder, ", lab=True") as url:
        yield url


def test_the_notebook_draws_the_example_in_jupyterlab(
    lab: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(lab, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".jp-CodeCell").first.click(timeout=60_000)
    idle = page.get_by_text(re.compile("Python 3.*Idle"))
    expect(idle).to_be_visible(timeout=60_000)
    page.keyboard.press("Shift+Enter")
    workbench = Workbench(page).wait()
    expect(workbench.badge).to_have_text("example")
    workbench.button("Step ›").click()
    workbench.until(lambda: workbench.state("level") == 1)
    workbench.fill("Epochs", "7")
    workbench.fill("Rate", "-1")
    expect(workbench.problem).to_contain_text("Learning rate")
    page.locator(".wb-words").scroll_into_view_if_needed()
    expect(workbench.problem).to_be_in_viewport(ratio=1)
    expect(workbench.field("Rate")).to_have_value("0.05")
    expect(workbench.button("Share")).to_be_hidden()  # a link would restore nothing
    workbench.button("Code").click()
    workbench.button("Copy code").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert "import workbench" in page.evaluate("navigator.clipboard.readText()")
    expect(page.get_by_text("official Jupyter news")).to_have_count(0)


def test_a_study_in_the_last_line_of_a_cell_draws_itself(
    lab: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(lab)
    page.locator(".jp-CodeCell").first.click(timeout=60_000)
    idle = page.get_by_text(re.compile("Python 3.*Idle"))
    expect(idle).to_be_visible(timeout=60_000)
    page.keyboard.press("Escape")
    page.keyboard.press("a")  # a cell above
    page.keyboard.press("Enter")
    file = ROOT / "workbench" / "examples" / "few.study"
    page.keyboard.insert_text(f"import workbench as wb; wb.load_study({str(file)!r})")
    page.keyboard.press("Shift+Enter")
    cell = page.locator(".jp-CodeCell").first
    expect(cell.locator(".bk-Figure").first).to_be_visible(timeout=60_000)
    workbench = Workbench(page)
    workbench.button("Step ›").click()
    workbench.until(lambda: workbench.state("level") == 1)
    expect(cell).not_to_contain_text("Study of")  # the words are for who cannot draw
