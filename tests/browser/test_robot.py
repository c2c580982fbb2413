"""The page used at random for a while; `robot.py` does it for longer, and trains."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser.robot import Robot

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_random_use_leaves_no_error_and_no_stuck_control(
    chromium: Browser, voila: str
) -> None:
    robot = Robot(chromium, voila, seed=1, train=False)
    before, _ = robot.memory()
    try:
        robot.run(20)
        after, _ = robot.memory()
    finally:
        robot.context.close()
    assert robot.num_done - robot.num_missed > 10
    assert after < before + 40
