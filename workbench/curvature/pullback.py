r"""Sums of pulled-back cotangents, ``sum_i J_i^T w_i``, over classes or all data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from workbench.curvature.risk import Batch, EmpiricalRisk, evaluating
from workbench.curvature.softmax import probabilities

BUFFER = 2**25  # numbers of the inputs that are sorted by class together
ACTIVATIONS = 2**25  # numbers that the layers of one piece put out

Cotangents = Callable[[int, Tensor], Iterable[tuple[int, Tensor]]]


def class_pullbacks(
    risk: EmpiricalRisk,
    cotangents: Cotangents,
    report: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    r"""Yield the sums ``sum_b J_b^T w_{b,j}`` over pieces that hold one class each.

    One forward pass over the data and one backward pass for each j, whatever the order
    of the examples: they are sorted by class, many batches at a time. Holds one vector
    of length P.

    Args:
        risk: Network and data.
        cotangents: From a class and the probabilities of some of its examples, (B, C),
            each index j with its cotangents w, (B, C). Called once a piece.
        report: Called with the share of the examples done.

    Yields:
        The class c, the index j, and a sum over some of the class's examples, (P,).
    """
    parameters = list(risk.parameters.values())
    done = 0
    with evaluating(risk.model):
        for c, inputs in _class_pieces(risk):
            with torch.enable_grad():
                logits = risk.model(inputs)
            for j, column in cotangents(c, probabilities(logits.detach())):
                risk.control.check()
                grads = torch.autograd.grad(
                    logits,
                    parameters,
                    column.to(logits.dtype),
                    retain_graph=True,
                    materialize_grads=True,
                )
                yield c, j, risk.flatten(grads)
            done += len(inputs)
            if report:
                report(done / risk.num_own)


def pull_back(risk: EmpiricalRisk, cotangents: Tensor) -> Tensor:
    """``sum_i J_i^T w_{i,j}`` over all the data: (N, C, m) to (P, m), model's dtype.

    One forward pass over the data and m backward passes.
    """
    num = cotangents.shape[2]
    total = torch.zeros(risk.dim, num, dtype=risk.dtype, device=risk.device)
    parameters = list(risk.parameters.values())
    seen = 0
    with evaluating(risk.model):
        for inputs, _ in risk.whole():
            own = risk.world.share(len(inputs))
            weight = cotangents[seen : seen + len(inputs)][own].to(risk.dtype)
            seen += len(inputs)
            if not len(weight):
                continue
            with torch.enable_grad():
                logits = risk.model(inputs[own])
            for column in range(num):
                pulled = torch.autograd.grad(
                    logits,
                    parameters,
                    weight[:, :, column],
                    retain_graph=True,
                    materialize_grads=True,
                )
                total[:, column] += risk.flatten(pulled)
    return risk.world.sum(total)


def _class_pieces(risk: EmpiricalRisk) -> Iterator[tuple[int, Tensor]]:
    """The data in pieces of one class that fit, ``(c, inputs)``."""
    size = max(1, ACTIVATIONS // risk.num_activations)
    for inputs, labels in _together(risk):
        order = labels.argsort(stable=True)
        classes, counts = labels[order].unique_consecutive(return_counts=True)
        groups = order.split(counts.tolist())
        for c, group in zip(classes.tolist(), groups, strict=True):
            for index in group.split(size):
                yield c, inputs[index]


def _together(risk: EmpiricalRisk) -> Iterator[Batch]:
    """As many batches at a time as the buffer holds."""
    held: list[Batch] = []
    room = BUFFER
    for batch in risk.batches():
        if held and batch[0].numel() > room:
            yield _joined(held)
            held, room = [], BUFFER
        held.append(batch)
        room -= batch[0].numel()
    if held:
        yield _joined(held)


def _joined(batches: list[Batch]) -> Batch:
    inputs, labels = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(labels)
