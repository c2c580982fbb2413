"""Products with G, Hess and H for networks that can be read layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating, random_state
from workbench.curvature.products.linearisation import (
    ForwardCache,
    Sums,
    forward,
    pull,
    pull_tangent,
    push,
)
from workbench.curvature.products.program import Pair, Program
from workbench.curvature.products.tracing import read_program
from workbench.curvature.products.way import Cotangents, Kind, Way, Weights
from workbench.linalg.precision import full_precision

BLOCK_NUMBERS = 5 * 10**7  # of vectors that go together: some ten times as many in use
SMALL = 2**22  # activations of all examples up to which whole blocks go through torch
KEPT_NUMBERS = 2**28  # activations of all examples up to which passes are kept


@dataclass(slots=True, eq=False)
class _Piece:
    """Some examples: their forward pass, and the gradients of their loss."""

    cache: ForwardCache
    targets: Tensor
    predictions: Tensor  # (B, ...) float64
    pulled: dict[int, Tensor] | None = None  # behind each layer, by slot; for Hess, H


@dataclass(slots=True, eq=False)
class Store:
    """What does not depend on the vector, kept from the first product on."""

    pieces: list[_Piece] | None = None
    gradient: list[Tensor] | None = None  # of the loss, in the folded weights


@final
@dataclass(frozen=True, slots=True, eq=False)
class LayerWise(Way):
    r"""A network read as a `Program`, with its weights as they were then.

    One step of a linear or convolutional layer, ``B(W, x)``, is a third of its share of
    F. A product with G takes two forward and two back, with Hess two and four, and the
    forward pass (for Hess also the primal way back) comes on top, once a block of
    vectors: 5/3 F and 8/3 F a vector, 4/3 F and 2 F where it is shared. Where the
    activations of all examples are at most 2^28 numbers, and the data are tensors, the
    forward pass is kept from product to product. Memory: these (about 1 GB in
    float32), else those of one piece of the data; and three times the block.
    """

    name: ClassVar[str] = "layer by layer"

    risk: EmpiricalRisk
    program: Program
    theta: dict[str, Tensor]  # parameters that are looked at
    fixed: dict[str, Tensor]  # all others, and buffers
    store: Store = field(default_factory=Store)

    @override
    def on(self, risk: EmpiricalRisk) -> Way:
        return replace(self, risk=risk, store=Store())

    @override
    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        width = max(1, BLOCK_NUMBERS // self.risk.dim)
        with torch.no_grad(), full_precision(), random_state():
            blocks = [self._block(kind, b) for b in vectors.split(width, dim=1)]
        return torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]

    @override
    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        with torch.no_grad(), full_precision(), random_state():
            tangents = self.program.push(
                self._named, self._split(vectors), vectors.shape[1]
            )
            each = [
                self.program.pairs([t[j] for t in tangents])
                for j in range(vectors.shape[1])
            ]
            for piece in self._pieces(self.program.fold(self._named)):
                pushed = [push(piece.cache, along)[-1] for along in each]
                found = [
                    torch.zeros_like(piece.cache.logits) if p is None else p
                    for p in pushed
                ]
                each_flat = [p.flatten(1) for p in found]
                yield piece.targets, piece.predictions, torch.stack(each_flat, dim=2)

    @override
    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        with torch.no_grad(), full_precision(), random_state():
            folded = self.program.fold(self._named)
            sums = [t.new_zeros(num, *t.shape) for t in folded]
            for piece in self._pieces(folded):
                columns = cotangents(piece.targets, piece.predictions)
                like = piece.cache.logits
                for j, column in enumerate(columns.to(like.dtype).unbind(2)):
                    w = column.reshape(like.shape)
                    pull(piece.cache, w.contiguous(), self._sums(sums, j))
            return self._joined(self.program.pull(self._named, sums), num)

    def _block(self, kind: Kind, vectors: Tensor) -> Tensor:
        folded = self.program.fold(self._named)
        directions = self._split(vectors)
        tangents = self.program.push(self._named, directions, vectors.shape[1])
        sums = [t.new_zeros(vectors.shape[1], *t.shape) for t in folded]
        each = [
            (self.program.pairs([t[j] for t in tangents]), self._sums(sums, j))
            for j in range(vectors.shape[1])
        ]
        curved, gradient, first = kind != "G", self.store.gradient, None
        if curved and gradient is None:
            gradient = [torch.zeros_like(t) for t in folded]
            first = Sums(self.program, gradient)
        for piece in self._pieces(folded):
            if curved and (piece.pulled is None or first is not None):
                self._pull_loss(piece, first)
            for along, total in each:
                self._share(kind, piece, along, total)
        self.store.gradient = gradient
        found = self.program.pull(self._named, sums)
        if curved and gradient is not None:
            bent = self.program.bend(self._named, directions, gradient)
            found |= {n: found[n] + t for n, t in bent.items() if n in found}
        return self._joined(found, vectors.shape[1])

    def _split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Columns (P, m) as tensors (m, ...) of the parameters' shapes."""
        pieces = vectors.T.split(self.risk.sizes, dim=1)
        named = zip(self.theta.items(), pieces, strict=True)
        return {name: part.reshape(-1, *p.shape) for (name, p), part in named}

    def _sums(self, stacked: Sequence[Tensor], j: int) -> Sums:
        return Sums(self.program, [tensor[j] for tensor in stacked])

    @property
    def _named(self) -> dict[str, Tensor]:
        return {**self.fixed, **self.theta}

    def _joined(self, found: dict[str, Tensor], num: int) -> Tensor:
        """Gradients by name, (m, ...), as columns (P, m)."""
        rows = [
            found[name] if name in found else p.new_zeros(num, *p.shape)
            for name, p in self.theta.items()
        ]
        return torch.cat([row.flatten(1) for row in rows], dim=1).T

    def _pieces(self, folded: list[Tensor]) -> Iterator[_Piece]:
        """The data in pieces with their forward passes, kept where they are few."""
        if self.store.pieces is not None:
            for piece in self.store.pieces:
                self.risk.control.check()
                yield piece
            return
        numbers = self.risk.num_own * self.risk.num_activations
        keep = numbers <= KEPT_NUMBERS and isinstance(self.risk.data, list)
        weights = self.program.pairs(folded)
        kept = []
        for inputs, targets in self.risk.pieces(1, least=6 * self.risk.dim):
            cache = forward(self.program, weights, inputs)
            predictions = self.risk.criterion.predict(cache.logits)
            piece = _Piece(cache, targets, predictions)
            if keep:
                kept.append(piece)
            yield piece
        if keep:
            self.store.pieces = kept

    def _pull_loss(self, piece: _Piece, gradient: Sums | None) -> None:
        """The gradient of the loss behind each layer, and in the weights if asked."""
        criterion = self.risk.criterion
        residual = criterion.gradient(piece.predictions, piece.targets)
        residual = residual / self.risk.normaliser
        pulled = pull(piece.cache, residual.to(self.risk.dtype), gradient)
        piece.pulled = {
            index + 1: g
            for index, step in enumerate(self.program.steps)
            if step.weights is not None and (g := pulled[index + 1]) is not None
        }

    def _share(
        self, kind: Kind, piece: _Piece, along: Sequence[Pair], total: Sums
    ) -> None:
        """Add these examples' share of one product, in the folded weights."""
        derivatives = push(piece.cache, along)
        dlogits = derivatives[-1]
        if dlogits is None:
            return
        cotangent = torch.zeros_like(dlogits)
        if kind != "H":
            product = self.risk.criterion.product(
                piece.predictions, piece.targets, dlogits.double()
            )
            cotangent = (product / self.risk.normaliser).to(dlogits.dtype)
        if kind == "G":
            pull(piece.cache, cotangent, total)
        elif piece.pulled is not None:
            pull_tangent(
                piece.cache, along, derivatives, piece.pulled, cotangent, total
            )


