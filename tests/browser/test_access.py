"""Everybody: what axe-core finds, and all of it by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.drive import Workbench
from tests.studies import make_study
from workbench.ui.export import export_html

pytestmark = pytest.mark.browser


WAYS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


def findings(page: Page, width: int, scheme: str) -> list[str]:
    """What axe-core calls serious or critical, at that width and in that theme."""
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)
    page.wait_for_timeout(300)
    return [
        f"{width} {scheme} {finding['id']}: "
        + "; ".join(node["html"] for node in finding["nodes"])
        for finding in Axe().run(page).response["violations"]
        if finding["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious_in_the_page_its_menus_and_its_tour(
    workbench: Workbench,
) -> None:
    page = workbench.page
    workbench.button("Pin this study").click()
    workbench.field("Show").select_option(label="Too few examples")
    expect(page.locator(".wb-about")).to_contain_text("examples · 60 epochs")
    workbench.button("beside").click()
    workbench.button("More").click()
    workbench.fill("Rate", "-1")
    found = []
    for menu, (width, scheme) in zip(("Open", "Share", "Code"), WAYS, strict=False):
        workbench.button(menu).click()
        expect(page.locator(".wb-menu h2").first).to_be_visible()
        found += findings(page, width, scheme)
    workbench.button("Tour").click()
    expect(page.get_by_role("dialog", name="Tour")).to_be_visible()
    expect(workbench.problem).to_be_visible()
    assert found + findings(page, *WAYS[3]) == []


def test_axe_finds_nothing_serious_in_the_exported_page_and_sees_into_it(
    chromium: Browser, tmp_path: Path
) -> None:
    path = export_html(make_study(10, 200), tmp_path / "page.html")
    page = chromium.new_page()
    page.goto(path.as_uri())
    workbench = Workbench(page).wait()
    workbench.button("More").click()
    for width, scheme in WAYS:
        assert findings(page, width, scheme) == []
    workbench.button("Play").evaluate(
        "button => {button.replaceChildren(); button.removeAttribute('title')}"
    )
    (finding,) = Axe().run(page).response["violations"]
    assert finding["id"] == "button-name"
    page.close()


def test_a_class_is_picked_and_the_averages_are_taken_by_keyboard_alone(
    chromium: Browser, tmp_path: Path
) -> None:
    path = export_html(make_study(3, 40), tmp_path / "page.html")
    page = chromium.new_page(reduced_motion="reduce")
    page.goto(path.as_uri())
    workbench = Workbench(page).wait()

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "() => {let e = document.activeElement;"
                "while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;"
                "return e.innerText.trim()}"
            )
            if focused == name:
                return
        raise AssertionError(f"{name} is not reached by Tab")

    for name, then in (
        ("Step ›", lambda: workbench.state("level") == 1),
        ("More", lambda: workbench.read("menu", "visible")),
        ("Dark", lambda: workbench.state("theme") == "dark"),
        ("the class part", lambda: workbench.state("knockout") == "subtracted"),
        ("1", lambda: workbench.state("selected_class") == 1),
    ):
        tab_to(name)
        page.keyboard.press("Enter")
        workbench.until(then)
    page.keyboard.press("Escape")
    workbench.until(lambda: workbench.state("selected_class") == -1)
    page.close()
