"""A network read as a straight line of layers whose derivatives are written out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.products.layers import Activation, Layer

Pair = tuple[Tensor, Tensor | None]  # weight and bias of a layer
Named = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    r"""Where a layer's weight and bias come from, by name.

    Batch norm with fixed statistics is affine, so it is folded into the layer below:
    ``W = s W_0``, ``b = s (b_0 - mean) + beta``, ``s = gamma / sqrt(var + eps)``. The
    layer without it has ``W_0 = 1``, the norm without a layer ``s`` for its weight.
    """

    weight: str | None  # W_0
    bias: str | None  # b_0
    mean: str | None = None
    var: str | None = None
    gamma: str | None = None
    beta: str | None = None
    eps: float = 0.0

    @property
    def has_bias(self) -> bool:
        """Whether there is a b."""
        return bool(self.bias or self.mean)

    def fold(self, theta: Named) -> Pair:
        """W and b."""
        bias = theta[self.bias] if self.bias else None
        if self.mean is None:
            assert self.weight
            return theta[self.weight], bias
        scale, lifted = self._scale(theta), self._lifted(theta)
        shift = lifted * scale
        if self.beta:
            shift = shift + theta[self.beta]
        if not self.weight:
            return scale, shift
        weight = theta[self.weight]
        return _over(scale, weight) * weight, shift

    def push(self, theta: Named, along: Named, num: int) -> Pair:
        """How W and b change along directions (num, ...); fixed weights have none."""
        weight, bias = self.fold(theta)
        dweight = weight.new_zeros(num, *weight.shape)
        dbias = None if bias is None else bias.new_zeros(num, *bias.shape)
        scale = None if self.mean is None else self._scale(theta)
        if self.weight in along:
            own = along[self.weight]
            dweight += own if scale is None else _over(scale, own[0]) * own
        if dbias is not None and self.bias in along:
            dbias += along[self.bias] if scale is None else scale * along[self.bias]
        if dbias is not None and self.beta in along:
            dbias += along[self.beta]
        if dbias is not None and self.gamma in along:
            dscale = self._root(theta) * along[self.gamma]
            layer = theta[self.weight] if self.weight else None
            dweight += dscale if layer is None else _over(dscale, layer) * layer
            dbias += dscale * self._lifted(theta)
        return dweight, dbias

    def pull(self, theta: Named, weight: Tensor, bias: Tensor | None) -> Named:
        """Gradients in what W and b are made of from those in W and b, (num, ...)."""
        if self.mean is None:
            return self._named(weight=weight, bias=bias)
        assert bias is not None
        scale = self._scale(theta)
        rise = bias * self._lifted(theta)
        rise = rise + (_rows(weight, theta[self.weight]) if self.weight else weight)
        return self._named(
            weight=_over(scale, weight[0]) * weight if self.weight else None,
            bias=scale * bias,
            gamma=self._root(theta) * rise,
            beta=bias,
        )

    def bend(
        self, theta: Named, along: Named, weight: Tensor, bias: Tensor | None
    ) -> Named:
        """How `pull` of gradients (...) changes along directions (num, ...)."""
        if self.mean is None or bias is None:
            return {}
        found: Named = {}
        if self.gamma in along:
            dscale = self._root(theta) * along[self.gamma]
            found |= self._named(
                weight=_over(dscale, weight) * weight if self.weight else None,
                bias=dscale * bias,
            )
        if self.gamma is None:
            return found
        rises = []
        if self.weight in along:
            rises.append(_rows(along[self.weight], weight))
        if self.bias in along:
            rises.append(bias * along[self.bias])
        if rises:
            found |= self._named(gamma=self._root(theta) * sum(rises))
        return found

    def _named(self, **found: Tensor | None) -> Named:
        """By the names of the parameters, those that there are."""
        named = ((getattr(self, part), value) for part, value in found.items())
        return {name: value for name, value in named if name and value is not None}

    def _root(self, theta: Named) -> Tensor:
        assert self.var is not None
        return (theta[self.var] + self.eps).rsqrt()

    def _scale(self, theta: Named) -> Tensor:
        """The factor s of each channel."""
        root = self._root(theta)
        return root * theta[self.gamma] if self.gamma else root

    def _lifted(self, theta: Named) -> Tensor:
        """``b_0 - mean``."""
        assert self.mean is not None
        return (theta[self.bias] if self.bias else 0.0) - theta[self.mean]


def _over(scale: Tensor, weight: Tensor) -> Tensor:
    """A number a channel, (..., r), as a factor of weights (r, ...)."""
    return scale.reshape(*scale.shape, *(1,) * (weight.ndim - 1))


def _rows(stacked: Tensor, weight: Tensor) -> Tensor:
    """Inner products, channel by channel: (num, r, ...) and (r, ...) to (num, r)."""
    return torch.einsum("nrq,rq->nr", stacked.flatten(2), weight.flatten(1))


@dataclass(frozen=True, slots=True)
class Step:
    """One layer or link: the slots it reads, the slot of the same number it writes."""

    rule: Layer | Activation
    reads: tuple[int, ...]
    live: tuple[bool, ...]  # which of them depend on a parameter
    weights: Weights | None = None  # of a layer

    @property
    def needs_inputs(self) -> bool:
        """Whether a derivative looks at what was read; so too if some of it is dead."""
        if isinstance(self.rule, Layer):
            return True
        return self.rule.needs_inputs or not all(self.live)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The steps in order; slot 0 is the input, slot s + 1 what step s writes."""

    steps: tuple[Step, ...]
    dropped: tuple[tuple[int, ...], ...]  # slots of no use after each step

    @property
    def weights(self) -> list[Weights]:
        """Of each layer in order."""
        return [step.weights for step in self.steps if step.weights is not None]

    def fold(self, theta: Named) -> list[Tensor]:
        """W, and b where there is one, of each layer in order."""
        return _flat(own.fold(theta) for own in self.weights)

    def push(self, theta: Named, along: Named, num: int) -> list[Tensor]:
        """The derivative of `fold` along directions, each (num, ...)."""
        return _flat(own.push(theta, along, num) for own in self.weights)

    def pull(self, theta: Named, sums: Sequence[Tensor]) -> Named:
        """Gradients in the parameters, by name, from those in the folded weights."""
        pairs = zip(self.weights, self.pairs(sums), strict=True)
        return _added(own.pull(theta, *pair) for own, pair in pairs)

    def bend(self, theta: Named, along: Named, gradient: Sequence[Tensor]) -> Named:
        """How `pull` of a gradient changes along directions: folding is not linear."""
        pairs = zip(self.weights, self.pairs(gradient), strict=True)
        return _added(own.bend(theta, along, *pair) for own, pair in pairs)

    def pairs(self, tensors: Sequence[Tensor]) -> list[Pair]:
        """What `fold` returned, layer by layer."""
        left = iter(tensors)
        return [
            (next(left), next(left) if own.has_bias else None) for own in self.weights
        ]


def _flat(pairs: Iterable[Pair]) -> list[Tensor]:
    return [tensor for pair in pairs for tensor in pair if tensor is not None]


def _added(parts: Iterable[Named]) -> Named:
    """Sums by name: a parameter may be part of several layers."""
    found: Named = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found[name] + value if name in found else value
    return found