def is_small(risk: EmpiricalRisk) -> bool:
    """Whether starting a step costs more than the step: blocks then cost the same."""
    return risk.num_activations * risk.num_examples < SMALL


def read_layers(
    risk: EmpiricalRisk, weights: Weights | None = None
) -> LayerWise | None:
    """Read the network, and check on some examples that what was read is the network.

    None where it cannot be read, or does something else than was read; and where it is
    so small that starting each step costs more than the step.
    """
    inputs, _ = risk.piece
    if (
        is_small(risk)
        or risk.network.outputs
        or risk.network.last
        or not isinstance(inputs, Tensor)
    ):
        return None
    with evaluating(risk.model), torch.no_grad():
        program = read_program(risk.model, inputs)
        if program is None:
            return None
        expected = risk.network(inputs)
    theta, fixed = weights or risk.snapshot()
    layers = LayerWise(risk, program, theta, fixed)
    with full_precision(), torch.no_grad():
        try:
            folded = program.pairs(program.fold({**fixed, **theta}))
            found = forward(program, folded, inputs).logits
        except (RuntimeError, ValueError, IndexError):  # shapes that were not foreseen
            return None
    tolerance = 1e3 * torch.finfo(risk.dtype).eps * expected.abs().max()
    same = found.shape == expected.shape and (found - expected).abs().max() <= tolerance
    return layers if same else None
