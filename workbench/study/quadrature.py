"""Estimates of a spectrum from a few random probes, with 95 % intervals. NumPy only.

A probe v, uniform on the sphere of n dimensions, has the measure ``sum_j (u_j^T v)^2
delta(lam_j)``. Lanczos gives its Gauss quadrature: m nodes and weights that integrate
polynomials of degree 2 m - 1 exactly. This differs from the spectrum for two reasons,
both bounded here: there are few probes, and the function to integrate is not a
polynomial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kernel = Callable[[Array], Array]  # (p,) eigenvalues to (n, p) values on a grid

Z = 1.96  # of a normal distribution, two-sided 95 %
RESOLVED = 512  # points on which a kernel is expanded
WIDE = 4  # of these have to lie within one kernel width
MARGIN = 0.05  # of the nodes' span: eigenvalues may lie this far outside


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """Nodes and weights of the quadrature, (num_probes, num_steps), and the order P."""

    nodes: Array
    weights: Array  # each row sums to the share of the spectrum that the probes cover
    dim: int

    @property
    def share(self) -> float:
        """The share of the P eigenvalues that are estimated; the rest are known."""
        return float(self.weights.sum() / max(len(self.weights), 1))

    def mean(self, values: Array) -> Array:
        """Mean over the probes of a function given at all nodes, (..., probes * m)."""
        found: Array = values @ self.weights.ravel() / len(self.weights)
        return found


def sampling_error(probes: Probes, mean: Array, square: Array) -> Array:
    r"""Half the 95 % interval of the mean of a function f >= 0 over few probes.

    .. math:: \mathrm{Var}(v^T f(A) v) = \frac{2}{n + 2}
              \left(\overline{f^2} - \bar f^2\right)

    for v uniform on the sphere and any A. This does not use the spread between probes,
    which may agree by chance. The estimate is a sum of squares and treated as chi
    squared with ``2 mean^2 / Var`` degrees of freedom, at least one per probe. The
    interval ends where so small a sum would have a probability of 2.5 %.

    Args:
        probes: The quadrature.
        mean: Mean of f, over the whole spectrum.
        square: Mean of f^2.

    Reference:
        Wilson and Hilferty (1931), for the quantile of chi squared.
    """
    num, share = len(probes.weights), probes.share
    spread = 2 * share / (share * probes.dim + 2) * (square - mean**2 / share)
    least = 1e-30 * square
    freedom = 2 * num * mean**2 / np.maximum(spread, least + 1e-300)
    freedom = np.maximum(freedom, num)
    found: Array = mean * (freedom / _low_chi_squared(freedom, Z) - 1)
    return found


def trace_error(second: float, fourth: float, num: int, n: int) -> float:
    """Half the 95 % interval of ``n`` times the mean eigenvalue.

    Args:
        second: Mean over the probes of ``(lam - mean)^2``.
        fourth: Mean of its square.
        num: Number of probes.
        n: Dimension of the space they were drawn from.

    The second moment is taken at the upper end of its own 80 % interval: if a single
    eigenvalue makes up most of it, a few probes may have missed most of that.
    """
    if second <= 0 or fourth <= 0:
        return 0.0
    freedom = np.array(max(num, num * n * second**2 / fourth))
    second *= float(freedom / _low_chi_squared(freedom, 1.28))
    return float(Z * n * np.sqrt(2 * second / ((n + 2) * num)))


def quadrature_error(
    probes: Probes, kernel: Kernel, mean: Array, width: Array, axis: Array
) -> Array:
    r"""Bound the error of the quadrature of a kernel at each point of a grid.

    The smaller of two bounds. One uses a polynomial approximation: with ``c_k`` the
    Chebyshev coefficients of f, of which the quadrature integrates 2 m exactly,

    .. math:: \left|\int f\,d\mu - \sum_m w_m f(\theta_m)\right|
              \le 2 \sum_{k \ge 2m} |c_k|

    The other needs no smoothness: by the inequalities of Chebyshev, Markov and
    Stieltjes, the mass below a node lies between the sums of the weights before it and
    up to it, so no weight belongs further away than the neighbouring nodes.

    Args:
        probes: The quadrature.
        kernel: Maps (p,) eigenvalues to (n, p), one peak for each point of the grid.
        mean: Its quadrature, (n,).
        width: The width of each peak, in eigenvalues.
        axis: Where each peak is, in eigenvalues.

    Reference:
        Golub and Meurant (2010), Matrices, Moments and Quadrature, chapters 3 and 6.
    """
    low, high = float(probes.nodes.min()), float(probes.nodes.max())
    margin = MARGIN * (high - low)
    if margin == 0:
        return np.zeros_like(mean)
    low, high = low - margin, high + margin
    angle = np.pi * np.arange(RESOLVED + 1) / RESOLVED
    points = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    values = kernel(points)
    mirrored = np.concatenate([values, values[:, -2:0:-1]], axis=1)
    series = np.abs(np.fft.rfft(mirrored, axis=1).real) / RESOLVED
    tail = 2 * probes.share * series[:, 2 * probes.nodes.shape[1] :].sum(1)
    seen = width >= WIDE * np.pi / RESOLVED * (high - low) / 2
    return np.minimum(
        np.where(seen, tail, np.inf), _moved(probes, kernel, mean, axis, low, high)
    )


def _moved(
    probes: Probes, kernel: Kernel, mean: Array, axis: Array, low: float, high: float
) -> Array:
    """The most that the kernels gain or lose if each weight moves to a neighbour."""
    order = np.argsort(probes.nodes, axis=1)
    nodes = np.take_along_axis(probes.nodes, order, 1)
    weights = np.take_along_axis(probes.weights, order, 1)
    ends = np.ones((len(nodes), 1))
    before = np.concatenate([low * ends, nodes[:, :-1]], axis=1)
    after = np.concatenate([nodes[:, 1:], high * ends], axis=1)
    n, num = len(mean), len(nodes)
    early, late = (
        kernel(moved.ravel()).reshape(n, num, -1) * weights for moved in (before, after)
    )
    peak = np.diagonal(kernel(axis))  # (n,)
    t = axis[:, None, None]
    # mass below the peak: at least what has moved up is there, at most what moved down
    least = np.where(after <= t, weights, 0).sum(2)
    most = np.where(before <= t, weights, 0).sum(2)
    between = (most - least) * peak[:, None]
    upper = np.where(after <= t, late, 0).sum(2) + np.where(before > t, early, 0).sum(2)
    lower = np.where(before <= t, early, 0).sum(2) + np.where(after > t, late, 0).sum(2)
    most_of_it = (upper + between).mean(1)
    least_of_it = np.maximum(lower - between, 0).mean(1)
    found: Array = np.maximum(most_of_it - mean, mean - least_of_it)
    return found


def mass_between(probes: Probes, low: float, high: float) -> tuple[float, float]:
    """The share of the spectrum in an interval, with half its 95 % interval."""
    order = np.argsort(probes.nodes, axis=1)
    nodes = np.take_along_axis(probes.nodes, order, 1)
    weights = np.take_along_axis(probes.weights, order, 1)
    sums = np.concatenate([np.zeros((len(nodes), 1)), weights.cumsum(1)], axis=1)
    below, off = [], []
    for edge in (low, high):
        place = (nodes < edge).sum(1)  # nodes below it
        rows = np.arange(len(nodes))
        here = sums[rows, place]
        inside = (place > 0) & (place < nodes.shape[1])
        first = sums[rows, np.maximum(place - 1, 0)]
        last = sums[rows, np.minimum(place + 1, nodes.shape[1])]
        gap = np.where(np.isfinite(edge), np.maximum(last - here, here - first), 0)
        below.append(here.mean())
        off.append(np.where(inside | np.isfinite(edge), gap, 0).mean())
    share = np.array(below[1] - below[0])
    known = np.minimum(share, probes.share - share)  # the smaller side is more precise
    known = np.maximum(known, 1 / max(probes.dim, 1))
    sampling = sampling_error(probes, known, known)
    return float(share), float(off[0] + off[1] + sampling)


def _low_chi_squared(freedom: Array, z: float) -> Array:
    """The quantile of chi squared z standard deviations below the mean."""
    part = 2 / (9 * freedom)
    root = np.maximum(1 - part - z * np.sqrt(part), 0.1)
    found: Array = freedom * root**3
    return found
