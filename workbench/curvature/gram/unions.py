"""Inner products of single gradients and their means, as needed for embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.curvature.gram.assembly import TILE, layer_sets
from workbench.curvature.gram.layer_gradients import layer_gradients
from workbench.curvature.problem.batches import Inputs, num_of
from workbench.curvature.problem.cross_entropy import delta_cotangents
from workbench.curvature.problem.risk import EmpiricalRisk


def union_gram(risk: EmpiricalRisk, inputs: Inputs, vectors: Tensor) -> Tensor:
    """Return inner products of all gradients delta of some examples and given vectors.

    Works layer by layer, so a large network's gradients are never all in memory.

    Args:
        risk: The network.
        inputs: b examples, (b, ...); their b C gradients come first.
        vectors: Further vectors in parameter space, (m, P).

    Returns:
        (b C + m, b C + m), float64.
    """
    cotangents = delta_cotangents(risk.probabilities(inputs)).transpose(1, 2)
    split = torch.split(vectors, risk.sizes, dim=1)
    parts = dict(zip(risk.parameters, split, strict=True))
    num = num_of(inputs)
    size = num * risk.num_classes + len(vectors)
    total = torch.zeros(size, size, dtype=torch.float64, device=risk.device)
    for names in layer_sets(risk, num):
        for layer in layer_gradients(risk, inputs, cotangents, names):
            below = torch.cat([parts[name] for name in layer.names], dim=1)
            done = 0
            for piece in layer.pieces(TILE):
                risk.control.check()
                columns = below[:, done : done + piece.shape[2]]
                done += piece.shape[2]
                rows = torch.cat([piece.flatten(0, 1), columns]).double()
                total.addmm_(rows, rows.T)
    return total
