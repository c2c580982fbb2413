"""The overlap table: how much of each class mean points along each outlier."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    Quad,
    Range1d,
    Rect,
    Span,
    Text,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from workbench.study.null import band
from workbench.study.records import Study
from workbench.ui.theme import plain
from workbench.ui.views.frame import TYPE, style_figure, tooltip
from workbench.ui.views.scene import Scene
from workbench.ui.views.words import number, percent, rank

MAX_NUMBERS = 24  # most columns for which numbers fit into the cells


@dataclass(frozen=True, slots=True, eq=False)
class OverlapView:
    """The figure and its cells, row by row."""

    figure: figure
    cells: ColumnDataSource
    edge: Span  # below it: not counted as outliers
    bands: ColumnDataSource  # the same with shuffled labels, behind the bars
    left: float  # where the bars begin
    width: float  # of a bar that is all
    num_rows: int
    most: float  # share of the darkest cell; 1 if cells show numbers


def build_overlap(scene: Scene) -> OverlapView:
    """Draw the table; bars on the right show the share within span{delta_c}."""
    study, theme = scene.study, scene.theme
    share, total = scene.overlap, scene.span
    rows, num_classes = share.shape
    j, c = (a.ravel() for a in np.indices((rows, num_classes + 1)))
    value = np.concatenate([share, total[:, None]], axis=1).ravel()
    value = np.clip(value, 0.0, 1.0)
    is_total = c == num_classes
    numbers = num_classes <= MAX_NUMBERS
    most = darkest(scene)
    left, width = num_classes - 0.15, max(1.5, 0.25 * num_classes)
    cells = ColumnDataSource(
        {
            "x": np.where(is_total, left + value * width / 2, c).astype(float),
            "width": np.where(is_total, value * width, 0.94),
            "height": np.where(is_total, 0.5, 0.9),
            "text_x": np.where(is_total, left + width + 0.06 * num_classes, c),
            "y": j.astype(float),
            "c": np.where(is_total, -1, c).astype(np.int32),
            "j": j.astype(np.int32),
            "value": value,
            "alpha": np.zeros(len(value)),  # by browser/table.js, as text_color
            "color": np.where(is_total, theme.muted, theme.accent).tolist(),
            "line_color": [theme.line if numbers else theme.background] * len(value),
            "text": [f"{100 * v:.0f}" if numbers else "" for v in value],
            "text_color": [theme.ink] * len(value),
            "text_alpha": np.where(value < 0.005, 0.35, 1.0),
        },
        name="cells",
    )
    plot = style_figure(
        figure(
            x_range=Range1d(-0.5, left + width + 0.12 * num_classes),
            y_range=Range1d(max(rows, 1) - 0.5, -0.5),
            tools="",
            toolbar_location=None,
            x_axis_location="above",
            name="overlap",
        ),
        theme,
        "Overlap of each class mean with each outlier, in percent",
        height=64 + max(rows, 1) * (28 if rows <= MAX_NUMBERS else 5),
    )
    plot.toolbar_location = None
    plot.min_width = 300
    plot.grid.visible = False
    bands = ColumnDataSource(
        chance_bands(scene.chance, left, width), name="chance of the bars"
    )
    edges = {"left": "left", "right": "right", "top": "top", "bottom": "bottom"}
    chance = plot.add_glyph(
        bands, Quad(**edges, fill_color=theme.curve, fill_alpha=0.45, line_width=0)
    )
    tooltip(plot, chance, theme, "with shuffled labels: <b>@told</b>")
    rects = plot.add_glyph(
        cells,
        Rect(
            x="x",
            y="y",
            width="width",
            height="height",
            fill_color="color",
            fill_alpha="alpha",
            line_color="line_color",
            line_width=1.2 if numbers else 0,
        ),
    )
    plot.add_glyph(
        cells,
        Text(
            x="text_x",
            y="y",
            text="text",
            text_align="center",
            text_baseline="middle",
            text_font=TYPE,
            text_font_size="12px",
            text_color="text_color",
            text_alpha="text_alpha",
        ),
    )
    named = [f"eigenvector {row + 1} of G" for row in range(rows)]
    names = [f"class mean of {plain(name, 24)}" for name in study.class_names]
    say = {
        "@c": "return names[value] ?? 'all class means together'",
        "@j": "return named[value]",
        "@value": "return (100 * value).toFixed(1) + '\\u00a0%'",
    }
    formatters = {
        field: CustomJSHover(args={"names": names, "named": named}, code=code)
        for field, code in say.items()
    }
    words = "@c{custom} along @j{custom}: <b>@value{custom}</b>"
    tooltip(plot, rects, theme, words, formatters=formatters)
    edge = Span(
        location=study.num_outliers - 0.5,
        visible=0 < study.num_outliers < rows,
        dimension="width",
        line_color=theme.ink,
        line_width=1.5,
    )
    plot.add_layout(edge)
    _label(plot, study, rows)
    return OverlapView(plot, cells, edge, bands, left, width, rows, most)


def chance_bands(
    chance: tuple[NDArray[np.float64], NDArray[np.float64]], left: float, width: float
) -> dict[str, Any]:
    """Where a band of mean and spread stands behind each bar; nothing, where NaN."""
    mean, spread = chance
    least = 0.01  # of the width: seen, however little the draws differ
    rows = np.arange(len(mean))
    far = np.maximum(spread, least)
    return {
        "left": left + width * np.clip(mean - far, 0.0, 1.0),
        "right": left + width * np.clip(mean + far, 0.0, 1.0),
        "top": rows - 0.45,
        "bottom": rows + 0.45,
        "told": [
            f"{percent(float(m))} ± {percent(float(s))}"
            for m, s in zip(mean, spread, strict=True)
        ],
    }


def darkest(scene: Scene) -> float:
    """Return the share of the darkest cell: 1, unless there are many classes."""
    if scene.study.num_classes <= MAX_NUMBERS:
        return 1.0
    return max(float(scene.overlap.max(initial=0.0)), 1e-12)


def overlap_html(study: Study, weighting: str | None = None) -> str:
    """Return the same numbers as an HTML table, for screen readers and copying.

    Args:
        study: The study. Its class names are escaped.
        weighting: Convention of averaging; by default the study's own.
    """
    levels = study.levels[weighting or study.weighting]
    rows = min(study.num_leading, len(levels.overlap))
    share = np.nan_to_num(levels.class_overlap[:rows])
    own = study.spectra["G"].eigenvalues
    part = levels.parts[levels.convention.class_part]
    null = levels.null
    none = np.empty((0, 0))
    spans = _by_chance(none if null is None else null.overlap, np.ones(rows))
    sizes = _by_chance(none if null is None else null.class_part, own[:rows])

    def size(j: int) -> str:
        return percent(part[j] / own[j]) if j < len(part) and own[j] > 0 else "–"

    columns = [*map(escape, study.class_names), "in the span", "shuffled"]
    columns += ["size", "shuffled"]
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{rank(study, j).capitalize()} '
        f"(λ = {number(own[j])})</th>"
        + "".join(f"<td>{percent(v)}</td>" for v in row)
        + f"<td>{percent(levels.overlap[j])}</td><td>{spans[j]}</td>"
        + f"<td>{size(j)}</td><td>{sizes[j]}</td></tr>"
        for j, row in enumerate(share)
    )
    return (
        '<table class="wb-overlap"><caption>Share of each class mean δ<sub>c</sub> '
        "that points along each leading eigenvector of G "
        f"({escape(levels.weighting)} averages). Then the share of the eigenvector "
        "that lies in the span of all class means, and the eigenvalue of the class "
        "part over G's; each beside the same with shuffled labels, mean ± spread."
        f"</caption><thead><tr><td></td>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table>"
    )


def _by_chance(draws: NDArray[np.float64], over: NDArray[np.float64]) -> dict[int, str]:
    """Mean and spread over the draws, row by row; a dash where there are none."""
    told = dict.fromkeys(range(len(over)), "–")
    num = min(draws.shape[1], len(over))
    mean, spread = band(draws[:, :num])
    for j in range(num if len(draws) else 0):
        if over[j] > 0:
            least = percent(float(spread[j] / over[j]))
            told[j] = f"{percent(float(mean[j] / over[j]))} ± {least}"
    return told


def _label(plot: figure, study: Study, rows: int) -> None:
    """Label rows and columns, as many as there is room for."""
    C = study.num_classes
    every = max(1, -(-C // 20))
    columns = [c for c in range(0, C, every) if every == 1 or c < C - every]
    middle = C - 0.15 + max(1.5, 0.25 * C) / 2
    plot.xaxis.ticker = FixedTicker(ticks=[*columns, middle])
    short = 9 if C <= 12 else 4
    plot.xaxis.major_label_overrides = {
        c: plain(study.class_names[c] if C <= 30 else str(c), short) for c in columns
    } | {middle: "in the span"}
    longest = max((len(name) for name in study.class_names), default=0)
    if C > 4 and min(longest, short) > 2:
        plot.xaxis.major_label_orientation = 0.7
        plot.height += 24
    every = max(1, -(-rows // 24))
    plot.yaxis.ticker = FixedTicker(ticks=list(range(0, rows, every)))
    plot.yaxis.major_label_overrides = {j: str(j + 1) for j in range(0, rows, every)}
    plot.yaxis.axis_label = "eigenvector of G"
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = None
