"""Film and pinned study in the stand-alone page: no kernel, every request refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.drive import Workbench
from tests.browser.test_export import Opened
from tests.studies import make_study
from workbench.ui.export import export_html
from workbench.ui.views.words import number, percent

pytestmark = pytest.mark.browser
NAMES = ("cat", "dog", "fox", "owl")
STUDY = make_study(4, 150, num_moments=3, class_names=NAMES)  # epochs 0, 1, 4 and 30
PINNED = make_study(4, 120, seed=5, signal=1.0, class_names=NAMES)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("film")
    return export_html(STUDY, folder / "page.html", pinned=PINNED).as_uri()


@pytest.fixture
def exported(chromium: Browser, url: str) -> Iterator[Workbench]:
    wide = {"width": 1440, "height": 1000}
    opened = Opened(chromium, url, viewport=wide, reduced_motion="reduce")
    yield Workbench(opened.page).wait()
    opened.context.close()
    assert opened.wrong == []


def sticks(page: Workbench, name: str = "sticks") -> list[float]:
    return page.read(name, "data.x")


def test_the_scrubber_is_dragged_to_an_earlier_epoch_and_back_by_keyboard(
    exported: Workbench,
) -> None:
    page, last = exported.page, sticks(exported)
    handle = page.get_by_role("slider", name="Training, from its first epoch")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    rail = page.locator(".wb-rail .noUi-base").bounding_box()
    assert box is not None
    assert rail is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(rail["x"] + rail["width"] / 2, y, steps=4)
    exported.until(lambda: 1 < exported.read("rail", "value") < 2)
    low, high = (STUDY.moments[n].spectra["G"].eigenvalues[0] for n in (1, 2))
    assert min(low, high) < sticks(exported)[0] < max(low, high)
    page.mouse.move(rail["x"], y, steps=4)
    page.mouse.up()
    exported.until(lambda: exported.state("moment") == 0)
    first = STUDY.moments[0].spectra["G"].eigenvalues[: len(last)].tolist()
    exported.until(lambda: sticks(exported) == pytest.approx(first))
    expect(page.locator(".wb-when")).to_contain_text("epoch 0")
    exported.button("the class part").click()
    left = STUDY.moments[0].levels["icml"].subtracted[: len(last)].tolist()
    exported.until(lambda: sticks(exported) == pytest.approx(left))
    exported.button("nothing").click()
    handle.press("End")
    exported.until(lambda: exported.state("moment") == -1)
    exported.until(lambda: sticks(exported) == pytest.approx(last))
    expect(page.locator(".wb-when")).to_contain_text("epoch 30")


def test_the_pinned_study_stays_while_the_film_moves_and_follows_the_selection(
    exported: Workbench,
) -> None:
    page, pinned = exported.page, sticks(exported, "pinned sticks")
    own = PINNED.spectra["G"].eigenvalues[: len(pinned)]
    assert pinned == pytest.approx(own.tolist())
    exported.button("dog").click()
    exported.until(lambda: exported.state("selected_class") == 1)
    exported.until(
        lambda: (
            [round(a, 2) for a in exported.read("pinned marks 2", "data.alpha")]
            == [0.07, 1, 0.07, 0.07]
        )
    )
    exported.button("4").click()  # the epoch
    exported.until(lambda: exported.state("moment") == 2)
    assert sticks(exported, "pinned sticks") == pinned
    exported.button("beside").click()
    plane = page.locator(".wb-heading").get_by_text("Pinned: synthetic")
    expect(plane.first).to_be_visible()
    exported.until(lambda: exported.read("plane", "inner_width") > 50)
    exported.button("log").click()
    exported.until(lambda: sticks(exported, "pinned sticks") != pinned)
    assert exported.read("plot", "x_range.start") == exported.read(
        "spectrum", "x_range.start"
    )


def test_the_words_and_the_knocked_out_density_are_about_the_epoch_that_is_shown(
    exported: Workbench,
) -> None:
    page = exported.page
    words = page.locator(".wb-words [data-moment]:not([hidden])")
    expect(words.first).to_contain_text("At epoch 30 of 30")
    page.get_by_text("The overlaps as a table").click()
    exported.button("0").click()  # the epoch
    exported.until(lambda: exported.state("moment") == 0)
    expect(words).to_have_count(2)
    expect(words.first).to_contain_text("At epoch 0 of 30")
    first = STUDY.moments[0]
    least = percent(first.levels["icml"].overlap[:3].min())
    expect(words.first).to_contain_text(f"lies {least} in the span")
    value = number(first.spectra["G"].eigenvalues[0])
    expect(words.last.get_by_role("row").nth(1)).to_contain_text(f"(λ = {value})")
    before = exported.read("density", "data.y")
    exported.button("all its directions").click()
    expect(page.get_by_text("The density moves with these")).to_be_visible()
    exported.until(lambda: exported.read("density", "data.y") != before)
    exported.button("log").click()  # it stays knocked out upon another axis
    exported.until(lambda: exported.state("scale") == "log")
    knocked = exported.read("density", "data.y")
    exported.button("nothing").click()
    exported.until(lambda: exported.read("density", "data.y") != knocked)
