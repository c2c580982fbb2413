"""The parts of G as rows of sticks: names, eigenvalues and style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, Scatter, Segment
from bokeh.plotting import figure
from numpy.typing import NDArray

from workbench.page.view_state import BY_NAME
from workbench.study.convention import Convention
from workbench.study.records import Levels, Study
from workbench.ui.theme import Theme
from workbench.ui.views.frame import tooltip
from workbench.ui.views.words import count, number, percent

MAX_DRAWN = 100  # leading eigenvalues of a part drawn as sticks

# Height of the sticks as a share of the plot's, from smallest to largest.
ROLES = BY_NAME["parts"].choices
HEIGHTS = {"diag": 0.13, "within": 0.20, "cross": 0.27, "class": 0.34, "means": 0.41}
MARKERS = {
    "diag": "inverted_triangle",
    "within": "square",
    "cross": "triangle",
    "class": "diamond",
    "means": "hex",
}
_WORDS = {
    "class": (
        "class",
        "what the C class means carry by themselves: the outliers that they predict",
    ),
    "cross": (
        "cross",
        "what sets the means of the pairs c, c′ of a class apart from its class mean",
    ),
    "within": (
        "within",
        "what sets the single examples apart from the mean of their pair c, c′",
    ),
    "diag": (
        "c′ = c",
        "the means of the gradients taken for the true label",
    ),
    "means": (
        "all means",
        "all parts but “within” together: what remains after the first average",
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of G, ready to draw."""

    role: str  # one of ROLES
    name: str  # as in the study: G1, G_class
    label: str  # on its switch: G₁ class
    about: str  # one sentence
    color: str
    eigenvalues: NDArray[np.float64]  # those drawn


def parts_of(study: Study, levels: Levels, theme: Theme) -> tuple[Part, ...]:
    """Return the parts in this convention, in hierarchical order, then their sum."""
    convention = levels.convention
    means = convention.means_part
    names = [*convention.parts, *([means] if means in levels.parts else [])]
    found = []
    for name in names:
        role = _role(name, convention)
        values = levels.parts[name]
        values = values[values > 1e-9 * values.max(initial=0.0)]
        if role == "class":
            values = values[: study.num_classes]  # the rest is rounding
        word, about = _WORDS[role]
        trace, total = levels.trace.get(name), levels.trace.get("G")
        share = f"; {percent(trace / total)} of G’s trace" if trace and total else ""
        drawn = values[:MAX_DRAWN]
        measured = count(len(drawn), "eigenvalue")
        if role == "within" or name in levels.trace_error:
            measured = f"its {count(len(drawn), 'leading eigenvalue')}"
            errors = levels.residuals.get(name)
            if errors is not None and len(drawn):
                worst = float(errors[: len(drawn)].max())
                measured += f", each within {number(worst)}"
        elif len(drawn) < len(values):
            measured = f"the first {len(drawn)} of its {len(values):,} eigenvalues"
        found.append(
            Part(
                role=role,
                name=name,
                label=_label(name, word),
                about=f"{_plain(name)}: {about}{share}. Drawn: {measured}.",
                color=getattr(theme, f"{role}_part"),
                eigenvalues=drawn,
            )
        )
    return tuple(found)


def part_source(part: Part) -> ColumnDataSource:
    """Its eigenvalues; the browser adds their positions and tooltips."""
    many = len(part.eigenvalues)
    columns = {
        **{name: np.full(many, np.nan) for name in ("x", "base", "top")},
        "value": part.eigenvalues,
        "told": [""] * many,
        "nth": np.arange(1, many + 1),
    }
    return ColumnDataSource(columns, name=f"{part.role} part")


def draw_part(plot: figure, part: Part, source: ColumnDataSource, theme: Theme) -> None:
    """Add the sticks and their heads to the figure."""
    thin = 0.6 if len(part.eigenvalues) > 40 else 1.0
    plot.add_glyph(
        source,
        Segment(
            x0="x",
            y0="base",
            x1="x",
            y1="top",
            line_color=part.color,
            line_width=2.4 * thin,
            line_alpha=1.0 if part.role == "class" else 0.7,
        ),
    )
    heads = plot.add_glyph(
        source,
        Scatter(
            x="x",
            y="top",
            marker=MARKERS[part.role],
            size=11 * (thin if thin < 1 else 1.0),
            fill_color=part.color,
            line_color=theme.background,
            line_width=1,
        ),
    )
    tooltip(plot, heads, theme, f"eigenvalue @nth of {_plain(part.name)}: @told")


def _role(name: str, convention: Convention) -> str:
    if name == convention.class_part:
        return "class"
    if name == convention.means_part:
        return "means"
    roles = {"G0": "diag", "G2": "cross", "G3": "within"}
    return roles.get(name) or name.removeprefix("G_")


def _plain(name: str) -> str:
    """Return the name of a part in plain Unicode: G₁, G₁₊₂, G class."""
    if name == "G12":
        return "G₀₊₁₊₂"
    if name[1:].isdigit():
        return "G" + name[1:].translate(str.maketrans("0123", "₀₁₂₃"))
    return name.replace("_diag", " (c′ = c)").replace("_", " ")


def _label(name: str, word: str) -> str:
    return word if "_" in name else f"{_plain(name)} {word}"
