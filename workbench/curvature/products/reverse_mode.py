"""Products by reverse mode alone: what plain autograd gives, hooks included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from workbench.curvature.problem.batches import Inputs, join, num_of, take
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.way import Cotangents, Kind, ModesDifferError, Way
from workbench.curvature.products.written_out import WrittenOut


@final
@dataclass(frozen=True, slots=True, eq=False)
class Reverse(Way):
    r"""The module as it is called, with the weights that it has now.

    ``J v`` is the derivative of ``w -> v^T J^T w``, which is linear in w; ``H v`` that
    of ``theta -> v^T J^T r`` with r held; with ``w = r`` one double backward gives
    both, and ``Hess = G + H``. For each piece of the data a forward pass, and a vector
    three backward passes for G and for H, four for Hess, without sharing between
    vectors: about 3 F, 3 F and 4 F. Where torch cannot differentiate a layer twice,
    ``J v`` comes from the gradients of single numbers, one backward pass for each
    output of each example (``rows``).
    """

    name: ClassVar[str] = "reverse mode"

    risk: EmpiricalRisk
    rows: bool = False  # whether J is formed example by example
    written_out: bool = False  # whether some operations are taken step by step

    @override
    def on(self, risk: EmpiricalRisk) -> Way:
        return replace(self, risk=risk)

    @override
    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        if kind == "Hess":
            g, h = self.both(vectors)
            return g + h
        total = torch.zeros_like(vectors)
        with evaluating(self.risk.model), torch.enable_grad():
            for inputs, targets in self.risk.pieces(1):
                outputs = self._outputs(inputs)
                if kind == "G":
                    pushed = self._push(inputs, outputs, vectors)
                    total += self._curve(vectors, outputs, targets, pushed)
                else:
                    predictions = self.risk.criterion.predict(outputs.detach())
                    r = self.risk.criterion.gradient(predictions, targets)
                    total += self._second(outputs, r, vectors)
        return total / self.risk.normaliser

    def both(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """``G V`` and ``H V``, by one double backward a vector where J has no rows."""
        g, h = torch.zeros_like(vectors), torch.zeros_like(vectors)
        with evaluating(self.risk.model), torch.enable_grad():
            for inputs, targets in self.risk.pieces(1):
                outputs = self._outputs(inputs)
                predictions = self.risk.criterion.predict(outputs.detach())
                r = self.risk.criterion.gradient(predictions, targets)
                if self.rows:
                    pushed = self._push_rows(inputs, vectors)
                    h += self._second(outputs, r, vectors)
                else:
                    pushed, second = self._push_and_second(outputs, r, vectors)
                    h += second
                g += self._curve(vectors, outputs, targets, pushed)
        return g / self.risk.normaliser, h / self.risk.normaliser

    @override
    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        with evaluating(self.risk.model):
            for inputs, targets in self.risk.pieces(1):
                with torch.enable_grad():
                    outputs = self._outputs(inputs)
                    pushed = self._push(inputs, outputs, vectors)
                predictions = self.risk.criterion.predict(outputs.detach())
                yield targets, predictions, pushed

    @override
    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        shape = (self.risk.dim, num)
        total = torch.zeros(shape, dtype=self.risk.dtype, device=self.risk.device)
        with evaluating(self.risk.model), torch.enable_grad():
            for inputs, targets in self.risk.pieces(1):
                outputs = self._outputs(inputs)
                predictions = self.risk.criterion.predict(outputs.detach())
                columns = cotangents(targets, predictions)
                total += self._pull(outputs, columns)
        return total

    def _outputs(self, inputs: Inputs) -> Tensor:
        with WrittenOut() if self.written_out else nullcontext():
            return self.risk.network(inputs)

    def _curve(
        self, vectors: Tensor, outputs: Tensor, targets: Tensor, pushed: Tensor
    ) -> Tensor:
        """``J^T A J v`` of every v and its ``J v``, (B, O, m) to (P, m)."""
        predictions, pushed = (
            self.risk.criterion.predict(outputs.detach()),
            pushed.double(),
        )
        curved = [
            self.risk.criterion.product(predictions, targets, column.view_as(outputs))
            for column in pushed.unbind(2)
        ]
        w = torch.stack([c.flatten(1) for c in curved], dim=2)
        pulled = self._pull(outputs, w)
        if self.differ(vectors, pulled, pushed, w):
            raise ModesDifferError
        return pulled

    def _pull(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """``J^T w`` of every column, (B, O, m) to (P, m)."""
        found = [
            self.risk.gradient(outputs, column.view_as(outputs))
            for column in columns.unbind(2)
        ]
        return torch.stack(found, dim=1)

    def _push(self, inputs: Inputs, outputs: Tensor, vectors: Tensor) -> Tensor:
        """``J v`` of every column, (P, m) to (B, O, m)."""
        if self.rows:
            return self._push_rows(inputs, vectors)
        w = torch.zeros_like(outputs, requires_grad=True)
        pulled = self._differentiable(outputs, w)
        pushed = [
            _derivative(pulled, v, [w])[0].flatten(1) for v in self._tangents(vectors)
        ]
        return torch.stack(pushed, dim=2)

    def _push_rows(self, inputs: Inputs, vectors: Tensor) -> Tensor:
        """The same from the rows of J, one after the other."""
        found = []
        for i in range(num_of(inputs)):
            self.risk.control.check()
            one = take(inputs, slice(i, i + 1))
            outputs = self._outputs(join([one, one]))[0]
            rows = [
                self.risk.gradient(number, torch.ones_like(number))
                for number in outputs.flatten()
            ]
            found.append(torch.stack(rows) @ vectors)
        return torch.stack(found)

    def _second(self, outputs: Tensor, residual: Tensor, vectors: Tensor) -> Tensor:
        """``sum_k r_k d^2 f_k v`` of every column."""
        pulled = self._differentiable(outputs, residual.to(outputs.dtype))
        wanted = list(self.risk.parameters.values())
        found = [
            self.risk.flatten(_derivative(pulled, v, wanted))
            for v in self._tangents(vectors)
        ]
        return torch.stack(found, dim=1)

    def _push_and_second(
        self, outputs: Tensor, residual: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`_push` and `_second`: ``v^T J^T r`` in r, and in the parameters."""
        r = residual.to(outputs.dtype, copy=True).requires_grad_()
        pulled = self._differentiable(outputs, r)
        wanted = [r, *self.risk.parameters.values()]
        found = [_derivative(pulled, v, wanted) for v in self._tangents(vectors)]
        pushed = [along.flatten(1) for along, *_ in found]
        second = [self.risk.flatten(rest) for _, *rest in found]
        return torch.stack(pushed, dim=2), torch.stack(second, dim=1)

    def _differentiable(self, outputs: Tensor, cotangent: Tensor) -> list[Tensor]:
        """``J^T w``, a tensor for each parameter, with a graph."""
        wanted = list(self.risk.parameters.values())
        if not outputs.requires_grad:
            return [torch.zeros_like(p) for p in wanted]
        return list(
            torch.autograd.grad(
                outputs,
                wanted,
                cotangent,
                create_graph=True,
                materialize_grads=True,
            )
        )

    def _tangents(self, vectors: Tensor) -> Iterator[list[Tensor]]:
        for column in vectors.unbind(1):
            self.risk.control.check()
            yield list(self.risk.split(column).values())


def _derivative(
    pulled: list[Tensor], tangent: list[Tensor], wanted: Sequence[Tensor]
) -> list[Tensor]:
    """The derivative of ``<pulled, tangent>`` in what is wanted."""
    pairs = [
        ((g.to_dense() if g.is_sparse else g), v)
        for g, v in zip(pulled, tangent, strict=True)
        if g.requires_grad
    ]
    if not pairs:  # they depend on nothing
        return [torch.zeros_like(w) for w in wanted]
    inner = torch.stack([(g * v).sum() for g, v in pairs]).sum()
    return list(
        torch.autograd.grad(inner, wanted, retain_graph=True, materialize_grads=True)
    )
