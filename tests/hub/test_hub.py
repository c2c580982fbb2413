"""The page on a real JupyterHub, and what a hub does to it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.drive import Workbench
from tests.browser.proxy import proxied
from tests.hub.conftest import PAGE, SOON, Hub

pytestmark = [pytest.mark.hub, pytest.mark.browser]


@pytest.fixture(scope="module")
def page(hub: Hub, ann: BrowserContext) -> Iterator[Page]:
    """What opens by itself in a home in which nothing was before."""
    page = ann.new_page()
    page.goto(f"{hub.url}user/ann/")
    Workbench(page).wait()
    yield page
    page.close()


def test_the_default_page_opens_in_an_empty_home_and_its_kernel_answers(
    hub: Hub, page: Page
) -> None:
    assert page.url == f"{hub.url}user/ann/{PAGE}"
    workbench = Workbench(page)
    workbench.fill("Epochs", "100000")
    expect(workbench.problem).to_contain_text("from 1 to 500")
    expect(page.locator("#page-notice")).to_be_hidden()


def test_the_link_of_share_leads_another_user_to_the_same_picture_of_their_own(
    hub: Hub, page: Page
) -> None:
    workbench = Workbench(page)
    workbench.button("Step ›").click()
    workbench.until(lambda: workbench.state("level") == 1)
    workbench.button("Share").click()
    field = page.get_by_label("Link to this page")
    workbench.button("Copy link").click()
    link = field.input_value()
    assert link.startswith(f"{hub.url}hub/user-redirect/{PAGE}?")
    assert parse_qs(urlsplit(link).query)["level"] == ["1"]
    page_of_bob = hub.log_in("bob").new_page()
    page_of_bob.goto(link)
    page_of_bob.wait_for_url(f"**/user/bob/{PAGE}?**", timeout=60_000)
    assert Workbench(page_of_bob).wait().state("level") == 1
    hub.delete("hub/api/users/bob/server")
    notice = page_of_bob.locator("#page-notice")
    expect(notice).to_contain_text("has been stopped", timeout=SOON)


def test_a_proxy_before_the_hub_that_refuses_websockets_is_said(
    hub: Hub, ann: BrowserContext
) -> None:
    page = ann.new_page()  # cookies know no ports: it is logged in there too
    with proxied(hub.url.removesuffix("jh/"), sockets="refuse") as url:
        page.goto(f"{url}jh/user/ann/{PAGE}")
        notice = page.locator("#page-notice")
        expect(notice).to_contain_text("does not let them through", timeout=SOON)
        page.close()


def test_a_kernel_that_is_culled_is_said(hub: Hub, page: Page) -> None:
    kernel = page.evaluate("window.jupyterapp.widgetManager.kernel.id")
    hub.delete(f"user/ann/api/kernels/{kernel}")
    notice = page.locator("#page-notice")
    expect(notice).to_contain_text("This session has ended", timeout=SOON)
