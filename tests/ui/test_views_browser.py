"""The browser's half of the linked pair, in a real browser and without a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bokeh.embed import file_html
from bokeh.resources import Resources
from playwright.sync_api import Browser, Page

from tests.studies import make_study
from workbench.study.convention import CONVENTIONS
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.words import number

pytestmark = pytest.mark.browser
NASTY = ("$$x$$<img src=x onerror=alert(1)>", "<script>alert(2)</script>", 'a&b "c"')
STUDY = make_study()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    return chromium


class Pair:
    """The pair on a page of its own; every error and every request is an issue."""

    def __init__(self, browser: Browser, folder: Path, study: Any, **page: Any) -> None:
        file = folder / "pair.html"
        view = study if isinstance(study, LinkedView) else LinkedView(study)
        html = file_html(
            view.layout,
            Resources(mode="inline"),
            suppress_callback_warning=True,
        )
        file.write_text(html, encoding="utf-8")
        self.issues: list[str] = []
        self.page: Page = browser.new_page(
            viewport={"width": 1180, "height": 1400}, **page
        )
        self.page.on("pageerror", lambda error: self.issues.append(str(error)))
        self.page.on("dialog", lambda dialog: self.issues.append(dialog.message))
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.page.goto(file.as_uri())
        self.page.wait_for_function(
            "() => window.Bokeh?.documents[0]?.get_model_by_name('embedding')"
            "?.inner_width > 50"
        )

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.issues.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.issues.append(request.url)

    def read(self, name: str, path: str) -> Any:
        return self.page.evaluate(
            "([name, path]) => {"
            "const model = Bokeh.documents[0].get_model_by_name(name);"
            "const value = path.split('.').reduce((m, key) => m[key], model);"
            "return ArrayBuffer.isView(value) ? [...value] : value}",
            [name, path],
        )

    def rail(self) -> float:
        """How far the handle has come, in levels."""
        handle = self.page.get_by_role("slider", name="Averages taken so far")
        return float(handle.get_attribute("aria-valuenow"))

    def told(self, station: int, what: str) -> str:
        return self.page.locator(f".wb-{what}").nth(station).inner_text()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def place(self, figure: str, x: float, y: float) -> list[float]:
        return self.page.evaluate(
            "([name, x, y]) => {"
            "const model = Bokeh.documents[0].get_model_by_name(name);"
            "const view = Bokeh.index.find_one(model);"
            "view.el.scrollIntoView({block: 'nearest'});"
            "const box = view.el.getBoundingClientRect();"
            "return [box.x + view.frame.x_scale.compute(x),"
            "box.y + view.frame.y_scale.compute(y)]}",
            [figure, x, y],
        )

    def click_at(self, figure: str, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(figure, x, y))

    def until(self, name: str, path: str, wanted: Any) -> None:
        for _ in range(100):
            if (found := self.read(name, path)) == wanted:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{name}.{path} is {found}, not {wanted}")


@pytest.fixture
def pair(browser, tmp_path):
    pair = Pair(browser, tmp_path, STUDY)
    yield pair
    pair.page.close()
    assert pair.issues == []


def test_a_class_and_an_outlier_are_picked_on_the_canvas_and_escape_clears(pair):
    x, y = (pair.read("marks 2", f"data.{axis}")[3] for axis in "xy")
    pair.click_at("embedding", x, y)
    pair.until("classes", "active", [3])
    shares = STUDY.levels["icml"].class_overlap[:12, 3]
    width = pair.read("sticks", "data.width")
    assert width.index(max(width)) == shares.argmax()
    assert f"{100 * shares.max():.0f}\u00a0%" in pair.read("sticks", "data.label")
    faded = pair.read("marks 0", "data.fill_alpha")
    for c, alpha in zip(pair.read("marks 0", "data.c"), faded, strict=True):
        assert (alpha > 0.5) == (c == 3)

    stick = [pair.read("sticks", f"data.{column}")[0] for column in ("x", "top")]
    pair.click_at("spectrum", *stick)
    pair.until("outliers", "active", [0])
    pair.until("classes", "active", [])
    pair.click_at("overlap", 6, 2)
    pair.until("classes", "active", [6])
    pair.page.keyboard.press("Escape")
    pair.until("classes", "active", [])
    assert min(pair.read("marks 0", "data.fill_alpha")) > 0.5


def test_the_sticks_at_first_are_what_was_measured_and_are_told_alike_ever_after(pair):
    G, part = (
        STUDY.spectra["G"],
        STUDY.levels["icml"].parts[CONVENTIONS["icml"].class_part],
    )
    x, low, high = (pair.read("sticks", f"data.{end}") for end in ("x", "low", "high"))
    assert x == G.eigenvalues[:12].tolist()
    np.testing.assert_allclose(np.subtract(high, low), 2 * G.residuals[:12], atol=1e-15)
    names = pair.read("sticks", "data.name")
    assert names[8:10] == ["outlier 9 of G", "eigenvalue 10 of G"]
    orange = pair.read("class part", "data.x")
    assert orange == part[: len(orange)].tolist()
    top = pair.read("spectrum", "y_range.end")
    assert max(pair.read("sticks", "data.top")) <= top
    assert G.eigenvalues[9] < pair.read("cut", "location") < G.eigenvalues[8]
    told = pair.read("sticks", "data.told"), pair.read("class part", "data.told")
    assert told[0][0].startswith(number(G.eigenvalues[0]))
    assert told[1][-1] == number(orange[-1])
    pair.press("log")
    pair.until("state", "scale", "log")
    assert x != pair.read("sticks", "data.x")
    assert told == (
        pair.read("sticks", "data.told"),
        pair.read("class part", "data.told"),
    )


def test_the_buttons_do_what_the_mouse_does_and_say_so(pair):
    pair.press("Dress")
    pair.until("classes", "active", [3])
    pressed = pair.page.get_by_role("button", pressed=True, name="Dress")
    assert pressed.count() == 1
    assert "The class mean of <b>Dress</b>" in pair.read("message", "text")
    pair.press("Dress")
    pair.until("classes", "active", [])
    pair.press("Dress")
    pair.press("Coat")
    pair.until("classes", "active", [4])
    pair.press("Clear")
    pair.until("classes", "active", [])


def test_steps_lead_forwards_backwards_and_on_from_midway(pair):
    home = pair.read("marks 0", "data.home_x")
    pair.press("More")
    pair.press("0.25×")
    pair.press("Step ›")
    pair.page.wait_for_timeout(600)
    midway = pair.read("marks 0", "data.x")
    target = pair.read("marks 0", "data.target_x")
    assert 0 < pair.rail() < 1
    assert midway != home
    assert midway != target
    pair.press("‹ Back")
    pair.until("position", "value", 0)
    assert pair.read("marks 0", "data.x") == pytest.approx(home, abs=1e-6)
    pair.press("2×")
    pair.press("Step ›")
    pair.press("Step ›")
    pair.until("position", "value", 2)
    assert not pair.read("level 0", "visible")
    pair.press("Play")
    pair.until("position", "value", 3)
    pair.until("play", "label", "Play")


def test_the_spectrum_shows_what_the_averages_keep_of_each_outlier(pair):
    levels = STUDY.levels["icml"]
    values = STUDY.spectra["G"].eigenvalues
    assert pair.read("carried", "data.x") == []
    bright = pair.read("sticks", "data.alpha")
    for level, part in ((1, "G12"), (2, "G1")):
        pair.press("Step ›")
        pair.until("position", "value", level)
        kept = pair.read("carried", "data.x")
        assert kept == pytest.approx(levels.parts[part][: len(kept)].tolist())
        assert pair.read("carried", "data.from") == pytest.approx(
            values[: len(kept)].tolist()
        )
    faded = np.divide(pair.read("sticks", "data.alpha"), bright)
    overlap = levels.overlap[: len(faded)]
    np.testing.assert_allclose(faded, 0.2 + 0.8 * overlap, atol=1e-6)
    pair.press("Step ›")
    pair.until("position", "value", 3)
    one, *others = pair.read("carried", "data.x")
    assert one == pytest.approx(levels.kept[3] * levels.trace["G"])
    assert np.isnan(np.array(others, dtype=float)).all()


def test_means_that_were_averaged_stay_to_be_pressed(pair):
    x, y, home = (pair.read("marks 2", f"data.{name}") for name in ("x", "y", "home_x"))
    for level in (1, 2, 3):
        pair.press("Step ›")
        pair.until("position", "value", level)
    assert pair.read("marks 2", "data.x") == pytest.approx(home)
    assert 0 < max(pair.read("marks 2", "data.fill_alpha")) < 0.5
    pair.click_at("embedding", x[3], y[3])
    pair.until("classes", "active", [pair.read("marks 2", "data.c")[3]])


THREADS = (
    "() => workbenchPairs.get(Bokeh.documents[0].get_model_by_name('state'))"
    ".parts.marks.brushes[0].threads"
)


def test_while_an_average_is_taken_its_numbers_run_down_and_its_index_is_lit(pair):
    kept = STUDY.levels["icml"].kept
    assert pair.told(1, "count") == "100"
    pair.page.evaluate(
        "() => {const {stepper} = workbenchPairs.get(Bokeh.documents[0]"
        ".get_model_by_name('state')).parts; stepper.drag(0.5)}"
    )
    assert pair.told(1, "count") == f"{round((2400 * 100) ** 0.5):,}"
    share = kept[1] + 0.25 * (kept[0] - kept[1])
    assert pair.told(1, "kept") == f"{100 * share:.0f}\u00a0% of G’s trace"
    assert f"{100 * share:.0f}\u00a0%" in pair.page.locator(".wb-told").inner_text()
    assert pair.page.locator(".wb-averaging .wb-index").all_inner_texts() == ["i"] * 2
    assert pair.read("averaged", "text") == "averaging over i"
    assert pair.page.evaluate(THREADS) == pytest.approx(0.35)
    now = pair.page.locator(".wb-now .bk-clearfix")
    assert "Averaging over the examples i" in now.inner_text()
    pair.press("Step ›")
    pair.until("position", "value", 1)
    assert pair.told(1, "count") == "100"
    assert pair.page.locator(".wb-averaging").count() == 0
    assert pair.read("averaged", "text") == ""
    assert pair.page.evaluate(THREADS) == 0
    assert now.inner_text().startswith("2,400 gradients")


def test_arrows_step_and_space_plays_where_the_pictures_have_the_focus(pair):
    pair.page.keyboard.press("ArrowRight")
    assert pair.read("state", "level") == 0
    pair.press("More")
    pair.press("4×")
    pair.page.locator(".wb-plane").focus()
    pair.page.keyboard.press("ArrowRight")
    pair.until("position", "value", 1)
    pair.page.keyboard.press("ArrowLeft")
    pair.until("position", "value", 0)
    pair.page.keyboard.press(" ")
    pair.until("state", "playing", True)
    pair.until("position", "value", 3)


def test_the_dots_are_painted_where_their_columns_say(pair):
    """What Bokeh's own painting would show, and after a step what it is told."""
    light = """() => {
      const doc = Bokeh.documents[0]
      const {brushes} = workbenchPairs.get(doc.get_model_by_name("state")).parts.marks
      const {layer, source} = brushes[0]
      const {glyph} = layer.view
      const {data} = source
      const canvas = new OffscreenCanvas(600, 700)
      const ctx = canvas.getContext("2d")
      glyph._paint(ctx, [0])
      const [ox, fx, oy, fy] = layer.scales
      let hit = 0
      for (let row = 0; row < data.c.length; row++) {
        const [x, y] = [ox + fx * data.x[row], oy + fy * data.y[row]].map(Math.round)
        if (ctx.getImageData(x, y, 1, 1).data[3] > 100) hit++
      }
      return [hit / data.c.length, Math.abs(glyph.sx[7] - (ox + fx * data.x[7]))]
    }"""
    pair.press("Step ›")
    pair.until("position", "value", 1)
    pair.press("‹ Back")
    pair.until("position", "value", 0)
    # Bokeh places anew what it is told with its next painting.
    for _ in range(40):
        hit, apart = pair.page.evaluate(light)
        if apart < 0.5:
            break
        pair.page.wait_for_timeout(50)
    assert hit > 0.95
    assert apart < 0.5


