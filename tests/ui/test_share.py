"""The link to a page: what others can open, on a hub, on Binder and alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route

from tests.fake_work import FakeWork
from workbench.page.session import Session
from workbench.ui import share
from workbench.ui.share import SharePanel, shared_places

HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/jh/user/ann/", "JUPYTERHUB_BASE_URL": "/jh/"}
BINDER = {
    "JUPYTERHUB_SERVICE_PREFIX": "/user/repo-x1/",
    "JUPYTERHUB_BASE_URL": "/",
    "BINDER_LAUNCH_HOST": "https://binder.example/",
    "BINDER_PERSISTENT_REQUEST": "v2/gh/me/repo/abc",
}
PAGE = "voila/render/notebooks/workbench.ipynb"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("environment", "at", "link"),
    [
        ({}, "/", "http://x.example/?v=1&"),
        (
            HUB,
            f"/jh/user/ann/{PAGE}",
            f"http://x.example/jh/hub/user-redirect/{PAGE}?v=1&",
        ),
        (HUB, f"/jh/user/bob/{PAGE}", f"http://x.example/jh/user/bob/{PAGE}?v=1&"),
        (
            BINDER,
            f"/user/repo-x1/{PAGE}",
            "https://binder.example/v2/gh/me/repo/abc?urlpath=voila%2Frender%2F"
            "notebooks%2Fworkbench.ipynb%3Fv%3D1%26",
        ),
    ],
)
def test_the_link_is_one_that_others_can_open(
    environment: dict[str, str],
    at: str,
    link: str,
    chromium: Browser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in {*HUB, *BINDER}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    panel = SharePanel(Session(folder=tmp_path, worker=FakeWork(), interval=0))
    script = (Path(share.__file__).parent / "copy.js").read_text()

    def answer(route: Route) -> None:
        body = f"<!DOCTYPE html>{panel.link.value}<script>{script}</script>"
        route.fulfill(body=body, content_type="text/html")

    context = chromium.new_context()
    context.route("**/*", answer)
    page = context.new_page()
    page.goto(f"http://x.example{at}?token=not-this")
    page.get_by_role("button", name="Copy link").click()
    assert page.get_by_label("Link to this page").input_value().startswith(link)
    context.close()


def test_what_the_environment_says_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", '/"><script>alert(1)</script>')
    panel = SharePanel(Session(folder=tmp_path, worker=FakeWork(), interval=0))
    assert "<script>" not in panel.link.value
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "javascript:x")
    assert shared_places() == {}
