"""Finds a Chromium for the browser tests; run as a program, it gets one.

The system's own comes first, then Playwright's download, then, as root on Debian, the
package. `CHROMIUM=/path` names another.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

ADVICE = (
    "no Chromium was found, nor could one be had: install Chromium or Google Chrome, "
    "or run `.venv/bin/playwright install --with-deps chromium`, "
    "or name one by CHROMIUM=/path/to/chromium"
)
DOWNLOAD_SECONDS = 120  # where nothing answers, Playwright tries for much longer
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


@functools.cache
def find_chromium() -> str | None:
    """Return the path of a Chromium that starts, or None."""
    if named := os.environ.get("CHROMIUM"):
        return named if _starts(named) else None
    paths = [*map(shutil.which, _NAMES), *_APPLICATIONS]
    found = next((path for path in paths if path and _starts(path)), None)
    return found or _downloaded()


def _starts(path: str) -> bool:
    """Whether it runs: a file that is there may lack libraries, or be a stub."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() and _starts(path) else None


def _get() -> None:
    """Try to get one, by what this system allows."""
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}  # apt asks nothing
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways += [["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]]
    for way in ways:
        limit = None if way[0] == "apt-get" else DOWNLOAD_SECONDS
        print("Getting Chromium:", *way, flush=True)
        try:
            subprocess.run(way, check=False, timeout=limit, env=quiet)
        except subprocess.TimeoutExpired:
            print(f"Gave up after {limit} s.", flush=True)
        find_chromium.cache_clear()
        if find_chromium():
            return


def main() -> int:
    """Say which Chromium the tests drive; without one that is a failure only in CI."""
    if not find_chromium():
        _get()
    if path := find_chromium():
        print(f"Browser tests drive {path}")
        return 0
    print(f"Browser tests: {ADVICE}.", file=sys.stderr)
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
