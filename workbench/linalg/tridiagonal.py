"""Lanczos tridiagonalisation from several vectors at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.linalg.columns import lengths
from workbench.linalg.operator import LinearOperator


def tridiagonalise(
    operator: LinearOperator,
    start: Tensor,
    num_steps: int,
    report: Callable[[float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Run Lanczos from several unit vectors at once, each with its own basis.

    .. math:: A Q_j^T = Q_j^T T_j + \beta_{j,m} q_{j,m+1} e_m^T

    All recurrences share one product of A with the block of current vectors per step.
    Vectors are fully reorthogonalised, twice. A recurrence that breaks down ends with
    ``beta = 0``.

    Args:
        operator: The symmetric operator A.
        start: Columns, (dim, num_probes); normalised here.
        num_steps: m, the matvecs per probe; at most dim.
        report: Called with the completed share of the steps.

    Returns:
        Diagonals (num_probes, m) and off-diagonals (num_probes, m - 1), float64.
    """
    dim, num_probes = start.shape
    num_steps = min(num_steps, dim)
    current = start / lengths(start).to(start.dtype)
    basis = start.new_zeros(num_probes, num_steps, dim)
    alpha = torch.zeros(num_probes, num_steps, dtype=torch.float64, device=start.device)
    beta = torch.zeros_like(alpha)
    floor = 10 * torch.finfo(start.dtype).eps
    scale = torch.zeros(num_probes, dtype=torch.float64, device=start.device)
    for m in range(num_steps):
        basis[:, m] = current.T
        rest = operator.matmat(current).T  # (num_probes, dim)
        alpha[:, m] = (rest.double() * basis[:, m].double()).sum(1)
        for _ in range(2):
            done = basis[:, : m + 1]
            inner = torch.einsum("jmp,jp->jm", done, rest)
            rest = rest - torch.einsum("jm,jmp->jp", inner, done)
        norm = rest.double().norm(dim=1)
        scale = torch.maximum(scale, alpha[:, m].abs() + norm)
        alive = norm > floor * scale
        beta[:, m] = torch.where(alive, norm, 0.0)
        safe = torch.where(alive, norm, 1.0).to(rest.dtype)
        current = torch.where(alive[:, None], rest / safe[:, None], 0.0).T
        if report:
            report((m + 1) / num_steps)
    return alpha, beta[:, :-1]
