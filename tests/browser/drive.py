"""Drives the page as a person does, and reads what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

# One document is drawn on the page; its models are found by the names they bear.
MODEL = """name => {
  for (const doc of Bokeh.documents.toReversed()) {
    const found = [...doc._all_models.values()].filter((m) => m.name === name)
    if (found.length) return found.at(-1)
  }
}"""


class Workbench:
    """The page in one browser tab."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def wait(self, seconds: float = 60, *, settings: bool = True) -> Workbench:
        """Wait until the pictures are drawn; the settings of one's own run are opened.

        Args:
            seconds: At most so long.
            settings: False leaves them folded, as a visitor finds them.
        """
        self.page.wait_for_function(
            f"() => window.Bokeh && ({MODEL})('state') && "
            "[...document.querySelectorAll('.bk-Column')].length",
            timeout=1000 * seconds,
        )
        self.page.wait_for_function(
            f"() => {{const m = ({MODEL})('embedding'); "
            "return m && m.inner_width > 50}",
            timeout=1000 * seconds,
        )
        fold = self.button("Train your own")
        closed = fold.count() and "mod-active" not in (
            fold.get_attribute("class") or ""
        )
        if settings and closed and fold.is_enabled() and fold.is_visible():
            fold.click()
            expect(self.page.locator(".wb-controls.wb-open")).to_be_visible()
        return self

    def read(self, name: str, path: str) -> Any:
        """Read a property of the model of that name, such as ``"data.x"``."""
        return self.page.evaluate(
            f"([name, path]) => {{const model = ({MODEL})(name); "
            "const value = path.split('.').reduce((m, key) => m[key], model); "
            "if (value === undefined) throw new Error(`no ${path} in ${name}`); "
            "return ArrayBuffer.isView(value) ? [...value] : value}",
            [name, path],
        )

    def state(self, what: str) -> Any:
        return self.read("state", what)

    def until(self, true: Callable[[], bool], seconds: float = 10) -> None:
        """Wait for what the page will show."""
        for _ in range(int(seconds * 20)):
            if true():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not happen in time")

    def click_at(self, figure: str, x: float, y: float) -> None:
        """Click on a data point of a figure, on the canvas, with the mouse."""
        left, top = self.page.evaluate(
            f"""([name, x, y]) => {{
              const model = ({MODEL})(name)
              const view = [...(function* all(views) {{
                for (const view of views) {{
                  yield view
                  yield* all(view.child_views ?? [])
                }}
              }})(Bokeh.index.roots ?? Object.values(Bokeh.index))]
                .find((v) => v.model === model)
              view.el.scrollIntoView({{block: "center"}})
              const frame = view.frame
              const [sx, sy] = [frame.x_scale.compute(x), frame.y_scale.compute(y)]
              const box = view.canvas_view.el.getBoundingClientRect()
              return [box.left + sx, box.top + sy]
            }}""",
            [figure, x, y],
        )
        self.page.mouse.click(left, top)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def fill(self, label: str, value: str) -> None:
        self.field(label).fill(value)
        self.field(label).press("Enter")

    @property
    def badge(self) -> Locator:
        return self.page.locator(".wb-badge").first

    @property
    def problem(self) -> Locator:
        return self.page.locator(".workbench").get_by_role("alert")

    def expect_ready(self) -> None:
        expect(self.button("Train")).to_be_enabled()
