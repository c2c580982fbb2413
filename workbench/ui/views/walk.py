"""The loss along the eigenvector that is picked: whole, and a class at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTickFormatter,
    Column,
    ColumnDataSource,
    Div,
    MultiLine,
    Range1d,
)
from bokeh.plotting import figure

from workbench.study.records import Study
from workbench.study.walk import Walk
from workbench.ui.views.frame import style_figure, tooltip
from workbench.ui.views.scene import Scene

LOOK = ("line_color", "line_alpha", "line_width", "line_dash")
LINES = ("xs", "ys", *LOOK, "name")  # columns of what the browser draws


@dataclass(frozen=True, slots=True, eq=False)
class WalkView:
    """The figure, which is seen when an eigenvector is picked, and its sentence."""

    figure: figure
    panel: Column  # it, and its legend
    sentence: Div
    lines: ColumnDataSource  # one a row, filled by browser/walk.js
    walks: dict[str, Any]  # the numbers of this study
    pinned: dict[str, Any] | None  # of the one that is pinned


def build_walk(scene: Scene, pinned: Study | None, legend: str) -> WalkView | None:
    """Make the figure; None where nothing was walked.

    Args:
        scene: What is drawn.
        pinned: Another study, whose own walk is drawn along.
        legend: HTML that says what the lines are.
    """
    study, theme = scene.study, scene.theme
    if study.walk is None:
        return None
    plot = style_figure(
        figure(
            x_range=Range1d(-1, 1),
            y_range=Range1d(0, 1),
            tools="",
            x_axis_label="distance along the eigenvector, both ways",
            y_axis_label="loss",
            name="walk",
        ),
        theme,
        "Loss along the picked eigenvector, of all examples and of each class",
        height=230,
    )
    plot.toolbar_location = None
    plot.min_border_right = 20
    plot.xgrid.visible = False
    plot.xaxis.formatter = BasicTickFormatter(power_limit_high=4, power_limit_low=-3)
    plot.yaxis.ticker.desired_num_ticks = 4
    columns: dict[str, list[Any]] = {name: [] for name in LINES}
    lines = ColumnDataSource(columns, name="walk lines")
    drawn = plot.add_glyph(
        lines, MultiLine(xs="xs", ys="ys", **{name: name for name in LOOK})
    )
    tooltip(plot, drawn, theme, "@name", line_policy="interp")
    text = Div(
        text=legend,
        css_classes=["wb-legend"],
        disable_math=True,
        sizing_mode="stretch_width",
    )
    return WalkView(
        figure=plot,
        panel=Column(
            children=[text, plot],
            visible=False,
            css_classes=["wb-walk"],
            sizing_mode="stretch_width",
        ),
        sentence=Div(
            text="",
            css_classes=["wb-caption"],
            disable_math=True,
            html_attributes={"aria-live": "polite"},
            sizing_mode="stretch_width",
        ),
        lines=lines,
        walks=numbers_of(study.walk),
        pinned=None
        if pinned is None or pinned.walk is None
        else numbers_of(pinned.walk) | {"classes": []},
    )


def numbers_of(walk: Walk) -> dict[str, Any]:
    """What the browser draws: rows by rank, and where bulk and H's lowest stand."""
    ranks = walk.rank.tolist()
    of_g = [n for n, name in enumerate(walk.operator) if name == "G"]
    bulk = of_g[-1] if of_g and ranks[of_g[-1]] != len(of_g) else -1
    leading = [n for n in of_g if n != bulk]
    return {
        "distance": walk.distance,
        "loss": list(walk.loss.astype(np.float32)),  # rows, as BokehJS flattens
        "classes": [list(one.T.astype(np.float32)) for one in walk.class_loss],
        "leading": leading,
        "bulk": bulk,
        "bulkRank": ranks[bulk] if bulk >= 0 else 0,
        "lowest": len(ranks) - 1 if "H" in walk.operator else -1,
    }


def walk_marks(study: Study, pinned: Study | None) -> list[tuple[str, str]]:
    """Entries of the legend."""
    if study.walk is None:
        return []
    found = numbers_of(study.walk)
    marks = [
        ("wb-line", "all examples"),
        ("wb-line wb-thin", "each class, in its colour"),
    ]
    if found["bulk"] >= 0:
        rank = found["bulkRank"]
        marks.append(("wb-line wb-dots", f"all, along eigenvector {rank}, of the bulk"))
    if found["lowest"] >= 0:
        marks.append(("wb-line wb-dashes", "all, along H’s lowest"))
    if pinned is not None and pinned.walk is not None:
        marks.append(("wb-line wb-pin", "all, of the pinned study"))
    return marks
