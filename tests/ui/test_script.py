"""The browser's half as one script, and the names that Python and it share."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.studies import make_study
from tests.views import find
from workbench.ui.views.bar import BarView
from workbench.ui.views.compare import CompareView
from workbench.ui.views.controls import Controls
from workbench.ui.views.embedding import EmbeddingView
from workbench.ui.views.film import FilmView
from workbench.ui.views.linked import STATE, LinkedView
from workbench.ui.views.overlap import OverlapView
from workbench.ui.views.script import BROWSER, script
from workbench.ui.views.spectrum import SpectrumView
from workbench.ui.views.stepper import StepperView
from workbench.ui.views.strip import StripView
from workbench.ui.views.walk import WalkView

VIEWS = (
    BarView,
    CompareView,
    Controls,
    EmbeddingView,
    FilmView,
    OverlapView,
    SpectrumView,
    StepperView,
    StripView,
    WalkView,
)


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def test_modules_stand_after_what_they_import_and_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='import { b } from "./b.js"\nimport { c } from "./c.js"\n'
        "export const all = b + c\n",
        b='import { c } from "./c.js"\n// no more\nexport const b = c\nconst own = 1\n',
        c="/**\n * @type {number}\n */\nexport const c = 1\n",
    )
    text = script("main.js", tmp_path)
    order = [text.index(f"const ${name} = ") for name in ("c", "b", "main")]
    assert order == sorted(order)
    assert text.count("const c = 1") == 1
    assert "return {b}" in text  # and `own` is its own
    assert "no more" not in text
    assert "@type" not in text
    assert text.endswith("return $main\n})()")


def test_an_import_over_several_lines_is_one(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='import {\n  one,\n  two,\n} from "./b.js"\nexport const all = one\n',
        b="export const one = 1\nexport const two = 2\n",
    )
    assert re.search(r"const \{\s+one,\s+two,\s+\} = \$b", script("main.js", tmp_path))


def test_modules_that_import_one_another_are_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        a='import { b } from "./b.js"\nexport const a = 1\n',
        b='import { a } from "./a.js"\nexport const b = 1\n',
    )
    with pytest.raises(ValueError, match=r"a\.js -> b\.js -> a\.js"):
        script("a.js", tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        'import * as b from "./b.js"',
        'import { a as b } from "./b.js"',
        'import "./b.js"',
        "export default 1",
        "export { b }",
        'export * from "./b.js"',
        "export let b = 1",
        "export async function b() {}",
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, a=f"{line}\n", b="export const b = 1\n")
    with pytest.raises(ValueError, match=r"a\.js says"):
        script("a.js", tmp_path)


def test_the_pictures_script_holds_every_module_and_no_word_of_modules() -> None:
    text = script("main.js")
    for path in BROWSER.iterdir():
        if path.name.endswith(".js"):
            assert f"const ${path.name.removesuffix('.js')} = " in text
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    assert "export default" not in text  # or Bokeh would take it for a module


def interface(name: str) -> set[str]:
    """The names that the browser's types give a record."""
    text = (BROWSER / "types.d.ts").read_text("utf-8")
    found = re.search(rf"^export interface {name} \{{\n(.*?)^\}}", text, re.S | re.M)
    assert found, name
    return set(re.findall(r"^  (\w+)\??:", found[1], re.M))


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What Python hands over, with a film and a pinned study."""
    view = LinkedView(make_study(3, 40, num_moments=2), files={"Tables": "All"})
    view.compare(make_study(3, 40, seed=1))
    return find(view, "act").args


def test_the_state_has_the_properties_that_the_browser_knows() -> None:
    assert interface("StateValues") == set(STATE)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_each_view_has_the_fields_that_the_browser_knows(view: type) -> None:
    assert interface(view.__name__) == {field.name for field in fields(view)}


def test_what_is_told_has_the_names_that_the_browser_knows(given: Any) -> None:
    told, models = given["told"], given["models"]
    assert interface("Told") == set(told)
    assert interface("Titles") == set(told["titles"])
    assert interface("Models") == set(models)
    for theme in told["themes"].values():
        assert interface("Theme") == set(theme)
    (moment, *_), (text, *_) = models["film"]["moments"], models["film"]["texts"]
    assert interface("Moment") == set(moment)
    assert interface("MomentWords") == set(text)
    assert interface("Walks") == set(models["walk"]["walks"])
    for frame in (*moment["frames"].values(), *models["spectrum"]["frames"].values()):
        assert set(frame) <= interface("Frame")


def test_sources_have_the_columns_that_the_browser_knows(given: Any) -> None:
    models = given["models"]
    spectrum = models["spectrum"]
    for source in models["embedding"]["sources"]:
        assert interface("Marks") <= set(source.data)
    assert interface("Cells") <= set(models["overlap"]["cells"].data)
    assert interface("WalkLines") == set(models["walk"]["lines"].data)
    assert interface("StripCells") == set(models["strip"]["cells"].data)
    assert interface("Bands") == set(models["overlap"]["bands"].data)
    assert interface("Sticks") == set(spectrum["sticks"].data)
    assert interface("Eigenvalues") == set(spectrum["eigenvalues"]["G"].data)
    for source in spectrum["parts"].values():
        assert interface("PartSticks") == set(source.data)
    for source in spectrum["curves"].values():
        assert interface("Curve") - {"rest", "spans"} <= set(source.data)
