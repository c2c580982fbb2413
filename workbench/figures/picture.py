"""Draw a figure as SVG and PNG, with matplotlib.

Bokeh writes pictures only through a browser, which not every machine has; matplotlib
needs none, and writes the same bytes for the same numbers.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from workbench.errors import WorkbenchError
from workbench.figures.page import colour_of
from workbench.figures.panels import Panel, Rows, Series
from workbench.ui.theme import LIGHT

WIDTH, DPI = 10.0, 110  # inches of a row; dots an inch
_STYLE = {
    "svg.hashsalt": "workbench",  # names in the file do not depend on chance
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # matplotlib's own
    "font.size": 8,
    "axes.edgecolor": LIGHT.line,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "legend.fontsize": 7,
    "legend.frameon": False,
    "xtick.color": LIGHT.muted,
    "ytick.color": LIGHT.muted,
}


def pictures(title: str, rows: Rows) -> dict[str, bytes]:
    """Return the figure by file type, ``svg`` and ``png``.

    Raises:
        WorkbenchError: If matplotlib is not installed.
    """
    mpl = _library()
    most = max(map(len, rows))
    height = max(WIDTH / most * 0.75, 2.2) * len(rows) + 0.4
    with mpl.rc_context(_STYLE):
        sheet = import_module("matplotlib.figure").Figure(
            figsize=(WIDTH, height), layout="constrained"
        )
        import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(sheet)
        sheet.suptitle(title, x=0.01, ha="left", fontsize=11)
        axes = sheet.subplots(len(rows), most, squeeze=False)
        for row, places in zip(rows, axes, strict=True):
            for place in places[len(row) :]:
                place.set_axis_off()
            for panel, place in zip(row, places, strict=False):
                _panel(place, panel)
        found = {}
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            file = io.BytesIO()
            sheet.savefig(file, format=kind, dpi=DPI, metadata=metadata)
            found[kind] = file.getvalue()
    return found


def _library() -> Any:
    try:
        return import_module("matplotlib")
    except ImportError as error:
        raise WorkbenchError(
            "figure: matplotlib is not installed, which draws SVG and PNG; install "
            "it: pip install 'hessian-workbench[figures]'."
        ) from error


def _panel(axes: Any, panel: Panel) -> None:
    """Draw one panel."""
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    for series in panel.series:
        _series(axes, series, panel)
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(*panel.y_range)
    if panel.bare:
        axes.set_xticks([])
        axes.set_yticks([])
    if any(series.label for series in panel.series):
        axes.legend()


def _series(axes: Any, series: Series, panel: Panel) -> None:
    """Draw one series."""
    tone, label = colour_of(series.colour), series.label or None
    thin = series.size / 4
    low = panel.y_range[0] if panel.log_y and panel.y_range else 0.0
    if series.kind == "line":
        dash = "--" if series.dashed else "-"
        axes.plot(series.x, series.y, dash, color=tone, lw=thin, label=label)
    elif series.kind == "sticks":
        axes.vlines(series.x, low, series.y, color=tone, lw=thin, label=label)
    elif series.kind == "bars":
        up = [y - low for y in series.y]
        axes.bar(series.x, up, series.width, low, color=tone, alpha=0.8, label=label)
    else:
        filling = "none" if series.hollow else tone
        axes.scatter(
            series.x, series.y, (series.size * 0.8) ** 2, facecolors=filling,
            edgecolors=tone, linewidths=0.7, alpha=0.8, label=label,
        )  # fmt: skip
