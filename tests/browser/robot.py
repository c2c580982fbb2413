"""A robot that uses the page at random: ``python -m tests.browser.robot --minutes 10``.

The same seed makes the same choices. Whatever the page says wrong, a control that no
longer answers, and memory that keeps growing end it with what was done last.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Error, Route, expect, sync_playwright

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.browser.figures import kernel_of
from tests.chromium import find_chromium
from tests.conftest import QUIET

KEYS = ("Escape", " ", "ArrowRight", "ArrowLeft", "Tab", "Shift+Tab", "Enter", "Home")
FIELDS = {
    "Per class": ("10", "20", "0", "-3", "x"),
    "Epochs": ("1", "3", "0", "1000000"),
    "Rate": ("0.05", "0.1", "-1", "1e9"),
    "Seed": ("0", "7", "-1"),
}
# Pressed by `train` alone, with settings that are small; or not to be pressed at all.
LEFT_ALONE = {"Train", "Reload", "Choose File", "Measure again"}
MB = 2**20
MAY_GROW = (60, 120)  # MB of the page's script and of its kernel, after all use
# The same, of the lowest in the last quarter of a long use over that in the second:
# what is kept for good is there by then, and what comes and goes is left out.
MAY_RISE = (15, 25)


class Robot:
    """One page, used at random.

    Args:
        browser: Where to open it.
        url: Of the page.
        seed: Of all choices.
        train: Whether small networks are trained too.
    """

    def __init__(self, browser: Browser, url: str, *, seed: int, train: bool) -> None:
        self.random = random.Random(seed)
        self.wrong: list[str] = []
        self.done: deque[str] = deque(maxlen=30)
        self.num_done = self.num_missed = self.num_trained = 0
        self.floors: list[tuple[float, float]] = []  # memory, every half minute
        self.context = browser.new_context(viewport={"width": 1440, "height": 1000})
        self.context.route("**/*", self._guard)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error.stack)))
        self.page.on("console", self._hear)
        self.page.on("download", lambda download: download.cancel())
        self.host = urlsplit(url).netloc
        self.page.goto(url)
        self.workbench = Workbench(self.page).wait()
        self.kernel = kernel_of(self.page)
        self.cdp = self.context.new_cdp_session(self.page)
        actions: dict[Callable[[], str], int] = {
            self.press_button: 40,
            self.click_picture: 15,
            self.drag: 8,
            self.press_key: 12,
            self.choose: 8,
            self.fill: 5,
            self.resize: 2,
            self.change_scheme: 2,
        }
        if train:
            actions[self.train] = 2
        self.actions = [action for action, n in actions.items() for _ in range(n)]

    def _guard(self, route: Route) -> None:
        there = urlsplit(route.request.url)
        if there.netloc == self.host or there.scheme in ("data", "blob"):
            route.continue_()
        else:
            self.wrong.append(f"request off the host: {route.request.url}")
            route.abort()

    def _hear(self, said: Any) -> None:
        if said.type == "error":
            self.wrong.append(f"console: {said.text} at {said.location}")

    # What it does

    def press_button(self) -> str:
        buttons = self.page.locator("button:visible:enabled")
        button = buttons.nth(self.random.randrange(max(1, buttons.count())))
        name = button.evaluate("b => b.innerText.trim() || b.title || b.className")
        if name in LEFT_ALONE:
            return f"left {name} alone"
        button.click(timeout=3000)
        return f"pressed {name}"

    def click_picture(self) -> str:
        name = self.random.choice(("embedding", "spectrum", "overlap"))
        x, y = self._place(name)
        self.page.mouse.click(x, y)
        return f"clicked {name} at {x:.0f}, {y:.0f}"

    def drag(self) -> str:
        handles = self.page.locator("[role=slider]:visible")
        if self.random.random() < 0.6 and (count := handles.count()):
            handle = handles.nth(self.random.randrange(count))
            handle.scroll_into_view_if_needed(timeout=3000)
            box = handle.bounding_box() or {"x": 0, "y": 0, "width": 0, "height": 0}
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        else:
            x, y = self._place(self.random.choice(("embedding", "spectrum")))
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        by = self.random.uniform(-300, 300)
        self.page.mouse.move(x + by, y + self.random.uniform(-60, 60), steps=5)
        self.page.mouse.up()
        return f"dragged from {x:.0f}, {y:.0f} by {by:.0f}"

    def press_key(self) -> str:
        key = self.random.choice(KEYS)
        self.page.keyboard.press(key)
        return f"key {key!r}"

    def choose(self) -> str:
        lists = self.page.locator("select:visible:enabled")
        one = lists.nth(self.random.randrange(max(1, lists.count())))
        options = one.locator("option").all_inner_texts()
        option = self.random.choice(options)
        one.select_option(label=option, timeout=3000)
        return f"chose {option}"

    def fill(self) -> str:
        field = self.random.choice(list(FIELDS))
        value = self.random.choice(FIELDS[field])
        place = self.workbench.field(field)
        if not place.count() or not place.is_visible():
            return f"no field {field}"
        place.click(timeout=3000)
        place.press("ControlOrMeta+a")
        self.page.keyboard.type(value)
        self.page.keyboard.press("Enter")
        return f"filled {field} with {value}"

    def resize(self) -> str:
        width = self.random.choice((1440, 1024, 390, 2560))
        self.page.set_viewport_size({"width": width, "height": 1000})
        return f"made it {width} wide"

    def change_scheme(self) -> str:
        scheme = self.random.choice(("light", "dark"))
        self.page.emulate_media(color_scheme=scheme)
        return f"made the browser {scheme}"

    def train(self) -> str:
        train = self.workbench.button("Train")
        if not train.is_visible() or not train.is_enabled():
            return "no training now"
        self.workbench.field("Dataset").select_option(index=0, timeout=3000)
        self.workbench.field("Network").select_option(index=0, timeout=3000)
        self.workbench.fill("Per class", "10")
        self.workbench.fill("Epochs", self.random.choice(("1", "3", "200")))
        train.click(timeout=3000)
        self.num_trained += 1
        return "trained"

    def _place(self, name: str) -> tuple[float, float]:
        """Anywhere upon a figure, scrolled to."""
        box = self.page.evaluate(
            """name => {
              const all = Bokeh.documents.flatMap(d => [...d._all_models.values()])
              const model = all.findLast(m => m.name === name && m.inner_width > 0)
              const {el} = Bokeh.index.find_one(model)
              el.scrollIntoView({block: "center"})
              return el.getBoundingClientRect().toJSON()
            }""",
            name,
        )
        return (
            box["x"] + self.random.random() * box["width"],
            box["y"] + self.random.random() * box["height"],
        )

    # What it watches

    def look(self) -> None:
        """Raise if anything went wrong: of a defect, the red box has details."""
        defect = self.page.evaluate(
            "() => document.querySelector('.wb-problem:has(pre)')?.textContent ?? ''"
        )
        if defect:
            self.wrong.append(f"a defect: {defect}")
        if self.wrong:
            raise AssertionError("\n".join([*self.done, *self.wrong]))

    def memory(self) -> tuple[float, float]:
        """Memory of the page's script and of its kernel, in MB."""
        self.cdp.send("HeapProfiler.collectGarbage")
        used = self.cdp.send("Runtime.getHeapUsage")["usedSize"]
        return used / MB, self.kernel.memory_info().rss / MB

    def look_for_growth(
        self, before: tuple[float, float], *, patience: float = 10
    ) -> None:
        """Raise if script or kernel hold much more than before, and go on to.

        What is no longer drawn takes a while to go: so many seconds are given.
        """
        end = time.monotonic() + patience
        while grown := self._grown(before):
            if time.monotonic() >= end:
                self.wrong += grown
                break
            self.page.wait_for_timeout(1000)
        self.look()

    def _grown(self, before: tuple[float, float]) -> list[str]:
        parts = zip(("script", "kernel"), before, self.memory(), MAY_GROW, strict=True)
        return [
            f"memory of the {part}: {was:.0f} MB before and {is_:.0f} now, more than "
            f"{allowed} MB of growth"
            for part, was, is_, allowed in parts
            if is_ > was + allowed
        ]

    def look_for_rise(self) -> None:
        """Raise if the memory goes on to rise; six minutes tell."""
        quarter = len(self.floors) // 4
        if quarter < 3:
            return
        early = zip(*self.floors[quarter : 2 * quarter], strict=True)
        late = zip(*self.floors[-quarter:], strict=True)
        for part, was, is_, allowed in zip(
            ("script", "kernel"), early, late, MAY_RISE, strict=True
        ):
            if min(is_) > min(was) + allowed:
                self.wrong.append(
                    f"memory of the {part} goes on to rise: at least {min(was):.0f} MB "
                    f"early and {min(is_):.0f} late, more than {allowed} MB"
                )
        self.look()

    def run(self, seconds: float, say: Callable[[str], None] = lambda _: None) -> None:
        """Use the page for so long, then see that every part of it still answers."""
        began, told = time.monotonic(), time.monotonic()
        before, in_a_row = self.memory(), 0
        while time.monotonic() - began < seconds:
            action = self.random.choice(self.actions)
            try:
                self.done.append(action())
                in_a_row = 0
            except Error as error:  # it moved away, or something stands before it
                missed = str(error).splitlines()[0]
                self.done.append(f"missed {action.__name__}: {missed}")
                self.num_missed += 1
                in_a_row += 1
                self.page.keyboard.press("Escape")
            self.num_done += 1
            if in_a_row == 12:
                self.wrong.append("twelve actions in a row found nothing to act upon")
            self.look()
            if time.monotonic() - told > 30:
                told = time.monotonic()
                say(f"{told - began:4.0f} s: {self.report()}")
                self.look_for_growth(before)
                self.floors.append(self.memory())
        self.settle()
        self.look_for_growth(before)
        self.look_for_rise()

    def settle(self) -> None:
        """Stop what runs; then a setting, a step and a selection must be answered."""
        page, workbench = self.page, self.workbench
        page.set_viewport_size({"width": 1440, "height": 1000})
        for _ in range(3):
            page.keyboard.press("Escape")
        if (stop := workbench.button("Stop")).is_enabled():
            stop.click()
        workbench.until(lambda: workbench.button("Train").is_enabled(), seconds=120)
        # The kernel answers one thing after the other, so all before this is answered.
        workbench.fill("Seed", "-12345")
        workbench.until(
            lambda: "-12345" in page.locator(".wb-problem").inner_text(), 60
        )
        workbench.button("Close").click()
        expect(workbench.problem).to_have_count(0)
        page.get_by_role("button").filter(has_text="every gradient").click()
        # There, not on the way: from between two levels a step leads to the next one.
        workbench.until(lambda: workbench.read("position", "value") == 0, 60)
        workbench.button("Step ›").click()
        workbench.until(lambda: workbench.state("level") == 1)
        page.locator(".wb-classes button").last.click()
        workbench.until(lambda: workbench.state("selected_class") >= 0)
        page.keyboard.press("Escape")
        workbench.until(lambda: workbench.state("selected_class") == -1)
        self.look()

    def report(self) -> str:
        """What was done so far, and the memory that it took."""
        script, kernel = self.memory()
        return (
            f"{self.num_done} actions ({self.num_missed} missed), "
            f"{self.num_trained} trainings, script {script:.1f} MB, "
            f"kernel {kernel:.0f} MB"
        )


def main() -> int:
    """Run the robot and print what it saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(QUIET)
        )
        robot = Robot(browser, url, seed=chosen.seed, train=True)
        print("start:", robot.report(), flush=True)
        try:
            robot.run(60 * chosen.minutes, say=lambda text: print(text, flush=True))
        except AssertionError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            print("end:", robot.report(), flush=True)
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
