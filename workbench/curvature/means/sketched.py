"""Sketches of some of the gradients and of their means, where all are too many."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench.curvature.means.averages import average_classes
from workbench.curvature.means.class_means import only
from workbench.curvature.means.count_sketch import CountSketch
from workbench.curvature.means.pullback import class_pullbacks
from workbench.curvature.problem.batches import Inputs, take
from workbench.curvature.problem.cross_entropy import combined_cotangents
from workbench.curvature.problem.risk import EmpiricalRisk, evaluating


def thinned_means(
    risk: EmpiricalRisk, pairs: Tensor, weighting: str, sketch: CountSketch
) -> Tensor:
    """The means of some pairs, all class means and their mean, sketched.

    One forward pass over the data and a backward pass for each potential class that a
    class has, and one for its mean; no vector of length P but one.

    Args:
        risk: Network and data.
        pairs: (C, C) bool, True where the mean is wanted.
        weighting: Of the means.
        sketch: Of vectors of length P.

    Returns:
        (pairs + C + 1, d) float64: the delta_{c,k} by c and k, the delta_c, delta_G.
    """
    C = risk.num_classes
    num = int(pairs.sum())
    row = (pairs.flatten().cumsum(0) - 1).view(C, C).tolist()
    wanted = [line.nonzero().flatten().tolist() for line in pairs]
    total = torch.zeros(num + C, sketch.dim, dtype=torch.float64, device=risk.device)
    mass = torch.zeros(C, C, dtype=torch.float64, device=risk.device)

    def cotangents(c: int, probs: Tensor) -> Iterator[tuple[int, Tensor]]:
        sizes = probs if weighting == "jmlr" else probs.sqrt()
        mass[c] += sizes.sum(0) if weighting == "jmlr" else float(len(probs))
        for k in wanted[c]:
            yield row[c][k], combined_cotangents(probs, only(sizes, k))
        others = sizes.clone()
        if weighting != "slide":
            others[:, c] = 0.0
        yield num + c, combined_cotangents(probs, others)

    for _, j, pulled in class_pullbacks(risk, cotangents):
        total[j] += sketch(pulled)
    risk.world.sum(total)
    risk.world.sum(mass)
    inner = mass.clone()
    if weighting != "slide":
        inner.fill_diagonal_(0.0)
    over = torch.cat([mass[pairs], inner.sum(1)])
    found = total / over.clamp(min=torch.finfo(risk.dtype).tiny)[:, None]
    everything, _ = average_classes(found[num:], inner.sum(1))
    return torch.cat([found, everything[None]])


def thinned_gradients(
    risk: EmpiricalRisk,
    inputs: Inputs,
    labels: Tensor,
    pairs: Tensor,
    weighting: str,
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
            with torch.enable_grad():
                logits = risk.network(take(inputs, slice(i, i + 1)))
            probs = risk.criterion.predict(logits.detach())
            sizes = torch.ones_like(probs) if weighting == "jmlr" else probs.sqrt()
            for k in pairs[c].nonzero().flatten().tolist():
                cotangent = combined_cotangents(probs, only(sizes, k))
                pulled = risk.gradient(logits, cotangent)
                rows.append(sketch(pulled).double())
    return torch.stack(rows)
