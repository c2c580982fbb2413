"""Networks that keep something from a pass: caches by shape, of weights, of modes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.zoo.case import Situation, case, family, vectors
from tests.zoo.forwards import Net


class Positions(Net):
    """Encodings by shape, made in the first pass and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def between(self, h: Tensor) -> Tensor:
        key = tuple(h.shape[1:])
        if key not in self.kept:
            self.kept[key] = torch.arange(h.shape[1], dtype=h.dtype).sin()
        return h + self.kept[key]


class LazyPositions(Net):
    positions: Tensor | None = None

    def between(self, h: Tensor) -> Tensor:
        if self.positions is None:
            self.positions = torch.arange(h.shape[1], dtype=h.dtype).sin()
        return (h + self.positions).tanh()


class LazyBuffer(Net):
    def between(self, h: Tensor) -> Tensor:
        if not hasattr(self, "positions"):
            positions = torch.arange(h.shape[1], dtype=h.dtype).sin()
            self.register_buffer("positions", positions, persistent=False)
        return (h + self.positions).tanh()


class KeptPerBatch(Net):
    """A mask kept for the size of the batch that came first."""

    mask: Tensor | None = None

    def between(self, h: Tensor) -> Tensor:
        if self.mask is None or self.mask.shape != h.shape:
            self.mask = torch.linspace(0.5, 1, 5, dtype=h.dtype).expand_as(h)
        return h * self.mask


class KeptWeight(Net):
    """LeViT's: a function of a parameter, made in the first pass and kept."""

    kept: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(5))

    def between(self, h: Tensor) -> Tensor:
        if self.kept is None or self.training:
            self.kept = self.bias.tanh()
        return h * self.kept


family(
    {
        "positions_kept_by_shape": Positions,
        "positions_made_in_the_first_pass": LazyPositions,
        "a_buffer_made_in_the_first_pass": LazyBuffer,
        "a_mask_kept_for_a_batch": KeptPerBatch,
        "a_function_of_a_parameter_kept": KeptWeight,
    },
    vectors,
    fresh=True,
)


@case(expect="either")
def a_function_of_a_parameter_kept_without_its_graph() -> Situation:
    """Somebody took the accuracy first: plain autograd no longer sees the bias."""
    model = KeptWeight().eval()
    with torch.no_grad():
        model(vectors()[0])
    return Situation(model, vectors())


@case()
def positions_kept_from_inference_mode() -> Situation:
    model = LazyPositions().eval()
    x, y = vectors()
    with torch.inference_mode():
        model(x)
    truth = LazyPositions()
    truth.load_state_dict(model.state_dict())
    return Situation(model, (x, y), truth=truth)


class KeptIn(KeptWeight):
    """The same, kept where ``where`` says, once for each ``key``."""

    def __init__(
        self, where: Any, key: Callable[[Tensor], Any] = lambda h: "w"
    ) -> None:
        super().__init__()
        self.where, self.key = where, key

    def between(self, h: Tensor) -> Tensor:
        held, key = self.where(self), self.key(h)
        if key not in held:
            held[key] = self.bias.tanh()
        return h * held[key]


def _in_an_object() -> nn.Module:
    model = KeptIn(lambda self: vars(self.memory))
    model.memory = SimpleNamespace()
    return model


def _in_a_dictionary_of_dictionaries() -> nn.Module:
    model = KeptIn(lambda self: self.memory["layer"])
    model.memory = {"layer": {}}
    return model


def _outside() -> nn.Module:
    memory: dict[Any, Tensor] = {}
    return KeptIn(lambda self: memory)


def _outside_by_the_size_of_the_batch() -> nn.Module:
    memory: dict[Any, Tensor] = {}
    return KeptIn(lambda self: memory, key=len)


class MovesTensor(Net):
    """A tensor that is no buffer, and an array, change in each pass, used by none."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.array = torch.zeros(()), np.zeros(2)

    def between(self, h: Tensor) -> Tensor:
        self.passes += 1
        self.array += 1
        return h


class WrittenCache(Net):
    """As a cache of keys and values: a buffer is written to, graph and all."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(9, 5))

    def between(self, h: Tensor) -> Tensor:
        self.cache[: len(h)] = h
        return self.cache[: len(h)].tanh()


family(
    {
        "a_function_of_a_parameter_kept_in_an_object": _in_an_object,
        "a_function_of_a_parameter_kept_deeper": _in_a_dictionary_of_dictionaries,
        "a_function_of_a_parameter_kept_outside": _outside,
        "a_function_of_a_parameter_kept_outside_by_the_size_of_the_batch": (
            _outside_by_the_size_of_the_batch
        ),
        "a_tensor_and_an_array_that_move": MovesTensor,
        "a_buffer_written_to_with_a_graph": WrittenCache,
    },
    vectors,
    fresh=True,
    entries=("operators", "class_means", "gram"),
)


class UsedTensor(Net):
    """A tensor that moves and is used."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = torch.zeros(())

    def between(self, h: Tensor) -> Tensor:
        self.passes += 1
        return h * (1 + 0.1 * self.passes)


class NumpyNoise(Net):
    """One number for the whole batch, from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.source = np.random.default_rng(0)

    def between(self, h: Tensor) -> Tensor:
        return h + self.source.standard_normal()


class SamePlace(Net):
    """Random logits, written to the same place in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.out = torch.zeros(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = nn.functional.dropout(super().forward(x), 0.3)
        return f if f.requires_grad else self.out[: len(f)].copy_(f)


class Observed(Net):
    """A quantiser whose range is that of the activations so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def between(self, h: Tensor) -> Tensor:
        self.largest.copy_(self.largest.maximum(h.detach().abs().max()))
        scale = self.largest / 127
        return h + ((h / scale).round() * scale - h).detach()


family(
    {
        "a_tensor_that_moves_and_is_used": UsedTensor,
        "noise_of_a_numpy_generator": NumpyNoise,
        "random_logits_in_one_place": SamePlace,
        "a_quantiser_that_observes": Observed,
    },
    vectors,
    expect="refused",
    entries=("operators", "gram"),
)
