"""The common style of all figures."""

from __future__ import annotations

from typing import Any

from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    GlyphRenderer,
    HoverTool,
    InlineStyleSheet,
    Text,
)
from bokeh.plotting import figure

from workbench.ui.theme import FONT, Theme

TYPE = value(FONT)  # a font is not the name of a column
_TOOLBAR = ":host(.bk-inner) { background-color: var(--wb-background) }"


def style_figure(plot: figure, theme: Theme, words: str, height: int = 430) -> figure:
    """Style a figure: no logo, thin grid, the page's font; fills its container's width.

    Args:
        plot: The figure.
        theme: Its colours.
        words: Description for screen readers.
        height: In pixels.
    """
    plot.height = height
    plot.sizing_mode = "stretch_width"
    plot.min_width = 280
    plot.html_attributes = {"role": "img", "aria-label": words}
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.toolbar.active_drag = None  # dragging scrolls the page on a phone
    plot.toolbar_inner = True
    plot.toolbar.stylesheets = [InlineStyleSheet(css=_TOOLBAR)]
    plot.toolbar_location = "above"
    plot.background_fill_color = None
    plot.border_fill_color = None
    plot.outline_line_color = None
    plot.min_border = 0
    plot.lod_threshold = None  # draw all points, even while zooming
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_color = axis.major_label_text_color = theme.muted
        axis.axis_line_color = theme.line
        axis.major_tick_line_color = theme.line
        axis.minor_tick_line_color = None
        axis.major_tick_in = 0
    for grid in plot.grid:
        grid.grid_line_color = theme.line
    return plot


def tooltip(
    plot: figure, marks: GlyphRenderer, theme: Theme, text: str, **options: Any
) -> None:
    """Describe a mark in words when the pointer is over it."""
    plot.add_tools(
        HoverTool(
            renderers=[marks],
            tooltips=f"<div>{tip_style(theme)}{text}</div>",
            visible=False,
            **options,
        )
    )


def tip_style(theme: Theme) -> str:
    """Return the style of a tooltip, which Bokeh places outside the page's own element.

    CSS variables of the page do not reach it, so the colours are in the tooltip itself;
    ``browser/look.js`` replaces them when the theme changes.
    """
    font = f"{13 * theme.type:g}px {FONT}".replace('"', "'")
    return (
        "<style>:host([popover]) {"
        f"--tooltip-color: {theme.background}; --tooltip-text: {theme.ink}; "
        f"--tooltip-border: {theme.muted}; --tooltip-arrow-color: {theme.muted}; "
        f"--tooltip-arrow-inner-color: {theme.background}; "
        f"font: {font}; max-width: {280 * theme.type:g}px; opacity: 1}}</style>"
    )


def add_label(
    plot: figure, source: ColumnDataSource, theme: Theme, *, y: str, **options: Any
) -> None:
    """Write the column ``label`` above marks, with a halo that keeps it readable."""
    text = {
        "x": "x",
        "y": y,
        "text": "label",
        "text_align": "center",
        "text_baseline": "bottom",
        "text_font": TYPE,
        "text_font_size": "12px",
        "text_font_style": "bold",
    } | options
    halo = {"text_outline_color": theme.background, "text_outline_width": 4}
    plot.add_glyph(source, Text(**text, **halo, text_color=theme.background))
    plot.add_glyph(source, Text(**text, text_color=theme.ink))
