"""Inner products of single gradients and their means, as needed for embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.curvature.gram.assembly import TILE, layer_sets
from workbench.curvature.gram.layer_gradients import layer_gradients
from workbench.curvature.problem.batches import join
from workbench.curvature.problem.cross_entropy import delta_cotangents
from workbench.curvature.problem.labelled import Drawn, chosen_rows, spread_out
from workbench.curvature.problem.risk import EmpiricalRisk


def union_gram(risk: EmpiricalRisk, drawn: Sequence[Drawn], vectors: Tensor) -> Tensor:
    """Return inner products of all gradients delta of some examples and given vectors.

    Works layer by layer, so a large network's gradients are never all in memory.

    Args:
        risk: The network.
        drawn: b examples of one shape, or tokens; their b C gradients come first.
        vectors: Further vectors in parameter space, (m, P).

    Returns:
        (b C + m, b C + m), float64.
    """
    inputs = join([one.inputs for one in drawn])
    places = torch.tensor([one.place for one in drawn], device=risk.device)
    predictions = risk.predictions(inputs)
    columns = delta_cotangents(chosen_rows(predictions, places)).transpose(1, 2)
    length = predictions[0, 0].numel()
    rows = torch.arange(len(drawn), device=risk.device) * length + places
    cotangents = spread_out(rows, columns, tuple(predictions.shape))
    split = torch.split(vectors, risk.sizes, dim=1)
    parts = dict(zip(risk.parameters, split, strict=True))
    num = len(drawn)
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
