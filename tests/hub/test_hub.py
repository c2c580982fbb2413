"""The page on a real JupyterHub, and what other tools of a hub do to it."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.drive import Workbench
from tests.hub.conftest import PAGE, Hub

pytestmark = [pytest.mark.hub, pytest.mark.browser]

SOON = 10_000  # milliseconds


def test_the_default_page_opens_in_an_empty_home_and_its_kernel_answers(
    hub: Hub, ann: BrowserContext
) -> None:
    page = ann.new_page()
    page.goto(f"{hub.url}user/ann/")
    workbench = Workbench(page).wait()
    assert page.url == f"{hub.url}user/ann/{PAGE}"
    workbench.fill("Epochs", "100000")
    expect(workbench.problem).to_contain_text("from 1 to 500")
    expect(page.locator("#page-notice")).to_be_hidden()
    page.close()
