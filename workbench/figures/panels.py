"""A figure as plain values: panels in rows, each with its series. Draws nothing.

So a figure is described once, and drawn as a page (`page`) and as pictures (`picture`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

INK, MUTED, CLASS, CROSS, WITHIN, DIAGONAL = (
    "ink", "muted", "class_part", "cross_part", "within_part", "diag_part"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points that belong together."""

    kind: str  # dots, line, sticks (from zero up to y) or bars (as wide as their width)
    x: Sequence[float]
    y: Sequence[float]
    colour: str = INK  # a role of the theme, or "class 3"
    label: str = ""  # in the legend; "": none
    size: float = 5.0  # of dots, in points; of lines and sticks, a third of it
    width: float = 0.0  # of bars, in units of x
    dashed: bool = False
    hollow: bool = False  # dots without a filling
    told: Sequence[str] = ()  # what each point says under the mouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    bare: bool = False  # without ticks, where the axes mean nothing


Rows = Sequence[Sequence[Panel]]


def in_rows(named: Mapping[str, list[Panel]]) -> Rows:
    """One row per name; a single row, where each has but one panel."""
    if all(len(row) == 1 for row in named.values()):
        return [[panel for row in named.values() for panel in row]]
    return list(named.values())
