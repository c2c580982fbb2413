"""The spectrum of one symmetric operator, as far as it was measured. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    ]  # (num_probes, num_steps) of the quadrature; (0, 0): none
    weights: NDArray[np.float64]  # (num_probes, num_steps), each row sums to 1
    dim: int  # order P of the operator
    trace: float
    trace_error: float  # standard error over probes; 0.0 where the trace is exact
    complete: bool  # eigenvalues are all but the dim - m that are zero by rank
    method: str  # in words: "dense, exact", "dual, exact", "block Krylov"
    num_matvecs: int  # matvecs with the operator that all of this took
    num_low: int | None = None  # of the eigenvalues, the last ones, that were sought at
    # the low end; the others are the highest. None: a file of before, or all are there

    @property
    def exact(self) -> bool:
        """Whether every eigenvalue is in it: one by one, or in bins of a density."""
        binned = len(self.nodes) == 1 and self.trace_error == 0
        return self.complete or binned

    @property
    def ends(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of the high end, largest first, and of the low end, lowest first.

        As they were sought; where all are there, or a file does not say, by their sign.
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
    error: NDArray[np.float64]  # (n,) standard error over probes; 0 where exact
    width: float  # standard deviation of the smoothing, in units of the grid


def density_curve(
    spectrum: Spectrum,
    *,
    scale: str = "linear",
    sign: int = 1,
    num_points: int = 400,
    width: float | None = None,
) -> DensityCurve:
    r"""Smooth a measured spectrum with a Gaussian, on a linear or logarithmic axis.

    .. math:: \phi(t) = \frac1P \sum_j g_\sigma(t - \lambda_j)
              \approx \sum_m w_m\, g_\sigma(t - \theta_m)

    Costs no matvec: from all the eigenvalues where the spectrum is complete, else from
    the quadrature nodes ``theta`` and weights ``w``, averaged over the probes.

    Args:
        spectrum: What was measured.
        scale: ``"linear"`` over the eigenvalue axis, ``"log"`` over log10 of its size.
        sign: On the log scale, which side: +1 or -1. Not used on the linear one.
        num_points: Points of the grid.
        width: Standard deviation sigma in units of the grid's axis; by default 1/100 of
            its span, and no finer than half the spacing of the quadrature's nodes.

    Returns:
        The curve. On the log scale ``grid`` is log10 of the absolute eigenvalue, and
        exact zeros are left out. Empty arrays if there is nothing on that side.
    """
    if spectrum.complete:
        zeros = spectrum.dim - len(spectrum.eigenvalues)
        points = np.append(spectrum.eigenvalues, 0.0)[None]
        weights = np.append(np.ones(len(spectrum.eigenvalues)), zeros)[None]
        weights = weights / spectrum.dim
    else:
        points, weights = spectrum.nodes, spectrum.weights
    if scale == "log":
        top = np.abs(points).max(initial=0.0)
        keep = points * sign > 1e-12 * top
        safe = np.where(keep, np.abs(points), 1.0)
        points, weights = np.log10(safe), np.where(keep, weights, 0.0)
        drawn = points[keep]
    elif scale == "linear":
        drawn = points.ravel()
    else:
        raise ValueError(f"density_curve: scale {scale!r}; use 'linear' or 'log'.")
    if drawn.size == 0:
        return DensityCurve(np.empty(0), np.empty(0), np.empty(0), 0.0)
    low, high = float(drawn.min()), float(drawn.max())
    span = (high - low) or max(abs(high), 1.0)
    resolved = 100 if spectrum.complete else min(100, 2 * points.shape[1])
    sigma = width or span / resolved
    grid = np.linspace(low - 4 * sigma, high + 4 * sigma, num_points)
    curves = np.stack(
        [_smooth(grid, p, w, sigma) for p, w in zip(points, weights, strict=True)]
    )
    error = np.zeros(num_points)
    if len(curves) > 1:
        error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    return DensityCurve(grid, curves.mean(axis=0), error, float(sigma))


def _smooth(
    grid: NDArray[np.float64],
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigma: float,
) -> NDArray[np.float64]:
    """Sum of weighted Gaussians on the grid, in blocks of points."""
    total = np.zeros_like(grid)
    for start in range(0, len(points), 1024):
        block = slice(start, start + 1024)
        z = (grid[:, None] - points[None, block]) / sigma
        total += np.exp(-0.5 * z * z) @ weights[block]
    scaled: NDArray[np.float64] = total / (sigma * np.sqrt(2 * np.pi))
    return scaled
