"""The whole spectrum of G, from the smaller of two matrices."""

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

    values: Tensor  # (min(P, N (C - 1)),) descending, float64; the rest is zero
    num_zeros: int  # P less those
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
    r"""Every eigenvalue of G of a network on data.

    G is ``R^T R / N`` with ``n = N (C - 1)`` rows of length P: its nonzero eigenvalues
    are those of ``R R^T / N``, too. Of the two the smaller is formed, of order m, by
    ``m n P / 2`` multiplications in float64, and solved by ``4/3 m^3`` operations; two
    matrices of order m are held. The ``P - m`` other eigenvalues are zero.

    Args:
        model: The network, or a `Checkpoint`. Used in eval mode and left as it was;
            where it is not on the device, a copy.
        data: As `operators` takes them; those of a checkpoint need not be given.
        classes: Look only at these classes and their logits, as `choose_classes`.
        loss: As in `operators`.
        outputs: As in `operators`.
        parameters: As in `operators`.
        check: As in `operators`.
        batch_size: Examples a batch; None takes what fits.
        device: ``"auto"`` is a CUDA device, else where the model is.
        progress: Called with `Progress` events; the eigensolver's silence is announced.
        control: Pauses and cancels, but for the eigensolver.

    Returns:
        All ``min(P, n)`` eigenvalues that need not be zero, descending, float64, and
        how many zeros there are. They err by the rounding of the gradients' dtype.

    Raises:
        WorkbenchError: If the matrices do not fit the memory, or as `empirical_risk`.
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
            f"exact_spectrum: {risk.dim:,} parameters and {n:,} gradients make "
            f"matrices of order {order:,}; two need {16 * order**2 / 2**30:.0f} GB of "
            f"{there / 2**30:.0f}; take fewer examples, or spectral_density."
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
