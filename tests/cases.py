"""Small problems that between them hold every kind of layer and of data set.

Each is a function, so that a test gets its own network: ``CASES["residual"]()``. All in
float64, a hundred parameters or so, with weights that are not at a special point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

DOUBLE = torch.float64


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A network and its data."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    batch_size: int | None = None  # None: all at once
    smooth: bool = True  # no kinks, so that differences of gradients converge

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        return self.inputs, self.labels

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    @property
    def dim(self) -> int:
        return sum(p.numel() for p in self.parameters.values())


def problem(
    build: Callable[[], nn.Module],
    shape: tuple[int, ...],
    counts: tuple[int, ...],
    *,
    batch_size: int | None = None,
    smooth: bool = True,
    seed: int = 0,
) -> Problem:
    """Make a problem with ``counts[c]`` examples of class c, in a random order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:  # biases at zero, scales at one: too special
                    parameter += 0.3 * torch.randn_like(parameter)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.3, 2.0)
        labels = torch.repeat_interleave(
            torch.arange(len(counts)), torch.tensor(counts)
        )
        labels = labels[torch.randperm(len(labels))]
        inputs = torch.randn(len(labels), *shape, dtype=DOUBLE)
    return Problem(model, inputs, labels, batch_size, smooth)


class Residual(nn.Module):
    """A strided convolution with bias, then a block that is added in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        out = self.norm(self.second(x))
        out += x
        return self.last(self.relu(out).mean((2, 3)))


class Shared(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.twice = nn.Linear(5, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.first(x).tanh()).tanh()
        return self.last(self.twice(x).tanh())


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).tanh()).tanh())


class Outside(nn.Module):
    """A weight that is also used outside its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 5, bias=False)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.encode(x).tanh()
        return self.last(linear(hidden, self.encode.weight.T))


class Frozen(nn.Module):
    """Half of the parameters frozen; the trainable branch is added in place."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Linear(4, 6).requires_grad_(False)
        self.free = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.norm.bias.requires_grad_(False)
        self.last = nn.Linear(6, 3)
        self.last.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.fixed(x)
        out += self.free(x)
        return self.last(self.norm(out).tanh())


class Attention(nn.Module):
    """Self-attention over four tokens, as torch's module or by its function."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "function":
            self.attend = nn.Linear(4, 12)
        else:
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "function":
            q, k, v = self.attend(x)[:, None].chunk(3, dim=-1)
            x = scaled_dot_product_attention(q, k, v)[:, 0]
        else:
            x = self.attend(x, x, x, need_weights=False)[0]
        return self.last(x.mean(1))


class TimeFirst(nn.Module):
    """Layers whose first axis is the token: torch's default for transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.encode = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encode(self.first(x.transpose(0, 1))).mean(0))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 3, batch_first=True)
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(x)[0][:, -1])


def _mlp(sizes: tuple[int, ...], activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def _batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(inplace=True),
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip


def _convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, (2, 1), bias=False, dilation=(2, 1)), nn.Tanh(),
        nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip


def _odd_convolutions() -> nn.Module:
    """Those that the general path takes."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 2, groups=2), nn.Tanh(),
        nn.Conv2d(4, 2, 3, padding="same"), nn.Tanh(),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3),
    )  # fmt: skip


def _layer_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3), nn.LayerNorm(3)
    )


def _recomputed() -> nn.Module:
    """A weight that a hook computes before each use."""
    layer = nn.utils.spectral_norm(nn.Linear(4, 5), n_power_iterations=30)
    layer(torch.zeros(1, 4))  # lets the norm settle
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 3))


def lazy(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """Let the lazy layers see their input's shape."""
    model = build()
    model(torch.zeros(2, *shape))
    return model


EVEN = (4, 4, 4)
CASES: dict[str, Callable[[], Problem]] = {
    "linear": lambda: problem(lambda: nn.Linear(5, 4), (5,), (3, 3, 3, 3)),
    "unequal": lambda: problem(lambda: _mlp((4, 6, 5, 3), nn.Tanh), (4,), (2, 7, 4)),
    "ragged": lambda: problem(
        lambda: _mlp((4, 8, 3), nn.ReLU), (4,), (5, 3, 3), batch_size=4, smooth=False
    ),
    "batch_norm": lambda: problem(
        _batch_norm, (4,), (5, 4, 2), batch_size=10, smooth=False
    ),
    "convolution": lambda: problem(
        lambda: lazy(_convolution, (2, 5, 4)), (2, 5, 4), EVEN, smooth=False
    ),
    "odd_convolutions": lambda: problem(_odd_convolutions, (2, 4, 4), EVEN),
    "residual": lambda: problem(
        Residual, (1, 6, 5), (3, 5, 4), batch_size=5, smooth=False
    ),
    "shared": lambda: problem(Shared, (4,), EVEN),
    "tied": lambda: problem(Tied, (5,), EVEN),
    "outside": lambda: problem(Outside, (4,), EVEN),
    "frozen": lambda: problem(Frozen, (4,), EVEN),
    "layer_norm": lambda: problem(_layer_norm, (4,), EVEN),
    "two_classes": lambda: problem(lambda: _mlp((3, 5, 2), nn.Tanh), (3,), (6, 3)),
    "attention": lambda: problem(lambda: Attention("module"), (4, 4), EVEN),
    "attention_function": lambda: problem(lambda: Attention("function"), (4, 4), EVEN),
    "time_first": lambda: problem(
        TimeFirst, (4, 3), (5, 2, 2), batch_size=4, smooth=False
    ),
    "recurrent": lambda: problem(Recurrent, (4, 3), EVEN),
    "recomputed": lambda: problem(_recomputed, (4,), EVEN),
    "sure": lambda: sure(),
}


def sure() -> Problem:
    """Logits up to 25 apart: probabilities from 1e-11 to 1 - 1e-11."""
    found = problem(lambda: _mlp((4, 6, 3), nn.Tanh), (4,), (4, 3, 4))
    with torch.no_grad():
        last = found.model[2]  # type: ignore[index]
        last.weight *= 12
        last.bias *= 12
    return found
