"""The dual of G by products, for more gradients than a matrix can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap
from typing_extensions import override

from workbench.control import Control
from workbench.curvature.pullback import pull_back
from workbench.curvature.risk import EmpiricalRisk, empirical_risk, evaluating
from workbench.curvature.softmax import hessian_root
from workbench.errors import WorkbenchError
from workbench.linalg.density import SpectralDensity
from workbench.linalg.operator import LinearOperator


@dataclass(frozen=True, eq=False)
class Dual(LinearOperator):
    r"""``R R^T / N``, whose nonzero eigenvalues are those of ``G = R^T R / N``.

    The ``n = N (C - 1)`` rows of R are the gradients ``J_i^T b_{i,j}``, with
    ``sum_j b_{i,j} b_{i,j}^T = diag(p) - p p^T``. A vector is pulled back to R^P and
    pushed forward again: about two gradients of the loss. Its length is n, not P: where
    the network is the larger, a Lanczos basis of many steps fits that would not in R^P.
    """

    risk: EmpiricalRisk
    root: Tensor  # (N, C, C - 1) b, float64

    def __post_init__(self) -> None:
        n = self.root.shape[0] * self.root.shape[2]
        for name, value in (
            ("dim", n),
            ("dtype", self.risk.dtype),
            ("device", self.risk.device),
        ):
            object.__setattr__(self, name, value)

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        blocks = vectors.to(self.device, torch.float64).unflatten(
            0, (len(self.root), self.root.shape[2])
        )
        pulled = pull_back(self.risk, self.root @ blocks)
        pushed = self._push(pulled).double() / self.risk.num_examples
        return (self.root.transpose(1, 2) @ pushed).flatten(0, 1).to(vectors.dtype)

    def _push(self, vectors: Tensor) -> Tensor:
        """``J_i v`` of every example: (P, k) to (N, C, k)."""
        risk = self.risk
        theta = {name: p.detach() for name, p in risk.parameters.items()}
        shape = (*self.root.shape[:2], vectors.shape[1])
        total = torch.zeros(shape, dtype=risk.dtype, device=risk.device)
        seen = 0
        with evaluating(risk.model):
            for inputs, _ in risk.whole():
                own = risk.world.share(len(inputs))
                mine = inputs[own]
                where = slice(seen + own.start, seen + own.stop)
                seen += len(inputs)
                if not len(mine):
                    continue

                def one(vector: Tensor, mine: Tensor = mine) -> Tensor:
                    tangent = (risk.split(vector),)
                    pushed: Tensor = jvp(
                        lambda parameters: risk.logits(parameters, mine),
                        (theta,),
                        tangent,
                    )[1]
                    return pushed

                total[where] = vmap(one, in_dims=1, out_dims=2)(vectors)
        return risk.world.sum(total)


def dual_operator(
    model: nn.Module,
    data: Any,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = "auto",
    control: Control | None = None,
) -> Dual:
    """The dual of G of a network on data, as `spectral_density` takes it.

    Args:
        model: The network, (B, ...) inputs to (B, C) logits. Used in eval mode and left
            in the mode it was in; moved to the device.
        data: A `Dataset`, a pair of tensors ``(inputs, labels)``, or a re-iterable of
            such pairs, in the same order each time.
        batch_size: Examples a batch; None takes what fits.
        device: ``"auto"`` is a CUDA device, else where the model is.
        control: Cancels between batches.

    Raises:
        WorkbenchError: If the order of the data changes, or as `empirical_risk`.
    """
    risk = empirical_risk(
        model, data, batch_size=batch_size, device=device, control=control
    )
    probs, labels = [], []
    for inputs, found in risk.whole():
        probs.append(risk.probabilities(inputs))
        labels.append(found)
    again = [found for _, found in risk.whole()]
    if not torch.equal(torch.cat(labels), torch.cat(again)):
        raise WorkbenchError(
            "dual_operator: the data come in another order each time, and the rows of "
            "the dual are the examples in theirs; pass a loader that does not shuffle."
        )
    return Dual(risk, hessian_root(torch.cat(probs)))


def density_in_parameters(
    density: SpectralDensity, num_rows: int, num_params: int
) -> SpectralDensity:
    """The density of G, of order P, from that of its dual, of order n below P.

    The ``P - n`` zeros that the dual has not are added as a node of that weight.

    Raises:
        WorkbenchError: If n is above P: then G itself is the smaller.
    """
    if num_rows > num_params:
        raise WorkbenchError(
            f"density_in_parameters: the dual has {num_rows:,} rows and G only "
            f"{num_params:,}; take the density of G itself."
        )
    share = num_rows / num_params
    zero = density.nodes.new_zeros(len(density.nodes), 1)
    return replace(
        density,
        nodes=torch.cat([density.nodes, zero], dim=1),
        weights=torch.cat([density.weights * share, zero + (1 - share)], dim=1),
        stick_weight=density.stick_weight * share,
    )