def test_the_sticks_travel_when_the_class_part_is_taken_away_and_come_back(pair):
    levels, G = STUDY.levels["icml"], STUDY.spectra["G"]
    before = pair.read("sticks", "data.x")
    pair.press("the class part")
    pair.until("sticks", "data.x", levels.subtracted[:12].tolist())
    pair.press("all its directions")
    pair.until("sticks", "data.x", levels.projected[:12].tolist())
    pair.press("Hess")
    pair.until("knockout", "active", 0)
    assert len(pair.read("sticks", "data.x")) == 24
    pair.press("G")
    pair.until("sticks", "data.x", before)
    assert before == G.eigenvalues[:12].tolist()


def test_the_density_moves_with_the_knock_out_and_returns(pair):
    whole = pair.read("density", "data.y")
    pair.press("the class part")
    pair.until("sticks", "data.x", STUDY.levels["icml"].subtracted[:12].tolist())
    assert pair.read("density", "data.y") != whole
    pair.press("nothing")
    pair.until("sticks", "data.x", STUDY.spectra["G"].eigenvalues[:12].tolist())
    assert pair.read("density", "data.y") == pytest.approx(whole, nan_ok=True)


def test_each_part_of_g_is_switched_by_itself_and_all_operators_are_overlaid(pair):
    pair.press("G₂ cross")
    pair.until("state", "parts", "class,cross")
    cross = STUDY.levels["icml"].parts["G2"]
    x = pair.read("cross part", "data.x")
    assert x == pytest.approx(cross[: len(x)])
    pair.press("G₁ class")
    pair.until("state", "parts", "cross")
    assert not any(v == v for v in pair.read("class part", "data.x"))
    pair.press("all")
    pair.until("state", "operator", "all")
    assert len(pair.read("density H", "data.x")) > 100
    assert len(pair.read("sticks", "data.x")) == 12
    pair.press("log")
    pair.until("state", "scale", "log")
    pair.press("G")
    pair.until("state", "operator", "G")
    assert pair.read("density H", "data.x") == []


