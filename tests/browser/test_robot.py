"""The page in use for a while, at random or not; `robot.py` goes on, and trains."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser.drive import Workbench
from tests.browser.robot import MAY_GROW, MB, Robot

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_random_use_leaves_no_error_no_stuck_control_and_no_memory(
    chromium: Browser, voila: str
) -> None:
    robot = Robot(chromium, voila, seed=1, train=False)
    try:
        robot.run(20)
        with pytest.raises(AssertionError, match="memory of the script"):
            robot.look_for_growth((-MAY_GROW[0], 0), patience=0)  # any is too much
        robot.floors = [(40.0, 150.0)] * 9 + [(40.0, 180.0)] * 3
        with pytest.raises(AssertionError, match="kernel goes on to rise"):
            robot.look_for_rise()
    finally:
        robot.context.close()
    assert robot.num_done - robot.num_missed > 10


@pytest.mark.slow
def test_a_study_that_is_no_longer_drawn_leaves_the_memory_of_the_page(
    workbench: Workbench,
) -> None:
    page = workbench.page
    devtools = page.context.new_cdp_session(page)
    averages = workbench.field("Averages")

    def drawn() -> list[str]:
        return page.evaluate(
            "() => [...Bokeh.documents[0]._all_models.values()]"
            ".filter((m) => m.name === 'embedding' && m.inner_width > 50)"
            ".map((m) => m.id)"
        )

    def switch(index: int) -> None:
        workbench.until(lambda: len(drawn()) == 1, seconds=30)
        (old,) = drawn()
        averages.select_option(index=index)
        workbench.until(lambda: len(now := drawn()) == 1 and now != [old], seconds=30)

    def memory() -> float:
        for _ in range(2):
            devtools.send("HeapProfiler.collectGarbage")
        return devtools.send("Runtime.getHeapUsage")["usedSize"] / MB

    others = [2, 0]  # the example holds no others
    for index in others:  # the first switches compile what they use
        switch(index)
    before = memory()
    for index in 2 * others:
        switch(index)
    # A study that stays takes 2.7; on a busy machine it takes a while to go.
    workbench.until(lambda: (memory() - before) / 4 < 0.7, seconds=40)
    assert (memory() - before) / 4 < 0.7
