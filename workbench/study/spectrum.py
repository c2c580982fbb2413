"""The measured spectrum of a symmetric operator, complete or in part. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.study.quadrature import (
    Probes,
    mass_between,
    quadrature_error,
    sampling_error,
)


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Eigenvalues with residuals, and the nodes and weights of the density.

    An eigenvalue ``lam`` measured with residual ``r = ||A v - lam v||`` (unit ``v``)
    lies within ``r`` of a true one (Parlett, The Symmetric Eigenvalue Problem, 4.5).
    """

    eigenvalues: NDArray[np.float64]  # (m,) measured ones, from largest to smallest
    residuals: NDArray[np.float64]  # (m,) their error bars, in the same unit
    nodes: NDArray[
        np.float64
    ]  # (num_probes, num_steps) of the quadrature; (0, 0): no probes
    weights: NDArray[np.float64]  # (num_probes, num_steps), each row sums to 1
    dim: int  # order P of the operator
    trace: float
    trace_error: float  # half the 95 % interval; 0.0 where the trace is exact
    complete: bool  # eigenvalues holds all but dim - m that are zero by rank
    method: str  # in words: "dense, exact", "dual, exact", "block Krylov"
    num_matvecs: int  # matvecs used in total
    num_low: int | None = (
        None  # how many eigenvalues, the last ones, are of the low
        # end; the others are the highest. None: all are here, or the file is older
    )

    @property
    def exact(self) -> bool:
        """Whether it holds every eigenvalue: one by one, or in bins of a density."""
        binned = len(self.nodes) == 1 and self.trace_error == 0
        return self.complete or binned

    @property
    def num_zeros(self) -> int:
        """How many eigenvalues are exactly zero, by rank."""
        if self.complete:
            return self.dim - len(self.eigenvalues)
        points, weights, _ = _parts(self)
        return round(float(weights[points == 0.0].sum()) * self.dim)

    @property
    def num_high(self) -> int | None:
        """How many eigenvalues are of the high end, not the low one; None: unknown."""
        return None if self.num_low is None else len(self.eigenvalues) - self.num_low

    @property
    def ends(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows of the high end, largest first, and of the low, lowest first.

        As they were computed. If all are here, or the file does not say, by their sign.
        """
        if self.num_low is None:
            high = np.flatnonzero(self.eigenvalues > 0)
            low = np.flatnonzero(self.eigenvalues < 0)
        else:
            high, low = np.split(
                np.arange(len(self.eigenvalues)),
                [len(self.eigenvalues) - self.num_low],
            )
        return high, low[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class DensityCurve:
    """A smoothed density on a grid, ready to draw."""

    grid: NDArray[np.float64]  # (n,)
    density: NDArray[np.float64]  # (n,) eigenvalues per unit of grid, over dim
    error: NDArray[np.float64]  # (n,) half the 95 % interval; 0 where exact
    width: float  # standard deviation of the smoothing, in units of the grid
    zeros: float = 0.0  # share of the eigenvalues that are zero by rank


def density_curve(
    spectrum: Spectrum,
    *,
    scale: str = "linear",
    sign: int = 1,
    num_points: int = 400,
    width: float | None = None,
    zeros: bool = True,
) -> DensityCurve:
    r"""Smooth a measured spectrum with a Gaussian, on a linear or logarithmic axis.

    .. math:: \phi(t) = \frac1P \sum_j g_\sigma(t - \lambda_j)
              \approx \sum_m w_m\, g_\sigma(t - \theta_m)

    Needs no matvecs: it uses all eigenvalues if the spectrum is complete, otherwise the
    quadrature nodes ``theta`` and weights ``w``, averaged over the probes. The error is
    half of a 95 % interval for the same smoothing of the true spectrum. It adds the
    error from few probes (`sampling_error`) to that from few steps
    (`quadrature_error`). If eigenvalues are too close to zero for the steps to resolve,
    the error on a log axis is as large as the mass that may be there.

    Args:
        spectrum: The measured spectrum.
        scale: ``"linear"`` over the eigenvalue axis, ``"log"`` over log10 of its size.
        sign: Which side to draw on the log scale, +1 or -1; unused on the linear one.
        num_points: Number of grid points.
        width: Standard deviation sigma in units of the grid. By default 1/100 of its
            span, but at least the spacing of the quadrature nodes, or twice that on the
            log scale.
        zeros: Whether exact zeros, known by rank, are smoothed like the others on the
            linear scale; otherwise they are left out, to be drawn separately.

    Returns:
        The curve. On the log scale ``grid`` is log10 of the absolute eigenvalue, and
        exact zeros are left out. The arrays are empty if there is nothing on that side.
    """
    if scale not in ("linear", "log"):
        raise ValueError(f"density_curve: scale is {scale!r}; use 'linear' or 'log'.")
    points, weights, probes = _parts(spectrum)
    share = spectrum.num_zeros / spectrum.dim if spectrum.dim else 0.0
    if not zeros:
        points, weights = points[points != 0.0], weights[points != 0.0]
    top = np.abs(np.append(points, probes.nodes)).max(initial=0.0)
    floor = 1e-12 * top

    def place(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map eigenvalues to the axis; NaN if they are not on it."""
        if scale == "linear":
            return values
        safe = np.where(values * sign > floor, np.abs(values), 1.0)
        return np.where(values * sign > floor, np.log10(safe), np.nan)

    drawn, nodes = place(points), place(probes.nodes)
    nodes = nodes[np.isfinite(nodes)]
    everything = np.append(drawn[np.isfinite(drawn)], nodes)
    if everything.size == 0:
        return DensityCurve(np.empty(0), np.empty(0), np.empty(0), 0.0, share)
    low, high = float(everything.min()), float(everything.max())
    span = (high - low) or max(abs(high), 1.0)
    finest = 0.0
    if nodes.size:  # their spacing, which is uneven across powers of ten
        apart = np.ptp(nodes) * len(probes.nodes) / nodes.size
        finest = apart if scale == "linear" else 2 * apart
    sigma = float(width or max(span / 100, finest))
    grid = np.linspace(low - 4 * sigma, high + 4 * sigma, num_points)
    density = _smooth(grid, drawn, weights, sigma)
    error = np.zeros(num_points)
    if probes.nodes.size:

        def kernel(values: NDArray[np.float64]) -> NDArray[np.float64]:
            z = (grid[:, None] - place(values)) / sigma
            bell = np.exp(-0.5 * z * z) / (sigma * np.sqrt(2 * np.pi))
            return np.where(np.isfinite(z), bell, 0.0)

        bells = kernel(probes.nodes.ravel())
        mean = probes.mean(bells)
        axis, wide = grid, np.full(num_points, sigma)
        if scale == "log":
            axis = sign * 10**grid
            wide = np.abs(axis) * np.log(10) * sigma
        error = sampling_error(probes, mean, probes.mean(bells**2))
        error = error + quadrature_error(probes, kernel, mean, wide, axis)
        density = density + mean
    return DensityCurve(grid, density, error, sigma, share)


def share_between(spectrum: Spectrum, low: float, high: float) -> tuple[float, float]:
    """Return the share of the eigenvalues in ``low <= lam < high``, and its error.

    Needs no matvecs. If the spectrum is complete, it is exact except for eigenvalues
    within their residuals of an end. Otherwise it comes from the quadrature, and the
    error is half of a 95 % interval.

    Args:
        spectrum: The measured spectrum.
        low: The lower end; ``-math.inf`` for none.
        high: The upper end, itself excluded; 0.0 leaves out zeros.

    Returns:
        The share, from 0 to 1, and its error.

    Example:
        >>> values = np.array([3.0, 1.0, -2.0])
        >>> none = np.empty((0, 0))
        >>> found = Spectrum(values, 0 * values, none, none, 4, 2.0, 0.0, True, "", 0)
        >>> share_between(found, -np.inf, 0.0)
        (0.25, 0.0)
    """
    points, weights, probes = _parts(spectrum)
    inside = (points >= low) & (points < high)
    share, error = float(weights[inside].sum()), 0.0
    if spectrum.complete and len(spectrum.eigenvalues):
        edges = np.array([low, high])
        near = np.abs(spectrum.eigenvalues[:, None] - edges)
        near = (near < spectrum.residuals[:, None]).any(1)
        error = float(near.sum() / spectrum.dim)
    if probes.nodes.size:
        seen, off = mass_between(probes, low, high)
        share += seen
        error = min(error + off, max(share, 1 - share))
    return share, error


def _parts(
    spectrum: Spectrum,
) -> tuple[NDArray[np.float64], NDArray[np.float64], Probes]:
    """Points of known weight, their weights, and the probes for the rest.

    A node with the same value and weight in all probes is not an estimate: it is a
    deflated pair, or the zeros by rank.
    """
    none = Probes(np.empty((0, 0)), np.empty((0, 0)), spectrum.dim)
    if spectrum.complete:
        zeros = spectrum.dim - len(spectrum.eigenvalues)
        weights = np.append(np.ones(len(spectrum.eigenvalues)), zeros) / spectrum.dim
        return np.append(spectrum.eigenvalues, 0.0), weights, none
    nodes, weights = spectrum.nodes, spectrum.weights
    if spectrum.exact:
        return nodes[0], weights[0], none
    if not nodes.size:
        return np.empty(0), np.empty(0), none
    known = (nodes == nodes[0]).all(0) & (weights == weights[0]).all(0)
    if len(nodes) == 1:  # with a single probe all weights are taken as known
        known = np.zeros_like(known)
    probes = Probes(nodes[:, ~known], weights[:, ~known], spectrum.dim)
    return nodes[0, known], weights[0, known], probes if (~known).any() else none


def _smooth(
    grid: NDArray[np.float64],
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigma: float,
) -> NDArray[np.float64]:
    """Sum weighted Gaussians on the grid, in blocks of points."""
    total = np.zeros_like(grid)
    for start in range(0, len(points), 1024):
        block = slice(start, start + 1024)
        z = (grid[:, None] - points[None, block]) / sigma
        total += np.where(np.isfinite(z), np.exp(-0.5 * z * z), 0.0) @ weights[block]
    scaled: NDArray[np.float64] = total / (sigma * np.sqrt(2 * np.pi))
    return scaled
