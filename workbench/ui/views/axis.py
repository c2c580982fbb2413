"""Linear and logarithmic eigenvalue axes, with their curves and ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource
from numpy.typing import NDArray

from workbench.page.view_state import BY_NAME
from workbench.study.spectrum import DensityCurve, Spectrum, density_curve

SCALES = BY_NAME["scale"].choices

Array = NDArray[np.float64]
Sides = dict[tuple[str, int], DensityCurve]  # (scale, sign) -> density
Frame = dict[str, Any]  # ranges and axis labels


@lru_cache(maxsize=128)  # spectra: those of two studies and their films
def density_sides(spectrum: Spectrum) -> Sides:
    """Return the density on each scale and side that has one."""
    sides = (("linear", 1), ("log", -1), ("log", 1))
    found = {
        (scale, sign): density_curve(spectrum, scale=scale, sign=sign)
        for scale, sign in sides
        if spectrum.complete or spectrum.nodes.size
    }
    return {side: curve for side, curve in found.items() if len(curve.grid)}


def log_floor(densities: Iterable[Sides], values: Iterable[Array]) -> int:
    """Return the integer exponent just below the smallest size on a log axis."""
    exponents = [
        curve.grid[:1]
        for sides in densities
        for (scale, _), curve in sides.items()
        if scale == "log"
    ]
    for drawn in values:
        size = np.abs(drawn)
        exponents.append(np.log10(size[size > 1e-12 * size.max(initial=0.0)]))
    found = np.concatenate(exponents)
    return math.floor(found.min()) if len(found) else -6


def position(values: Array, scale: str, floor: int) -> Array:
    """Return positions on the axis; the same as `placeOn` in browser/spectrum.js."""
    if scale == "linear":
        return values
    size = np.maximum(np.abs(values), 10.0**floor)
    return np.sign(values) * (np.log10(size) - floor)


def draw_curve(
    sides: Sides, scale: str, floor: int, values: Array, spectrum: Spectrum
) -> tuple[ColumnDataSource, Frame]:
    """Return a density on one scale, and its axis ranges.

    Args:
        sides: The operator's densities.
        scale: ``"linear"`` or ``"log"``.
        floor: The log axis starts at 10^floor on both sides.
        values: Eigenvalues that the frame must contain.
        spectrum: The operator's spectrum.

    Returns:
        Columns ``x``, ``y``, ``low``, ``high``, ``base``, in log10 of the density, and
        a frame, whose ``lowest`` is the smallest density drawn and ``width`` the
        smoothing.
    """
    curves = {sign: c for (kind, sign), c in sides.items() if kind == scale}
    # Below a tenth of one eigenvalue's peak there are only Gaussian tails.
    lowest = max((bump(c.width, spectrum.dim) / 10 for c in curves.values()), default=1)
    columns: dict[str, list[Array]] = {"x": [], "y": [], "low": [], "high": []}
    for sign, curve in curves.items():
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
    places = np.concatenate([data["x"], position(values, scale, floor)])
    places = places[np.isfinite(places)]
    left, right = (places.min(), places.max()) if len(places) else (-1.0, 1.0)
    if scale == "log" and not left < 0 < right:  # the axis ends where its side does
        left, right = min(left, right - 1), max(right, left + 1)
    margin = 0.04 * ((right - left) or 1.0)
    top = float(np.nanmax(data["high"], initial=bottom + 1))
    frame = {
        "x": [float(left - margin), float(right + margin)],
        "y": [bottom, bottom + 1.1 * (top - bottom)],
        "lowest": float(lowest),
        "bump": bump(curves[1].width, spectrum.dim) if 1 in curves else 0.0,
        "width": curves[1].width if 1 in curves else 0.0,
    }
    small: dict[str, Array] = {
        name: column.astype(np.float32) for name, column in data.items()
    }
    if scale == "linear":
        small["x"] = data["x"]
    return ColumnDataSource(small), frame


def bump(width: float, dim: int) -> float:
    """Return the peak height of one of ``dim`` eigenvalues at this smoothing."""
    return 1 / (dim * width * math.sqrt(2 * math.pi))


def without_leading(
    spectrum: Spectrum,
    num_leading: int,
    curve: ColumnDataSource,
    scale: str,
    floor: int,
    width: float,
) -> Array | None:
    """Return the density of a spectrum without its leading eigenvalues.

    In the browser each stick adds its own bump, so the density moves with the sticks.
    NaN on the negative side of a log axis, where no stick moves; None if the leading
    eigenvalues cannot be separated from the others.
    """
    others = _but_leading(spectrum, num_leading)
    if others is None:
        return None
    x = np.asarray(curve.data["x"], dtype=np.float64)
    points, counts = others
    if scale == "log":
        drawn = points > 10.0**floor
        points, counts = np.log10(points[drawn]) - floor, counts[drawn]
    total = np.zeros(len(x))
    for start in range(0, len(points), 1024):
        block = slice(start, start + 1024)
        z = (x[:, None] - points[None, block]) / width
        total += np.exp(-0.5 * z * z) @ counts[block]
    total *= bump(width, spectrum.dim)
    return np.where(x < 0, np.nan, total) if scale == "log" else total


def _but_leading(spectrum: Spectrum, num_leading: int) -> tuple[Array, Array] | None:
    """Return all but the leading eigenvalues, with their multiplicities.

    If a spectrum is stored in bins (`measurement.snapshots`), each leading eigenvalue
    is removed from its bin, whose mean then becomes that of the others.
    """
    values, dim = spectrum.eigenvalues, spectrum.dim
    if spectrum.complete:
        points = np.append(values[num_leading:], 0.0)
        counts = np.ones(len(points))
        counts[-1] = dim - len(values)
        return points, counts
    if not spectrum.exact:
        return None
    order = np.argsort(spectrum.nodes[0])[::-1]
    points, counts = spectrum.nodes[0][order], spectrum.weights[0][order] * dim
    sums = points * counts
    leading = values[:num_leading]
    bins = np.cumsum(counts).searchsorted(np.arange(len(leading)) + 0.5)
    if bins.max(initial=0) >= len(points):
        return None
    held = counts[bins]
    if not np.allclose(held, held.round(), atol=0.05):  # quadrature nodes
        return None
    np.subtract.at(counts, bins, 1.0)
    np.subtract.at(sums, bins, leading)
    left = counts > 0.5
    return sums[left] / counts[left], counts[left]


def axis_labels(name: str, scale: str, frame: Frame) -> Frame:
    """Return the labels of both axes, in words and symbols."""
    if scale == "linear":
        across, per = f"eigenvalue λ of {name}", "unit of λ"
    else:
        left, right = frame["x"]
        across, per = f"eigenvalue λ of {name}, by powers of ten", "power of ten"
        if left < -0.05 * (right - left):
            across = f"← negative      eigenvalue λ of {name}      positive →"
    return {"x_label": across, "y_label": f"share of eigenvalues per {per}"}


def joined(frames: Sequence[Frame]) -> Frame:
    """Return the frame that contains all of these."""
    return {
        axis: [min(f[axis][0] for f in frames), max(f[axis][1] for f in frames)]
        for axis in ("x", "y")
    }


def log_ticks(frames: Mapping[str, Frame], floor: int) -> list[float]:
    """Return powers of ten on both sides, at most about six per side."""
    reach = max(max(map(abs, f["x"])) for n, f in frames.items() if n.endswith("log"))
    step = max(1, math.ceil(reach / 6))
    side = [t for t in range(1, math.floor(reach) + 1) if (t + floor) % step == 0]
    return [float(t) for t in (*(-t for t in reversed(side)), *side)]
