"""The overlap table: how much of each class mean points along each outlier."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    Range1d,
    Rect,
    Span,
    Text,
)
from bokeh.plotting import figure

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
    num_rows: int
    most: float  # share of the darkest cell; 1 if cells show numbers


def build_overlap(scene: Scene) -> OverlapView:
    """Draw the table; the last column is the share within span{delta_c}."""
    study, theme = scene.study, scene.theme
    share, total = scene.overlap, scene.span
    rows, num_classes = share.shape
    j, c = (a.ravel() for a in np.indices((rows, num_classes + 1)))
    value = np.concatenate([share, total[:, None]], axis=1).ravel()
    value = np.clip(value, 0.0, 1.0)
    is_total = c == num_classes
    numbers = num_classes <= MAX_NUMBERS
    most = darkest(scene)
    cells = ColumnDataSource(
        {
            "x": np.where(is_total, c + 0.35, c).astype(float),
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
            x_range=Range1d(-0.5, num_classes + 0.85),
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
    rects = plot.add_glyph(
        cells,
        Rect(
            x="x",
            y="y",
            width=0.94,
            height=0.9,
            fill_color="color",
            fill_alpha="alpha",
            line_color="line_color",
            line_width=1.2 if numbers else 0,
        ),
    )
    plot.add_glyph(
        cells,
        Text(
            x="x",
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
    return OverlapView(plot, cells, edge, rows, most)


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
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in study.class_names)
    body = "".join(
        f'<tr><th scope="row">{rank(study, j).capitalize()} '
        f"(λ = {number(study.spectra['G'].eigenvalues[j])})</th>"
        + "".join(f"<td>{percent(v)}</td>" for v in row)
        + f"<td>{percent(levels.overlap[j])}</td></tr>"
        for j, row in enumerate(share)
    )
    return (
        '<table class="wb-overlap"><caption>Share of each class mean δ<sub>c</sub> '
        "that points along each leading eigenvector of G "
        f"({escape(levels.weighting)} averages); last, the share of the eigenvector "
        "that lies in the span of all class means."
        f'</caption><thead><tr><td></td>{head}<th scope="col">in the span</th></tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )


def _label(plot: figure, study: Study, rows: int) -> None:
    """Label rows and columns, as many as there is room for."""
    C = study.num_classes
    every = max(1, -(-C // 20))
    columns = [c for c in range(0, C, every) if every == 1 or c < C - every]
    plot.xaxis.ticker = FixedTicker(ticks=[*columns, C + 0.35])
    short = 9 if C <= 12 else 4
    plot.xaxis.major_label_overrides = {
        c: plain(study.class_names[c] if C <= 30 else str(c), short) for c in columns
    } | {C + 0.35: "span"}
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
