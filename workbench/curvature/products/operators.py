"""Hess, G and H of a network as linear operators on its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from workbench.curvature.problem.adapter import as_problem
from workbench.curvature.problem.network import Outputs, Trained
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products.proof import Products
from workbench.curvature.products.way import KINDS, Kind
from workbench.linalg.operator import LinearOperator
from workbench.linalg.precision import full_precision
from workbench.machine.distributed import ALONE, World
from workbench.progress.control import Control


@dataclass(frozen=True, eq=False, repr=False)
class Curvature(LinearOperator):
    r"""One of the three curvature matrices of a loss, ``Hess = G + H``.

    .. math::
        G = \frac1Z \sum_i J_i^T A_i J_i, \qquad
        H = \frac1Z \sum_i \sum_k r_{ik} \nabla^2_\theta f_k(x_i)

    with r and A the gradient and Hessian of the loss in the outputs, in closed form and
    float64: for the mean cross-entropy ``r = p - e_y``, ``A = diag(p) - p p^T`` and ``Z
    = N``. The cost depends on the way chosen by `Products`.

    Reference:
        Pearlmutter (1994), Neural Computation 6(1); Schraudolph (2002), Neural
        Computation 14(7); Martens (2010), ICML.
    """

    risk: EmpiricalRisk
    kind: Kind
    network: Products | None = None  # None: made here, shared with no other

    def __post_init__(self) -> None:
        if self.network is None:
            object.__setattr__(self, "network", Products(self.risk))
        for name in ("dim", "dtype", "device"):
            object.__setattr__(self, name, getattr(self.risk, name))
        object.__setattr__(self, "label", self.kind)

    @override
    @full_precision()
    def _matmat(self, vectors: Tensor) -> Tensor:
        """Return ``A V``; the vectors of a block share each forward pass.

        Raises:
            WorkbenchError: If torch's derivatives of the network do not agree.
        """
        assert self.network is not None
        self.risk.unchanged(self.kind)
        product = self.network.product(self.kind, vectors.detach())
        if vectors.isfinite().all():
            return self.risk.summed(self.kind, product)
        return self.risk.world.sum(product)

    @property
    @full_precision()
    def how(self) -> str:
        """How products are computed, and why not faster, in words."""
        assert self.network is not None
        how = self.network.how(self.kind)
        return f"{how}; {self.risk.note}" if self.risk.note else how


@full_precision()
def operators(
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
    world: World = ALONE,
) -> dict[str, Curvature]:
    r"""Return G, Hess and H of the loss of a network on data.

    ``Hess = G + H``, with G the Gauss-Newton matrix (see `Curvature` for formulas) and
    the mean over the whole data, however it is batched. Vectors are flat, in the order
    of those ``model.parameters()`` that require a gradient, in the model's dtype
    (float32 for half precision).

    The network is used in eval mode with its current weights and is not changed.
    Networks of linear layers, convolutions, batch norm, ReLU, pooling, sums and
    concatenations are differentiated layer by layer with batch norm folded in
    (`LayerWise`: 4/3 to 5/3 F per vector for G, 2 to 8/3 F for Hess and H, with F the
    cost of a gradient of the loss). Networks with other layers use torch's forward mode
    (`General`) and, if that is missing or wrong, reverse mode (`Reverse`). Before the
    first product of each kind, the way is checked on some examples; ``ops["G"].how``
    says which is used and why.

    Args:
        model: A network, which may be anything that maps inputs to outputs example by
            example; or a `Checkpoint`.
        data: A `Dataset`, a pair ``(inputs, targets)``, or a re-iterable of such pairs
            or of mappings with ``"labels"``. Inputs are a tensor or NumPy array, or
            several in dicts, lists and tuples. The order of the examples may differ
            between passes. By default those of the checkpoint.
        classes: Use only these classes and their logits, as `choose_classes` does.
        loss: ``"cross_entropy"``, ``"mse"``, ``"bce"``, or one of torch's losses with
            its options: class weights, smoothing, ignored labels. It is applied to the
            whole data as if to one batch. Cross-entropy takes logits (B, C) with labels
            (B,), or for tokens, labels (B, T) with logits (B, C, T) or, as language
            models return them, (B, T, C).
        outputs: Extracts the logits from what the network returns; by default that is a
            tensor, or has ``logits``.
        parameters: Restricts to parameters by globs of their names, or by module names.
        check: What to check before use: ``"once"`` some examples, ``"full"`` every
            batch, ``"off"`` nothing.
        batch_size: Most examples per batch; None chooses what fits.
        device: The device to compute on, with a copy of the model if needed. ``"auto"``
            is a CUDA device if there is one, else the model's.
        control: Cancels between batches.
        world: Processes that share the examples.

    Returns:
        ``{"G": ..., "Hess": ..., "H": ...}``, used like matrices: ``G @ v`` for a
        vector or columns, as tensors or NumPy arrays; ``+ - *``, ``shape``,
        ``to_dense()`` and ``to_scipy()``.

    Raises:
        WorkbenchError: As `empirical_risk`: for a random network, one that mixes the
            examples of a batch, data that differ between passes, weights or inputs that
            are not finite, and targets that do not fit.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> data = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
        >>> ops = operators(model, data)
        >>> ops["G"]
        <G, 4 x 4, float32 on cpu>
        >>> ops["G"] @ torch.tensor([1.0, 0.0, 0.0, 0.0])  # p = 1/2: x^2/4, averaged
        tensor([ 0.5000,  0.0000, -0.5000,  0.0000])
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
        world=world,
    )
    return curvatures(risk)


def curvatures(risk: EmpiricalRisk) -> dict[str, Curvature]:
    """Return G, Hess and H of a risk, with a shared cache."""
    network = Products(risk)
    return {kind: Curvature(risk, kind, network) for kind in KINDS}


def network_of(operator: LinearOperator) -> Products:
    """Return the `Products` behind one of these operators."""
    assert isinstance(operator, Curvature)
    assert operator.network is not None
    return operator.network
