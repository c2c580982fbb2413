"""Take pictures of the real page: ``make pictures`` runs this.

Those that the README shows go to ``docs/``. ``--all FOLDER`` takes every scene, at each
width, light and dark, to be looked at.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.chromium import find_chromium
from tests.conftest import QUIET

DOCS = Path(__file__).parents[2] / "docs"
README = {"page.png": "light", "page-dark.png": "dark"}  # the opening
WIDTHS = (1440, 1024, 390)
# The page scrolls inside its host: as high as all of it.
_HEIGHT = """() => Math.ceil(document.querySelector(".workbench").scrollHeight) + 60"""


def opening(workbench: Workbench) -> None:
    """The page as it opens."""


def step(workbench: Workbench) -> None:
    """On the way from every gradient to the means of the pairs."""
    workbench.button("Play").click()
    workbench.until(lambda: workbench.read("position", "value") > 0.3)
    workbench.page.locator("button.bk-btn", has_text="Pause").click()


def selected(workbench: Workbench) -> None:
    """A class is picked."""
    workbench.page.locator(".wb-classes button").nth(3).click()


def knock_out(workbench: Workbench) -> None:
    """The class part is taken away."""
    workbench.page.keyboard.press("Escape")
    workbench.button("the class part").click()


def compare(workbench: Workbench) -> None:
    """Another network is seen against the one that was pinned."""
    workbench.page.keyboard.press("Escape")
    workbench.button("nothing").click()
    workbench.button("Pin this study").click()
    before = workbench.read("marks 0", "data.x")
    workbench.page.get_by_label("Show", exact=True).select_option(index=1)
    workbench.until(lambda: workbench.read("marks 0", "data.x") != before, 60)
    workbench.wait()
    workbench.button("beside").click()


def error(workbench: Workbench) -> None:
    """A number out of bounds fills the red box."""
    workbench.fill("Epochs", "1000000")
    expect(workbench.problem).to_be_visible()
    workbench.problem.scroll_into_view_if_needed()


# One after the other on the same page.
SCENES: Mapping[str, Callable[[Workbench], None]] = {
    "opening": opening,
    "step": step,
    "selected": selected,
    "knock-out": knock_out,
    "compare": compare,
    "error": error,
}


def open_page(browser: Browser, url: str, width: int, scheme: str) -> Workbench:
    """Open the page, and wait for its fonts and first layout."""
    page = browser.new_page(
        viewport={"width": width, "height": 1000}, color_scheme=scheme
    )
    page.goto(url)
    workbench = Workbench(page).wait(settings=False)
    page.wait_for_timeout(1000)
    return workbench


def take_all(browser: Browser, url: str, folder: Path) -> None:
    """Take every scene, whole pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            workbench = open_page(browser, url, width, scheme)
            for name, play in SCENES.items():
                play(workbench)
                workbench.page.wait_for_timeout(500)
                path = folder / f"{name}-{width}-{scheme}.png"
                tall = workbench.page.evaluate(_HEIGHT)
                workbench.page.set_viewport_size({"width": width, "height": tall})
                workbench.page.wait_for_timeout(500)
                workbench.page.screenshot(path=path)
                workbench.page.set_viewport_size({"width": width, "height": 1000})
                print(path)
            workbench.page.close()


def main() -> None:
    """Take the README's pictures, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    everything = parser.parse_args().all
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(QUIET)
        )
        if everything:
            take_all(browser, url, everything)
        else:
            for name, scheme in README.items():
                workbench = open_page(browser, url, 1440, scheme)
                workbench.page.screenshot(path=DOCS / name)
                print(DOCS / name)
        browser.close()


if __name__ == "__main__":
    main()
