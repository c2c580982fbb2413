"""Spectral density by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.columns import dots
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import (
    AnyOperator,
    LinearOperator,
    Projected,
    as_operator,
)
from workbench.linalg.precision import full_precision
from workbench.linalg.tridiagonal import tridiagonalise
from workbench.study.card import Card, Described, give_or_take, numbers
from workbench.study.quadrature import trace_error
from workbench.study.spectrum import DensityCurve, Spectrum, density_curve

Scale = Literal["linear", "log"]

NUM_STEPS = 24  # per probe; with four probes the intervals held on every spectrum tried
NUM_PROBES = 4
BASIS_BYTES = 2**31  # limit for the Lanczos bases of probes that run together


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SpectralDensity(Described):
    """Nodes and weights, from which any smoothing is drawn without further matvecs."""

    nodes: Tensor  # (num_probes, num_steps) float64
    weights: Tensor  # (num_probes, num_steps) float64; rows sum to 1 minus the sticks
    trace: float  # Hutchinson's estimate from the same probes, plus the sticks
    trace_error: float  # half of its 95 % interval
    num_matvecs: int
    sticks: Tensor  # (r,) float64: deflated eigenvalues, not among the nodes
    stick_weight: float  # of each stick, 1 / P
    scale: Scale

    def card(self) -> Card:
        """What it is, in a few lines."""
        probes, steps = self.nodes.shape
        ends = f"from {float(self.nodes.min()):.4g} to {float(self.nodes.max()):.4g}"
        return Card(
            f"Spectral density of a matrix of order {round(1 / self.stick_weight):,}",
            {
                "nodes": f"{steps} for each of {probes} probes, {ends}",
                "deflated": numbers(self.sticks.tolist()),
                "trace": give_or_take(self.trace, self.trace_error),
                "scale": self.scale,
                "products": f"{self.num_matvecs:,}",
            },
        )

    def curve(
        self, *, sign: int = 1, width: float | None = None, num_points: int = 400
    ) -> DensityCurve:
        """Return the smoothed density without the sticks, with half its 95 % interval.

        Args:
            sign: The side on the log scale, +1 or -1; the grid is then log10 |lam|.
            width: Standard deviation of the smoothing; by default what the nodes
                resolve.
            num_points: Number of grid points.
        """
        empty = np.empty(0)
        rest = Spectrum(
            eigenvalues=empty,
            residuals=empty,
            nodes=self.nodes.cpu().numpy(),
            weights=self.weights.cpu().numpy(),
            dim=round(1 / self.stick_weight),
            trace=self.trace,
            trace_error=self.trace_error,
            complete=False,
            method="stochastic Lanczos quadrature",
            num_matvecs=self.num_matvecs,
        )
        return density_curve(
            rest, scale=self.scale, sign=sign, width=width, num_points=num_points
        )


@full_precision()
def spectral_density(
    operator: AnyOperator,
    *,
    num_steps: int = NUM_STEPS,
    num_probes: int = NUM_PROBES,
    num_zeros: int = 0,
    scale: Scale = "linear",
    deflate: EigenPairs | None = None,
    generator: torch.Generator | None = None,
    report: Callable[[float], None] | None = None,
) -> SpectralDensity:
    r"""Estimate the eigenvalue density of an operator from a few random probes.

    .. math:: \frac1P \sum_j f(\lambda_j) = E_v\, v^T f(A) v
              \approx \frac1n \sum_{v} \sum_m w_{v,m} f(\theta_{v,m})

    with v uniform on the sphere, ``theta`` the Ritz values of m Lanczos steps from v,
    and ``w`` the squared first entries of their eigenvectors (Gauss quadrature: exact
    for polynomials f of degree 2m - 1). Use it for the bulk of a spectrum that is too
    large to compute in full; for outliers use `top_eigenpairs` and deflate them here.
    Costs ``num_steps * num_probes`` matvecs and stores that many vectors, up to 2 GB at
    a time.

    If r eigenpairs are deflated, A and the probes are projected off their span, where
    the density has the weight ``(P - r) / P``. Each pair becomes a stick of weight 1/P
    without sampling error, and the nodes describe the bulk. Errors are half of 95 %
    intervals for sampling and quadrature together (`workbench.study.quadrature`). On a
    log scale they are as large as the mass near zero, which a few steps cannot resolve.

    Args:
        operator: The symmetric operator A, of order P, or a matrix: see `as_operator`.
        num_steps: Lanczos steps per probe; more resolve finer detail.
        num_probes: Number of independent probes; more reduce the sampling error.
        num_zeros: Number of eigenvalues that are zero by rank. They become a node at
            zero of that weight, the same in every probe, replacing nodes next to zero.
        scale: Axis of `SpectralDensity.curve`: ``"linear"`` for the eigenvalue,
            ``"log"`` for the logarithm of its size, each sign separately.
        deflate: Eigenpairs of this operator from `top_eigenpairs`.
        generator: Random generator of the probes.
        report: Called with the completed share.

    Raises:
        WorkbenchError: If a count is below 1, the scale is unknown, the pairs have not
            converged or belong to another operator, or the operator returns NaN.

    Reference:
        Golub and Meurant (1994); Ubaru, Chen and Saad (2017), SIAM J. Matrix Anal.
        Appl. 38(4); Papyan (2019), arXiv:1811.07062, for the deflation and log scale.

    Example:
        >>> from workbench.linalg.operator import Dense
        >>> found = spectral_density(Dense(3.0 * torch.eye(4)), num_probes=2)
        >>> round(found.trace, 4), round(found.trace_error, 4)
        (12.0, 0.0)
    """
    operator = as_operator(operator, "spectral_density")
    _check(operator, num_steps, num_probes, num_zeros, scale, deflate)
    generator = generator or torch.Generator().manual_seed(0)
    shape = (operator.dim, num_probes)
    probes = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    start = probes.to(operator.device, operator.dtype)
    sticks, left = torch.empty(0, dtype=torch.float64, device="cpu"), operator.dim
    if deflate is not None:
        sticks = deflate.values.double()
        left -= len(sticks)
        vectors = deflate.vectors.to(start)
        for _ in range(2):  # twice, to reach rounding accuracy
            start = start - vectors @ dots(vectors, start).to(start.dtype)
        operator = Projected(operator, vectors)
    alpha, beta = _recurrences(operator, start, min(num_steps, left), report)
    if not alpha.isfinite().all():
        raise WorkbenchError(
            "spectral_density: the operator returned NaN or infinity; the weights or "
            "the data are not finite, or too large for this dtype."
        )
    matrix = torch.diag_embed(alpha)
    matrix = matrix + torch.diag_embed(beta, 1) + torch.diag_embed(beta, -1)
    nodes, turned = torch.linalg.eigh(matrix)
    weights = turned[:, 0, :] ** 2
    weights = weights / weights.sum(1, keepdim=True)
    middle = float(alpha[:, 0].mean())
    size = max(float((nodes - middle).abs().max()), 1e-300)
    second, fourth = (
        float((weights * ((nodes - middle) / size) ** power).sum(1).mean())
        for power in (2, 4)
    )
    error = size * trace_error(second, fourth, num_probes, left)
    weights = weights * (left / operator.dim)
    if num_zeros:
        nodes, weights = _apart(nodes, weights, num_zeros / operator.dim)
    return SpectralDensity(
        nodes=nodes,
        weights=weights,
        trace=left * middle + float(sticks.sum()),
        trace_error=error,
        num_matvecs=num_probes * alpha.shape[1],
        sticks=sticks,
        stick_weight=1 / operator.dim,
        scale=scale,
    )


def _apart(nodes: Tensor, weights: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Replace the share of the known zeros in nodes next to zero by a node at zero."""
    order = nodes.abs().argsort(dim=1)
    nodes, weights = nodes.gather(1, order), weights.gather(1, order)
    before = weights.cumsum(1) - weights
    weights = weights - (share - before).clamp_min(0).minimum(weights)
    zero = nodes.new_zeros(len(nodes), 1)
    return torch.cat([nodes, zero], 1), torch.cat([weights, zero + share], 1)


