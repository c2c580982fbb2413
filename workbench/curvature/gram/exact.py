"""The full spectrum of G, from the smaller of two matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.coordinates import dense_gauss_newton
from workbench.curvature.gram.gram import eigenvalues_of
from workbench.curvature.problem.adapter import as_problem
from workbench.curvature.problem.network import Outputs, Trained
from workbench.errors import WorkbenchError
from workbench.linalg.precision import full_precision
from workbench.machine.memory import device_memory
from workbench.progress.control import Control, ProgressCallback, as_report
from workbench.study.card import Card, Described, numbers


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ExactSpectrum(Described):
    """All P eigenvalues of G."""

    values: Tensor  # (min(P, N (C - 1)),) descending, float64; the rest are zero
    num_zeros: int  # P minus the number of values
    method: str  # in words

    def card(self) -> Card:
        """What it is, in a few lines."""
        return Card(
            f"All {len(self.values) + self.num_zeros:,} eigenvalues of G",
            {
                "values": numbers(self.values.tolist()),
                "zeros": f"{self.num_zeros:,} by rank, besides",
                "trace": f"{float(self.values.sum()):.4g}",
                "method": self.method,
            },
        )


@full_precision()
def exact_spectrum(
    model: nn.Module | Trained,
    data: Any = None,
    *,
    classes: Sequence[int] | None = None,
    loss: Any = "cross_entropy",
    outputs: Outputs | None = None,
    parameters: str | Sequence[str] | None = None,
    check: str = "once",
    batch_size: int | None = None,
    device: str | torch.device | None = "auto",
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> ExactSpectrum:
    r"""Compute every eigenvalue of G of a network on data.

    G is ``R^T R / N`` with ``n = N (C - 1)`` rows of length P, and has the same nonzero
    eigenvalues as ``R R^T / N``. The smaller of the two, of order m = min(P, n), is
    formed in float64 and diagonalised. Costs ``m n P / 2`` multiplications and ``4/3
    m^3`` operations; stores two matrices of order m. The other ``P - m`` eigenvalues
    are zero. For larger problems use `top_eigenpairs` and `spectral_density`.

    Args:
        model: The network, or a `Checkpoint`. Used in eval mode and not changed; if it
            is on another device, a copy is used.
        data: As for `operators`; by default those of the checkpoint.
        classes: Use only these classes and their logits, as `choose_classes` does.
        loss: As in `operators`.
        outputs: As in `operators`.
        parameters: As in `operators`.
        check: As in `operators`.
        batch_size: Examples per batch; None chooses what fits.
        device: ``"auto"`` is a CUDA device if there is one, else the model's.
        progress: Called with `Progress` events; announces how long the eigensolver
            takes.
        control: Pauses and cancels, except during the eigensolver.

    Returns:
        The ``min(P, n)`` eigenvalues that are not necessarily zero, descending,
        float64, and the number of zeros. Their error is the rounding of the gradients'
        dtype.

    Raises:
        WorkbenchError: If the matrices do not fit the memory; also as `empirical_risk`.
    """
    risk = as_problem(
        model,
        data,
        classes=classes,
        loss=loss,
        outputs=outputs,
        parameters=parameters,
        check=check,
        batch_size=batch_size,
        device=device,
        control=control,
    )
    n = risk.num_rows
    order = min(n, risk.dim)
    there = device_memory(risk.device)
    if 16 * order**2 > 0.8 * there:
        raise WorkbenchError(
            f"exact_spectrum: {risk.dim:,} parameters and {n:,} gradients need two "
            f"matrices of order {order:,}, {16 * order**2 / 2**30:.0f} GB, and "
            f"{there / 2**30:.0f} GB is available; use fewer examples, or "
            "spectral_density."
        )

    report = as_report(progress, "Multiplying the gradients", 0.5)
    if n < risk.dim:
        matrix = risk_gram(risk, report).matrix.div_(risk.normaliser)
        method = f"dual of order {len(matrix):,}, exact"
    else:
        matrix = dense_gauss_newton(risk, report).matrix
        method = f"matrix of order {risk.dim:,}, exact"
    risk.control.check()
    values = eigenvalues_of(matrix, progress, start=0.5)[: risk.dim]
    return ExactSpectrum(values, risk.dim - len(values), method)
