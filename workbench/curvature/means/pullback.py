r"""Sums of pulled-back cotangents, ``sum_i w_i J_i^T a_i``, over classes or data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.means.count_sketch import CountSketch
from workbench.curvature.problem.batches import (
    Batch,
    Inputs,
    join,
    numbers_of,
    shape_of,
    split,
    take,
)
from workbench.curvature.problem.labelled import Labelled, spread_out
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.linalg.columns import dots

BUFFER = 2**24  # numbers of a loader's inputs that are sorted by class together
ACTIVATIONS = 2**24  # numbers that the layers of one piece put out; fewer are slower

# From a class and some of its examples or tokens, r of them: the number of each sum
# that they enter, with their cotangents a, (r, C).
Cotangents = Callable[[int, Labelled], Iterable[tuple[int, Tensor]]]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the parameters."""

    start: int
    stop: int

    @property
    def dim(self) -> int:
        """How many."""
        return self.stop - self.start

    def __call__(self, vector: Tensor) -> Tensor:
        """These of a flat vector, (P,)."""
        return vector[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Onto:
    """What a vector of length P has along some others."""

    vectors: Tensor  # (P, m)

    @property
    def dim(self) -> int:
        """How many."""
        return self.vectors.shape[1]

    def __call__(self, vector: Tensor) -> Tensor:
        """Its inner products with them, (m,) float64."""
        return dots(self.vectors, vector[:, None])[:, 0]


def forward(risk: EmpiricalRisk, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Logits with the graph that gradients go back through, and predictions."""
    with torch.enable_grad():
        logits = risk.network(inputs)
    return logits, risk.criterion.predict(logits.detach())


def class_sums(
    risk: EmpiricalRisk,
    num: int,
    cotangents: Cotangents,
    *,
    image: Slice | CountSketch | Onto | None = None,
    dtype: torch.dtype | None = None,
    report: Callable[[float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Sums ``sum_i w_i J_i^T a_{i,j}``, each over the examples of a class or several.

    With the weights w of examples in G, 1/N in the plain mean cross-entropy. One
    forward pass over the data and one backward pass for each cotangent, whatever the
    order of the examples: they are sorted by class, tensors where they lie, what a
    loader makes many batches at a time; of tokens, one for each cotangent and class in
    a piece. Holds, beside the sums, one vector of length P and, whatever N is, inputs
    of about 2^24 numbers and a few times the 2^24 activations of one piece.

    Args:
        risk: Network and data.
        num: How many sums.
        cotangents: Of some examples of one class; called once a piece.
        image: What is kept of each vector of length P; by default all of it.
        dtype: Of the sums; by default the model's.
        report: Called with the share of the examples done.

    Returns:
        The sums, (num, d), and the mass ``sum_{i in c} w_i p_{i,k}``, (C, C) float64.
    """
    C, dim = risk.num_classes, risk.dim if image is None else image.dim
    sums = torch.zeros(num, dim, dtype=dtype or risk.dtype, device=risk.device)
    mass = torch.zeros(C, C, dtype=torch.float64, device=risk.device)
    done = 0
    with evaluating(risk.model):
        for inputs, targets in _pieces(risk):
            logits, predictions = forward(risk, inputs)
            rows = risk.labelled(predictions, targets)
            for c in rows.classes():
                chosen = rows.of(c)
                own = rows.at(chosen)
                mass[c] += own.weights @ own.probs
                for j, columns in cotangents(c, own):
                    risk.control.check()
                    weighted = (own.weights[:, None] * columns)[..., None]
                    w = spread_out(chosen, weighted, tuple(logits.shape))
                    pulled = risk.gradient(logits, w.view_as(logits))
                    sums[j] += pulled if image is None else image(pulled)
            done += len(logits)
            if report:
                report(done / risk.num_own)
    return risk.summed("class means", sums), risk.world.sum(mass)


def pull_back(risk: EmpiricalRisk, weights: Tensor) -> Tensor:
    """``R^T w`` over all the data: (n, m) to (P, m), in the model's dtype.

    One forward pass over the data and m backward passes.
    """
    total = torch.zeros(
        risk.dim, weights.shape[1], dtype=risk.dtype, device=risk.device
    )
    seen = 0
    with evaluating(risk.model):
        for inputs, targets in risk.whole():
            root = risk.root(inputs, targets)
            num, _, columns = root.shape
            rows = weights[seen : seen + num * columns].unflatten(0, (num, columns))
            seen += num * columns
            own = risk.world.share(num)
            if own.start == own.stop:
                continue
            cotangents = (root @ rows)[own]
            logits, _ = forward(risk, take(inputs, own))
            for j, w in enumerate(cotangents.unbind(2)):
                total[:, j] += risk.gradient(logits, w.reshape(logits.shape))
    return risk.summed("gradients", total)


def _pieces(risk: EmpiricalRisk) -> Iterator[Batch]:
    """The data in pieces that fit, of one class each where each example has one.

    Tensors that are there are read where they lie, piece by piece; batches that a
    loader makes are sorted as many at a time as the buffer holds.
    """
    size = max(1, ACTIVATIONS // risk.num_activations)
    if risk.num_labelled != risk.num_examples:  # tokens
        for inputs, targets in risk.batches():
            yield from zip(split(inputs, size), targets.split(size), strict=True)
        return
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


def _sorted(batches: list[Batch], size: int, risk: EmpiricalRisk) -> Iterator[Batch]:
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
                yield risk.to_device(join(parts)), index.new_full((len(index),), c)
