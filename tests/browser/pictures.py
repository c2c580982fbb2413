"""Take the README's picture from the real page: ``make pictures`` runs this."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.chromium import find_chromium
from tests.conftest import QUIET

TARGET = Path(__file__).parents[2] / "docs" / "page.png"


def main() -> None:
    """Open the page at 1440 pixels, pick an outlier, and keep what is seen."""
    TARGET.parent.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(QUIET)
        )
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(url)
        Workbench(page).wait()
        page.wait_for_timeout(1000)  # fonts and the first layout
        page.screenshot(path=TARGET)
        browser.close()
    print(TARGET)


if __name__ == "__main__":
    main()