def _check(
    operator: LinearOperator,
    num_steps: int,
    num_probes: int,
    num_zeros: int,
    scale: Scale,
    deflate: EigenPairs | None,
) -> None:
    if num_steps < 1 or num_probes < 1:
        raise WorkbenchError(
            f"spectral_density: {num_steps} steps and {num_probes} probes were "
            "requested; expected at least one of each."
        )
    if scale not in ("linear", "log"):
        raise WorkbenchError(
            f"spectral_density: scale is {scale!r}; expected 'linear' or 'log'."
        )
    known = len(deflate.values) if deflate else 0
    if num_zeros and not 0 < num_zeros < operator.dim - known:
        raise WorkbenchError(
            f"spectral_density: num_zeros is {num_zeros:,} for {operator.dim:,} "
            "eigenvalues; expected from 0 to fewer than the eigenvalues that are not "
            "deflated."
        )
    if deflate is None:
        return
    rows, columns = deflate.vectors.shape
    if rows != operator.dim or columns >= rows:
        raise WorkbenchError(
            f"spectral_density: the {columns} vectors to deflate have length {rows:,} "
            f"and the operator has {operator.dim:,} rows; expected vectors of that "
            "length, and fewer of them than rows."
        )
    if deflate.status == "max_steps":
        raise WorkbenchError(
            "spectral_density: the pairs to deflate have residuals up to "
            "{float(deflate.residuals.max()):.2g} and have not converged; call "
            "top_eigenpairs with a higher max_matvecs or a larger tol."
        )


def _recurrences(
    operator: LinearOperator,
    start: Tensor,
    num_steps: int,
    report: Callable[[float], None] | None,
) -> tuple[Tensor, Tensor]:
    """Run Lanczos from all probes, as many at a time as memory for bases allows."""
    num_probes = start.shape[1]
    stored = num_steps * operator.dim * start.element_size()
    together = max(1, min(num_probes, BASIS_BYTES // stored))
    rows = []
    for first in range(0, num_probes, together):
        block = start[:, first : first + together]
        before, share = first / num_probes, block.shape[1] / num_probes

        def step(done: float, before: float = before, share: float = share) -> None:
            if report:
                report(before + share * done)

        rows.append(tridiagonalise(operator, block, num_steps, step))
    alpha, beta = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return alpha, beta
