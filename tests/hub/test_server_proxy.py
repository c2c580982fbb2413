"""`workbench app` started on a hub, and opened through jupyter-server-proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import free_port, serving
from tests.browser.drive import Workbench
from tests.hub.conftest import SOON, Hub

pytestmark = [pytest.mark.hub, pytest.mark.browser]

KINDS = ("proxy", "proxy/absolute")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an app that knows of no proxy."""
    port = free_port()
    with serving(tmp_path_factory.mktemp("plain"), port=port):
        yield port


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_that_knows_of_no_proxy_says_what_is_missing(
    kind: str, plain: int, hub: Hub, ann: BrowserContext
) -> None:
    page = ann.new_page()
    page.goto(f"{hub.url}user/ann/{kind}/{plain}/")
    said = page.get_by_text(f"--base-url /jh/user/ann/{kind}/{plain}/").first
    expect(said).to_be_visible(timeout=SOON)
    page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_that_knows_its_prefix_works_and_ends_no_session_of_the_hub(
    kind: str, hub: Hub, ann: BrowserContext, tmp_path: Path
) -> None:
    port = free_port()
    path = f"/jh/user/ann/{kind}/{port}/"
    with serving(tmp_path, f", base_url={path!r}, token='secret'", port=port):
        page = ann.new_page()
        page.goto(f"{hub.url}user/ann/{kind}/{port}/?token=secret")
        workbench = Workbench(page).wait()
        workbench.fill("Epochs", "100000")
        expect(workbench.problem).to_contain_text("from 1 to 500")
        expect(page.locator("#page-notice")).to_be_hidden()
        page.goto(f"{hub.url}user/ann/api/me")
        expect(page.get_by_text('"ann"').first).to_be_visible()
        page.close()
