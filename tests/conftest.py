"""What holds for all tests."""

from __future__ import annotations

import os

import pytest

from tests.chromium import ADVICE, find_chromium


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a browser test where there is no browser, with advice; in CI it fails."""
    if item.get_closest_marker("browser") and not find_chromium():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(ADVICE)
