"""Per-example gradients of the logits, layer by layer, in factored form.

For a linear or convolutional layer, the gradient of a scalar in the weight is a sum
over positions of outer products, ``sum_l outputs[l] inputs[l]^T``. Storing the factors
costs far less than forming the rows, and Gram matrices follow from either.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench.curvature.gram.rows import LayerGradients, general_rows
from workbench.curvature.gram.taps import read, taps_of
from workbench.curvature.problem.batches import Inputs
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating


def layer_gradients(
    risk: EmpiricalRisk,
    inputs: Inputs,
    cotangents: Tensor,
    names: set[str] | None = None,
) -> Iterator[LayerGradients]:
    r"""Yield gradients ``J_b^T w_{b,j}`` of a batch for given cotangents, by layer.

    For linear, convolutional (ungrouped) and batch-norm layers, the factors are read
    off one forward and m backward passes that stop at the layers, provided that this
    agrees with plain autograd on some examples. Everything else takes the general path,
    one example at a time: other layers, weights used more than once, inputs whose first
    axis is not the batch, and layers that do more than their type suggests.

    Args:
        risk: The network and parameters.
        inputs: (B, ...).
        cotangents: w, shape (B, O, m), for flattened outputs.
        names: Names of the parameters; by default all.

    Yields:
        The gradients of each layer; every requested parameter occurs once.
    """
    wanted = set(risk.parameters) if names is None else names
    with evaluating(risk.model):
        taps = taps_of(risk, wanted)
        tapped = {name for tap_names, _ in taps.values() for name in tap_names}
        if taps:
            yield from read(risk, inputs, cotangents, taps)
        left = wanted - tapped
        rest: list[tuple[str, ...]] = [(n,) for n in risk.parameters if n in left]
        if rest:
            yield from general_rows(risk, inputs, cotangents, rest)


def gradient_rows(risk: EmpiricalRisk, inputs: Inputs, cotangents: Tensor) -> Tensor:
    """Return ``J_b^T w_{b,j}`` as flat vectors, (B, m, P), in parameter order."""
    found: dict[str, Tensor] = {}
    for layer in layer_gradients(risk, inputs, cotangents):
        sizes = [risk.parameters[name].numel() for name in layer.names]
        pieces = torch.split(layer.rows(), sizes, dim=2)
        found.update(zip(layer.names, pieces, strict=True))
    return torch.cat([found[name] for name in risk.parameters], dim=2)


def layer_groups(risk: EmpiricalRisk) -> list[tuple[str, ...]]:
    """Return the parameters by layer, as yielded by `layer_gradients`."""
    with evaluating(risk.model):
        taps = taps_of(risk, set(risk.parameters))
    groups = [names for names, _ in taps.values()]
    tapped = {name for names in groups for name in names}
    return groups + [(name,) for name in risk.parameters if name not in tapped]
