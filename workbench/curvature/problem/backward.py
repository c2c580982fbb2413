"""What goes back through a network: whether it is the gradient of single examples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.curvature.problem.batches import Inputs, move, take
from workbench.curvature.problem.network import HALVES, Network, first_line, nodes
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.errors import WorkbenchError

PULLED = 3  # whose gradients are taken together and apart: not two, each is a pair


def check_gradients(risk: EmpiricalRisk) -> None:
    """Make sure that what goes back through the network is linear and unmixed.

    A hook may clip gradients, or take the mean over the batch away. For some examples
    ``J^T`` of a sum must be the sum, and a batch's gradient the sum of its examples'.

    Raises:
        WorkbenchError: If they are not.
    """
    inputs = take(risk.piece[0], slice(0, PULLED))
    with evaluating(risk.model), torch.enable_grad():
        outputs = risk.network(inputs)
        if not outputs.requires_grad:
            raise WorkbenchError(
                "empirical_risk: no gradient goes from the logits to a parameter (a "
                "forward pass under no_grad or inference_mode, say), so all curvature "
                "would be zero; leave that out of the forward pass."
            )
        risk.proven.digits = narrowest(outputs)
        if risk.digits in HALVES:
            half = str(risk.digits).removeprefix("torch.")
            raise WorkbenchError(
                f"empirical_risk: the network computes in {half} inside (autocast in "
                "its forward pass, say), so its derivatives hold two or three digits; "
                "switch that off, and pass the network in full precision."
            )
        if "CheckpointFunctionBackward" in {node.name() for node in nodes(outputs)}:
            raise WorkbenchError(
                "empirical_risk: the network checkpoints with use_reentrant=True, so "
                "torch cannot differentiate it in parts; set use_reentrant=False there."
            )
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(
            2, *outputs.shape, generator=generator, dtype=torch.float64, device="cpu"
        )
        one, other = noise.to(outputs)
        try:
            apart = risk.gradient(outputs, one)
            size = apart.norm()
            off = risk.gradient(outputs, 1e3 * other)
            most = off.norm()
            off += apart
            off -= risk.gradient(outputs, one + 1e3 * other)
            for i in range(len(outputs)):
                part = slice(i, i + 1)
                apart -= risk.gradient(risk.network(take(inputs, part)), one[part])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            raise WorkbenchError(
                "empirical_risk: torch cannot take the gradient of this network "
                f"({first_line(error)}); write the layer in operations that it can."
            ) from error
    rough = 1e3 * torch.finfo(risk.digits).eps
    if not (size.isfinite() and most.isfinite()):
        raise WorkbenchError(
            "empirical_risk: the gradients of some examples are NaN or infinite where "
            "the logits are finite; look for a root or a logarithm of zero in a layer."
        )
    if not (off.norm() <= rough * most and apart.norm() <= rough * size):
        raise WorkbenchError(
            "empirical_risk: what goes back through the network is not linear, or "
            "mixes examples (a hook that clips gradients, say), so no product with a "
            "Jacobian is defined; remove the hook."
        )


def narrowest(outputs: Tensor) -> torch.dtype:
    """The floating-point numbers of fewest digits in the graph of some outputs."""
    found = {outputs.dtype}
    for node in nodes(outputs):
        found |= {of.dtype for of in getattr(node, "_input_metadata", ())}
    real = [dtype for dtype in found if dtype.is_floating_point]
    return max(real, key=lambda dtype: torch.finfo(dtype).eps)


def same_when_evaluated(network: Network, inputs: Inputs) -> None:
    """Make sure that ``eval()`` itself changes no more than flags.

    Some adapters merge their weights in it: the network is then another function of
    its parameters, and which is meant is for its owner to say.

    Raises:
        WorkbenchError: If the logits or their gradients differ.
    """
    module = network.module
    custom = any(
        type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval
        for m in module.modules()
    )
    if not (custom and any(m.training for m in module.modules())):
        return
    found = []
    for merged in (False, True):
        before = [(p, p.detach().clone()) for p in module.parameters()]
        with evaluating(module), torch.enable_grad():
            if merged:
                module.eval()
            trained = [p for p in module.parameters() if p.requires_grad]
            like = trained[0]
            outputs = network(move(take(inputs, slice(0, 2)), like.device, like.dtype))
            grads = torch.autograd.grad(
                outputs.float().sum(),
                trained,
                retain_graph=True,
                materialize_grads=True,
            )
            found.append([outputs.detach(), *grads])
        for p, copy in before:
            p.data.copy_(copy)
    rough = 1e3 * max(torch.finfo(t.dtype).eps for t in found[0])
    if any(
        one.shape != other.shape or (one - other).norm() > rough * one.norm()
        for one, other in zip(*found, strict=True)
    ):
        raise WorkbenchError(
            "empirical_risk: the network's own eval() makes it another function of its "
            "parameters (an adapter that merges its weights, say); call model.eval() "
            "first if that is meant, or measure it without."
        )
