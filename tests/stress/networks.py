"""Networks and data sets at random: whatever layers fit together, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tests.cases import Problem, problem

SMOOTH = {"tanh": nn.Tanh, "silu": nn.SiLU, "softplus": nn.Softplus, "gelu": nn.GELU}
KINKED = {"relu": nn.ReLU, "leaky": nn.LeakyReLU}


class Added(nn.Module):
    """A residual block."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Attend(nn.Module):
    """Self-attention of one head over tokens (B, T, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)[:, None].chunk(3, dim=-1)
        return scaled_dot_product_attention(q, k, v)[:, 0]


class MeanToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


Layers = list[Callable[[], nn.Module]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A small network of any of three kinds, with its data."""
    counts = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    kind = draw(st.sampled_from(["flat", "image", "tokens"]))
    activation = draw(st.sampled_from(sorted(SMOOTH) + sorted(KINKED)))
    act = {**SMOOTH, **KINKED}[activation]
    make = {"flat": _flat, "image": _image, "tokens": _tokens}[kind]
    shape, layers, width = make(draw, act)
    layers.append(lambda: nn.Linear(width, len(counts), bias=draw_bias))
    draw_bias = draw(st.booleans())
    factor = draw(st.sampled_from([0.3, 1.0, 3.0]))
    found = problem(
        lambda: nn.Sequential(*(layer() for layer in layers)),
        shape,
        counts,
        batch_size=draw(st.integers(-(-sum(counts) // 3), sum(counts) + 3)),
        smooth=activation in SMOOTH,
        seed=draw(st.integers(0, 999)),
    )
    with torch.no_grad():  # surer, or less sure
        list(found.model)[-1].weight.mul_(factor)  # type: ignore[call-overload]
    names = list(found.parameters)
    for name in draw(st.lists(st.sampled_from(names), max_size=2, unique=True)):
        if len(found.parameters) > 1:
            found.model.get_parameter(name).requires_grad_(False)
    return found


def _flat(draw: st.DrawFn, act: type[nn.Module]) -> tuple[tuple[int, ...], Layers, int]:
    widths = draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
    layers: Layers = []
    for fan_in, fan_out in pairwise(widths):
        bias = draw(st.booleans())
        layers.append(lambda i=fan_in, o=fan_out, b=bias: nn.Linear(i, o, bias=b))
        layers += _norms(draw, fan_out, nn.BatchNorm1d)
        layers.append(act)
        if draw(st.booleans()):
            layers.append(
                lambda w=fan_out: Added(nn.Sequential(nn.Linear(w, w), act()))
            )
    return (widths[0],), layers, widths[-1]


def _image(
    draw: st.DrawFn, act: type[nn.Module]
) -> tuple[tuple[int, ...], Layers, int]:
    channels = draw(st.lists(st.sampled_from([1, 2, 4]), min_size=2, max_size=3))
    shape = (channels[0], draw(st.integers(3, 5)), draw(st.integers(3, 5)))
    layers: Layers = []
    for fan_in, fan_out in pairwise(channels):
        size, stride = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
        options = {
            "stride": stride,
            "padding": 1,
            "bias": draw(st.booleans()),
            "groups": draw(st.sampled_from([1, min(fan_in, fan_out)])),
            "padding_mode": draw(st.sampled_from(["zeros", "zeros", "circular"])),
        }
        layers.append(
            lambda i=fan_in, o=fan_out, s=size, k=options: nn.Conv2d(i, o, s, **k)
        )
        if draw(st.booleans()):
            layers.append(lambda w=fan_out: nn.BatchNorm2d(w))
        layers.append(act)
        if draw(st.booleans()):
            layers.append(
                lambda w=fan_out: Added(nn.Conv2d(w, w, 3, padding=1, bias=False))
            )
    layers += [lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten]
    return shape, layers, channels[-1]


def _tokens(
    draw: st.DrawFn, act: type[nn.Module]
) -> tuple[tuple[int, ...], Layers, int]:
    width, length = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    layers: Layers = []
    for _ in range(draw(st.integers(1, 2))):
        layer: Sequence[Callable[[], nn.Module]] = [
            lambda: Added(Attend(width)),
            lambda: Added(nn.Sequential(nn.Linear(width, width), act())),
            lambda: nn.LayerNorm(width),
        ]
        layers.append(draw(st.sampled_from(layer)))
    return (length, width), [*layers, MeanToken], width


def _norms(
    draw: st.DrawFn, width: int, batch_norm: Callable[[int], nn.Module]
) -> Layers:
    kind = draw(st.sampled_from(["none", "batch", "layer"]))
    if kind == "batch":
        return [lambda: batch_norm(width)]
    if kind == "layer":
        return [lambda: nn.LayerNorm(width)]
    return []
