"""The spectrum: bulk as a density, leading eigenvalues as sticks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from workbench.spectrum import Spectrum, density_curve
from workbench.study import CLASS_PART, Levels, Study
from workbench.ui.theme import Theme
from workbench.ui.views.frame import TYPE, style_figure, tooltip
from workbench.ui.views.words import count, number

Array = NDArray[np.float64]
OPERATORS = ("G", "Hess", "H")
STICK_TOP = 0.66  # height of the sticks and of the class part's, as share of the plot
CLASS_PART_TOP = 0.34

_POWER = """
const raised = (n) => String(n).replace(/./g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d] ?? "⁻")
const power = (n) => n === 0 ? "1" : n === 1 ? "10" : "10" + raised(n)
"""
_DENSITY_TICK = _POWER + "return Number.isInteger(tick) ? power(tick) : ''"
_LOG_TICK = _POWER + "return (tick < 0 ? '−' : '') + power(Math.abs(tick) + floor)"


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumView:
    """The figure, its drawn sources, and what the browser redraws them from."""

    figure: figure
    curve: ColumnDataSource  # density of the operator shown
    sticks: ColumnDataSource  # its leading eigenvalues
    class_part: ColumnDataSource  # eigenvalues of the class part of G
    curves: dict[str, ColumnDataSource]  # "G/linear" -> its density
    eigenvalues: dict[str, ColumnDataSource]  # operator -> leading eigenvalues
    axes: dict[str, Any]  # "linear" and "log" -> ticker and formatter of the x axis
    frames: dict[str, dict[str, Any]]  # "G/linear" -> ranges, axis label, note
    floor: int  # the log axis starts at 10^floor on either side


def build_spectrum(study: Study, levels: Levels, theme: Theme) -> SpectrumView:
    """Prepare each operator on each scale, and draw G on the linear one."""
    names = [name for name in OPERATORS if name in study.spectra]
    eigenvalues = {name: _leading(study, levels, name) for name in names}
    part = class_part_eigenvalues(study, levels)
    floor = _floor(study, eigenvalues, part)
    curves, frames = {}, {}
    for name in names:
        values = np.concatenate([np.asarray(eigenvalues[name].data["value"]), part])
        for scale in ("linear", "log"):
            curve, frame = _curve(study.spectra[name], name, scale, floor, values)
            curves[f"{name}/{scale}"], frames[f"{name}/{scale}"] = curve, frame
    frame = frames["G/linear"]
    plot = style_figure(
        figure(
            x_range=Range1d(*frame["x"]),
            y_range=Range1d(*frame["y"]),
            tools="box_zoom,reset,save",
            x_axis_label=frame["label"],
            y_axis_label="density of eigenvalues",
            name="spectrum",
        ),
        theme,
    )
    plot.xgrid.visible = False
    plot.yaxis.ticker = BasicTicker(mantissas=[1, 2, 5], desired_num_ticks=5)
    plot.yaxis.formatter = CustomJSTickFormatter(code=_DENSITY_TICK)
    axes = {
        "linear": {"ticker": plot.xaxis[0].ticker, "format": plot.xaxis[0].formatter},
        "log": {
            "ticker": FixedTicker(ticks=_log_ticks(frames, floor)),
            "format": CustomJSTickFormatter(args={"floor": floor}, code=_LOG_TICK),
        },
    }
    plot.xaxis.ticker.desired_num_ticks = 5
    view = SpectrumView(
        figure=plot,
        curve=ColumnDataSource(dict(curves["G/linear"].data), name="density"),
        sticks=_drawn("sticks", eigenvalues["G"], frame, STICK_TOP, theme.ink),
        class_part=_drawn(
            "class part",
            ColumnDataSource({"value": part, "residual": np.zeros(len(part))}),
            frame,
            CLASS_PART_TOP,
            theme.class_part,
        ),
        curves=curves,
        eigenvalues=eigenvalues,
        axes=axes,
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
        text = (
            f"Density by stochastic Lanczos quadrature, "
            f"{count(len(spectrum.nodes), 'probe')}, with a band of one standard error. "
            f"Sticks: {spectrum.method}, with residual bars."
        )
    else:
        text = (
            f"The {count(len(spectrum.eigenvalues), 'measured eigenvalue')} only "
            f"({spectrum.method}); no density was measured."
        )
    return (
        f"{text} {count(study.num_outliers, 'outlier')} of G by this rule: "
        f"{study.outlier_rule}."
    )


def num_sticks(study: Study) -> int:
    """How many leading eigenvalues are drawn: the outliers, and at least C of them."""
    available = len(study.spectra["G"].eigenvalues)
    return min(available, max(study.num_outliers, min(study.num_classes, 20)))


def class_part_eigenvalues(study: Study, levels: Levels) -> Array:
    """Eigenvalues of the class part that are not zero by its rank C."""
    values = levels.parts[CLASS_PART[levels.weighting]][: study.num_classes]
    return values[values > 1e-9 * values.max(initial=0.0)]


def _leading(study: Study, levels: Levels, name: str) -> ColumnDataSource:
    """Leading eigenvalues of an operator at both ends; for G, its knock-outs too."""
    spectrum = study.spectra[name]
    many = num_sticks(study)
    rows = np.arange(min(many, len(spectrum.eigenvalues)))
    if name != "G":
        values = spectrum.eigenvalues
        top = np.flatnonzero(values > 0)[:many]
        rows = np.r_[top, np.flatnonzero(values < 0)[-many:]]
    value = spectrum.eigenvalues[rows]
    data = {
        "rank": (rows + 1).astype(np.int32),
        "value": value,
        "residual": spectrum.residuals[rows],
        "subtracted": value,
        "projected": value,
        "outlier": (rows < study.num_outliers) & (name == "G"),
        "name": [f"eigenvalue {r + 1} of {name}" for r in rows],
    }
    if name == "G":
        data["name"] = [
            f"outlier {r + 1} of G" if out else f"eigenvalue {r + 1} of G"
            for r, out in zip(rows, data["outlier"], strict=True)
        ]
        for knocked in ("subtracted", "projected"):
            data[knocked] = _padded(getattr(levels, knocked), len(rows))
    return ColumnDataSource(data, name=f"eigenvalues {name}")


def _padded(values: Array, length: int) -> Array:
    """The first ``length`` values; those that were not measured are not drawn."""
    padded = np.full(length, np.nan)
    padded[: len(values)] = values[:length]
    return padded


def _floor(study: Study, sticks: dict[str, ColumnDataSource], part: Array) -> int:
    """Integer exponent just below the smallest size that is drawn on a log axis."""
    exponents = [np.log10(part)] if len(part) else []
    for name in sticks:
        for sign in (1, -1):
            curve = density_curve(study.spectra[name], scale="log", sign=sign)
            seen = curve.density > 0
            exponents.append(curve.grid[seen])
        values = np.abs(np.asarray(sticks[name].data["value"]))
        exponents.append(np.log10(values[values > 1e-12 * values.max(initial=0.0)]))
    found = np.concatenate(exponents) if exponents else np.empty(0)
    return math.floor(found.min()) if len(found) else -6


def _position(values: Array, scale: str, floor: int) -> Array:
    """Where a value stands on the axis; the browser's ``position`` is the same."""
    if scale == "linear":
        return values
    size = np.maximum(np.abs(values), 10.0**floor)
    return np.sign(values) * (np.log10(size) - floor)


