"""All figures by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module

from workbench.errors import WorkbenchError
from workbench.figures.figure import Figure

# Name -> module, which holds it as FIGURE; loaded when asked for.
_HOME: Mapping[str, str] = {
    name: f"workbench.figures.{name.replace('-', '_')}"
    for name in (
        "averages",
        "embeddings",
        "spectra",
        "lecun1998",
        "dauphin2014",
        "sagun2017",
        "papyan2020-parts",
        "papyan2020-knockouts",
        "map",
    )
}
FIGURES = tuple(_HOME)


def find_figure(name: str) -> Figure:
    """Return the figure with this name.

    Raises:
        WorkbenchError: If there is none.
    """
    if name not in _HOME:
        near = get_close_matches(name, FIGURES, 1)
        advice = f"did you mean {near[0]}?" if near else f"use {', '.join(FIGURES)}."
        raise WorkbenchError(f"figure: there is no figure {name!r}; {advice}")
    found: Figure = import_module(_HOME[name]).FIGURE
    return found
