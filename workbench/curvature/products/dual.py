"""The dual of G through its products, for too many gradients to form a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from workbench.curvature.problem.adapter import as_problem
from workbench.curvature.problem.network import Outputs, Trained
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import random_state
from workbench.curvature.products.proof import Products
from workbench.curvature.products.way import ModesDifferError, Way
from workbench.errors import WorkbenchError
from workbench.linalg.density import SpectralDensity
from workbench.linalg.operator import LinearOperator
from workbench.linalg.precision import full_precision
from workbench.machine.distributed import ALONE
from workbench.progress.control import Control


@dataclass(frozen=True, eq=False, repr=False)
class Dual(LinearOperator):
    r"""``R R^T / Z``, whose nonzero eigenvalues are those of ``G = R^T R / Z``.

    The ``n = N m`` rows of R are the gradients ``J_i^T b_{i,j}``, with ``sum_j b_{i,j}
    b_{i,j}^T = A_i``; for the mean cross-entropy ``m = C - 1`` and ``Z = N``. A product
    pulls a vector back to R^P and pushes it forward again, which costs the same as a
    product with G. Vectors have length n, not P: if P is larger, a Lanczos basis of
    many steps fits that would not fit in R^P. Stores ``N C (C - 1)`` numbers for b.
    """

    risk: EmpiricalRisk
    root: Tensor  # (N, O, m) b, float64
    network: Products | None = None  # None: created here

    label = "dual of G"

    def __post_init__(self) -> None:
        if self.network is None:
            object.__setattr__(self, "network", Products(self.risk))
        n = self.root.shape[0] * self.root.shape[2]
        for name, value in (
            ("dim", n),
            ("dtype", self.risk.dtype),
            ("device", self.risk.device),
        ):
            object.__setattr__(self, name, value)

    @override
    @full_precision()
    def _matmat(self, vectors: Tensor) -> Tensor:
        """``R R^T V / Z``: (n, k) to (n, k).

        Raises:
            WorkbenchError: As for the products of `operators`.
        """
        assert self.network is not None
        self.risk.unchanged(self.label)
        blocks = vectors.double()
        weights = self.root @ blocks.unflatten(0, (len(self.root), -1))
        total = self.network.taken("G", partial(self._there_and_back, weights))
        total = self.risk.summed(self.label, total) / self.risk.normaliser
        return (self.root.transpose(1, 2) @ total).flatten(0, 1).to(vectors.dtype)

    def _there_and_back(self, weights: Tensor, way: Way) -> Tensor:
        """``J J^T w`` of this process's examples: (N, O, m)."""
        order = iter(self._own())

        def cotangents(targets: Tensor, predictions: Tensor) -> Tensor:
            return weights[list(islice(order, len(targets)))]

        num = weights.shape[2]
        pulled = self.risk.world.sum(way.pull(cotangents, num))
        total = torch.zeros_like(weights)
        order = iter(self._own())
        for targets, _, pushed in way.push(pulled):
            total[list(islice(order, len(targets)))] = pushed.double()
        if self.risk.world is ALONE and way.differ(pulled, pulled, total, weights):
            raise ModesDifferError
        return total

    def _own(self) -> list[int]:
        """Indices of this process's examples, in the order of its passes."""
        own: list[int] = []
        seen = 0
        for _, targets in self.risk.data:
            share = self.risk.world.share(len(targets))
            own += range(seen + share.start, seen + share.stop)
            seen += len(targets)
        return own


@full_precision()
def dual_operator(
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
    control: Control | None = None,
) -> Dual:
    r"""Return the dual of G of a network on data, for example for `spectral_density`.

    This is ``R R^T / N``, of order ``n = N (C - 1)``, with the gradients of all
    examples as the rows of R; its nonzero eigenvalues are those of ``G = R^T R / N``.
    (For losses other than the cross-entropy, each example has as many rows as outputs.)
    Use it if n is below P but too large for `gram`. A product costs the same as one
    with G. `density_in_parameters` converts its density to that of G.

    Args:
        model: The network, or a `Checkpoint`. Used in eval mode and not changed; if it
            is on another device, a copy is used.
        data: As for `operators`, but in the same order on every pass.
        classes: Use only these classes and their logits, as `choose_classes` does.
        loss: As in `operators`.
        outputs: As in `operators`.
        parameters: As in `operators`.
        check: As in `operators`.
        batch_size: Examples per batch; None chooses what fits.
        device: ``"auto"`` is a CUDA device if there is one, else the model's.
        control: Cancels between batches.

    Returns:
        The operator of order n, in the model's dtype, used like those of `operators`.

    Raises:
        WorkbenchError: If the order of the data changes; also as `empirical_risk`.
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
    risk.same_order("dual_operator")
    with random_state():
        roots = [risk.root(inputs, targets) for inputs, targets in risk.whole()]
    if len({root.shape[1:] for root in roots}) > 1:
        raise WorkbenchError(
            "dual_operator: the examples have different numbers of outputs, but it "
            "needs the same number for each; use operators or gram instead."
        )
    return Dual(risk, torch.cat(roots))


def density_in_parameters(
    density: SpectralDensity, num_rows: int, num_params: int
) -> SpectralDensity:
    """Convert the density of the dual, of order n < P, to that of G, of order P.

    The ``P - n`` zero eigenvalues missing from the dual are added as one node. Needs no
    products.

    Args:
        density: Result of `spectral_density` for the dual.
        num_rows: n, the order of the dual.
        num_params: P.

    Returns:
        The density with one more node, (num_probes, num_steps + 1).

    Raises:
        WorkbenchError: If n is above P, so that G itself is smaller.
    """
    if num_rows > num_params:
        raise WorkbenchError(
            f"density_in_parameters: the dual has {num_rows:,} rows and G only "
            f"{num_params:,}; use the density of G itself."
        )
    share = num_rows / num_params
    zero = density.nodes.new_zeros(len(density.nodes), 1)
    return replace(
        density,
        nodes=torch.cat([density.nodes, zero], dim=1),
        weights=torch.cat([density.weights * share, zero + (1 - share)], dim=1),
        stick_weight=density.stick_weight * share,
    )
