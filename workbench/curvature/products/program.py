"""A network read as a straight line of layers whose derivatives are written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from workbench.curvature.products.layers import Layer, Link

Pair = tuple[Tensor, Tensor | None]  # weight and bias of a layer


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

    def fold(self, theta: dict[str, Tensor]) -> Pair:
        """W and b."""
        bias = theta[self.bias] if self.bias else None
        if self.mean is None or self.var is None:
            assert self.weight
            return theta[self.weight], bias
        scale = (theta[self.var] + self.eps).rsqrt()
        if self.gamma:
            scale = scale * theta[self.gamma]
        shift = (-theta[self.mean] if bias is None else bias - theta[self.mean]) * scale
        if self.beta:
            shift = shift + theta[self.beta]
        if not self.weight:
            return scale, shift
        weight = theta[self.weight]
        return scale.view(-1, *(1,) * (weight.ndim - 1)) * weight, shift


@dataclass(frozen=True, slots=True)
class Step:
    """One layer or link: the slots it reads, the slot of the same number it writes."""

    rule: Layer | Link
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

    def fold(self, theta: dict[str, Tensor]) -> list[Tensor]:
        """W, and b where there is one, of each layer in order."""
        found = [s.weights.fold(theta) for s in self.steps if s.weights is not None]
        return [tensor for pair in found for tensor in pair if tensor is not None]

    @property
    def folds(self) -> bool:
        """Whether a norm was folded, so that `fold` is not linear."""
        return any(s.weights is not None and s.weights.mean for s in self.steps)

    def pairs(self, tensors: Sequence[Tensor]) -> list[Pair]:
        """What `fold` returned, layer by layer."""
        left = iter(tensors)
        layers = [s.weights for s in self.steps if s.weights is not None]
        return [(next(left), next(left) if w.has_bias else None) for w in layers]
