"""The density of a spectrum by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg.lanczos import tridiagonalise
from workbench.linalg.operator import LinearOperator

BASIS_BYTES = 2**31  # what the Lanczos bases of the probes run together may take


@dataclass(frozen=True, slots=True, eq=False)
class SpectralDensity:
    """Nodes and weights: smoothing is redrawn from them without a matvec."""

    nodes: Tensor  # (num_probes, num_steps) float64
    weights: Tensor  # (num_probes, num_steps) float64; each row sums to 1
    trace: float  # Hutchinson's estimate from the same probes
    trace_error: float  # its standard error over probes; NaN for one probe
    num_matvecs: int


def spectral_density(
    operator: LinearOperator,
    *,
    num_steps: int = 60,
    num_probes: int = 6,
    generator: torch.Generator | None = None,
    report: Callable[[float], None] | None = None,
) -> SpectralDensity:
    r"""Estimate how the eigenvalues of an operator lie, from a few random probes.

    .. math:: \frac1P \sum_j f(\lambda_j) = E_v\, v^T f(A) v
              \approx \frac1n \sum_{v} \sum_m w_{v,m} f(\theta_{v,m})

    with v uniform on the sphere, ``theta`` the Ritz values of m Lanczos steps from v
    and ``w`` the squared first entries of their eigenvectors (Gauss quadrature: exact
    for polynomials f of degree 2m - 1). Costs ``num_steps * num_probes`` matvecs;
    stores that many vectors.

    Args:
        operator: The symmetric operator A, of order P.
        num_steps: Lanczos steps a probe: the resolution.
        num_probes: Independent probes: their spread is the error bar.
        generator: Source of the probes.
        report: Called with the share done.

    Raises:
        WorkbenchError: If a count is below 1, or the operator returns NaN.

    Reference:
        Golub and Meurant (1994); Ubaru, Chen and Saad (2017), SIAM J. Matrix Anal.
        Appl. 38(4).
    """
    if num_steps < 1 or num_probes < 1:
        raise WorkbenchError(
            f"spectral_density: {num_steps} steps and {num_probes} probes; expected at "
            "least one of each."
        )
    generator = generator or torch.Generator().manual_seed(0)
    shape = (operator.dim, num_probes)
    probes = torch.randn(shape, generator=generator, dtype=torch.float64)
    start = probes.to(operator.device, operator.dtype)
    stored = max(1, min(num_steps, operator.dim)) * operator.dim * start.element_size()
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
    if not alpha.isfinite().all():
        raise WorkbenchError(
            "spectral_density: the operator returned NaN or infinity; the weights or "
            "the data are not finite, or too large for this dtype."
        )
    matrix = torch.diag_embed(alpha)
    matrix = matrix + torch.diag_embed(beta, 1) + torch.diag_embed(beta, -1)
    nodes, vectors = torch.linalg.eigh(matrix)
    weights = vectors[:, 0, :] ** 2
    estimates = operator.dim * alpha[:, 0]
    error = float(estimates.std()) / num_probes**0.5 if num_probes > 1 else math.nan
    return SpectralDensity(
        nodes=nodes,
        weights=weights / weights.sum(1, keepdim=True),
        trace=float(estimates.mean()),
        trace_error=error,
        num_matvecs=num_probes * alpha.shape[1],
    )
