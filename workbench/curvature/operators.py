"""Hess, G and H of a network as linear operators on its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap
from torch.nn.functional import cross_entropy
from typing_extensions import override

from workbench.control import Control
from workbench.curvature.risk import EmpiricalRisk, empirical_risk, evaluating
from workbench.curvature.softmax import hessian_product, loss_gradient, probabilities
from workbench.errors import WorkbenchError
from workbench.linalg.operator import LinearOperator

Kind = Literal["G", "Hess", "H"]
KINDS: tuple[Kind, ...] = ("G", "Hess", "H")
BLOCK = 64  # vectors that share a forward pass


@dataclass(frozen=True, eq=False)
class Curvature(LinearOperator):
    r"""One of the three curvature matrices of the mean cross-entropy, ``Hess = G + H``.

    .. math::
        G = \frac1N \sum_i J_i^T (\mathrm{diag}\, p_i - p_i p_i^T) J_i, \qquad
        H = \frac1N \sum_i \sum_k (p_{ik} - [k = y_i]) \nabla^2_\theta f_k(x_i)

    G: forward mode gives ``J v``, the closed-form softmax Hessian is applied to it in
    float64, and one reverse pass pulls it back. Hess and H: the directional derivative
    of the gradient of the loss, and of ``sum_k (p_k - [k = y]) f_k`` with p held. Costs
    about two gradients of the loss for G and three for the others, a vector; two
    thirds of it in blocks of ten.

    Reference:
        Schraudolph (2002), Neural Computation 14(7); Martens (2010), ICML.
    """

    risk: EmpiricalRisk
    kind: Kind

    def __post_init__(self) -> None:
        for name in ("dim", "dtype", "device"):
            object.__setattr__(self, name, getattr(self.risk, name))

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        """``A V``, the vectors of a block sharing each forward pass."""
        total = torch.zeros_like(vectors)
        theta = {n: p.detach() for n, p in self.risk.parameters.items()}
        width = min(vectors.shape[1], BLOCK)
        with evaluating(self.risk.model):
            for inputs, labels in self.risk.pieces(width):
                for start in range(0, vectors.shape[1], width):
                    columns = slice(start, start + width)
                    block = vectors[:, columns].to(self.dtype)
                    total[:, columns] += self._share(theta, block, inputs, labels)
        return self.risk.world.sum(total)

    def _share(
        self, theta: dict[str, Tensor], block: Tensor, inputs: Tensor, labels: Tensor
    ) -> Tensor:
        """These examples' share of ``A V``, with the factor 1/N of the whole data."""

        def product(vector: Tensor) -> Tensor:
            tangent = self.risk.split(vector)
            return self.risk.flatten(
                list(self._product(theta, tangent, inputs, labels).values())
            )

        try:
            if block.shape[1] == 1:
                return product(block[:, 0])[:, None]
            return vmap(product, in_dims=1, out_dims=1)(block)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise WorkbenchError(
                f"{self.kind} times a vector: torch cannot differentiate a layer of "
                f"this network in forward mode ({str(error).splitlines()[0]}); "
                "write the layer in operations that it can."
            ) from error

    def _product(
        self,
        theta: dict[str, Tensor],
        tangent: dict[str, Tensor],
        inputs: Tensor,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        def network(parameters: dict[str, Tensor]) -> Tensor:
            return self.risk.logits(parameters, inputs)

        if self.kind == "G":
            logits, pull_back, *_ = vjp(network, theta)
            push: Tensor = jvp(network, (theta,), (tangent,))[1]
            probs = probabilities(logits)
            cotangent = hessian_product(probs, push.double()) / self.risk.num_examples
            pulled: dict[str, Tensor] = pull_back(cotangent.to(self.dtype))[0]
            return pulled

        # Forward over reverse: torch 2.11 to 2.14 give wrong numbers for layer norm the
        # other way round.
        if self.kind == "Hess":

            def share(parameters: dict[str, Tensor]) -> Tensor:
                logits = network(parameters).double()
                return cross_entropy(logits, labels, reduction="sum")

        else:
            residual = loss_gradient(probabilities(network(theta)), labels)

            def share(parameters: dict[str, Tensor]) -> Tensor:
                return (residual * network(parameters).double()).sum()

        def gradient(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
            found: dict[str, Tensor] = grad(share)(parameters)
            return {n: g / self.risk.num_examples for n, g in found.items()}

        product: dict[str, Tensor] = jvp(gradient, (theta,), (tangent,))[1]
        return product


def operators(
    model: nn.Module,
    data: Any,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    control: Control | None = None,
) -> dict[str, LinearOperator]:
    """G, Hess and H of the mean softmax cross-entropy of a network on data.

    Vectors are flat, in the order of ``model.parameters()`` that require a gradient, in
    the model's dtype. The model is used in eval mode and left in the mode it was in.

    Args:
        model: The network, (B, ...) inputs to (B, C) logits.
        data: A `Dataset`, a pair of tensors ``(inputs, labels)``, or a re-iterable of
            such pairs.
        batch_size: Examples a batch; None takes what fits.
        device: Where to compute; None: where the model is.
        control: Cancels between batches.

    Returns:
        ``{"G": ..., "Hess": ..., "H": ...}``, each with ``dim``, ``matvec``,
        ``matmat``, ``+ - *``, ``to_dense()`` and ``to_scipy()``.

    Raises:
        WorkbenchError: As `empirical_risk`.
    """
    risk = empirical_risk(
        model, data, batch_size=batch_size, device=device, control=control
    )
    return {kind: Curvature(risk, kind) for kind in KINDS}
