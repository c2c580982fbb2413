"""Colours, markers and fonts: the look of the page, in one place.

Colour and marker together show the class, and size shows the level, so nothing depends
on colour alone. The ten colours stay distinct under the common forms of colour
blindness (`tests/ui/test_views_theme.py` simulates them), and no class uses the orange
of the class part of G.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files

from workbench.errors import WorkbenchError

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif'

# Bokeh's filled markers, and the same outline for CSS (`clip-path`).
MARKERS: Mapping[str, str] = {
    "circle": "circle(50%)",
    "square": "inset(8%)",
    "triangle": "polygon(50% 0, 100% 92%, 0 92%)",
    "diamond": "polygon(50% 0, 92% 50%, 50% 100%, 8% 50%)",
    "inverted_triangle": "polygon(0 8%, 100% 8%, 50% 100%)",
    "hex": "polygon(25% 5%, 75% 5%, 100% 50%, 75% 95%, 25% 95%, 0 50%)",
    "star": "polygon(50% 0, 62% 35%, 98% 35%, 69% 57%, 79% 91%, 50% 70%, "
    "21% 91%, 31% 57%, 2% 35%, 38% 35%)",
    "plus": "polygon(33% 0, 67% 0, 67% 33%, 100% 33%, 100% 67%, 67% 67%, 67% 100%, "
    "33% 100%, 33% 67%, 0 67%, 0 33%, 33% 33%)",
    "square_pin": "polygon(0 0, 50% 18%, 100% 0, 82% 50%, 100% 100%, 50% 82%, "
    "0 100%, 18% 50%)",
    "triangle_pin": "polygon(50% 0, 64% 56%, 100% 92%, 50% 78%, 0 92%, 36% 56%)",
}


AUTO = "auto"  # follow the host: JupyterLab, else the browser
PAGE = ":is(.workbench, .wb-page)"  # .wb-page: a body entirely ours


@dataclass(frozen=True, slots=True)
class Theme:
    """One set of colours and sizes. No two roles share a colour: see `roles`."""

    name: str
    background: str
    surface: str  # behind controls
    ink: str  # text, and the sticks of the operator
    muted: str  # secondary text; 4.5 : 1 on the background
    line: str  # borders and grid
    accent: str  # the active control
    on_accent: str  # text on the accent
    curve: str  # the density
    class_part: str  # eigenvalues of the class part
    cross_part: str  # eigenvalues of the other parts of G
    within_part: str
    diag_part: str
    means_part: str
    classes: tuple[str, ...]  # ten
    type: float = 1.0  # font size
    marks: float = 1.0  # size of marks and width of lines


LIGHT = Theme(
    name="light",
    background="#ffffff",
    surface="#f5f6f8",
    ink="#1f2937",
    muted="#5b6472",
    line="#e3e6ea",
    accent="#1d4ed8",
    on_accent="#fefefe",
    curve="#7b8aa3",
    class_part="#e8710a",
    cross_part="#0e7c86",
    within_part="#8a4fd0",
    diag_part="#4d7c0f",
    means_part="#be3a6e",
    classes=(
        "#3860ae", "#f88caa", "#174d03", "#11c9ff", "#952958",
        "#c1c716", "#591483", "#1caf58", "#876c1c", "#ad74f4",
    ),
)  # fmt: skip
DARK = Theme(
    name="dark",
    background="#14171c",
    surface="#1f242c",
    ink="#e8ebf0",
    muted="#a3adbb",
    line="#343b46",
    accent="#8ab4ff",
    on_accent="#10141a",
    curve="#8796ad",
    class_part="#ff9d42",
    cross_part="#3cc4cf",
    within_part="#b48cf5",
    diag_part="#9ccc50",
    means_part="#f07aa6",
    classes=(
        "#80b5f9", "#d67a94", "#917206", "#3ef0fe", "#ad3375",
        "#d2f362", "#9b74f0", "#b6ad3c", "#4669b3", "#fbbcac",
    ),
)  # fmt: skip
PROJECTOR = Theme(
    name="projector",
    background="#ffffff",
    surface="#eef1f5",
    ink="#000000",
    muted="#2d3540",
    line="#9aa5b4",
    accent="#0a37a8",
    on_accent="#fefefe",
    curve="#56657d",
    class_part="#b35300",
    cross_part="#075a61",
    within_part="#5f2aa3",
    diag_part="#3a5e0a",
    means_part="#94204f",
    classes=(
        "#250b9a", "#da1028", "#22a1f4", "#670452", "#cc9126",
        "#0875de", "#93001f", "#9a9f8d", "#1f15e2", "#836e90",
    ),
    type=1.3,
    marks=1.5,
)  # fmt: skip
THEMES: Mapping[str, Theme] = {theme.name: theme for theme in (LIGHT, DARK, PROJECTOR)}


def get_theme(name: str) -> Theme:
    """Return the theme with this name.

    Raises:
        WorkbenchError: If there is none.
    """
    if name not in THEMES:
        raise WorkbenchError(f"theme: {name!r} is not one of {', '.join(THEMES)}.")
    return THEMES[name]


def roles(theme: Theme) -> dict[str, str]:
    """Map each role to its colour; classes are ``class-0``, ..."""
    named = {
        field.name.replace("_", "-"): getattr(theme, field.name)
        for field in fields(theme)
        if field.type == "str" and field.name != "name"
    }
    return named | {f"class-{c}": color for c, color in enumerate(theme.classes)}


def variables(theme: Theme) -> dict[str, str]:
    """The theme as CSS variables, which also apply inside shadow trees."""
    return {
        "color-scheme": "dark" if theme is DARK else "light",
        "--wb-font": FONT,
        "--wb-type": f"{theme.type:g}",
        **{f"--wb-{role}": color for role, color in roles(theme).items()},
    }


def page_style() -> str:
    """Return the style sheet of the page around the pictures, for all themes.

    Unless the pictures set a theme (``browser/look.js`` writes ``data-theme``), it
    follows JupyterLab if that is the host, else the browser.
    """
    sheet = (files("workbench.ui") / "page.css").read_text(encoding="utf-8")
    told = "[data-jp-theme-light='false']"
    by_host = f":where({told}) .workbench, .wb-page:where({told})"
    alone = "body:not([data-jp-theme-light])"
    by_browser = f":where({alone}) .workbench, .wb-page:where({alone})"
    chosen = "".join(
        _rule(f"{PAGE}[data-theme={name}]", theme) for name, theme in THEMES.items()
    )
    return (
        _rule(PAGE, LIGHT)
        + _rule(by_host, DARK)
        + f"@media (prefers-color-scheme: dark) {{{_rule(by_browser, DARK)}}}"
        + chosen
        + sheet
    )


def _rule(selector: str, theme: Theme) -> str:
    body = "".join(f"{name}:{value};" for name, value in variables(theme).items())
    return f"{selector}{{{body}}}\n"


def class_style(index: int, theme: Theme) -> tuple[str, str]:
    """Return colour and marker of a class; the first hundred pairs are distinct."""
    markers = tuple(MARKERS)
    lap = index // len(theme.classes)
    return (
        theme.classes[index % len(theme.classes)],
        markers[(index + lap) % len(markers)],
    )


def plain(text: str, limit: int = 16) -> str:
    """Shorten a name, and keep Bokeh from reading user text as TeX."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    for mark in ("$$", r"\(", r"\["):
        short = short.replace(mark, f"{mark[0]}\u200b{mark[1]}")
    return short
