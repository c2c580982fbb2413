"""The spectrum: bulk as a density, leading eigenvalues as sticks."""

from __future__ import annotations

import math
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
from numpy.typing import NDArray

from workbench.spectrum import DensityCurve, Spectrum, density_curve
from workbench.study import CLASS_PART, Levels, Study
from workbench.ui.theme import Theme
from workbench.ui.views.frame import add_label, style_figure, tooltip
from workbench.ui.views.words import count, number

Array = NDArray[np.float64]
OPERATORS = ("G", "Hess", "H")
MAX_LEADING = 20  # beyond the outliers no more leading eigenvalues are drawn
STICK_TOP = 0.66  # height of the sticks and of the class part's, as share of the plot
CLASS_PART_TOP = 0.34

_POWER = """
const raised = (n) => String(n).replace(/./g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d] ?? "⁻")
const power = (n) => n === 0 ? "1" : n === 1 ? "10" : "10" + raised(n)
"""
_DENSITY_TICK = _POWER + "return power(tick)"
_LOG_TICK = _POWER + "return (tick < 0 ? '−' : '') + power(Math.abs(tick) + floor)"


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumView:
    """The figure, its drawn sources, and what the browser redraws them from."""

    figure: figure
    curve: ColumnDataSource  # density of the operator shown
    sticks: ColumnDataSource  # its leading eigenvalues
    ghosts: ColumnDataSource  # where the sticks stood before the knock-out
    class_part: ColumnDataSource  # eigenvalues of the class part of G
    curves: dict[str, ColumnDataSource]  # "G/linear" -> its density
    eigenvalues: dict[str, ColumnDataSource]  # operator -> leading eigenvalues
    axes: dict[str, Any]  # "linear" and "log" -> ticker and formatter of the x axis
    frames: dict[str, dict[str, Any]]  # "G/linear" -> ranges and axis labels
    floor: int  # the log axis starts at 10^floor on either side


