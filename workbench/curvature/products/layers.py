"""Layers and what derivatives of a network need of them, written out.

Two sorts, both without a vector axis. A `Layer` is bilinear in its weight and its
input; a `Activation` has no weight and is linear near its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear
from typing_extensions import override

aten = torch.ops.aten


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """Gradients of a number in a layer's input, weight and bias."""

    inputs: Tensor | None
    weight: Tensor
    bias: Tensor


class Layer(ABC):
    """``y = B(W, x) + b`` with B bilinear; W and b are those of `Folded`."""

    @abstractmethod
    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``B(W, x) + b``."""

    @abstractmethod
    def pull(self, g: Tensor, x: Tensor, weight: Tensor, live: bool) -> Pulled:
        """Gradients of ``<g, B(W, x) + b>``; in x only where it is live."""

    @abstractmethod
    def pull_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient in x alone."""


@final
@dataclass(frozen=True, slots=True)
class Convolution(Layer):
    """A two-dimensional convolution with one group and zeros around the image."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @override
    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    @override
    def pull(self, g: Tensor, x: Tensor, weight: Tensor, live: bool) -> Pulled:
        return Pulled(*self._backward(g, x, weight, [live, True, True]))

    @override
    def pull_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        pulled: Tensor = self._backward(g, x, weight, [True, False, False])[0]
        return pulled

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> Any:
        return aten.convolution_backward(
            g, x, weight, [len(weight)], self.stride, self.padding, self.dilation,
            False, [0, 0], 1, mask,
        )  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """A matrix on the last axis."""

    @override
    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias)

    @override
    def pull(self, g: Tensor, x: Tensor, weight: Tensor, live: bool) -> Pulled:
        rows, columns = g.flatten(0, -2), x.flatten(0, -2)
        inputs = g @ weight if live else None
        return Pulled(inputs, rows.T @ columns, rows.sum(0))

    @override
    def pull_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return g @ weight


@final
@dataclass(frozen=True, slots=True)
class Scale(Layer):
    """A factor a channel: batch norm with fixed statistics."""

    @override
    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = x * _channels(weight, x)
        return y if bias is None else y.add_(_channels(bias, x))

    @override
    def pull(self, g: Tensor, x: Tensor, weight: Tensor, live: bool) -> Pulled:
        others = [axis for axis in range(x.ndim) if axis != 1]
        inputs = self.pull_input(g, x, weight) if live else None
        return Pulled(inputs, (g * x).sum(others), g.sum(others))

    @override
    def pull_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return g * _channels(weight, x)


class Activation(ABC):
    """No weight, and linear near its inputs, so without a second derivative."""

    needs_inputs: ClassVar[bool]  # whether the derivative looks at the inputs again

    @abstractmethod
    def run(self, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output, and what its derivative needs to know of it."""

    @abstractmethod
    def push(self, memory: Tensor | None, *dxs: Tensor) -> Tensor:
        """The derivative times tangents."""

    @abstractmethod
    def pull(self, memory: Tensor | None, g: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        """Its transpose times a cotangent."""


@final
@dataclass(frozen=True, slots=True)
class ReLU(Activation):
    """Zero where the input is not above zero."""

    needs_inputs = False

    @override
    def run(self, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        y = xs[0].relu()
        return y, y

    @override
    def push(self, memory: Tensor | None, *dxs: Tensor) -> Tensor:
        masked: Tensor = aten.threshold_backward(dxs[0], memory, 0)
        return masked

    @override
    def pull(self, memory: Tensor | None, g: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        return (aten.threshold_backward(g, memory, 0),)


@final
@dataclass(frozen=True, slots=True)
class MaxPool(Activation):
    """The largest number of each window; of equal ones the first."""

    needs_inputs = True

    window: tuple[Any, ...]  # kernel, stride, padding, dilation, ceil_mode

    @override
    def run(self, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        y, index = aten.max_pool2d_with_indices(xs[0], *self.window)
        return y, index

    @override
    def push(self, memory: Tensor | None, *dxs: Tensor) -> Tensor:
        assert memory is not None
        (dx,) = dxs
        if dx.is_contiguous():
            return dx.flatten(2).gather(2, memory.flatten(2)).view_as(memory)
        rows = dx.permute(0, 2, 3, 1).flatten(1, 2)  # channels last: a view
        index = memory.permute(0, 2, 3, 1)
        taken = rows.gather(1, index.flatten(1, 2)).view_as(index)
        return taken.permute(0, 3, 1, 2)

    @override
    def pull(self, memory: Tensor | None, g: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        back = aten.max_pool2d_with_indices_backward
        return (back(g, xs[0], *self.window, memory),)


@final
@dataclass(frozen=True, slots=True)
class Add(Activation):
    """The sum of two inputs of one shape."""

    needs_inputs = False

    @override
    def run(self, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return xs[0] + xs[1], None

    @override
    def push(self, memory: Tensor | None, *dxs: Tensor) -> Tensor:
        return dxs[0] + dxs[1]

    @override
    def pull(self, memory: Tensor | None, g: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        return g, g


@final
@dataclass(frozen=True, slots=True)
class Joined(Activation):
    """The inputs one after the other along the channels."""

    needs_inputs = True

    @override
    def run(self, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return torch.cat(xs, dim=1), None

    @override
    def push(self, memory: Tensor | None, *dxs: Tensor) -> Tensor:
        return torch.cat(dxs, dim=1)

    @override
    def pull(self, memory: Tensor | None, g: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        return tuple(g.split([x.shape[1] for x in xs], dim=1))


@final
@dataclass(frozen=True, slots=True)
class FixedLinear(Activation):
    """A linear map of one input, the same everywhere: its transpose by autograd."""

    needs_inputs = True

    function: Callable[[Tensor], Tensor]

    @override
    def run(self, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.function(xs[0]), None

    @override
    def push(self, memory: Tensor | None, *dxs: Tensor) -> Tensor:
        return self.function(dxs[0])

    @override
    def pull(self, memory: Tensor | None, g: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            x = xs[0].detach().requires_grad_()
            return torch.autograd.grad(self.function(x), x, g)


def _channels(vector: Tensor, x: Tensor) -> Tensor:
    """A number a channel, shaped to meet x."""
    return vector.view(-1, *(1,) * (x.ndim - 2))
