"""The installed BokehJS, in a real browser: whether it has what is replaced of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bokeh.embed import file_html
from bokeh.resources import Resources
from playwright.sync_api import Browser, Page

from tests.studies import make_study
from tests.views import find
from workbench.ui.bridge import bokehjs
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.script import script

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Browser) -> Page:
    page = chromium.new_page()
    yield page
    page.close()


def test_the_installed_bokehjs_has_all_that_is_needed(page: Page) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_script_tag(content=bokehjs())
    assert page.evaluate(f"() => {script('bokeh.js')}.lacking()") == []
    assert said == []
    page.evaluate(
        "() => {"
        "delete Bokeh.require('document').Document.prototype._recompute_all_models}"
    )
    lacking = page.evaluate(f"() => {script('bokeh.js')}.lacking()")
    assert lacking == ["Document._recompute_all_models"]


def show(page: Page, view: LinkedView, folder: Path, before: str = "") -> list[str]:
    """Draw it, after a script has changed BokehJS; return what goes wrong."""
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    html = file_html(
        view.layout, Resources(mode="inline"), suppress_callback_warning=True
    )
    file = folder / "pair.html"
    file.write_text(html.replace("  <body>\n", f"<body><script>{before}</script>\n"))
    page.goto(file.as_uri())
    page.wait_for_function("() => window.Bokeh?.documents[0]?.is_idle")
    page.wait_for_timeout(500)
    return said


def test_figures_that_are_drawn_have_it_too(page: Page, tmp_path: Path) -> None:
    said = show(page, LinkedView(make_study(3, 40)), tmp_path)
    assert [one for one in said if not one.startswith("[bokeh 3.")] == []
    figures = (
        "['embedding', 'spectrum', 'overlap']"
        ".map((name) => Bokeh.documents[0].get_model_by_name(name))"
    )
    lacking = f"() => {script('bokeh.js')}.lackingOf({figures})"
    assert page.evaluate(lacking) == []
    forget = "delete Bokeh.index.find_one(one).throttled_paint"
    page.evaluate(f"() => {figures}.map((one) => {forget})")
    assert page.evaluate(lacking) == ["Figure.throttled_paint"] * 3


def test_what_is_missing_is_said_on_the_page_in_one_sentence(
    page: Page, tmp_path: Path
) -> None:
    gone = (
        "globalThis.workbenchSay = (sentence) => { globalThis.saidHere = sentence };"
        "let one = Bokeh.Models.get('Plot').prototype.default_view.prototype;"
        "for (; one; one = Object.getPrototypeOf(one)) delete one.export"
    )
    said = show(page, LinkedView(make_study(3, 40)), tmp_path, gone)
    assert any("lacks what the pictures need (Plot.export)" in one for one in said)
    assert "install the version of bokeh" in page.evaluate("() => saidHere")


def test_a_control_that_nothing_answers_to_is_named_when_it_is_drawn(
    page: Page, tmp_path: Path
) -> None:
    view = LinkedView(make_study(3, 40))
    act = find(view, "act")
    told = act.args["told"]
    act.args = act.args | {"told": told | {"wired": [*told["wired"], "nobody"]}}
    said = show(page, view, tmp_path)
    assert any("Nothing answers to the control “nobody”" in one for one in said)
