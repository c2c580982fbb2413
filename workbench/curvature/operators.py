"""Hess, G and H of a network as linear operators on its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from workbench.control import Control
from workbench.curvature.general import General
from workbench.curvature.layerwise import Kind, LayerWise, read_layers
from workbench.curvature.risk import EmpiricalRisk, empirical_risk
from workbench.distributed import ALONE, World
from workbench.errors import WorkbenchError
from workbench.linalg.operator import LinearOperator

KINDS: tuple[Kind, ...] = ("G", "Hess", "H")


@dataclass(frozen=True, eq=False)
class Curvature(LinearOperator):
    r"""One of the three curvature matrices of the mean cross-entropy, ``Hess = G + H``.

    .. math::
        G = \frac1N \sum_i J_i^T (\mathrm{diag}\, p_i - p_i p_i^T) J_i, \qquad
        H = \frac1N \sum_i \sum_k (p_{ik} - [k = y_i]) \nabla^2_\theta f_k(x_i)

    The softmax Hessian is in closed form and float64. Costs as `LayerWise` or `General`
    say.

    Reference:
        Pearlmutter (1994), Neural Computation 6(1); Schraudolph (2002), Neural
        Computation 14(7); Martens (2010), ICML.
    """

    risk: EmpiricalRisk
    kind: Kind
    network: LayerWise | General | None = None  # None: read here, shared with no other

    def __post_init__(self) -> None:
        if self.network is None:
            object.__setattr__(self, "network", read_network(self.risk))
        for name in ("dim", "dtype", "device"):
            object.__setattr__(self, name, getattr(self.risk, name))

    @override
    def matmat(self, vectors: Tensor) -> Tensor:
        """``A V``, the vectors of a block sharing each forward pass.

        Raises:
            WorkbenchError: If V does not have ``dim`` rows, or a layer has no second
                derivative or no forward mode.
        """
        if vectors.ndim != 2 or len(vectors) != self.dim:
            raise WorkbenchError(
                f"{self.kind} times vectors of shape {tuple(vectors.shape)}; expected "
                f"columns of {self.dim:,} numbers, one a parameter."
            )
        assert self.network is not None
        vectors = vectors.detach().to(self.device, self.dtype)
        return self.risk.world.sum(self.network.product(self.kind, vectors))


def operators(
    model: nn.Module,
    data: Any,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = "auto",
    control: Control | None = None,
    world: World = ALONE,
) -> dict[str, LinearOperator]:
    r"""G, Hess and H of the mean softmax cross-entropy of a network on data.

    ``Hess = G + H``, G the Gauss-Newton matrix (`Curvature` has the formulas), with
    ``1/N`` over the whole data, however it is batched. Vectors are flat, in the order
    of ``model.parameters()`` that require a gradient, in the model's dtype.

    The network is taken in eval mode, with the weights it has now, and is left in the
    mode it was in. Linear layers, convolutions, batch norm, ReLU, pooling, sums and
    concatenations are differentiated layer by layer with batch norm folded in
    (`LayerWise`: by count 4/3 to 5/3 F a vector for G, 2 to 8/3 F for Hess and H, F
    one gradient of the loss); a network with any other layer by torch's forward mode
    (`General`).

    Args:
        model: The network, (B, ...) inputs to (B, C) logits.
        data: A `Dataset`, a pair of tensors ``(inputs, labels)``, or a re-iterable of
            such pairs.
        batch_size: Examples a batch, at most; None takes what fits.
        device: Where to compute, with a copy if the model is elsewhere. ``"auto"``: a
            CUDA device if there is one, else where the model is.
        control: Cancels between batches.
        world: Processes that share the examples.

    Returns:
        ``{"G": ..., "Hess": ..., "H": ...}``, each with ``dim``, ``matvec``,
        ``matmat`` of (dim, k), ``+ - *``, ``to_dense()`` and ``to_scipy()``.

    Raises:
        WorkbenchError: As `empirical_risk`: a random network, one that mixes the
            examples of a batch, weights or inputs that are not finite.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> data = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
        >>> ops = operators(model, data)
        >>> ops["G"].matvec(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # p = 1/2: x^2/4, Ave
        tensor([ 0.5000,  0.0000, -0.5000,  0.0000])
    """
    risk = empirical_risk(
        model,
        data,
        batch_size=batch_size,
        device=device,
        control=control,
        world=world,
    )
    return curvatures(risk)


def curvatures(risk: EmpiricalRisk) -> dict[str, LinearOperator]:
    """G, Hess and H of a risk; they share what is kept."""
    network = read_network(risk)
    return {kind: Curvature(risk, kind, network) for kind in KINDS}


def network_of(operator: LinearOperator) -> LayerWise | General:
    """What takes the products of one of these."""
    assert isinstance(operator, Curvature)
    assert operator.network is not None
    return operator.network


def read_network(risk: EmpiricalRisk) -> LayerWise | General:
    """What takes the products: layer by layer where the network can be read so."""
    return read_layers(risk) or General(risk, *risk.snapshot())