def test_the_count_of_outliers_is_moved_and_everything_follows(pair):
    alpha = pair.read("sticks", "data.alpha")
    handle = pair.page.get_by_role("slider", name="How many eigenvalues")
    handle.focus()
    pair.page.keyboard.press("ArrowRight")
    pair.until("state", "num_outliers", 10)
    assert pair.read("sticks", "data.alpha")[9] == alpha[8] > alpha[9]
    assert pair.read("sticks", "data.name")[9] == "outlier 10 of G"
    assert "<b>You count 10.</b> λ₁₀/λ₁₁ = " in pair.read("rule", "text")
    values = STUDY.spectra["G"].eigenvalues
    assert values[10] < pair.read("cut", "location") < values[9]
    pair.press("Automatic")
    pair.until("state", "num_outliers", -1)
    assert pair.read("sticks", "data.alpha") == alpha
    assert pair.read("count", "value") == 9


def test_the_line_between_outliers_and_the_others_is_dragged(pair):
    values = STUDY.spectra["G"].eigenvalues
    middle = (
        sum(pair.read("spectrum", f"y_range.{end}") for end in ("start", "end")) / 2
    )
    start = pair.place("spectrum", pair.read("cut", "location"), middle)
    end = pair.place("spectrum", (values[5] + values[6]) / 2, middle)
    pair.page.mouse.move(*start)
    pair.page.mouse.down()
    pair.page.mouse.move(*end, steps=8)
    pair.page.mouse.up()
    pair.until("state", "num_outliers", 6)