def _curve(
    spectrum: Spectrum, name: str, scale: str, floor: int, values: Array
) -> tuple[ColumnDataSource, dict[str, Any]]:
    """One density on one scale, and the frame that it is seen in."""
    sides = [1] if scale == "linear" else [-1, 1]
    xs, middles, errors, lowest = [], [], [], 0.0
    for sign in sides:
        curve = density_curve(spectrum, scale=scale, sign=sign)
        if not len(curve.grid):
            continue
        # The grid is the span and four sigma on either side, sigma a 1/100 of the span.
        sigma = (curve.grid[-1] - curve.grid[0]) / 108
        lowest = max(lowest, 0.1 / (spectrum.dim * sigma * math.sqrt(2 * math.pi)))
        x = curve.grid if scale == "linear" else sign * (curve.grid - floor)
        order = slice(None, None, sign)  # from left to right on the negative side too
        xs += [x[order], [np.nan]]
        middles += [curve.density[order], [np.nan]]
        errors += [curve.error[order], [np.nan]]
    x, middle, error = (
        np.concatenate(part) if part else np.empty(0) for part in (xs, middles, errors)
    )
    low, high = (np.maximum(middle + s * error, lowest) for s in (-1, 1))
    data = {
        "x": x,
        "y": np.log10(np.maximum(middle, lowest)),
        "low": np.log10(low),
        "high": np.log10(high),
        "base": np.full(len(x), math.log10(lowest) if lowest else 0.0),
    }
    places = np.concatenate([x[np.isfinite(x)], _position(values, scale, floor)])
    left, right = (places.min(), places.max()) if len(places) else (-1.0, 1.0)
    if scale == "log" and left >= 0:
        left = 0.0
    margin = 0.04 * ((right - left) or 1.0)
    bottom = math.log10(lowest) if lowest else 0.0
    top = float(np.nanmax(data["high"], initial=bottom + 1))
    axis = f"eigenvalue λ of {name}"
    if scale == "log":
        axis = f"size of the eigenvalues |λ| of {name}, by powers of ten"
        if left < 0:
            axis = f"negative λ of {name} to the left, positive to the right"
    frame = {
        "x": [float(left - margin), float(right + margin)],
        "y": [bottom, bottom + 1.12 * (top - bottom)],
        "label": axis,
    }
    return ColumnDataSource(data, name=f"density {name} {scale}"), frame


