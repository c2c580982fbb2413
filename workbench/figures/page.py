"""Draw a figure as a Bokeh page: one file that loads nothing else."""

from __future__ import annotations

from html import escape
from typing import Any

from bokeh.embed import file_html
from bokeh.layouts import column, gridplot
from bokeh.models import ColumnDataSource, Div, HoverTool, Range1d
from bokeh.plotting import figure
from bokeh.resources import Resources

from workbench.figures.panels import Panel, Rows, Series
from workbench.ui.theme import LIGHT

WIDTH = 1000  # pixels of a row


def page_html(title: str, rows: Rows, sentences: list[str], more: Any = None) -> str:
    """Return the page.

    Args:
        title: Heading.
        rows: The panels.
        sentences: Below the heading.
        more: A Bokeh model to place below the panels, if any.
    """
    most = max(map(len, rows))
    width = WIDTH // most
    height = max(round(width * 0.75), 240)
    plots = [[plot(panel, width, height) for panel in row] for row in rows]
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    head = Div(text=f"<h2>{escape(title)}</h2>{said}", width=WIDTH)
    parts = [head, gridplot(plots, merge_tools=False, toolbar_location=None)]
    layout = column(*parts, *([more] if more is not None else []))
    return file_html(
        layout,
        Resources(mode="inline"),
        title=title,
        suppress_callback_warning=True,
    )


def plot(panel: Panel, width: int, height: int, tools: str = "") -> Any:
    """Draw one panel."""
    options: dict[str, Any] = {}
    for axis, span in (("x_range", panel.x_range), ("y_range", panel.y_range)):
        if span is not None:
            options[axis] = Range1d(*span)
    fig = figure(
        width=width,
        height=height,
        title=panel.title,
        x_axis_label=panel.x_label or None,
        y_axis_label=panel.y_label or None,
        x_axis_type="log" if panel.log_x else "linear",
        y_axis_type="log" if panel.log_y else "linear",
        tools=tools,
        toolbar_location=None,
        **options,
    )
    fig.grid.grid_line_color = LIGHT.line
    fig.outline_line_color = LIGHT.line
    if panel.bare:
        fig.axis.major_tick_line_color = fig.axis.minor_tick_line_color = None
        fig.axis.major_label_text_font_size = "0px"
    for series in panel.series:
        _series(fig, series, panel)
    if any(series.label for series in panel.series):
        fig.legend.background_fill_alpha = 0.7
        fig.legend.label_text_font_size = "11px"
        fig.legend.spacing = 0
        fig.legend.padding = 4
    return fig


def _series(fig: Any, series: Series, panel: Panel) -> None:
    """Draw one series."""
    tone = colour_of(series.colour)
    source = ColumnDataSource({"x": list(series.x), "y": list(series.y)})
    named = {"legend_label": series.label} if series.label else {}
    line = {"line_color": tone, "line_width": series.size / 3}
    if series.dashed:
        line["line_dash"] = "dashed"
    if series.kind == "line":
        fig.line("x", "y", source=source, **line, **named)
    elif series.kind in ("sticks", "bars"):
        low = 1e-300 if panel.log_y else 0.0
        if panel.log_y and panel.y_range is not None:
            low = panel.y_range[0]
        if series.kind == "sticks":
            source.data["low"] = [low] * len(series.x)
            fig.segment("x", "low", "x", "y", source=source, **line, **named)
        else:
            fig.vbar(
                "x", series.width, "y", low, source=source, fill_color=tone,
                line_color=None, fill_alpha=0.8, **named,
            )  # fmt: skip
    else:
        filling = None if series.hollow else tone
        source.data["told"] = list(series.told) or [""] * len(series.x)
        dots = fig.scatter(
            "x", "y", source=source, size=series.size, line_color=tone,
            fill_color=filling, fill_alpha=0.8, **named,
        )  # fmt: skip
        if series.told:
            fig.add_tools(HoverTool(renderers=[dots], tooltips="@told"))


def colour_of(role: str) -> str:
    """The colour of a role, or of a class."""
    kind, _, number = role.partition(" ")
    if kind == "class":
        return LIGHT.classes[int(number) % len(LIGHT.classes)]
    return str(getattr(LIGHT, role))
