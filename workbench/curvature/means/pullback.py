r"""Sums of pulled-back cotangents, ``sum_i J_i^T w_i``, over classes or all data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from workbench.curvature.problem.batches import (
    Batch,
    Inputs,
    join,
    numbers_of,
    shape_of,
    take,
)
from workbench.curvature.problem.risk import EmpiricalRisk, evaluating

BUFFER = 2**24  # numbers of a loader's inputs that are sorted by class together
ACTIVATIONS = 2**24  # numbers that the layers of one piece put out; fewer are slower

Cotangents = Callable[[int, Tensor], Iterable[tuple[int, Tensor]]]


def class_pullbacks(
    risk: EmpiricalRisk,
    cotangents: Cotangents,
    report: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    r"""Yield the sums ``sum_b J_b^T w_{b,j}`` over pieces that hold one class each.

    One forward pass over the data and one backward pass for each j, whatever the order
    of the examples: they are sorted by class, tensors where they lie, what a loader
    makes many batches at a time. Holds one vector of length P and, whatever N is,
    inputs of about 2^24 numbers and a few times the 2^24 activations of one piece.

    Args:
        risk: Network and data.
        cotangents: From a class and the probabilities of some of its examples, (B, C),
            each index j with its cotangents w, (B, C). Called once a piece.
        report: Called with the share of the examples done.

    Yields:
        The class c, the index j, and a sum over some of the class's examples, (P,).
    """
    done = 0
    with evaluating(risk.model):
        for c, inputs in _class_pieces(risk):
            with torch.enable_grad():
                logits = risk.network(inputs)
            probs = risk.criterion.predict(logits.detach())
            for j, column in cotangents(c, probs):
                risk.control.check()
                yield c, j, risk.gradient(logits, column)
            done += len(logits)
            if report:
                report(done / risk.num_own)


def pull_back(risk: EmpiricalRisk, cotangents: Tensor) -> Tensor:
    """``sum_i J_i^T w_{i,j}`` over all the data: (N, O, m) to (P, m), model's dtype.

    One forward pass over the data and m backward passes.
    """
    num = cotangents.shape[2]
    total = torch.zeros(risk.dim, num, dtype=risk.dtype, device=risk.device)
    seen = 0
    with evaluating(risk.model):
        for inputs, targets in risk.whole():
            own = risk.world.share(len(targets))
            weight = cotangents[seen : seen + len(targets)][own]
            seen += len(targets)
            if not len(weight):
                continue
            with torch.enable_grad():
                logits = risk.network(take(inputs, own))
            for column in range(num):
                w = weight[:, :, column].reshape(logits.shape)
                total[:, column] += risk.gradient(logits, w)
    return risk.world.sum(total)


def _class_pieces(risk: EmpiricalRisk) -> Iterator[tuple[int, Inputs]]:
    """The data in pieces of one class that fit, ``(c, inputs)``.

    Tensors that are there are read where they lie, piece by piece; batches that a
    loader makes are sorted as many at a time as the buffer holds.
    """
    size = max(1, ACTIVATIONS // risk.num_activations)
    if isinstance(risk.data, list):
        yield from _sorted(list(risk.own(risk.data)), size, risk)
        return
    held: list[Batch] = []
    room = BUFFER
    for batch in risk.own(risk.data):
        if held and numbers_of(batch[0]) > room:
            yield from _sorted(held, size, risk)
            held, room = [], BUFFER
        held.append(batch)
        room -= numbers_of(batch[0])
    if held:
        yield from _sorted(held, size, risk)


def _sorted(
    batches: list[Batch], size: int, risk: EmpiricalRisk
) -> Iterator[tuple[int, Inputs]]:
    """Pieces of one class and one shape, at most ``size`` examples, on the device."""
    alike: dict[object, list[Batch]] = {}
    for inputs, targets in batches:
        alike.setdefault(shape_of(inputs), []).append((inputs, risk.targets(targets)))
    for same in alike.values():
        labels = torch.cat([found for _, found in same]).cpu()
        place = torch.cat([torch.arange(len(found), device="cpu") for _, found in same])
        counts = torch.tensor([len(found) for _, found in same], device="cpu")
        batch = torch.arange(len(same), device="cpu").repeat_interleave(counts)
        for c in labels.unique().tolist():
            whole = (labels == c).nonzero().flatten()
            for index in whole.chunk(-(-len(whole) // size)):
                numbers, lengths = batch[index].unique_consecutive(return_counts=True)
                rows = place[index].split(lengths.tolist())
                parts = [
                    take(same[b][0], where)
                    for b, where in zip(numbers.tolist(), rows, strict=True)
                ]
                yield c, risk.there(join(parts))
