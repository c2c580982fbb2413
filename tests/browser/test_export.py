"""The stand-alone page, opened from a file: no kernel, and every request refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.drive import Workbench
from tests.studies import make_study
from workbench.study.size import predicted_class_part
from workbench.ui.export import export_html
from workbench.ui.theme import DARK, LIGHT, PROJECTOR, Theme
from workbench.ui.views.glossary import GLOSSARY
from workbench.ui.views.tour import STOPS

pytestmark = pytest.mark.browser
STUDY = make_study()


class Opened:
    """An exported page in a browser that can reach nothing, and what went wrong."""

    def __init__(self, browser: Browser, url: str, **more: object) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(**more)
        self.context.route("**/*", self._guard)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(url)

    def _guard(self, route: object) -> None:
        url = route.request.url
        if url.startswith("file:"):
            route.continue_()
        else:
            self.wrong.append(url)
            route.abort()

    def _hear(self, said: object) -> None:
        if said.type in ("error", "warning"):
            self.wrong.append(said.text)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("export")
    return export_html(STUDY, folder / "page.html").as_uri()


@pytest.fixture
def exported(chromium: Browser, url: str) -> Iterator[Workbench]:
    opened = Opened(chromium, url, viewport={"width": 1440, "height": 1000})
    yield Workbench(opened.page).wait()
    opened.context.close()
    assert opened.wrong == []


def test_play_moves_the_points_and_back_returns_them(exported: Workbench) -> None:
    home, target = (exported.read("marks 0", f"data.{n}_x") for n in ("home", "target"))
    exported.button("Play").click()
    exported.until(lambda: exported.state("level") == 1)
    exported.button("Pause").click()
    moved = exported.read("marks 0", "data.x")
    assert moved != home
    assert moved != target
    exported.button("‹ Back").click()
    exported.until(
        lambda: exported.read("marks 0", "data.x") == pytest.approx(home, abs=1e-6)
    )


def test_a_click_selects_and_the_knock_out_moves_the_sticks(
    exported: Workbench,
) -> None:
    x, y = (exported.read("marks 2", f"data.{axis}")[4] for axis in "xy")
    exported.click_at("embedding", x, y)
    exported.until(lambda: exported.state("selected_class") == 4)
    expect(exported.page.get_by_text("The class mean of Coat points")).to_be_visible()
    before = exported.read("sticks", "data.x")
    left = STUDY.levels["icml"].subtracted[: len(before)].tolist()
    exported.button("the class part").click()
    exported.until(lambda: exported.read("sticks", "data.x") == pytest.approx(left))


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[n : n + 2], 16)) for n in (1, 3, 5))})"


def test_the_theme_follows_the_host_at_once_and_may_be_chosen(
    exported: Workbench,
) -> None:
    def drawn() -> tuple[str, ...]:
        body = "getComputedStyle(document.body).backgroundColor"
        return (
            exported.read("sticks", "data.color")[0],
            exported.read("marks 2", "data.color")[0],
            exported.read("spectrum", "below.0.major_label_text_color"),
            exported.page.evaluate(body),
        )

    def look(theme: Theme) -> tuple[str, ...]:
        return theme.ink, theme.classes[0], theme.muted, rgb(theme.background)

    assert drawn() == look(LIGHT)
    exported.page.emulate_media(color_scheme="dark")
    exported.until(lambda: drawn() == look(DARK))
    width = exported.read("sticks", "data.width")[0]
    exported.button("More").click()
    exported.button("Projector").click()
    exported.until(lambda: drawn() == look(PROJECTOR))
    assert exported.read("sticks", "data.width")[0] == pytest.approx(1.5 * width)
    exported.button("Coat").click()  # what is drawn anew wears the theme too
    color = PROJECTOR.classes[4]
    exported.until(lambda: exported.read("sticks", "data.color")[0] == color)
    exported.button("Light").click()
    exported.button("Clear").click()
    exported.until(lambda: drawn() == look(LIGHT))
    assert exported.read("sticks", "data.width")[0] == pytest.approx(width)


def test_a_tooltip_wears_the_theme(exported: Workbench) -> None:
    tip = exported.page.locator("body > .bk-Tooltip")
    x, y = (exported.read("marks 2", f"data.{axis}")[4] for axis in "xy")

    def look() -> list[str]:
        return tip.evaluate_all(
            "tips => tips.flatMap((tip) => {const look = getComputedStyle(tip); "
            "return [look.backgroundColor, look.color, look.fontSize]})"
        )

    exported.button("More").click()
    for name, theme in (("Dark", DARK), ("Projector", PROJECTOR), ("Light", LIGHT)):
        exported.button(name).click()
        size = f"{13 * theme.type:g}px"
        wanted = [rgb(theme.background), rgb(theme.ink), size]

        def shown(wanted: list[str] = wanted) -> bool:
            exported.click_at("embedding", x, y)  # where the pointer stays
            return look() == wanted

        exported.until(shown)
        expect(tip).to_contain_text("mean of class Coat")
        exported.page.mouse.move(0, 0)
        expect(tip).to_have_count(0)


def test_the_theme_may_be_asked_for_by_the_link(chromium: Browser, url: str) -> None:
    opened = Opened(chromium, f"{url}?theme=projector")
    page = Workbench(opened.page).wait()
    page.until(lambda: page.read("sticks", "data.color")[0] == PROJECTOR.ink)
    assert page.state("theme") == "projector"
    opened.context.close()
    assert opened.wrong == []


def test_a_theme_that_there_is_not_is_left_out(chromium: Browser, url: str) -> None:
    for name in ("constructor", "nothing"):
        opened = Opened(chromium, f"{url}?theme={name}")
        page = Workbench(opened.page).wait()
        assert page.state("theme") == "auto"
        opened.context.close()
        assert opened.wrong == []


def test_each_picture_is_saved_as_it_stands(exported: Workbench) -> None:
    exported.button("More").click()
    exported.button("Dark").click()
    exported.button("Bag").click()
    for words, name in (("Gradients", "embedding"), ("Overlaps", "overlap")):
        with exported.page.expect_download() as saved:
            exported.button(f"{words} PNG").click()
        assert saved.value.suggested_filename == f"synthetic-linear-{name}.png"
        assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    with exported.page.expect_download() as saved:
        exported.button("Gradients SVG").click()
    shapes = saved.value.path().read_text(encoding="utf-8")
    assert shapes.count("<path") > len(exported.read("marks 0", "data.x"))
    assert "<image" not in shapes
    with exported.page.expect_download() as saved:
        exported.button("Spectrum SVG").click()
    picture = saved.value.path().read_text(encoding="utf-8")
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert "eigenvalue λ of G" in picture
    assert DARK.background in picture
    assert rgb(DARK.classes[8]).replace(" ", "") in picture
    assert exported.page.get_by_text("Files", exact=True).count() == 0


def test_the_tour_points_at_one_control_after_the_other_by_keyboard(
    exported: Workbench,
) -> None:
    page = exported.page
    card = page.get_by_role("dialog", name="Tour")
    exported.button("Tour").click()
    titles = []
    for _ in range(20):
        if card.count() == 0:
            break
        box = card.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert 0 <= box["y"] <= 1000 - box["height"]
        titles.append(card.locator("b").inner_text())
        page.keyboard.press("ArrowRight")
    assert titles == [title for where, title, _ in STOPS if where[0] != "."]
    assert exported.state("level") == 0  # the arrows were the tour's
    page.keyboard.press("Enter")  # the button that began it has the focus again
    expect(card).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)


def test_a_word_explains_itself_until_escape(exported: Workbench) -> None:
    page = exported.page
    meaning = page.locator(".wb-meaning:popover-open")
    page.locator(".wb-words").get_by_role("button", name="outliers", exact=True).click()
    expect(meaning).to_contain_text("stands apart from the bulk")
    page.keyboard.press("Escape")
    expect(meaning).to_have_count(0)
    page.get_by_text("Glossary").click()
    expect(page.locator(".wb-glossary dt")).to_have_count(len(GLOSSARY))


def test_the_page_says_what_it_is_and_nothing_hangs_out(
    chromium: Browser, url: str
) -> None:
    opened = Opened(chromium, url, viewport={"width": 390, "height": 900})
    page = Workbench(opened.page).wait().page
    expect(page.get_by_role("heading", name="What am I seeing?")).to_be_visible()
    expect(page.locator(".wb-head .wb-about")).to_contain_text("synthetic · linear")
    expect(page.locator("footer")).to_contain_text("workbench 0.1.0")
    for width in (390, 1440, 2560, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, width
    opened.context.close()
    assert opened.wrong == []


STYLE = """([selector, of, pseudo]) => [...(function* all(root) {
  for (const element of root.querySelectorAll("*")) {
    if (element.matches(selector)) yield getComputedStyle(element, pseudo)[of]
    if (element.shadowRoot) yield* all(element.shadowRoot)
  }
})(document)]"""


def styles(page: Page, selector: str, of: str, pseudo: str | None = None) -> list[str]:
    return page.evaluate(STYLE, [selector, of, pseudo])


def test_where_the_system_chooses_colours_what_is_chosen_is_seen(
    chromium: Browser, url: str
) -> None:
    opened = Opened(chromium, url, forced_colors="active")
    page = Workbench(opened.page).wait().page
    background = "backgroundColor"
    chosen = set(styles(page, ".bk-btn.bk-active", background))
    others = set(styles(page, ".bk-btn:not(.bk-active, [disabled])", background))
    assert len(chosen) == 1
    # Play is as a chosen one; all others have the colour of the page, or none.
    assert others - chosen <= {"rgb(255, 255, 255)", "rgba(255, 255, 255, 0)"}
    assert set(styles(page, ".noUi-connect", background)) == chosen
    assert not chosen & set(styles(page, ".noUi-target", background))
    swatches = styles(page, ".bk-btn", background, "::before")
    assert len(set(swatches)) >= min(10, STUDY.num_classes) + 1
    assert {"0px"} != set(styles(page, ".bk-btn", "borderTopWidth"))
    opened.context.close()


def test_paper_shows_the_colours_that_mean_something(exported: Workbench) -> None:
    page = exported.page
    page.emulate_media(media="print")
    assert set(styles(page, ".wb-mark, .bk-btn", "printColorAdjust")) == {"exact"}
    assert set(styles(page, ".wb-plane, .wb-words", "breakInside")) == {"avoid"}
    page.emulate_media(media="screen")


@pytest.mark.parametrize(
    ("policy", "able"),
    [
        ("script-src 'none'", False),
        ("script-src 'unsafe-inline'", False),  # and no eval
        ("script-src 'unsafe-inline' 'unsafe-eval'", True),
    ],
)
def test_a_viewer_that_forbids_scripts_is_said_and_not_to_press_play(
    chromium: Browser, url: str, policy: str, able: bool
) -> None:
    body = Path(url.removeprefix("file://")).read_text(encoding="utf-8")
    head = {"Content-Security-Policy": policy, "Content-Type": "text/html"}
    context = chromium.new_context()
    page = context.new_page()
    page.route("**/*", lambda route: route.fulfill(body=body, headers=head))
    page.goto("http://viewer.example/")
    forbidden = page.get_by_text("this viewer does not run them")
    play = page.get_by_text("do their averages point along")
    if able:
        expect(play).to_be_visible()
        expect(forbidden).to_have_count(0)
    else:
        expect(forbidden).to_be_visible(timeout=10_000)
        expect(play).to_be_hidden()
    context.close()


def test_a_sentence_shows_its_prediction_in_the_spectrum(exported: Workbench) -> None:
    levels = STUDY.levels["icml"]
    assert "collapse" not in exported.state("parts")
    exported.page.locator(".wb-show").click()
    exported.until(lambda: "collapse" in exported.state("parts"))
    expected = predicted_class_part(STUDY, levels)
    drawn = exported.read("collapse part", "data.x")
    np.testing.assert_allclose(drawn, expected, rtol=1e-9)
    assert exported.state("parts") == "class,collapse"  # what was drawn is still
    expect(exported.page.locator(".bk-Figure").nth(1)).to_be_in_viewport()
    exported.button("predicted by collapse").click()
    exported.until(lambda: exported.state("parts") == "class")
    exported.until(lambda: np.isnan(exported.read("collapse part", "data.x")[0]))
