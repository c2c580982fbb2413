"""Sketches of some of the gradients and of their means, where all are too many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from workbench.curvature.problem.labelled import (
    Drawn,
    Labelled,
    chosen_rows,
    spread_out,
)
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

    def cotangents(c: int, own: Labelled) -> Iterator[tuple[int, Tensor]]:
        probs = own.probs
        sizes = convention.sizes(probs)
        for k in wanted[c]:
            yield row[c][k], pair_cotangents(sizes, probs, k)
        yield num + c, class_cotangents(convention, probs, c)

    double = torch.float64
    total, mass = class_sums(risk, num + C, cotangents, image=sketch, dtype=double)
    share = risk.classes("thinned_means").to(mass)
    weight = pair_weights(convention, mass, share)
    class_weight = included(convention, weight).sum(1)
    over = torch.cat([weight[pairs], class_weight])
    found = total / over.clamp(min=torch.finfo(risk.dtype).tiny)[:, None]
    everything, _ = average_classes(found[num:], class_weight)
    return torch.cat([found, everything[None]])


def thinned_gradients(
    risk: EmpiricalRisk,
    drawn: Sequence[Drawn],
    pairs: Tensor,
    convention: Convention,
    sketch: CountSketch,
) -> Tensor:
    """The gradients of some examples for some potential classes, sketched.

    Args:
        risk: Network.
        drawn: The examples or tokens, of any shapes.
        pairs: (C, C) bool, True where the gradient is wanted.
        convention: Whether g is drawn, or delta.
        sketch: Of vectors of length P.

    Returns:
        (sum over the examples of the potential classes of their class, d) float64.
    """
    rows = []
    with evaluating(risk.model):
        for one in drawn:
            risk.control.check()
            place = torch.tensor([one.place], device=risk.device)
            logits, predictions = forward(risk, one.inputs)
            probs = chosen_rows(predictions, place)
            sizes = convention.single(probs)
            for k in pairs[one.label].nonzero().flatten().tolist():
                columns = pair_cotangents(sizes, probs, k)[..., None]
                w = spread_out(place, columns, tuple(logits.shape))
                rows.append(sketch(risk.gradient(logits, w.view_as(logits))).double())
    return torch.stack(rows)
