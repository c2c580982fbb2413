"""Operations in steps that torch can differentiate twice, in either mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [axis for axis in range(v.ndim) if axis != dim % v.ndim]
    squares = v.square()
    total = squares.sum(others, keepdim=True) if dim != -1 else squares.sum()
    return v * (g / total.sqrt())


def _prelu(input: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim and input.ndim > 1:
        weight = weight.reshape(-1, *(1,) * (input.ndim - 2))
    return torch.where(input > 0, input, weight * input)


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return (input + 3).clamp(0, 6) / 6


def _hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    return input * ((input + 3).clamp(0, 6) / 6)


_STEPS: Mapping[Any, Callable[..., Tensor]] = {
    torch._weight_norm: _weight_norm,  # its second derivative is wrong in torch 2.14
    torch.prelu: _prelu,  # its derivatives differ at zero
    functional.hardswish: _hardswish,  # these have none
    functional.hardsigmoid: _hardsigmoid,
}


class WrittenOut(TorchFunctionMode):
    """Inside, these operations are taken step by step: the same numbers to rounding."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the steps in place of the operation."""
        taken: Callable[..., Any] = _STEPS.get(func, func)
        return taken(*args, **(kwargs or {}))
