"""Precision, layout, and what torch is switched to around the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.zoo.case import (
    CASES,
    Call,
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


@contextmanager
def set_around(change: Callable[[Any], Any], value: Any, back: Any) -> Iterator[None]:
    """A setting of torch, and back."""
    change(value)
    try:
        yield
    finally:
        change(back)


@contextmanager
def hooked_everywhere() -> Iterator[None]:
    """Every module is called with a hook that only looks, forwards and backwards."""
    register = torch.nn.modules.module
    looks: Any = lambda *_: None  # noqa: E731
    handles = [
        register.register_module_forward_hook(looks),
        register.register_module_full_backward_hook(looks),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Looks(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


MORE: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "with_another_default_device": lambda: set_around(
        torch.set_default_device, "meta", None
    ),
    "with_rough_products": lambda: set_around(
        torch.set_float32_matmul_precision, "medium", "highest"
    ),
    "with_deterministic_algorithms": lambda: set_around(
        torch.use_deterministic_algorithms, True, False
    ),
    "with_bfloat16_by_default": lambda: default_dtype(torch.bfloat16),
    "with_a_function_mode": Looks,
    "with_what_is_saved_on_the_cpu": torch.autograd.graph.save_on_cpu,
    "with_hooks_on_every_module": hooked_everywhere,
}
for name, around in MORE.items():
    CASES[name] = Case(
        name=name,
        make=_convolutions,
        around=around,
        tol=1e-4,
        as_double=True,
        entries=("operators", "class_means", "gram"),
    )


@contextmanager
def tripled_layers() -> Iterator[None]:
    """A linear layer is another function, on its class."""
    old = nn.Linear.forward
    nn.Linear.forward = lambda self, x: 3 * old(self, x)  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Linear.forward = old  # type: ignore[method-assign]


@case(around=tripled_layers)
def layers_patched_on_their_class() -> Situation:
    model, times = mlp(), Call(lambda x: 3 * x)
    truth = nn.Sequential(model[0], times, model[1], model[2], times)
    return Situation(model, vectors(), truth=truth)


class Rotated(nn.Module):
    """Turned by complex factors, as positions are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 4), nn.Linear(4, 3)
        angles = torch.tensor([0.5, 1.3])
        self.register_buffer("turn", torch.polar(torch.ones(2), angles))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        wide = h.float() if h.dtype in (torch.bfloat16, torch.float16) else h
        turned = torch.view_as_complex(wide.unflatten(1, (2, 2))) * self.turn
        return self.o(torch.view_as_real(turned).flatten(1).to(h.dtype).tanh())


@case(tol=1e-4)
def complex_buffer_in_half_precision() -> Situation:
    model, truth = Rotated(), Rotated()
    for p in model.parameters():
        p.data = p.data.bfloat16()
    truth.load_state_dict(model.state_dict())
    x, y = vectors()
    x = x.bfloat16()
    return Situation(model, (x, y), truth=truth, examples=[(x.double(), y)])


@case(expect="refused", entries=("operators", "gram"))
def autocast_in_the_forward_pass() -> Situation:
    class Mixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            with autocast():
                return super().forward(x).float()

    return Situation(Mixed().float(), (vectors()[0].float(), labels()))
