"""Sketches of some of the gradients and of their means, where all are too many."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench.curvature.means.averages import (
    average_classes,
    class_cotangents,
    included,
    pair_cotangents,
    pair_weights,
)
from workbench.curvature.means.count_sketch import CountSketch
from workbench.curvature.means.pullback import class_sums, forward
from workbench.curvature.problem.batches import Inputs, take
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.study.convention import Convention


def thinned_means(
    risk: EmpiricalRisk, pairs: Tensor, convention: Convention, sketch: CountSketch
) -> Tensor:
    """The means of some pairs, all class means and their mean, sketched.

    One forward pass over the data and a backward pass for each potential class that a
    class has, and one for its mean; no vector of length P but one.

    Args:
        risk: Network and data.
        pairs: (C, C) bool, True where the mean is wanted.
        convention: Of the means.
        sketch: Of vectors of length P.

    Returns:
        (pairs + C + 1, d) float64: the delta_{c,k} by c and k, the delta_c, delta_G.
    """
    C = risk.num_classes
    num = int(pairs.sum())
    row = (pairs.flatten().cumsum(0) - 1).view(C, C).tolist()
    wanted = [line.nonzero().flatten().tolist() for line in pairs]

    def cotangents(c: int, probs: Tensor) -> Iterator[tuple[int, Tensor]]:
        sizes = convention.sizes(probs)
        for k in wanted[c]:
            yield row[c][k], pair_cotangents(sizes, probs, k)
        yield num + c, class_cotangents(convention, probs, c)

    double = torch.float64
    total, mass = class_sums(risk, num + C, cotangents, image=sketch, dtype=double)
    counts = risk.classes("thinned_means").to(mass)
    weight = pair_weights(convention, mass * risk.num_examples, counts)
    class_weight = included(convention, weight).sum(1)
    over = torch.cat([weight[pairs], class_weight])
    found = total / over.clamp(min=torch.finfo(risk.dtype).tiny)[:, None]
    everything, _ = average_classes(found[num:], class_weight)
    return torch.cat([found, everything[None]])


def thinned_gradients(
    risk: EmpiricalRisk,
    inputs: Inputs,
    labels: Tensor,
    pairs: Tensor,
    convention: Convention,
    sketch: CountSketch,
) -> Tensor:
    """The gradients of some examples for some potential classes, sketched.

    Returns:
        (sum over the examples of the potential classes of their class, d) float64.
    """
    rows = []
    with evaluating(risk.model):
        for i, c in enumerate(labels.tolist()):
            risk.control.check()
            logits, probs = forward(risk, take(inputs, slice(i, i + 1)))
            sizes = convention.single(probs)
            for k in pairs[c].nonzero().flatten().tolist():
                pulled = risk.gradient(logits, pair_cotangents(sizes, probs, k))
                rows.append(sketch(pulled).double())
    return torch.stack(rows)
