"""Products with G, Hess and H of any network, by torch's forward mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap
from typing_extensions import override

from workbench.curvature.problem.batches import Inputs
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.way import (
    Cotangents,
    Kind,
    ModesDifferError,
    Named,
    Way,
)
from workbench.curvature.products.written_out import WrittenOut

BLOCK = 64  # vectors that share a forward pass


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """Of some examples: ``A V``, and what tells whether both modes have one J."""

    product: Tensor  # (P, m)
    pulled: Tensor  # (P, m) J^T w
    pushed: Tensor  # (B, O, m) J v
    cotangents: Tensor  # (B, O, m) w

    @property
    def tested(self) -> tuple[Tensor, Tensor, Tensor]:
        """What `Way.differ` looks at."""
        return self.pulled, self.pushed, self.cotangents


@final
@dataclass(frozen=True, slots=True, eq=False)
class General(Way):
    r"""A network with its weights as they were then.

    G: forward mode gives ``J v``, and one reverse pass pulls A times it back. Hess and
    H: the directional derivative of ``J^T r``, with r a function of the outputs for
    Hess and held for H. About two gradients of the loss for G and three for the others,
    a vector; two thirds of it in blocks of ten. Memory: the activations of one piece of
    the data for the block, and twice the block.

    Both modes should have one J, and for some layers they do not where a number is
    special (PReLU at zero). So each product is checked on all examples, at no further
    pass: ``<w, J v> = <J^T w, v>`` with the w that is there, ``A J v`` or r.
    """

    name: ClassVar[str] = "forward mode"

    risk: EmpiricalRisk
    theta: Named  # parameters that are looked at
    fixed: Named  # all others, and buffers
    together: bool = True  # whether the vectors of a block share a pass, by vmap
    written_out: bool = False  # whether some operations are taken step by step

    @override
    def on(self, risk: EmpiricalRisk) -> Way:
        return replace(self, risk=risk)

    @override
    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors)
        width = min(vectors.shape[1], BLOCK) if self.together else 1
        apart = torch.zeros((), dtype=torch.bool, device=vectors.device)
        with evaluating(self.risk.model):
            for inputs, targets in self.risk.pieces(width):
                for start in range(0, vectors.shape[1], width):
                    columns = slice(start, start + width)
                    block = vectors[:, columns]
                    share = self._share(kind, block, inputs, targets)
                    apart |= self.differ(block, *share.tested)
                    total[:, columns] += share.product
        if apart:
            raise ModesDifferError
        return total

    @override
    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        with evaluating(self.risk.model):
            for inputs, targets in self.risk.pieces(vectors.shape[1]):

                def one(vector: Tensor, inputs: Inputs = inputs) -> Tensor:
                    tangent = (self.risk.split(vector),)
                    network = partial(self._outputs, inputs)
                    pushed: Tensor = jvp(network, (self.theta,), tangent)[1]
                    return pushed.flatten(1)

                with torch.no_grad():
                    outputs = self._outputs(inputs, self.theta)
                predictions = self.risk.criterion.predict(outputs)
                yield targets, predictions, self._each(one, vectors, 1, 2)

    @override
    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        shape = (self.risk.dim, num)
        total = torch.zeros(shape, dtype=self.risk.dtype, device=self.risk.device)
        with evaluating(self.risk.model):
            for inputs, targets in self.risk.pieces(num):
                outputs, back, *_ = vjp(partial(self._outputs, inputs), self.theta)
                predictions = self.risk.criterion.predict(outputs)
                columns = cotangents(targets, predictions).to(outputs.dtype)

                def one(
                    column: Tensor, back: Any = back, like: Tensor = outputs
                ) -> Tensor:
                    pulled = back(column.view_as(like))[0]
                    return self.risk.flatten(list(pulled.values()))

                total += self._each(one, columns, 2, 1)
        return total

    def _each(self, one: Any, columns: Tensor, axis: int, out: int) -> Tensor:
        """A function of every column."""
        if self.together and columns.shape[axis] > 1:
            found: Tensor = vmap(one, in_dims=axis, out_dims=out)(columns)
            return found
        return torch.stack([one(c) for c in columns.unbind(axis)], dim=out)

    def _outputs(self, inputs: Inputs, parameters: Named) -> Tensor:
        with WrittenOut() if self.written_out else nullcontext():
            return self.risk.logits({**self.fixed, **parameters}, inputs)

    def _share(
        self, kind: Kind, block: Tensor, inputs: Inputs, targets: Tensor
    ) -> _Share:
        """These examples' share of ``A V``, with the factor 1/Z of the whole data."""

        def one(vector: Tensor) -> tuple[Tensor, ...]:
            tangent = self.risk.split(vector)
            found, pulled, pushed, w = self._product(kind, tangent, inputs, targets)
            flat = (self.risk.flatten(list(of.values())) for of in (found, pulled))
            return (*flat, pushed.flatten(1), w.flatten(1))

        axes = (1, 1, 2, 2)
        if self.together and block.shape[1] > 1:
            return _Share(*vmap(one, in_dims=1, out_dims=axes)(block))
        each = zip(*map(one, block.unbind(1)), strict=True)
        return _Share(*map(torch.stack, each, axes))

    def _product(
        self, kind: Kind, tangent: Named, inputs: Inputs, targets: Tensor
    ) -> tuple[Named, Named, Tensor, Tensor]:
        """``A v``; and ``J^T w``, ``J v`` and w of some w."""
        network, criterion = partial(self._outputs, inputs), self.risk.criterion
        Z = self.risk.normaliser
        if kind == "G":
            outputs, pull_back, *_ = vjp(network, self.theta)
            push: Tensor = jvp(network, (self.theta,), (tangent,))[1]
            predictions = criterion.predict(outputs)
            cotangent = criterion.product(predictions, targets, push.double()) / Z
            pulled: Named = pull_back(cotangent.to(outputs.dtype))[0]
            return pulled, pulled, push, cotangent

        # Forward over reverse: torch 2.11 to 2.14 give wrong numbers for layer norm the
        # other way round.
        held: Tensor | None = None
        if kind == "H":
            predictions = criterion.predict(network(self.theta))
            held = criterion.gradient(predictions, targets)

        def gradient(parameters: Named) -> tuple[Named, Tensor, Tensor]:
            outputs, pull_back, *_ = vjp(network, parameters)
            residual = held
            if residual is None:
                predictions = criterion.predict(outputs)
                residual = criterion.gradient(predictions, targets)
            w = residual / Z
            found: Named = pull_back(w.to(outputs.dtype))[0]
            return found, outputs, w

        both: Any = jvp(gradient, (self.theta,), (tangent,))
        (pulled, _, w), (product, push, _) = both
        return product, pulled, push, w
