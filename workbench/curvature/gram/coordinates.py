"""G and the class means in the smallest space that represents both exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.gram.assembly import TILE, mirror, tiles
from workbench.curvature.gram.gram import Gram, mean_coefficients
from workbench.curvature.gram.layer_gradients import gradient_rows, layer_gradients
from workbench.curvature.means.averages import Averages, CrossClassMeans, averages
from workbench.curvature.means.pullback import pull_back
from workbench.curvature.problem.batches import split
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.errors import WorkbenchError
from workbench.linalg.operator import Dense, LinearOperator
from workbench.progress.control import Report
from workbench.study.convention import Convention


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """G and the first averages in some R^d with the inner products of R^P."""

    g: LinearOperator  # of order d; `Dense` if G is exact
    means: CrossClassMeans
    trace: float  # of G, exact

    @property
    def matrix(self) -> Dense:
        """G as a matrix, if it is exact."""
        assert isinstance(self.g, Dense)
        return self.g

    def averages(self, convention: Convention) -> Averages:
        """The three averages."""
        return averages(self.means, convention)


def dense_gauss_newton(risk: EmpiricalRisk, report: Report | None = None) -> Dense:
    r"""Return ``G = R^T R / Z`` as a matrix, (P, P) float64, for small networks.

    Costs ``N (C - 1) P^2 / 2`` multiplications and one pass with C - 1 backward passes.
    """
    matrix = torch.zeros(risk.dim, risk.dim, dtype=torch.float64, device=risk.device)
    blocks = tiles(risk.dim)
    done = 0
    size = max(1, TILE // (risk.dim * max(risk.num_columns, 1)))
    for inputs, labels in risk.batches():
        for piece, targets in zip(split(inputs, size), labels.split(size), strict=True):
            risk.control.check()
            root = risk.root(piece, targets)
            rows = gradient_rows(risk, piece, root).flatten(0, 1).double()
            for i, a in enumerate(blocks):
                risk.control.check()
                for b in blocks[i:]:
                    matrix[a, b].addmm_(rows[:, a].T, rows[:, b])
            done += len(targets)
            if report:
                report(done / risk.num_own)
    mirror(risk.summed("G", matrix))
    return Dense(matrix.div_(risk.normaliser))


def trace_gauss_newton(risk: EmpiricalRisk, report: Report | None = None) -> float:
    r"""Return ``tr G = sum_{i,k} w_i ||delta_{i,k}||^2``. Costs about C passes."""
    return float(block_traces(risk, report).sum())


def block_traces(risk: EmpiricalRisk, report: Report | None = None) -> Tensor:
    """Return the trace of each layer's diagonal block of G, (l,), in float64.

    In the order of `blocks_of`; they sum to the trace of G. Costs about C passes.
    """
    blocks = blocks_of(risk)
    place = {name: n for n, block in enumerate(blocks) for name in block.parameters}
    total = torch.zeros(len(blocks), dtype=torch.float64, device=risk.device)
    done = 0
    largest = max(*risk.sizes, risk.num_activations // 4) * (risk.num_columns + 1)
    room = max(1, min(64, TILE // largest))
    for inputs, labels in risk.batches():
        for piece, targets in zip(split(inputs, room), labels.split(room), strict=True):
            risk.control.check()
            root = risk.root(piece, targets)
            for layer in layer_gradients(risk, piece, root):
                total[place[layer.names[0]]] += layer.squared_norms().sum()
            done += len(targets)
            if report:
                report(done / risk.num_own)
    return risk.world.sum(total) / risk.normaliser


def dual_coordinates(gram: Gram) -> tuple[Coordinates, Tensor]:
    r"""Return G and the class means in coordinates that preserve inner products.

    With K the Gram matrix, ``K + s I = L L^T`` for an s at rounding level, which is
    subtracted again. The gradients become the columns of ``L^T``, and G becomes ``(L^T
    L - s I) / Z``. Costs about ``2 n^3`` multiplications and leaves three matrices of
    order n.

    Returns:
        The coordinates, and L.
    """
    matrix = gram.matrix
    n = len(matrix)
    checked_trace(float(matrix.trace()) / gram.normaliser)
    shift = 1e-15 * float(matrix.abs().sum(1).max())  # relative to a bound of lambda_1
    while True:
        shifted = matrix.clone()
        shifted.diagonal().add_(shift)
        lower, info = torch.linalg.cholesky_ex(shifted)
        del shifted
        if int(info) == 0:
            break
        shift *= 10
    g = lower.T @ lower
    g.diagonal().sub_(shift)
    g.div_(gram.normaliser)
    plain, weighted, mass = mean_coefficients(gram.classes)

    def placed(coefficients: Tensor) -> Tensor:
        """Combinations of the delta, (N, C, C, C), in the new coordinates."""
        num_classes = coefficients.shape[1]
        found = lower.T @ gram.combine(coefficients.flatten(2))
        return found.T.reshape(num_classes, num_classes, n)

    means = CrossClassMeans(placed(plain), placed(weighted), mass, mass.sum(1))
    return Coordinates(Dense(g), means, float(g.trace())), lower


def primal_eigenvectors(risk: EmpiricalRisk, root: Tensor, vectors: Tensor) -> Tensor:
    """Map eigenvectors of the dual to R^P, with arbitrary lengths.

    A unit eigenvector z of ``L^T L`` becomes ``R^T L z``, divided by its length, with
    the reduced gradients as the rows of R. Costs one backward pass over the data per
    vector.

    Args:
        risk: The network and data.
        root: L, from `dual_coordinates`.
        vectors: Eigenvectors in these coordinates, (d, m).

    Returns:
        (P, m), in the model's dtype.
    """
    return pull_back(risk, root @ vectors)


def checked_trace(trace: float) -> float:
    """Return the trace; raise if there is nothing to measure."""
    if not math.isfinite(trace):
        raise WorkbenchError(
            "coordinates: the gradients of some examples, and so G, are NaN or "
            "infinite; the weights or inputs are too large for this dtype. Use "
            "float64 or rescale them."
        )
    if trace <= 0.0:
        raise WorkbenchError(
            "coordinates: G is zero, because every probability is 0 or 1 up to "
            "rounding, or no parameter affects the logits; train for fewer epochs, or "
            "with a smaller rate."
        )
    return trace