def test_without_motion_a_step_is_there_at_once(browser, tmp_path):
    pair = Pair(browser, tmp_path, STUDY, reduced_motion="reduce")
    pair.press("Step ›")
    pair.page.wait_for_timeout(100)
    assert pair.read("position", "value") == 1
    pair.page.close()
    assert pair.issues == []


def test_names_of_classes_are_shown_and_never_run(browser, tmp_path):
    pair = Pair(browser, tmp_path, make_study(3, class_names=NASTY))
    for n in range(3):
        pair.page.locator(".wb-classes button").nth(n).click()
        pair.until("classes", "active", [n])
    x, y = (pair.read("marks 2", f"data.{axis}")[0] for axis in "xy")
    pair.click_at("embedding", x, y)
    pair.page.wait_for_timeout(300)
    assert pair.page.locator("img[onerror]").count() == 0
    pair.page.close()
    assert pair.issues == []


@pytest.mark.parametrize("num_classes", [2, 100])
def test_few_and_many_classes_without_hess_are_picked_stepped_and_knocked_out(
    browser, tmp_path, num_classes
):
    study = make_study(num_classes, 400, exact=False, with_hess=False)
    pair = Pair(browser, tmp_path, study, reduced_motion="reduce")
    pair.page.locator(".wb-classes button").nth(num_classes - 1).click()
    pair.until("state", "selected_class", num_classes - 1)
    pair.press("Step ›")
    pair.until("position", "value", 1)
    pair.press("the class part")
    pair.until("state", "knockout", "subtracted")
    assert "still G’s" in pair.read("note", "text")
    assert pair.page.evaluate("document.documentElement.scrollWidth") <= 1180
    pair.page.close()
    assert pair.issues == []


def test_the_layout_fits_its_width(browser, tmp_path):
    pair = Pair(browser, tmp_path, STUDY)
    for width in (390, 1024, 1440, 2560, 390):
        pair.page.set_viewport_size({"width": width, "height": 900})
        pair.page.wait_for_timeout(400)
        assert pair.page.evaluate("document.documentElement.scrollWidth") <= width
        left, right = (
            pair.page.evaluate(
                "name => Bokeh.index.find_one("
                "Bokeh.documents[0].get_model_by_name(name))"
                ".el.getBoundingClientRect().top",
                name,
            )
            for name in ("embedding", "spectrum")
        )
        assert (abs(left - right) < 120) == (width > 900), width
    pair.page.close()
