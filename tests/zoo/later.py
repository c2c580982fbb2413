"""What the first examples do not show: later batches, larger ones, rare numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.zoo.case import Situation, case, mlp, vectors


def later(num: int = 30) -> tuple[Tensor, Tensor]:
    """Vectors of which two, none of the first, are zero."""
    x, y = vectors(num)
    x[20], x[25] = 0.0, 0.0
    return x, y


def cut(x: Tensor, y: Tensor, size: int = 10) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


class Straight(nn.Module):
    """A layer without a bias, which is zero where the input is, and a function."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 5, bias=False), nn.Linear(width, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.function(self.a(x)))


@case(expect="refused")
def a_later_gradient_that_is_infinite() -> Situation:
    def with_length(h: Tensor) -> Tensor:
        return torch.cat([h.tanh(), h.square().sum(1, keepdim=True).sqrt()], 1)

    return Situation(Straight(with_length, 6), cut(*later()))


@case(expect="refused")
def later_logits_that_are_not_numbers() -> Situation:
    return Situation(
        Straight(lambda h: h / h.norm(dim=1, keepdim=True), 5), cut(*later())
    )


def _unsure(*inside: nn.Module) -> nn.Sequential:
    """Biases of zero, as before training: behind the layer zero inputs are zero."""
    model = mlp(*inside)
    nn.init.zeros_(model[0].bias)
    return model


class Bent(nn.Module):
    """PReLU in steps, for the oracle: torch's derivatives differ at zero."""

    def __init__(self, prelu: nn.PReLU) -> None:
        super().__init__()
        self.weight = prelu.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.weight * x)


@case()
def later_zeros_before_prelu() -> Situation:
    prelu = nn.PReLU(5)
    model = _unsure(prelu)
    truth = nn.Sequential(model[0], Bent(prelu), model[2])
    return Situation(model, cut(*later(), 12), truth=truth)


class RunningLogSum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.logcumsumexp(1)


@case(hess="either")
def later_numbers_that_are_large() -> Situation:
    x, y = later()
    x[20], x[25] = 1e3 * torch.randn(4), 1e4 * torch.randn(4)
    return Situation(_unsure(RunningLogSum()), cut(x, y, 12))
