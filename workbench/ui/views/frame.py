"""The look that all figures share."""

from __future__ import annotations

from typing import Any

from bokeh.core.properties import value
from bokeh.models import GlyphRenderer, HoverTool
from bokeh.plotting import figure

from workbench.ui.theme import FONT, LIGHT, Theme

TYPE = value(FONT)  # a font is not the name of a column


def tooltip(plot: figure, marks: GlyphRenderer, text: str, **options: Any) -> None:
    """Say in words what a mark is when the pointer is upon it."""
    marks.nonselection_glyph = marks.selection_glyph = marks.muted_glyph = None
    style = f"font: 13px {FONT}; color: {LIGHT.ink}; max-width: 280px".replace('"', "'")
    plot.add_tools(
        HoverTool(
            renderers=[marks],
            tooltips=f'<div style="{style}">{text}</div>',
            visible=False,
            **options,
        )
    )


def style_figure(plot: figure, theme: Theme, height: int = 440) -> figure:
    """Quiet a figure: no logo, thin grid, the page's own type; as wide as its place."""
    plot.height = height
    plot.sizing_mode = "stretch_width"
    plot.min_width = 280
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.toolbar.active_drag = None  # dragging scrolls the page on a phone
    plot.toolbar_location = "above"
    plot.background_fill_color = None
    plot.border_fill_color = None
    plot.outline_line_color = None
    plot.lod_threshold = None  # all points, also while one zooms
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
        grid.grid_line_width = 1
    return plot
