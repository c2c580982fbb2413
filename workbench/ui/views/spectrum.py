"""The spectrum: bulk as a density, leading eigenvalues as sticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    AdaptiveTicker,
    BasicTickFormatter,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    Line,
    Range1d,
    Scatter,
    Segment,
    Span,
    VArea,
)
from bokeh.plotting import figure

from workbench.page.view_state import BY_NAME
from workbench.study.records import Levels, Study
from workbench.study.spectrum import Spectrum
from workbench.ui.theme import Theme
from workbench.ui.views.axis import (
    SCALES,
    Array,
    Frame,
    axis_labels,
    density_sides,
    draw_curve,
    joined,
    log_floor,
    log_ticks,
    without_leading,
)
from workbench.ui.views.frame import add_label, style_figure, tooltip
from workbench.ui.views.parts import draw_part, part_source
from workbench.ui.views.scene import Scene
from workbench.ui.views.words import count

*OPERATORS, ALL = BY_NAME["operator"].choices  # ALL: all of them in one picture
CARRIED_TOP = 0.56  # of what the averages keep: between the sticks' heads and the parts
STICK_TOP = 0.66  # height of the sticks as a share of the plot
STICKS = (  # columns that the browser fills (``browser/spectrum.js``)
    *("x", "low", "high", "base", "top", "color"),
    *("alpha", "width", "size", "label", "name", "told"),
)

_POWER = """
const raised = (n) => String(n).replace(/./g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d] ?? "⁻")
const power = (n) => n === 0 ? "1" : n === 1 ? "10" : "10" + raised(n)
"""
_STICK = {"x0": "x", "y0": "base", "x1": "x", "y1": "top"}
_DENSITY_TICK = _POWER + "return power(tick)"
_LOG_TICK = _POWER + "return (tick < 0 ? '−' : '') + power(Math.abs(tick) + floor)"


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumView:
    """The figure, the sources drawn, and the data from which they are redrawn."""

    figure: figure
    curve: ColumnDataSource  # density of the operator shown
    beside: dict[str, ColumnDataSource]  # Hess and H, if all three are shown
    sticks: ColumnDataSource  # leading eigenvalues of the operator shown
    ghosts: ColumnDataSource  # the sticks before the knock-out
    carried: ColumnDataSource  # what the averages taken so far keep of the sticks
    parts: dict[str, ColumnDataSource]  # role -> eigenvalues of that part of G
    cut: Span  # between the outliers and the others; draggable
    curves: dict[str, ColumnDataSource]  # "G/linear" -> its density
    eigenvalues: dict[str, ColumnDataSource]  # operator -> leading eigenvalues
    axes: dict[str, Any]  # "linear" and "log" -> ticker and formatter of the x axis
    frames: dict[str, Frame]  # "G/linear" -> ranges and axis labels
    floor: int  # the log axis starts at 10^floor on both sides


def build_spectrum(scene: Scene, pinned: Study | None = None) -> SpectrumView:
    """Prepare each operator on each scale, and draw G on the linear scale.

    The log axis reaches down to the smallest eigenvalue of all snapshots and of the
    pinned study.
    """
    study, theme, parts = scene.study, scene.theme, scene.parts
    others = _others([*study.moments, *([pinned] if pinned else [])])
    names = [name for name in OPERATORS if name in study.spectra]
    eigenvalues = {name: leading(study, scene.levels, name) for name in names}
    orange = np.concatenate([p.eigenvalues for p in parts if p.role == "class"])
    densities = {name: density_sides(study.spectra[name]) for name in names}
    values = {
        name: np.concatenate([np.asarray(eigenvalues[name].data["value"]), orange])
        for name in names
    }
    floor = log_floor(
        [*densities.values(), *map(density_sides, others)],
        [*values.values(), *(spectrum.eigenvalues for spectrum in others)],
    )
    curves, frames = {}, {}
    for scale in SCALES:
        for name in names:
            key, spectrum = f"{name}/{scale}", study.spectra[name]
            curve, frame = draw_curve(
                densities[name], scale, floor, values[name], spectrum
            )
            if name == "G":
                width, many = frame["width"], study.num_leading
                rest = without_leading(spectrum, many, curve, scale, floor, width)
                if rest is not None:
                    curve.data["rest"] = rest
            curves[key] = curve
            frames[key] = frame | axis_labels(name, scale, frame)
        together = joined([frames[f"{name}/{scale}"] for name in names])
        frames[f"{ALL}/{scale}"] = together | axis_labels(
            ", ".join(names), scale, together
        )
    frame = frames["G/linear"]
    plot = style_figure(
        figure(
            x_range=Range1d(*frame["x"]),
            y_range=Range1d(*frame["y"]),
            tools="box_zoom,reset,save",
            x_axis_label=frame["x_label"],
            y_axis_label=frame["y_label"],
            name="spectrum",
            css_classes=["wb-spectrum"],
        ),
        theme,
        "Density of the eigenvalues, with the leading ones as sticks",
    )
    plot.min_border_right = 20
    plot.xgrid.visible = False
    plot.xaxis.ticker.desired_num_ticks = 5
    plot.yaxis.ticker = AdaptiveTicker(
        mantissas=[1, 2, 5], min_interval=1, desired_num_ticks=5, num_minor_ticks=0
    )
    plot.yaxis.formatter = CustomJSTickFormatter(code=_DENSITY_TICK)
    plot.xaxis.formatter = BasicTickFormatter(power_limit_high=4, power_limit_low=-3)
    view = SpectrumView(
        figure=plot,
        curve=ColumnDataSource(_drawn(curves["G/linear"]), name="density"),
        beside={
            name: ColumnDataSource({"x": [], "y": []}, name=f"density {name}")
            for name in names
            if name != "G"
        },
        sticks=_empty("sticks", STICKS),
        ghosts=_empty("ghosts", ("x", "base", "top")),
        carried=_empty("carried", ("x", "from", "y", "told")),
        parts={part.role: part_source(part) for part in parts},
        cut=Span(
            location=0,
            visible=False,
            dimension="height",
            editable=True,
            name="cut",
            line_color=theme.accent,
            line_width=7,  # wide enough to grab
            line_alpha=0.28,
            hover_line_color=theme.accent,
            hover_line_width=7,
            hover_line_alpha=0.6,
        ),
        curves=curves,
        eigenvalues=eigenvalues,
        axes={
            "linear": {"ticker": plot.xaxis.ticker, "format": plot.xaxis.formatter},
            "log": {
                "ticker": FixedTicker(ticks=log_ticks(frames, floor)),
                "format": CustomJSTickFormatter(args={"floor": floor}, code=_LOG_TICK),
            },
        },
        frames=frames,
        floor=floor,
    )
    _draw(view, theme)
    for part in parts:  # the class part is on top
        if part.role != "class":
            draw_part(plot, part, view.parts[part.role], theme)
    for part in parts:
        if part.role == "class":
            draw_part(plot, part, view.parts[part.role], theme)
    _draw_sticks(view, theme)
    return view


def _others(studies: Sequence[Study]) -> list[Spectrum]:
    return [spectrum for study in studies for spectrum in study.spectra.values()]


def describe_spectrum(study: Study, name: str) -> str:
    """Say how this spectrum was measured: exact or estimated, and by which method."""
    spectrum = study.spectra[name]
    zeros = spectrum.dim - len(spectrum.eigenvalues)
    if spectrum.complete:
        text = f"Exact: all {count(spectrum.dim, 'eigenvalue')} ({spectrum.method})"
        text += f", {zeros:,} of them zero by rank." if zeros else "."
    elif spectrum.exact:
        text = (
            f"Exact ({spectrum.method}): {count(spectrum.dim, 'eigenvalue')} as a "
            "density, the leading ones one by one."
        )
    elif spectrum.nodes.size:
        probes = count(len(spectrum.nodes), "probe")
        text = (
            f"Density by stochastic Lanczos quadrature, {probes}, with a band that "
            f"covers 95 %. Sticks: {spectrum.method}, with residual bars."
        )
    else:
        text = (
            f"The {count(len(spectrum.eigenvalues), 'measured eigenvalue')} only "
            f"({spectrum.method}); no density was measured."
        )
    return text


def leading(study: Study, levels: Levels, name: str) -> ColumnDataSource:
    """Leading eigenvalues of an operator at both ends; for G, also its knock-outs."""
    spectrum = study.spectra[name]
    values = spectrum.eigenvalues
    many = study.num_leading
    rows = top = np.arange(min(many, len(values)))
    if name != "G":
        top, below = spectrum.ends
        rows = np.r_[top[:many], below[:many][::-1]]
    data = {
        "value": values[rows],
        "residual": spectrum.residuals[rows],
        "name": [
            f"eigenvalue {row + 1} of {name}"
            if spectrum.complete or row in top
            else f"eigenvalue of {name} at the low end"
            if values[row] > 0
            else f"negative eigenvalue of {name}"
            for row in rows
        ],
    }
    if name == "G":
        for knocked in ("subtracted", "projected"):
            data[knocked] = padded(getattr(levels, knocked), len(rows))
    return ColumnDataSource(data, name=f"eigenvalues {name}")


def _drawn(curve: ColumnDataSource) -> dict[str, Any]:
    """Copy the columns of a curve that its glyphs need."""
    return {name: curve.data[name] for name in ("x", "y", "low", "high", "base")}


def padded(values: Array, length: int) -> Array:
    """The first ``length`` values, filled with NaN, which is not drawn."""
    padded = np.full(length, np.nan)
    padded[: len(values)] = values[:length]
    return padded


def _empty(name: str, columns: Sequence[str]) -> ColumnDataSource:
    """A source that the browser fills once it is on the page."""
    return ColumnDataSource({column: [] for column in columns}, name=name)


def _draw(view: SpectrumView, theme: Theme) -> None:
    """Add everything behind the sticks to the figure, from back to front."""
    plot, curve = view.figure, view.curve
    plot.add_layout(
        Span(location=0, dimension="height", line_color=theme.line, line_width=1.5)
    )
    area = {"x": "x", "fill_color": theme.curve}
    plot.add_glyph(curve, VArea(y1="base", y2="y", fill_alpha=0.16, **area))
    plot.add_glyph(curve, VArea(y1="low", y2="high", fill_alpha=0.45, **area))
    plot.add_glyph(curve, Line(x="x", y="y", line_color=theme.curve, line_width=1.8))
    looks = {
        "Hess": {"line_color": theme.accent, "line_dash": [7, 3]},
        "H": {"line_color": theme.means_part, "line_dash": [2, 3]},
    }
    for name, source in view.beside.items():
        plot.add_glyph(source, Line(x="x", y="y", line_width=1.8, **looks[name]))
    gone = {"line_color": theme.muted, "line_dash": "dotted", "line_width": 1.5}
    plot.add_glyph(view.ghosts, Segment(**_STICK, **gone))


def _draw_sticks(view: SpectrumView, theme: Theme) -> None:
    """Add the sticks with their error bars, and the cut, to the figure."""
    plot, sticks = view.figure, view.sticks
    edge = {"line_color": theme.background, "line_width": 1}
    look = {"line_color": "color", "line_alpha": "alpha"}
    plot.add_glyph(sticks, Segment(**_STICK, **look, line_width="width"))
    bar = {"x0": "low", "y0": "top", "x1": "high", "y1": "top"}
    plot.add_glyph(sticks, Segment(**bar, **look, line_width=2))
    for end in ("low", "high"):
        cap = Scatter(x=end, y="top", marker="dash", size=8, angle=math.pi / 2, **look)
        plot.add_glyph(sticks, cap)
    heads = plot.add_glyph(
        sticks,
        Scatter(
            x="x",
            y="top",
            size="size",
            fill_color="color",
            fill_alpha="alpha",
            **edge,
        ),
        name="stick heads",
    )
    tooltip(plot, heads, theme, "@name: @told")
    kept = {"line_color": theme.accent, "line_alpha": 0.8}
    lost = Segment(x0="from", y0="y", x1="x", y1="y", line_width=2, **kept)
    plot.add_glyph(view.carried, lost)
    rings = Scatter(
        x="x", y="y", size=9, line_width=2.4, fill_color=theme.background, **kept
    )
    told = "kept by the averages taken: @told"
    tooltip(plot, plot.add_glyph(view.carried, rings), theme, told)
    add_label(plot, sticks, theme, y="top", y_offset=-9)
    plot.add_layout(view.cut)