def build_spectrum(study: Study, levels: Levels, theme: Theme) -> SpectrumView:
    """Prepare each operator on each scale, and draw G on the linear one."""
    names = [name for name in OPERATORS if name in study.spectra]
    eigenvalues = {name: _leading(study, levels, name) for name in names}
    part = class_part_eigenvalues(study, levels)
    densities = {name: _densities(study.spectra[name]) for name in names}
    values = {
        name: np.concatenate([np.asarray(eigenvalues[name].data["value"]), part])
        for name in names
    }
    floor = _floor(densities, values)
    curves, frames = {}, {}
    for name in names:
        for scale in ("linear", "log"):
            curve, frame = _curve(
                densities[name], scale, floor, values[name], study.spectra[name].dim
            )
            curves[f"{name}/{scale}"] = curve
            frames[f"{name}/{scale}"] = frame | _axis_labels(name, scale, frame)
    frame = frames["G/linear"]
    plot = style_figure(
        figure(
            x_range=Range1d(*frame["x"]),
            y_range=Range1d(*frame["y"]),
            tools="box_zoom,reset,save",
            x_axis_label=frame["x_label"],
            y_axis_label=frame["y_label"],
            name="spectrum",
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
        curve=ColumnDataSource(dict(curves["G/linear"].data), name="density"),
        sticks=_sticks(eigenvalues["G"], frame, theme),
        ghosts=_at_height("ghosts", np.full(0, np.nan), frame, STICK_TOP),
        class_part=_class_part(part, frame),
        curves=curves,
        eigenvalues=eigenvalues,
        axes={
            "linear": {"ticker": plot.xaxis.ticker, "format": plot.xaxis.formatter},
            "log": {
                "ticker": FixedTicker(ticks=_log_ticks(frames, floor)),
                "format": CustomJSTickFormatter(args={"floor": floor}, code=_LOG_TICK),
            },
        },
        frames=frames,
        floor=floor,
    )
    _draw(view, levels, theme)
    return view


def describe_spectrum(study: Study, name: str) -> str:
    """Say how this spectrum was measured, and which rule counted the outliers."""
    spectrum = study.spectra[name]
    zeros = spectrum.dim - len(spectrum.eigenvalues)
    if spectrum.complete:
        text = f"Exact: all {count(spectrum.dim, 'eigenvalue')} ({spectrum.method})"
        text += f", {zeros:,} of them zero by rank." if zeros else "."
    elif spectrum.nodes.size:
        probes = count(len(spectrum.nodes), "probe")
        text = (
            f"Density by stochastic Lanczos quadrature, {probes}, with a band of one "
            f"standard error. Sticks: {spectrum.method}, with residual bars."
        )
    else:
        text = (
            f"The {count(len(spectrum.eigenvalues), 'measured eigenvalue')} only "
            f"({spectrum.method}); no density was measured."
        )
    outliers = count(study.num_outliers, "outlier")
    return f"{text} {outliers} of G by this rule: {study.outlier_rule}."


def num_leading(study: Study) -> int:
    """How many eigenvalues of G stand as sticks: the outliers, and at least about C.

    Where the rule finds fewer outliers than there are classes, the next ones are still
    worth a look: the gap is often not clear.
    """
    wanted = max(study.num_outliers, min(study.num_classes, MAX_LEADING))
    return min(wanted, len(study.spectra["G"].eigenvalues))


def class_part_eigenvalues(study: Study, levels: Levels) -> Array:
    """Eigenvalues of the class part that are not zero by its rank C."""
    values = levels.parts[CLASS_PART[levels.weighting]][: study.num_classes]
    return values[values > 1e-9 * values.max(initial=0.0)]


def _leading(study: Study, levels: Levels, name: str) -> ColumnDataSource:
    """Leading eigenvalues of an operator at both ends; for G, its knock-outs too."""
    spectrum = study.spectra[name]
    values = spectrum.eigenvalues
    many = num_leading(study)
    rows = np.arange(min(many, len(values)))
    if name != "G":
        top, below = np.flatnonzero(values > 0), np.flatnonzero(values < 0)
        rows = np.r_[top[:many], below[-many:]]
    outlier = (rows < study.num_outliers) & (name == "G")
    data = {
        "value": values[rows],
        "residual": spectrum.residuals[rows],
        "outlier": outlier.astype(np.uint8),
        "name": [
            f"{'outlier' if out else 'eigenvalue'} {row + 1} of {name}"
            if spectrum.complete or values[row] > 0
            else f"negative eigenvalue of {name}"
            for row, out in zip(rows, outlier, strict=True)
        ],
    }
    if name == "G":
        for knocked in ("subtracted", "projected"):
            data[knocked] = _padded(getattr(levels, knocked), len(rows))
    return ColumnDataSource(data, name=f"eigenvalues {name}")


def _padded(values: Array, length: int) -> Array:
    """The first ``length`` values; those that were not measured are not drawn."""
    padded = np.full(length, np.nan)
    padded[: len(values)] = values[:length]
    return padded


def _densities(spectrum: Spectrum) -> dict[tuple[str, int], DensityCurve]:
    """The density on each scale and side on which there is one."""
    sides = (("linear", 1), ("log", -1), ("log", 1))
    found = {
        (scale, sign): density_curve(spectrum, scale=scale, sign=sign)
        for scale, sign in sides
        if spectrum.complete or spectrum.nodes.size
    }
    return {side: curve for side, curve in found.items() if len(curve.grid)}


def _floor(
    densities: dict[str, dict[tuple[str, int], DensityCurve]], values: dict[str, Array]
) -> int:
    """Integer exponent just below the smallest size that is drawn on a log axis."""
    exponents = [
        curve.grid[:1]
        for sides in densities.values()
        for (scale, _), curve in sides.items()
        if scale == "log"
    ]
    for drawn in values.values():
        size = np.abs(drawn)
        exponents.append(np.log10(size[size > 1e-12 * size.max(initial=0.0)]))
    found = np.concatenate(exponents)
    return math.floor(found.min()) if len(found) else -6


def _position(values: Array, scale: str, floor: int) -> Array:
    """Where a value stands on the axis; `place` in browser/spectrum.js is the same."""
    if scale == "linear":
        return values
    size = np.maximum(np.abs(values), 10.0**floor)
    return np.sign(values) * (np.log10(size) - floor)


def _curve(
    densities: dict[tuple[str, int], DensityCurve],
    scale: str,
    floor: int,
    values: Array,
    dim: int,
) -> tuple[ColumnDataSource, dict[str, Any]]:
    """One density on one scale, and the ranges that it is seen in."""
    sides = {sign: c for (kind, sign), c in densities.items() if kind == scale}
    # Below a tenth of what one eigenvalue makes there are only Gaussian tails.
    sigmas = [c.width for c in sides.values()]
    lowest = max((0.1 / (dim * s * math.sqrt(2 * math.pi)) for s in sigmas), default=1)
    columns: dict[str, list[Array]] = {"x": [], "y": [], "low": [], "high": []}
    for sign, curve in sides.items():
        x = curve.grid if scale == "linear" else sign * (curve.grid - floor)
        middle, error = curve.density, curve.error
        drawn = (x, middle, middle - error, middle + error)
        for column, values_of in zip(columns.values(), drawn, strict=True):
            column += [values_of[::sign], np.array([np.nan])]  # left to right; a gap
    data = {n: np.concatenate(c) if c else np.empty(0) for n, c in columns.items()}
    for name in ("y", "low", "high"):
        data[name] = np.log10(np.maximum(data[name], lowest))
    bottom = math.log10(lowest)
    data["base"] = np.full(len(data["x"]), bottom)
    places = np.concatenate([data["x"], _position(values, scale, floor)])
    places = places[np.isfinite(places)]
    left, right = (places.min(), places.max()) if len(places) else (-1.0, 1.0)
    if scale == "log" and not left < 0 < right:  # the axis ends where its side does
        left, right = min(left, right - 1), max(right, left + 1)
    margin = 0.04 * ((right - left) or 1.0)
    top = float(np.nanmax(data["high"], initial=bottom + 1))
    frame = {
        "x": [float(left - margin), float(right + margin)],
        "y": [bottom, bottom + 1.1 * (top - bottom)],
    }
    small: dict[str, Array] = {
        name: column.astype(np.float32) for name, column in data.items()
    }
    if scale == "linear":
        small["x"] = data["x"]
    return ColumnDataSource(small), frame


def _axis_labels(name: str, scale: str, frame: dict[str, Any]) -> dict[str, str]:
    """Name both axes in words and symbol."""
    if scale == "linear":
        across, per = f"eigenvalue λ of {name}", "unit of λ"
    else:
        left, right = frame["x"]
        across, per = f"eigenvalue λ of {name}, by powers of ten", "power of ten"
        if left < -0.05 * (right - left):
            across = f"← negative      eigenvalue λ of {name}      positive →"
    return {"x_label": across, "y_label": f"share of eigenvalues per {per}"}


def _log_ticks(frames: dict[str, dict[str, Any]], floor: int) -> list[float]:
    """Powers of ten on either side, at most about six a side."""
    reach = max(max(map(abs, f["x"])) for n, f in frames.items() if n.endswith("log"))
    step = max(1, math.ceil(reach / 6))
    side = [t for t in range(1, math.floor(reach) + 1) if (t + floor) % step == 0]
    return [float(t) for t in (*(-t for t in reversed(side)), *side)]


def _sticks(
    values: ColumnDataSource, frame: dict[str, Any], theme: Theme
) -> ColumnDataSource:
    """Sticks of G as they stand at first: linear scale, nothing selected."""
    value, residual = values.data["value"], values.data["residual"]
    outlier = np.asarray(values.data["outlier"], dtype=bool)
    thin = 0.5 if len(value) > 40 else 1.0
    return _at_height(
        "sticks",
        value,
        frame,
        STICK_TOP,
        low=value - residual,
        high=value + residual,
        color=[theme.ink] * len(value),
        alpha=np.where(outlier, 0.95, 0.5),
        width=thin * np.where(outlier, 2.4, 1.6),
        size=thin * np.where(outlier, 9.0, 6.0),
        label=[""] * len(value),
        name=list(values.data["name"]),
        told=[
            number(v) + (f" ± {number(r)}" if r > 0 else "")
            for v, r in zip(value, residual, strict=True)
        ],
    )


def _class_part(part: Array, frame: dict[str, Any]) -> ColumnDataSource:
    told = [number(v) for v in part]
    return _at_height("class part", part, frame, CLASS_PART_TOP, value=part, told=told)


def _at_height(
    title: str, x: Array, frame: dict[str, Any], share: float, **columns: Any
) -> ColumnDataSource:
    bottom, top = frame["y"]
    height = {
        "x": x.copy(),
        "base": np.full(len(x), bottom),
        "top": np.full(len(x), bottom + share * (top - bottom)),
    }
    return ColumnDataSource(height | columns, name=title)


def _draw(view: SpectrumView, levels: Levels, theme: Theme) -> None:
    """Put the glyphs into the figure, from back to front."""
    plot, curve, sticks, part = view.figure, view.curve, view.sticks, view.class_part
    plot.add_layout(
        Span(location=0, dimension="height", line_color=theme.line, line_width=1.5)
    )
    area = {"x": "x", "fill_color": theme.curve}
    plot.add_glyph(curve, VArea(y1="base", y2="y", fill_alpha=0.16, **area))
    plot.add_glyph(curve, VArea(y1="low", y2="high", fill_alpha=0.45, **area))
    plot.add_glyph(curve, Line(x="x", y="y", line_color=theme.curve, line_width=1.8))
    stick = {"x0": "x", "y0": "base", "x1": "x", "y1": "top"}
    plot.add_glyph(part, Segment(**stick, line_color=theme.class_part, line_width=2.4))
    gone = {"line_color": theme.muted, "line_dash": "dotted", "line_width": 1.5}
    plot.add_glyph(view.ghosts, Segment(**stick, **gone))
    edge = {"line_color": theme.background, "line_width": 1}
    heads = plot.add_glyph(
        part,
        Scatter(
            x="x",
            y="top",
            marker="diamond",
            size=11,
            fill_color=theme.class_part,
            **edge,
        ),
    )
    named = f"class part {CLASS_PART[levels.weighting]} of G: eigenvalue @told"
    tooltip(plot, heads, named)
    look = {"line_color": "color", "line_alpha": "alpha"}
    plot.add_glyph(sticks, Segment(**stick, **look, line_width="width"))
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
    tooltip(plot, heads, "@name: @told")
    add_label(plot, sticks, theme, y="top", y_offset=-9)