def _log_ticks(frames: dict[str, dict[str, Any]], floor: int) -> list[float]:
    """Powers of ten on either side, at most about six a side."""
    reach = max(max(map(abs, f["x"])) for n, f in frames.items() if n.endswith("log"))
    step = max(1, math.ceil(reach / 6))
    first = step - (-floor) % step if (-floor) % step else 0
    side = np.arange(first or step, math.floor(reach) + 1, step)
    return [float(t) for t in np.concatenate([-side[::-1], side])]


def _drawn(
    name: str,
    values: ColumnDataSource,
    frame: dict[str, Any],
    share: float,
    color: str,
) -> ColumnDataSource:
    """Sticks as they stand at first: linear scale, nothing selected."""
    value = np.asarray(values.data["value"], dtype=float)
    residual = np.asarray(values.data["residual"], dtype=float)
    n = len(value)
    bottom, top = frame["y"]
    outlier = np.asarray(values.data.get("outlier", np.ones(n, bool)), dtype=bool)
    return ColumnDataSource(
        {
            "value": value,
            "x": value.copy(),
            "low": value - residual,
            "high": value + residual,
            "base": np.full(n, bottom),
            "top": np.full(n, bottom + share * (top - bottom)),
            "color": [color] * n,
            "alpha": np.where(outlier, 0.95, 0.4),
            "width": np.where(outlier, 2.4, 1.4),
            "size": np.where(outlier, 9.0, 5.0),
            "label": [""] * n,
            "name": list(values.data.get("name", [""] * n)),
            "shown": [number(v) for v in value],
            "error": [f" ± {number(r)}" if r > 0 else "" for r in residual],
        },
        name=name,
    )


def _draw(view: SpectrumView, levels: Levels, theme: Theme) -> None:
    plot = view.figure
    plot.add_layout(
        Span(location=0, dimension="height", line_color=theme.line, line_width=1.5)
    )
    plot.varea("x", "base", "y", source=view.curve, color=theme.curve, alpha=0.16)
    plot.varea("x", "low", "high", source=view.curve, color=theme.curve, alpha=0.4)
    plot.line("x", "y", source=view.curve, color=theme.curve, line_width=1.8)
    part = CLASS_PART[levels.weighting]
    for source, marker, told in (
        (view.class_part, "diamond", f"class part {part}: eigenvalue @shown"),
        (view.sticks, "circle", "@name: @shown@error"),
    ):
        plot.segment(
            "x",
            "base",
            "x",
            "top",
            source=source,
            line_color={"field": "color"},
            line_alpha={"field": "alpha"},
            line_width={"field": "width"},
        )
        plot.segment(
            "low",
            "top",
            "high",
            "top",
            source=source,
            line_color={"field": "color"},
            line_alpha={"field": "alpha"},
            line_width=2,
        )
        heads = plot.scatter(
            "x",
            "top",
            source=source,
            marker=marker,
            size={"field": "size"},
            fill_color={"field": "color"},
            fill_alpha={"field": "alpha"},
            line_color=theme.background,
            line_width=1,
        )
        tooltip(plot, heads, told)
    for color, width in ((theme.background, 4), (theme.ink, 0)):  # a halo, the number
        plot.text(
            "x",
            "top",
            text={"field": "label"},
            source=view.sticks,
            y_offset=-9,
            text_align="center",
            text_baseline="bottom",
            text_color=color,
            text_font=TYPE,
            text_font_size="12px",
            text_font_style="bold",
            text_outline_color=color if width else None,
            text_outline_width=width,
        )
