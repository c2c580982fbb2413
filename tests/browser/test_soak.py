"""Pages come and go, and the server holds what it held; `soak.py` tries 200."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import serving
from tests.browser.soak import Held, Soak

pytestmark = pytest.mark.browser


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to read")
def test_pages_that_are_closed_leave_nothing_in_the_server(
    chromium: Browser, tmp_path: Path
) -> None:
    with serving(tmp_path, TMPDIR=str(tmp_path)) as url:
        soak = Soak(chromium, url, tmp_path)
        for _ in range(3):
            soak.visit()
        time.sleep(8.0)  # the last kernel has ended, and the next one is drawn
        before = soak.held()
        for _ in range(6):
            soak.visit()
        assert soak.settled(before, 60) == [], (before, soak.held())


def test_what_is_left_is_told() -> None:
    before = Held(Counter(socket=3, file=2), 100.0, 1, 4)
    assert before.more_than(before) == []
    assert Held(Counter(socket=2), 120.0, 1, 3).more_than(before) == []
    left = Held(Counter(socket=5, file=2, anon_inode=1), 140.0, 2, 5)
    assert left.more_than(before) == [
        *("2 more socket", "1 more anon_inode"),
        *("1 more processes", "1 more files", "40 MB more"),
    ]
