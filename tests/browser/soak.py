"""Opens and closes the page many times: ``python -m tests.browser.soak --pages 200``.

The server must end where it began after the first few pages: its descriptors, memory
and processes, and the files in its temporary folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.chromium import find_chromium
from tests.conftest import QUIET

FIRST = 5  # pages after which everything is loaded that stays
KEPT = 62.0  # seconds that Jupyter remembers a page for that has gone
MAY_GROW = 30.0  # MB in all, however many the pages
MB = 2**20


@dataclass(frozen=True)
class Held:
    """What a server holds while no page is open."""

    descriptors: Counter[str]  # by what they are
    memory: float  # MB that are its own
    processes: int
    files: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.descriptors.items()))
        return (
            f"{kinds}; {self.memory:.1f} MB; {self.processes} processes; "
            f"{self.files} files"
        )

    def more_than(self, before: Held) -> list[str]:
        """Say what there is more of than before."""
        grown = self.descriptors - before.descriptors
        found = [f"{n} more {kind}" for kind, n in grown.items()]
        if self.processes > before.processes:
            found.append(f"{self.processes - before.processes} more processes")
        if self.files > before.files:
            found.append(f"{self.files - before.files} more files")
        if self.memory > before.memory + MAY_GROW:
            found.append(f"{self.memory - before.memory:.0f} MB more")
        return found


class Soak:
    """One server, and pages of it.

    Args:
        browser: Where to open them.
        url: Of the page, at the port by which its server is found.
        temporary: The server's temporary folder.
    """

    def __init__(self, browser: Browser, url: str, temporary: Path) -> None:
        self._browser, self._url, self._temporary = browser, url, temporary
        (self.server,) = (
            child
            for child in psutil.Process().children()
            if any(f"port={urlsplit(url).port}" in word for word in child.cmdline())
        )

    def visit(self) -> None:
        """Open a page, wait until it is drawn, and close it."""
        context = self._browser.new_context()
        page = context.new_page()
        page.goto(self._url)
        Workbench(page).wait(180)
        page.close(run_before_unload=True)
        context.close()

    def held(self) -> Held:
        """Look what the server holds now."""
        folder = Path(f"/proc/{self.server.pid}/fd")
        kinds: Counter[str] = Counter()
        for entry in folder.iterdir():
            try:
                name = os.readlink(entry)
            except FileNotFoundError:  # closed meanwhile
                continue
            kinds["file" if name.startswith("/") else name.split(":[")[0]] += 1
        return Held(
            kinds,
            self.server.memory_full_info().uss / MB,
            len(self.server.children(recursive=True)),
            sum(len(files) for _, _, files in os.walk(self._temporary)),
        )

    def settled(self, before: Held, seconds: float) -> list[str]:
        """Say what there is still more of than before, after so many seconds."""
        end = time.monotonic() + seconds
        while (more := self.held().more_than(before)) and time.monotonic() < end:
            time.sleep(1.0)
        return more


def main() -> int:
    """Print what the server holds, now and then and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=200)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), TMPDIR=folder) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(QUIET)
        )
        soak = Soak(browser, url, Path(folder))
        for _ in range(FIRST):
            soak.visit()
        time.sleep(KEPT)
        before = soak.held()
        print(f"after {FIRST} pages: {before}", flush=True)
        for number in range(1, chosen.pages + 1):
            soak.visit()
            if number % 10 == 0:
                print(f"{number:4} pages later: {soak.held()}", flush=True)
        time.sleep(KEPT)
        more = soak.settled(before, 30)
        print(f"at the end: {soak.held()}")
        browser.close()
    if more:
        print(f"Left: {', '.join(more)}", file=sys.stderr)
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main())
