"""The page in real Voila: see, pick, step, train, stop, err, go on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.drive import MODEL, Workbench
from tests.browser.figures import measure_opening
from tests.studies import make_study
from workbench.page.presets import PRESETS, load_example
from workbench.study.convention import CONVENTIONS
from workbench.ui.theme import LIGHT
from workbench.ui.views.scene import make_scene

EXAMPLE = load_example(PRESETS[0].name)  # the one that opens
ABOUT = f"examples · {PRESETS[0].settings.epochs} epochs"
pytestmark = pytest.mark.browser

SINCE_CLICK = """text => {
  let clicked
  const once = {capture: true, once: true}
  addEventListener("click", () => { clicked = performance.now() }, once)
  new MutationObserver((_, observer) => {
    if (clicked === undefined || !document.body.innerText.includes(text)) return
    window.sinceClick = performance.now() - clicked
    observer.disconnect()
  }).observe(document.body, {childList: true, characterData: true, subtree: true})
}"""


def test_the_example_is_drawn_on_opening_and_says_so(workbench: Workbench) -> None:
    expect(workbench.badge).to_have_text("example")
    assert len(workbench.read("marks 0", "data.x")) > 100
    assert len(workbench.read("sticks", "data.x")) > 0
    expect(workbench.page.get_by_text("What am I seeing?")).to_be_visible()
    workbench.expect_ready()
    expect(workbench.button("Pause")).to_be_disabled()
    expect(workbench.button("Measure again")).to_be_disabled()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 720), (1024, 768)])
def test_the_question_and_both_pictures_are_whole_at_the_first_glance(
    open_page: Callable[..., Page], voila: str, width: int, height: int
) -> None:
    page = open_page(voila, width=width, height=height)
    workbench = Workbench(page).wait(settings=False)
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport(ratio=1)
    for name in ("Play", "Run this live", "Train your own"):
        expect(workbench.button(name)).to_be_in_viewport(ratio=1)
    for words in ("by true class", "Density of the eigenvalues"):
        figure = page.get_by_role("img", name=words)
        expect(figure).to_be_in_viewport(ratio=1)
        box = figure.bounding_box()
        assert box is not None
        assert box["height"] >= 320
    expect(page.locator(".wb-formula").first).to_be_hidden()
    workbench.button("Show the maths").click()
    expect(page.locator(".wb-formula").first).to_be_visible()
    expect(workbench.button("Train")).to_be_hidden()
    workbench.button("Train your own").click()
    expect(workbench.button("Train")).to_be_in_viewport(ratio=1)


def test_on_a_phone_play_and_what_it_moves_are_seen_together(
    open_page: Callable[..., Page], voila: str
) -> None:
    page = open_page(voila, width=390, height=844)
    workbench = Workbench(page).wait(settings=False)
    workbench.button("Play").click()
    figure = page.get_by_role("img", name="by true class")
    expect(figure).to_be_in_viewport(ratio=1)
    expect(workbench.button("Pause").first).to_be_in_viewport(ratio=1)


def test_a_class_picked_on_the_canvas_highlights_its_outliers(
    workbench: Workbench,
) -> None:
    x, y, c = (workbench.read("marks 2", f"data.{name}") for name in "xyc")
    before = workbench.read("sticks", "data")
    workbench.click_at("embedding", x[3], y[3])
    workbench.until(lambda: workbench.state("selected_class") == c[3])
    workbench.until(lambda: workbench.read("sticks", "data") != before)
    share = make_scene(EXAMPLE, LIGHT).overlap[:, c[3]]
    alpha = workbench.read("sticks", "data.alpha")
    assert np.argmax(alpha) == np.argmax(share)  # in proportion, as it leans on them
    np.testing.assert_allclose(
        alpha[: len(share)], 0.15 + 0.85 * share / share.max(), atol=1e-6
    )


def test_an_outlier_picked_on_the_canvas_highlights_its_classes(
    workbench: Workbench,
) -> None:
    x, top = (workbench.read("sticks", f"data.{name}") for name in ("x", "top"))
    before = workbench.read("marks 2", "data")
    workbench.click_at("spectrum", x[0], top[0])
    workbench.until(lambda: workbench.state("selected_outlier") == 0)
    assert workbench.state("selected_class") == -1
    workbench.until(lambda: workbench.read("marks 2", "data") != before)


def test_step_moves_every_gradient_to_its_mean_and_back_returns_it(
    workbench: Workbench,
) -> None:
    start = workbench.read("marks 0", "data.x")
    pairs = {
        (c, k): x
        for c, k, x in zip(
            *(workbench.read("marks 1", f"data.{name}") for name in "ckx"), strict=True
        )
    }
    c, k = (workbench.read("marks 0", f"data.{name}") for name in "ck")
    ends = [pairs[pair] for pair in zip(c, k, strict=True)]
    workbench.button("Step ›").click()
    workbench.until(
        lambda: workbench.read("marks 0", "data.x") == pytest.approx(ends, abs=1e-5),
        seconds=30,
    )
    assert workbench.state("level") == 1
    workbench.button("‹ Back").click()
    workbench.until(
        lambda: workbench.read("marks 0", "data.x") == pytest.approx(start, abs=1e-5),
        seconds=30,
    )


def test_the_convention_changes_the_levels_at_once(workbench: Workbench) -> None:
    part = workbench.read("class part", "data.x")
    workbench.field("Averages").select_option(label="jmlr (weighted)")
    workbench.until(lambda: workbench.read("class part", "data.x") != part)
    found = workbench.read("class part", "data.x")
    wanted = EXAMPLE.levels["jmlr"].parts[CONVENTIONS["jmlr"].class_part][: len(found)]
    np.testing.assert_allclose(sorted(found), sorted(wanted), rtol=1e-6)
    workbench.expect_ready()


def test_a_folder_that_is_not_there_fills_the_red_box_and_the_page_lives_on(
    workbench: Workbench,
) -> None:
    page = workbench.page
    workbench.field("Dataset").select_option(label="Image folder")
    workbench.fill("Path", "/no/such/<b>folder</b>")
    workbench.button("Train").click()
    expect(workbench.problem).to_contain_text("/no/such/<b>folder</b>", timeout=60_000)
    workbench.expect_ready()
    page.wait_for_timeout(500)
    expect(workbench.problem).to_be_visible()
    workbench.button("Close").click()
    expect(workbench.problem).to_have_count(0)
    workbench.button("Step ›").click()
    workbench.until(lambda: workbench.state("level") == 1)
    expect(workbench.badge).to_have_text("example")


def test_a_number_out_of_bounds_is_put_back_in_the_browser_too(
    workbench: Workbench,
) -> None:
    workbench.fill("Epochs", "100000")
    expect(workbench.problem).to_contain_text("from 1 to 500")
    expect(workbench.field("Epochs")).to_have_value(str(PRESETS[0].settings.epochs))


@pytest.mark.parametrize("width", [1024, 390])
def test_the_red_box_is_seen_from_the_controls_that_stand_below_it(
    open_page: Callable[..., Page], voila: str, width: int
) -> None:
    workbench = Workbench(open_page(voila, width=width, height=800)).wait()
    workbench.field("Rate").scroll_into_view_if_needed()
    workbench.fill("Rate", "-1")
    expect(workbench.field("Rate")).to_be_in_viewport()
    expect(workbench.problem).to_be_in_viewport(ratio=1)
    expect(workbench.button("Close")).to_be_in_viewport(ratio=1)


FAIL = """kind => dispatchEvent(kind === "error"
  ? new ErrorEvent(kind, {error: new Error("broken")})
  : new PromiseRejectionEvent(kind, {promise: Promise.resolve()}))"""


@pytest.mark.parametrize("kind", ["error", "unhandledrejection"])
def test_a_defect_in_the_browser_is_said_in_a_sentence(
    workbench: Workbench, kind: str
) -> None:
    notice = workbench.page.locator("#page-notice")
    workbench.page.evaluate("dispatchEvent(new ErrorEvent('error'))")  # no defect
    expect(notice).to_be_hidden()
    workbench.page.evaluate(FAIL, kind)
    expect(notice).to_contain_text("Something went wrong on this page")


@pytest.mark.slow
def test_training_on_digits_from_the_click_to_the_new_picture(
    workbench: Workbench,
) -> None:
    page = workbench.page
    before = workbench.read("sticks", "data.x")
    workbench.field("Network").select_option(label="MLP")
    workbench.fill("Per class", "10")
    workbench.fill("Epochs", "8")
    workbench.button("Train").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.locator(".wb-stage")).to_contain_text(
        re.compile(" left| so far"), timeout=20_000
    )
    expect(page.locator(".wb-curves figure")).to_have_count(2, timeout=60_000)
    # The pictures answer while the kernel works.
    workbench.button("Step ›").click()
    workbench.until(lambda: workbench.state("level") == 1, seconds=2)
    expect(workbench.badge).to_have_text("your run", timeout=120_000)
    workbench.until(lambda: workbench.read("sticks", "data.x") != before)
    about = "10 per class · 100 of 1,797 examples · 8 epochs"
    expect(page.locator(".wb-about")).to_contain_text(about)
    # Then come the earlier epochs, as many as a minute allows.
    expect(workbench.button("Train")).to_be_enabled(timeout=120_000)
    epochs = [list("01248"), list("0248"), list("048"), list("48")]
    workbench.until(lambda: workbench.read("stops", "labels") in epochs)
    expect(workbench.problem).to_have_count(0)
    expect(workbench.button("Measure again")).to_be_enabled()


@pytest.mark.slow
def test_a_training_is_found_again_after_a_reload_and_by_a_second_tab_that_stops_it(
    workbench: Workbench, open_page: Callable[..., Page], voila: str
) -> None:
    page = workbench.page
    workbench.fill("Epochs", "500")  # of the convolutional network: a minute
    workbench.button("Train").click()
    expect(page.locator(".wb-curves figure")).to_have_count(2, timeout=90_000)
    page.reload()
    workbench.wait()
    expect(page.locator(".wb-found")).to_contain_text("is running", timeout=20_000)
    other = Workbench(open_page(voila)).wait()  # a second tab on the same training
    for tab in (workbench, other):
        tab.button("Watch").click()
        curves = tab.page.locator(".wb-curves figure")
        expect(curves).to_have_count(2, timeout=20_000)
    other.button("Stop").click()
    for tab in (other, workbench):
        kept = tab.page.get_by_text("What was learnt is kept")
        expect(kept).to_be_visible(timeout=20_000)
        expect(tab.button("Continue")).to_be_visible()
    page.reload()
    workbench.wait()
    expect(page.locator(".wb-found")).to_contain_text("was interrupted", timeout=20_000)
    workbench.button("Continue with it").click()
    expect(workbench.button("Continue")).to_be_enabled()


@pytest.mark.slow
def test_stop_is_answered_within_a_second_and_what_was_learnt_is_kept(
    workbench: Workbench,
) -> None:
    page = workbench.page
    workbench.field("Network").select_option(label="MLP")
    workbench.fill("Epochs", "500")
    workbench.button("Train").click()
    expect(page.get_by_text("Training", exact=True)).to_be_visible(timeout=60_000)
    expect(page.locator(".wb-curves figure")).to_have_count(2, timeout=60_000)
    page.evaluate(SINCE_CLICK, "What was learnt is kept")  # timed in the page itself
    workbench.button("Stop").click()
    expect(page.get_by_text("What was learnt is kept")).to_be_visible(timeout=10_000)
    took = page.evaluate("() => window.sinceClick / 1000")
    workbench.expect_ready()
    expect(workbench.button("Continue")).to_be_visible()
    expect(workbench.badge).to_have_text("example")
    assert took < 1.0


def test_a_link_restores_the_page_and_locks_what_it_says(
    open_page: Callable[..., Page], voila: str
) -> None:
    query = (
        "v=1&preset=training&pin=few&level=2&moment=1&class=3&scale=log"
        "&parts=class,means&compare=beside&hide=training&lock=seed"
    )
    page = open_page(f"{voila}?{query}", permissions=["clipboard-write"])
    workbench = Workbench(page).wait()
    expect(page.locator(".wb-about")).to_contain_text("examples · 30 epochs")
    assert workbench.state("selected_class") == 3
    assert workbench.state("scale") == "log"
    workbench.until(lambda: workbench.read("position", "value") == 2)
    workbench.until(lambda: workbench.read("stops", "active") == 1)
    workbench.until(lambda: workbench.read("rail", "value") == 1)
    expect(page.locator(".wb-words")).to_contain_text("At epoch 1 of 30:")
    assert workbench.read("parts", "active") == [1, 4]
    pinned = page.get_by_text("Pinned: digits · mlp · 10 per class")
    expect(pinned.first).to_be_visible()
    expect(workbench.button("Train")).to_be_hidden()
    expect(workbench.field("Seed")).to_be_disabled()
    workbench.button("Share").click()
    workbench.button("Copy link").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    link = workbench.field("Link to this page").input_value()
    assert link.startswith(f"{voila}?v=1&preset=training")
    assert "pin=few&level=2&moment=1&class=3&scale=log&parts=class,means" in link
    page.goto(f"{voila}?v=1&preset=<b>none</b>")
    workbench.wait()
    expect(workbench.problem).to_contain_text("Preset: '<b>none</b>' is unknown")
    expect(page.locator(".wb-about")).to_contain_text(ABOUT)


def upload(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chosen:
        page.locator(".wb-upload").click()
    chosen.value.set_files(path)


def test_a_preset_opens_at_once_and_a_file_of_ones_own_too(
    workbench: Workbench, tmp_path: Path
) -> None:
    page = workbench.page
    workbench.field("Show").select_option(label="Too few examples")
    expect(page.locator(".wb-about")).to_contain_text("examples · 60 epochs")
    expect(workbench.field("Epochs")).to_have_value("60")
    expect(workbench.button("Run this live")).to_be_enabled()
    workbench.field("Show").select_option(label="Your own…")
    study, other = tmp_path / "mine.study", tmp_path / "other.study"
    make_study(3, 40).save(study)
    other.write_bytes(b"import os")
    upload(page, other)
    expect(workbench.problem).to_contain_text("other.study is neither a study nor")
    workbench.button("Close").click()
    with other.open("wb") as file:
        file.truncate(65 * 2**20)
    upload(page, other)
    notice = page.locator("#page-notice")
    expect(notice).to_contain_text("other.study is 65 MB and the limit is 64 MB")
    upload(page, study)
    expect(workbench.badge).to_have_text("mine.study", timeout=20_000)
    expect(workbench.button("Run this live")).to_be_hidden()


def test_what_is_chosen_while_a_pinned_study_is_being_drawn_stays_chosen(
    open_page: Callable[..., Page], voila: str
) -> None:
    page = open_page(f"{voila}?v=1&preset=training&moment=0")
    workbench = Workbench(page).wait()
    workbench.until(lambda: workbench.state("moment") == 0)
    page.evaluate(
        """([find]) => {
          const state = eval(find)("state")
          const buttons = [...document.querySelectorAll("button")]
          buttons.find((b) => b.innerText === "Pin this study").click()
          window.before = state.id
          setTimeout(() => state.setv({moment: 1, selected_class: 2}), 20)
        }""",
        [MODEL],
    )
    workbench.until(lambda: workbench.read("state", "id") != page.evaluate("before"))
    expect(workbench.button("Unpin")).to_be_visible()
    page.wait_for_timeout(1000)  # what the kernel has still to say
    assert workbench.state("moment") == 1
    assert workbench.state("selected_class") == 2
    workbench.until(lambda: workbench.read("rail", "value") == 1)


def test_two_pages_do_not_share_what_they_show(
    workbench: Workbench, open_page: Callable[..., Page], voila: str
) -> None:
    workbench.fill("Epochs", "11")
    other = Workbench(open_page(voila)).wait()
    expect(other.field("Epochs")).to_have_value(str(PRESETS[0].settings.epochs))
    expect(workbench.field("Epochs")).to_have_value("11")


def test_nothing_hangs_out_of_the_page(
    open_page: Callable[..., Page], voila: str
) -> None:
    workbench = Workbench(open_page(voila, width=390)).wait()
    for width in (390, 1024, 1440, 2560, 390):
        workbench.page.set_viewport_size({"width": width, "height": 1000})
        workbench.page.wait_for_timeout(400)
        wide = workbench.page.evaluate(
            "() => Math.max(...[...document.querySelectorAll('.workbench *')]"
            ".filter((e) => e.getClientRects().length && !e.closest('.wb-scroll'))"
            ".map((e) => e.getBoundingClientRect().right))"
        )
        assert wide <= width + 1, width


def test_the_page_opens_small_and_its_kernel_without_torch(
    open_page: Callable[..., Page], voila: str
) -> None:
    found = measure_opening(open_page("about:blank", host=voila), voila)
    assert found.seen_s < 5  # wanted are 2 and 4; 0.5 and 2.4 where nothing else runs
    assert found.ready_s < 10
    assert found.kernel_mb < 200
    assert found.wire_mb <= 3.0
    assert not found.torch
