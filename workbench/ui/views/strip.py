"""The strip under the spectrum: which layer carries which eigenvector of G."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from bokeh.models import Column, ColumnDataSource, Div, FixedTicker, Range1d, Rect
from bokeh.plotting import figure

from workbench.study.layers import Layers
from workbench.study.records import Study
from workbench.ui.theme import plain
from workbench.ui.views.frame import style_figure, tooltip
from workbench.ui.views.scene import Scene
from workbench.ui.views.words import count, percent

MOST_ROWS = 12
LONGEST = 18  # characters of a layer's label beside the strip
UNSURE = 0.005  # an error of a share that is worth telling


@dataclass(frozen=True, slots=True, eq=False)
class StripView:
    """The figure, a row a layer and a column an eigenvector, and its sentence."""

    figure: figure
    panel: Column
    sentence: Div
    cells: ColumnDataSource
    names: list[str]  # of the rows, escaped
    shares: list[list[float]]  # rows by eigenvector
    errors: list[float]  # by eigenvector
    caption: str  # HTML, while nothing is picked


def build_strip(scene: Scene) -> StripView | None:
    """Make the strip; None where layers were not measured, or there is only one."""
    study, theme = scene.study, scene.theme
    layers = study.layers
    if layers is None or len(layers.names) < 2:
        return None
    rows = layers.rows(MOST_ROWS)
    labels = [label for label, _ in rows]
    shares = np.array([layers.share[at].sum(axis=0) for _, at in rows]).clip(0, 1)
    sizes = [int(layers.num_parameters[at].sum()) for _, at in rows]
    n, j = (a.ravel() for a in np.indices(shares.shape))
    words = [plain(label, 60) for label in labels]
    told = [
        f"{_share(shares[row, k], layers.share_error[k])} of eigenvector {k + 1} of G "
        f"lies in {words[row]} ({count(sizes[row], 'parameter')})"
        for row, k in zip(n, j, strict=True)
    ]
    cells = ColumnDataSource(
        {
            "x": j.astype(float),
            "y": n.astype(float),
            "j": j.astype(np.int32),
            "value": shares.ravel(),
            "alpha": 0.92 * shares.ravel(),
            "line_color": [theme.line] * len(j),
            "told": told,
        },
        name="strip cells",
    )
    num_rows, num = shares.shape
    plot = style_figure(
        figure(
            x_range=Range1d(-0.5, num - 0.5),
            y_range=Range1d(num_rows - 0.5, -0.5),
            tools="",
            toolbar_location=None,
            x_axis_label="eigenvector of G",
            name="strip",
        ),
        theme,
        "Share of each leading eigenvector of G in each layer",
        height=52 + 18 * num_rows,
    )
    plot.toolbar_location = None
    plot.grid.visible = False
    rects = plot.add_glyph(
        cells,
        Rect(
            x="x",
            y="y",
            width=0.94,
            height=0.86,
            fill_color=theme.accent,
            fill_alpha="alpha",
            line_color="line_color",
        ),
    )
    tooltip(plot, rects, theme, "@told")
    plot.xaxis.ticker = FixedTicker(ticks=list(range(num)))
    plot.xaxis.major_label_overrides = {k: str(k + 1) for k in range(num)}
    plot.yaxis.ticker = FixedTicker(ticks=list(range(num_rows)))
    plot.yaxis.major_label_overrides = {
        row: plain(label, LONGEST) for row, label in enumerate(labels)
    }
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = None
    caption = strip_caption(layers, num_rows)
    return StripView(
        figure=plot,
        panel=Column(
            children=[plot], css_classes=["wb-strip"], sizing_mode="stretch_width"
        ),
        sentence=Div(
            text=caption,
            css_classes=["wb-caption"],
            disable_math=True,
            html_attributes={"aria-live": "polite"},
            sizing_mode="stretch_width",
        ),
        cells=cells,
        names=[escape(word) for word in words],
        shares=shares.tolist(),
        errors=layers.share_error.tolist(),
        caption=caption,
    )


def strip_caption(layers: Layers, num_rows: int) -> str:
    """What the strip is, and whether layers were joined."""
    num = len(layers.names)
    joined = "" if num_rows == num else f" Here {num} layers are joined to {num_rows}."
    return (
        "Which layer carries which eigenvector: darker means a larger share of its "
        f"squared length.{joined} Pick a column to see its shares."
    )


def _share(share: float, error: float) -> str:
    return percent(share) + (f" ± {percent(error)}" if error >= UNSURE else "")


def layers_in_words(study: Study) -> str:
    """Which layers carry the outliers, for *What am I seeing*; "" where unknown."""
    layers = study.layers
    if layers is None or len(layers.names) < 2:
        return ""
    most = layers.share.shape[1]
    num = min(study.num_outliers or most, most)
    share, trace = layers.outlier_share(num), layers.trace_share
    labels = [escape(plain(label, 60)) for label in layers.labels]
    first, *rest = np.argsort(-share, kind="stable")[:3]
    size = layers.num_parameters[first] / layers.num_parameters.sum()
    noun = "outlier" if study.num_outliers else "eigenvector"
    who = f"{num} {noun}s’" if num > 1 else f"{noun}’s"
    few = "" if num == study.num_outliers else "first "
    others = ", ".join(
        f"{labels[n]} {'' if place else 'carries '}{percent(share[n])}"
        f"{'' if place else ' of that length'}"
        for place, n in enumerate(rest)
    )
    return (
        f"<b>Layers:</b> {labels[first]} carries {percent(share[first])} of the "
        f"{few}{who} squared length, {percent(trace[first])} of G’s trace and "
        f"{percent(size)} of the parameters. {others}."
    )
