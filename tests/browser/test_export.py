"""The stand-alone page, opened from a file: no kernel, and every request refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.drive import Workbench
from tests.studies import make_study
from workbench.ui.export import export_html

pytestmark = pytest.mark.browser
STUDY = make_study()


class Opened:
    """An exported page in a browser that can reach nothing, and what went wrong."""

    def __init__(self, browser: Browser, url: str, **more: object) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(**more)
        self.context.route("**/*", self._guard)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(url)

    def _guard(self, route: object) -> None:
        url = route.request.url
        if url.startswith("file:"):
            route.continue_()
        else:
            self.wrong.append(url)
            route.abort()

    def _hear(self, said: object) -> None:
        if said.type in ("error", "warning"):
            self.wrong.append(said.text)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("export")
    return export_html(STUDY, folder / "page.html").as_uri()


@pytest.fixture
def exported(chromium: Browser, url: str) -> Iterator[Workbench]:
    opened = Opened(chromium, url, viewport={"width": 1440, "height": 1000})
    yield Workbench(opened.page).wait()
    opened.context.close()
    assert opened.wrong == []


def test_play_moves_the_points_and_back_returns_them(exported: Workbench) -> None:
    home, target = (exported.read("marks 0", f"data.{n}_x") for n in ("home", "target"))
    exported.button("Play").click()
    exported.until(lambda: exported.state("level") == 1)
    exported.button("Pause").click()
    moved = exported.read("marks 0", "data.x")
    assert moved != home
    assert moved != target
    exported.button("‹ Back").click()
    exported.until(
        lambda: exported.read("marks 0", "data.x") == pytest.approx(home, abs=1e-6)
    )


def test_a_click_selects_and_the_knock_out_moves_the_sticks(
    exported: Workbench,
) -> None:
    x, y = (exported.read("marks 2", f"data.{axis}")[4] for axis in "xy")
    exported.click_at("embedding", x, y)
    exported.until(lambda: exported.state("selected_class") == 4)
    expect(exported.page.get_by_text("The class mean of Coat points")).to_be_visible()
    exported.button("the class part").click()
    left = STUDY.levels["icml"].subtracted
    exported.until(
        lambda: exported.read("sticks", "data.x") == pytest.approx(left[:10].tolist())
    )


@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_says_what_it_is_and_nothing_hangs_out(
    chromium: Browser, url: str, width: int
) -> None:
    opened = Opened(chromium, url, viewport={"width": width, "height": 900})
    page = Workbench(opened.page).wait().page
    expect(page.get_by_role("heading", name="What am I seeing?")).to_be_visible()
    expect(page.locator(".wb-head .wb-about")).to_contain_text("synthetic · linear")
    expect(page.locator("footer")).to_contain_text("workbench 0.1.0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    opened.context.close()
    assert opened.wrong == []
