"""Measure an operator: all its eigenvalues, or the leading ones and the density."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.columns import dots
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import FREE, EigenPairs, Which, top_eigenpairs
from workbench.linalg.operator import Dense, LinearOperator
from workbench.machine.memory import device_memory
from workbench.measurement.settings import MeasureSettings
from workbench.study.spectrum import Spectrum

NUM_LOW = 5  # eigenvalues at the low end of Hess, and at both ends of H
NUM_STREAMED = 20  # leading eigenvalues of a part known only by its products
NUM_SIGNS = 10  # random vectors for estimating the trace of such a part
SPARE = 2  # pairs more an end than are told: of 120 small networks without, two values
# of H were further from those of their rank than their residuals
A_STEP = 24  # pairs per vector of a step: fewer vectors need fewer products
RICHER = 2  # times the wanted pairs: a start of this size needs as few products as all
LEAST_STEP = 1  # fewest vectors per step
TOGETHER = 10  # vectors per step, if a block costs as much as one product
COLUMNS = 64  # of a full matrix at once
SUBSPACE = 0.5  # share of the memory for a subspace and its images


def step_of(num: int, together: bool = False) -> int:
    """Return the number of vectors per step, for this many wanted pairs."""
    return TOGETHER if together else max(LEAST_STEP, num // A_STEP)


def most_products(num: int) -> int:
    """Return the limit on products for this many pairs."""
    return 20 * num + 100


@dataclass(frozen=True, slots=True, eq=False)
class IterativeSolver:
    """Measures an operator iteratively, by the given settings."""

    settings: MeasureSettings
    num: int  # eigenvalues per end
    generator: torch.Generator
    together: bool = False  # whether a block of products costs as much as one
    spare: int = SPARE  # extra pairs to compute

    def pairs(
        self,
        operator: LinearOperator,
        which: Which,
        start: Tensor | None,
        report: Callable[[float], None] | None = None,
        scale: float = 0.0,
        tol: float | None = None,
        low: float | None = None,
    ) -> EigenPairs:
        """Compute leading eigenpairs; progress counts the decades of the residual.

        The bound at the low end is ``low * tol``, relative to its own size.
        If memory is short, the subspace restarts from fewer vectors. A few extra pairs
        are computed and dropped: each value is as accurate as its residual says, but
        the ranks of the last ones are uncertain.
        """
        tol = min(tol or self.settings.tol, 0.5)
        step = step_of(self.num, self.together)
        wanted = self.num + self.spare + (which == "BE") * (NUM_LOW + self.spare)
        widest = max(step, 0 if start is None else start.shape[1])
        a_vector = 2 * operator.dim * operator.dtype.itemsize
        room = int(SUBSPACE * device_memory(operator.device)) // a_vector
        room = max(room, wanted + 2 * widest)

        def falling(worst: float) -> None:
            if report:
                decades = math.log10(max(worst, 1e-30)) / math.log10(tol)
                report(decades)

        found = top_eigenpairs(
            operator,
            self.num + self.spare,
            tol=tol,
            scale=scale,
            start=start,
            block_size=step,
            which=which,
            k_low=NUM_LOW + self.spare,
            tol_low=None if low is None else low * tol,
            max_matvecs=most_products(self.num),
            max_vectors=room if room < 4 * wanted + 2 * widest else None,
            generator=self.generator,
            report=falling,
        )
        return self._without_spare(found)

    def _without_spare(self, found: EigenPairs) -> EigenPairs:
        """Keep the requested pairs: the highest and the lowest."""
        there, high = len(found.values), found.num_high
        if there == len(found.vectors):  # all that exist
            return found
        num_high, num_low = min(self.num, high), min(NUM_LOW, there - high)
        kept = [*range(num_high), *range(there - num_low, there)]
        return replace(
            found,
            values=found.values[kept],
            vectors=found.vectors[:, kept],
            residuals=found.residuals[kept],
            errors=found.errors[kept],
            num_high=num_high,
        )

    def start_in(
        self,
        operator: LinearOperator,
        pairs: EigenPairs,
    ) -> Tensor:
        """Return the best start from the subspace of another operator's pairs.

        These are twice as many of this operator's Ritz vectors there as wanted pairs.
        They need no product if the operator caches its products in the subspace, and
        starting from them needs fewer vectors than starting from the whole basis, which
        is done if the vectors are short.
        """
        basis = pairs.basis
        if basis.numel() <= FREE:
            return basis
        pieces = basis.split(TOGETHER, dim=1)
        inside = torch.cat([dots(basis, operator.matmat(p)) for p in pieces], dim=1)
        turn = torch.linalg.eigh((inside + inside.T) / 2).eigenvectors
        chosen = turn[:, -RICHER * self.num :]
        return basis @ chosen.to(basis.dtype)

    def spectrum(
        self,
        operator: LinearOperator,
        pairs: EigenPairs,
        report: Callable[[float], None],
    ) -> Spectrum:
        """Compute leading eigenvalues with residuals, and the density by quadrature.

        Converged pairs are deflated and become nodes of weight 1/P in every probe. Only
        the rest is sampled, so the error bars are those of the bulk. The trace has no
        further error, whatever the accuracy of the pairs: for orthonormal columns V,
        ``tr A = tr V^T A V + tr (1 - V V^T) A``.
        """
        settings = self.settings
        known = pairs.status != "max_steps" and len(pairs.values) < operator.dim
        density = spectral_density(
            operator,
            num_steps=settings.num_steps,
            num_probes=settings.num_probes,
            deflate=pairs if known else None,
            generator=self.generator,
            report=report,
        )
        sticks = density.sticks.expand(settings.num_probes, -1).to(density.nodes)
        weights = torch.full_like(sticks, density.stick_weight)
        return Spectrum(
            eigenvalues=pairs.values.cpu().numpy(),
            residuals=pairs.errors.cpu().numpy(),
            nodes=torch.cat([density.nodes, sticks], dim=1).cpu().numpy(),
            weights=torch.cat([density.weights, weights], dim=1).cpu().numpy(),
            dim=operator.dim,
            trace=density.trace,
            trace_error=density.trace_error,
            complete=False,
            method=f"block Krylov ({pairs.status}), stochastic Lanczos quadrature",
            num_matvecs=pairs.num_matvecs + density.num_matvecs,
            num_low=None
            if len(pairs.values) == operator.dim
            else len(pairs.values) - pairs.num_high,
        )


def dense_matrix(operator: LinearOperator, report: Callable[[float], None]) -> Dense:
    """Return the matrix of a small operator, symmetrised."""
    eye = torch.eye(operator.dim, dtype=operator.dtype, device=operator.device)
    columns = []
    for start in range(0, operator.dim, COLUMNS):
        columns.append(operator.matmat(eye[:, start : start + COLUMNS]))
        report(min(start + COLUMNS, operator.dim) / operator.dim)
    matrix = torch.cat(columns, dim=1).double()
    return Dense((matrix + matrix.T) / 2)


def whole_spectrum(
    matrix: Dense, risk: EmpiricalRisk, rank: int, method: str, num_matvecs: int = 0
) -> Spectrum:
    """Return every eigenvalue of a matrix; those beyond the rank are zero.

    The error bars are rounding errors, of the eigensolver and of the gradients' dtype.
    """
    values = torch.linalg.eigvalsh(matrix.matrix).flip(0)
    if rank < len(values):
        values = values[:rank]
    values = values.cpu().numpy()
    eps = len(values) * np.finfo(np.float64).eps + 10 * torch.finfo(risk.dtype).eps
    rounding = float(np.abs(values).max()) * eps
    empty = np.empty((0, 0))
    return Spectrum(
        eigenvalues=values,
        residuals=np.full(len(values), rounding),
        nodes=empty,
        weights=empty,
        dim=risk.dim,
        trace=float(matrix.matrix.trace()),
        trace_error=0.0,
        complete=True,
        method=method,
        num_matvecs=num_matvecs,
    )
