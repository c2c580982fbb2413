"""How fast the pictures answer at 5,000 drawn gradients.

``python -m tests.browser.speed`` draws the pair in real Chromium without a kernel, then
again while processes keep every core busy, as a kernel that trains does. A highlight is
timed from the pick of a class to the end of the painting that shows it, an animation by
the paintings of one step; the work of a painting is what the page's thread computed,
which does not depend on who else is computing.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bokeh.embed import file_html
from bokeh.resources import Resources
from playwright.sync_api import Browser, Page, sync_playwright

from tests.chromium import find_chromium
from tests.conftest import QUIET
from tests.studies import make_study
from workbench.machine.nice import give_way
from workbench.ui.views.linked import LinkedView

NUM_GRADIENTS = 5000

# Times of the paintings of a figure, and of what was asked for.
_WATCH = """() => {
  const doc = Bokeh.documents[0]
  const find = (name) => doc.get_model_by_name(name)
  window.watched = {}
  for (const name of ["embedding", "spectrum"]) {
    const view = Bokeh.index.find_one(find(name))
    const paint = view._actual_paint.bind(view)
    watched[name] = []
    view._actual_paint = () => { paint(); watched[name].push(performance.now()) }
  }
  window.until = async (true_) => {
    while (!true_()) await new Promise((done) => requestAnimationFrame(done))
  }
}"""
_HIGHLIGHT = """async (c) => {
  const state = Bokeh.documents[0].get_model_by_name("state")
  const {embedding, spectrum} = watched
  embedding.length = spectrum.length = 0
  const asked = performance.now()
  state.selected_class = c
  await until(() => embedding.length > 0 && spectrum.length > 0)
  return Math.max(embedding[0], spectrum[0]) - asked
}"""
_STEP = """async (level) => {
  const doc = Bokeh.documents[0]
  const position = doc.get_model_by_name("position")
  const {embedding} = watched
  embedding.length = 0
  const asked = performance.now()
  doc.get_model_by_name("state").level = level
  await until(() => position.value === level)
  const frames = embedding.slice(1)
  const gaps = frames.slice(1).map((at, n) => at - frames[n])
  const seconds = (frames.at(-1) - frames[0]) / 1000
  const longest = Math.max(...gaps)
  const [first, rate] = [embedding[0] - asked, gaps.length / seconds]
  return {first, rate, longest, paintings: embedding.length}
}"""


class Speed(NamedTuple):
    """Milliseconds, and paintings a second."""

    highlight: float  # median of ten
    slowest: float
    picking: float  # computed by the page's thread a highlight, least of ten
    first: float  # of a step: until the first painting
    rate: float  # of a step: paintings a second
    longest: float  # of a step: between two paintings
    work: float  # of a step: computed by the page's thread a painting

    def __str__(self) -> str:
        return (
            f"highlight {self.highlight:.0f} ms (slowest {self.slowest:.0f}), "
            f"{self.picking:.0f} ms of work; step: "
            f"first painting after {self.first:.0f} ms, then {self.rate:.0f} a second "
            f"(longest gap {self.longest:.0f} ms), {self.work:.0f} ms of work each"
        )


def open_pair(browser: Browser, folder: Path) -> Page:
    """Draw 5,000 gradients on a page of their own."""
    study = make_study(num_gradients=NUM_GRADIENTS)
    html = file_html(
        LinkedView(study).layout,
        Resources(mode="inline"),
        suppress_callback_warning=True,
    )
    file = folder / "speed.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.goto(file.as_uri())
    page.wait_for_function(
        "() => window.Bokeh?.documents[0]?.get_model_by_name('embedding')"
        "?.inner_width > 50"
    )
    page.wait_for_timeout(500)
    page.evaluate(_WATCH)
    return page


def measure_speed(page: Page, steps: int = 4) -> Speed:
    """Pick each class in turn, then take the first average and undo it."""
    tracing = page.context.new_cdp_session(page)
    tracing.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked() -> float:
        metrics = tracing.send("Performance.getMetrics")["metrics"]
        return 1000 * {m["name"]: m["value"] for m in metrics}["TaskDuration"]

    highlights, picking = [], []
    for c in range(10):
        begin = worked()
        highlights.append(page.evaluate(_HIGHLIGHT, c))
        picking.append(worked() - begin)
    page.evaluate(_HIGHLIGHT, -1)
    before = worked()
    runs = [page.evaluate(_STEP, (n + 1) % 2) for n in range(steps)]
    paintings = sum(run["paintings"] for run in runs)
    return Speed(
        median(highlights),
        max(highlights),
        min(picking),
        median(run["first"] for run in runs),
        median(run["rate"] for run in runs),
        max(run["longest"] for run in runs),
        (worked() - before) / paintings,
    )


def _spin() -> None:
    """Compute for ever, as the page's worker does: in a session of its own."""
    os.setsid()
    give_way()
    while True:
        pass


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep that many cores at work."""
    workers = [
        multiprocessing.Process(target=_spin, daemon=True) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def main() -> None:
    """Print both."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(QUIET)
        )
        page = open_pair(browser, Path(folder))
        drawn = f"{NUM_GRADIENTS:,} gradients drawn, {cores} cores"
        print(f"{drawn}, nothing else running: {measure_speed(page)}")
        with busy(cores):
            print(f"{drawn}, {cores} processes busy: {measure_speed(page)}")
        browser.close()


if __name__ == "__main__":
    main()
