"""A network on some examples, and its derivatives along a direction, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.products.layers import Layer
from workbench.curvature.products.program import Pair, Program, Step


@dataclass(frozen=True, slots=True, eq=False)
class ForwardCache:
    """What one forward pass leaves behind: all that the derivatives need of it."""

    program: Program
    weights: Sequence[Pair]
    logits: Tensor  # f(x), (B, C)
    values: dict[int, Tensor]  # by slot, those that are needed again
    memories: list[Tensor | None]  # by step

    def inputs(self, step: Step) -> list[Tensor]:
        """What the step read, where its derivative needs it."""
        return [self.values[slot] for slot in step.reads if slot in self.values]


class Sums:
    """Tensors like the weights and biases of the layers, to add gradients to."""

    def __init__(self, program: Program, tensors: Sequence[Tensor]) -> None:
        self._pairs = program.pairs(tensors)

    def add(self, layer: int, weight: Tensor, bias: Tensor | None) -> None:
        """Add to those of one layer."""
        for total, term in zip(self._pairs[layer], (weight, bias), strict=True):
            if total is not None and term is not None:
                total += term


def forward(program: Program, weights: Sequence[Pair], inputs: Tensor) -> ForwardCache:
    """f(x), and all that is on the way."""
    values: dict[int, Tensor] = {0: inputs}
    memories: list[Tensor | None] = []
    layers = iter(weights)
    value = inputs
    for index, step in enumerate(program.steps):
        xs = [values[slot] for slot in step.reads]
        if isinstance(step.rule, Layer):
            value, memory = step.rule.multiply(xs[0], *next(layers)), None
        else:
            value, memory = step.rule.run(*xs)
        values[index + 1] = value
        memories.append(memory)
        for slot in program.dropped[index]:
            del values[slot]
    return ForwardCache(program, weights, value, values, memories)


def push(cache: ForwardCache, tangents: Sequence[Pair]) -> list[Tensor | None]:
    """The derivative of each slot along the tangents; None where it has none.

    Two products a layer, ``B(W', x) + B(W, x')``; the last entry is ``J v``.
    """
    found: list[Tensor | None] = [None]
    layers = iter(zip(cache.weights, tangents, strict=True))
    for step, memory in zip(cache.program.steps, cache.memories, strict=True):
        dxs = [found[slot] for slot in step.reads]
        dy: Tensor | None = None
        if isinstance(step.rule, Layer):
            (weight, _), (dweight, dbias) = next(layers)
            dy = step.rule.multiply(cache.inputs(step)[0], dweight, dbias)
            if dxs[0] is not None:
                dy += step.rule.multiply(dxs[0], weight, None)
        elif any(step.live):
            filled = [
                torch.zeros_like(cache.values[slot]) if dx is None else dx
                for slot, dx in zip(step.reads, dxs, strict=True)
            ]
            dy = step.rule.push(memory, *filled)
        found.append(dy)
    return found


def pull(
    cache: ForwardCache, cotangent: Tensor, sums: Sums | None
) -> list[Tensor | None]:
    """The gradient of ``<cotangent, f>`` in each slot, and in the weights if asked.

    Two products a layer, ``B^T(W, g)`` and ``g x^T``, the second where there are sums
    to add it to.
    """
    steps = cache.program.steps
    found: list[Tensor | None] = [None] * len(steps) + [cotangent]
    layer = len(cache.weights)
    for index in reversed(range(len(steps))):
        step, g = steps[index], found[index + 1]
        if isinstance(step.rule, Layer):
            layer -= 1
            if g is None:
                continue
            (x,), weight = cache.inputs(step), cache.weights[layer][0]
            if sums is not None:
                pulled = step.rule.pull(g, x, weight, step.live[0])
                sums.add(layer, pulled.weight, pulled.bias)
                _accumulate(found, step, [pulled.inputs])
            elif step.live[0]:
                _accumulate(found, step, [step.rule.pull_input(g, x, weight)])
        elif g is not None and any(step.live):
            gs = step.rule.pull(cache.memories[index], g, *cache.inputs(step))
            _accumulate(found, step, gs)
    return found


def pull_tangent(
    cache: ForwardCache,
    tangents: Sequence[Pair],
    pushed: Sequence[Tensor | None],
    pulled: Mapping[int, Tensor],
    cotangent: Tensor,
    sums: Sums,
) -> None:
    """Add the derivative of `pull`'s gradient in the weights along the tangents.

    Four products a layer: those of `pull` for the derivative g' of the cotangent, and
    ``B^T(W', g)`` and ``g x'^T``. Links have no second derivative.

    Args:
        cache: What `forward` returned.
        tangents: The direction, W' and b'.
        pushed: What `push` returned for it.
        pulled: What `pull` returned, g, behind each layer by slot.
        cotangent: Derivative of the cotangent.
        sums: Where to add.
    """
    steps = cache.program.steps
    found: list[Tensor | None] = [None] * len(steps) + [cotangent]
    layer = len(cache.weights)
    for index in reversed(range(len(steps))):
        step, dg, g = steps[index], found[index + 1], pulled.get(index + 1)
        if isinstance(step.rule, Layer):
            layer -= 1
            if dg is None or g is None:
                continue
            (x,), live = cache.inputs(step), step.live[0]
            first = step.rule.pull(dg, x, cache.weights[layer][0], live)
            sums.add(layer, first.weight, first.bias)
            dx = pushed[step.reads[0]]
            if dx is None or first.inputs is None:
                continue
            second = step.rule.pull(g, dx, tangents[layer][0], True)
            sums.add(layer, second.weight, None)
            assert second.inputs is not None
            _accumulate(found, step, [first.inputs.add_(second.inputs)])
        elif dg is not None and any(step.live):
            gs = step.rule.pull(cache.memories[index], dg, *cache.inputs(step))
            _accumulate(found, step, gs)


def _accumulate(
    found: list[Tensor | None], step: Step, gs: Sequence[Tensor | None]
) -> None:
    """Add the gradients in what a step read, where that depends on a parameter."""
    for slot, live, g in zip(step.reads, step.live, gs, strict=True):
        before = found[slot]
        if live and g is not None:
            found[slot] = g if before is None else before + g
