"""Precision, layout, and what torch is switched to around the call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import (
    CASES,
    Case,
    Situation,
    case,
    default_dtype,
    images,
    labels,
    mlp,
    pooled,
    shaken,
    tokens,
    vectors,
)
from tests.zoo.forwards import Net
from tests.zoo.sequences import Words


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inside_autocast": autocast,
    "inside_inference_mode": torch.inference_mode,
    "inside_no_grad": torch.no_grad,
    "with_float64_by_default": lambda: default_dtype(torch.float64),
    "with_anomalies_looked_for": torch.autograd.set_detect_anomaly,
    "with_one_thread_of_autograd": lambda: torch.autograd.set_multithreading_enabled(
        False
    ),
}


def _convolutions() -> Situation:
    model = pooled(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    x, y = images()
    return Situation(shaken(model).float(), (x.float(), y))


for name, around in AROUND.items():
    options: dict[str, Any] = {"around": around, "tol": 1e-4, "as_double": True}
    if "anomalies" in name:
        options["around"] = lambda: torch.autograd.set_detect_anomaly(True)
    measured = name in ("inside_autocast", "inside_inference_mode", "inside_no_grad")
    CASES[name] = Case(name=name, make=_convolutions, measured=measured, **options)


def _half(dtype: torch.dtype) -> Situation:
    x, y = vectors()
    return Situation(mlp().to(dtype), (x.float(), y))


HALF: dict[str, Any] = {"tol": 1e-4, "as_double": True}


@case(**HALF)
def bfloat16() -> Situation:
    return _half(torch.bfloat16)


@case(**HALF)
def float16() -> Situation:
    return _half(torch.float16)


@case(**HALF)
def bfloat16_and_its_inputs() -> Situation:
    found = _half(torch.bfloat16)
    x, y = found.data
    return Situation(found.model, (x.bfloat16(), y))


@case(**HALF)
def float16_with_norms() -> Situation:
    x, y = images()
    model = shaken(pooled(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh()))
    return Situation(model.half(), (x.half(), y))


@case(entries=("operators", "exact_spectrum", "class_means"), tol=1e-4)
def token_numbers_that_half_precision_cannot_hold() -> Situation:
    """Float16 reads 2049 as 2048; only three rows of the embedding move."""

    class Cast(Words):
        def forward(self, t: Tensor) -> Tensor:
            return super().forward(t.long())

    model = Cast(nn.Embedding(2060, 1)).half()
    model.o = nn.Linear(1, 3).half()
    t = torch.tensor([[2049, 2051]] * 4 + [[2051, 2053]] * 5)
    truth = Cast(nn.Embedding(2060, 1))
    truth.o = nn.Linear(1, 3)
    truth.load_state_dict(model.state_dict())
    return Situation(model, (t, labels()), truth=truth)


@case(tol=1e-4, as_double=True, measured=True)
def float32() -> Situation:
    x, y = vectors()
    return Situation(mlp().float(), (x.float(), y))


@case(tol=1e-4)
def casts_to_float32_inside() -> Situation:
    class Casts(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float())

    return Situation(Casts().float(), (vectors()[0].float(), labels()))


@case(expect="either", tol=1e-4, as_double=True)
def inputs_of_another_precision() -> Situation:
    """Plain torch refuses; the values are the same in both."""
    x, y = vectors()
    return Situation(mlp().float(), (x.float().double(), y))


@case()
def whole_numbers_for_a_network_of_floats() -> Situation:
    class Casts(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(self.a.weight.dtype))

    return Situation(Casts(), (torch.randint(-3, 4, (9, 4)), labels()))


@case()
def tokens_of_32_bits() -> Situation:
    t, y = tokens()
    return Situation(Words(), (t.int(), y))


@case()
def inputs_channels_last() -> Situation:
    x, y = images(9, 2)
    model = pooled(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh())
    model = shaken(model).to(memory_format=torch.channels_last)
    return Situation(model, (x.to(memory_format=torch.channels_last), y))


@case()
def inputs_not_contiguous() -> Situation:
    x = torch.randn(4, 18).T[::2]
    return Situation(mlp(), (x, labels()))


@case()
def inputs_expanded() -> Situation:
    return Situation(mlp(), (torch.randn(1, 4).expand(9, 4), labels()))


@case()
def inputs_that_require_a_gradient() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x.requires_grad_(), y))


@case()
def inputs_made_in_inference_mode() -> Situation:
    with torch.inference_mode():
        x, y = vectors()
    return Situation(mlp(), (x, y), examples=[(x.clone(), y.clone())])


@case(expect="either")
def network_made_in_inference_mode() -> Situation:
    with torch.inference_mode():
        model = mlp()
    truth = mlp()
    truth.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    return Situation(model, vectors(), truth=truth)


@case()
def weights_not_contiguous() -> Situation:
    model = mlp()
    model[0].weight = nn.Parameter(torch.randn(4, 5).T)
    return Situation(model, vectors())


@case()
def check_before_all() -> Situation:
    return Situation(mlp(), vectors(), {"check": "full"})


@case()
def check_off() -> Situation:
    return Situation(mlp(), vectors(), {"check": "off"})


@case(expect="refused")
def check_unknown() -> Situation:
    return Situation(mlp(), vectors(), {"check": "sometimes"})


@case()
def batches_of_two() -> Situation:
    return Situation(mlp(), vectors(), {"batch_size": 2})


@case(expect="refused")
def batches_of_none() -> Situation:
    return Situation(mlp(), vectors(), {"batch_size": 0})
