"""What a case of the zoo is, and the register that the other files fill."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

Expect = Literal["right", "refused", "either"]
ENTRIES = ("operators", "class_means", "gram", "exact_spectrum", "dual_operator")


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """What a person brings: a network, data, and the settings of the call."""

    model: Any
    data: Any
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    truth: nn.Module | None = None  # the same function written otherwise, for the
    # oracle, where plain autograd cannot go through the network itself
    examples: Iterable[Any] | None = None  # batches for the oracle; None: the data
    watch: Any = ()  # tensors that must stay as they are, where the data hide them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """How a situation is made, and what is expected of each entry."""

    name: str
    make: Callable[[], Situation]
    home: str = ""  # the file that it stands in
    expect: Expect = "right"
    but: Mapping[str, Expect] = field(default_factory=dict)  # for these entries
    entries: tuple[str, ...] = ENTRIES
    measured: bool = False  # `measure` of a checkpoint too: one float tensor comes in
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # the call
    hess: Expect = "right"  # of Hess and H, where G is right
    hess_oracle: Literal["double backward", "differences", "none"] = "double backward"
    hess_tol: float | None = None  # None: tol
    tol: float = 1e-9  # over the largest entry of the truth
    as_double: bool = False  # the oracle takes a float64 copy of network and inputs
    fresh: bool = False  # the oracle makes the network anew for each forward pass
    plain: bool = True  # mean cross-entropy of (B, C) logits, so N and n_c are known
    large: bool = False  # too many examples for their Jacobian: products alone

    def build(self) -> Situation:
        """The situation, always the same; layers are made in float64."""
        with quiet(), torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
            torch.manual_seed(0)
            return self.make()

    def expected(self, entry: str) -> Expect:
        """What this entry is to do."""
        return self.but.get(entry, self.expect)


CASES: dict[str, Case] = {}


def case(**options: Any) -> Callable[[Callable[[], Situation]], Callable[..., Any]]:
    """Register a function that makes a situation, under its name."""

    def register(make: Callable[[], Situation]) -> Callable[[], Situation]:
        name = make.__name__
        assert name not in CASES, name
        home = make.__module__.rpartition(".")[2]
        CASES[name] = Case(name=name, make=make, home=home, **options)
        return make

    return register


def family(
    makes: Mapping[str, Callable[[], nn.Module]],
    data: Callable[[], tuple[Any, Tensor]],
    measured: Iterable[str] = (),
    **options: Any,
) -> None:
    """Register several networks on the same data."""
    for name, make in makes.items():
        assert name not in CASES, name

        def situation(make: Callable[[], nn.Module] = make) -> Situation:
            return Situation(make(), data())

        CASES[name] = Case(
            name=name,
            make=situation,
            home=make.__module__.rpartition(".")[2],
            measured=name in measured,
            **options,
        )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Any:
    """Make tensors in this dtype unless told."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def quiet() -> Any:
    """What torch says of its own old parts is no concern of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def labels(num: int = 9, num_classes: int = 3) -> Tensor:
    """Class numbers in turn."""
    return torch.arange(num) % num_classes


def vectors(num: int = 9, width: int = 4) -> tuple[Tensor, Tensor]:
    """Random vectors of three classes."""
    return torch.randn(num, width), labels(num)


def images(num: int = 9, channels: int = 1, size: int = 6) -> tuple[Tensor, Tensor]:
    """Random images of three classes."""
    return torch.randn(num, channels, size, size), labels(num)


def sequences(num: int = 9, length: int = 5, width: int = 4) -> tuple[Tensor, Tensor]:
    """Random sequences of three classes."""
    return torch.randn(num, length, width), labels(num)


def tokens(num: int = 9, length: int = 5, vocabulary: int = 7) -> tuple[Tensor, Tensor]:
    """Random token numbers of three classes."""
    return torch.randint(0, vocabulary, (num, length)), labels(num)


def mlp(*inside: nn.Module, width: int = 5, num_classes: int = 3) -> nn.Sequential:
    """A linear layer, what is given or tanh, and a linear layer."""
    layers = inside or (nn.Tanh(),)
    return nn.Sequential(nn.Linear(4, width), *layers, nn.Linear(width, num_classes))


def pooled(*inside: nn.Module, width: int = 3) -> nn.Sequential:
    """Layers on images, then the mean of each channel and a linear layer."""
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))
    return nn.Sequential(*inside, *end)


def shaken(model: nn.Module) -> nn.Module:
    """Norms and biases away from zero and one, as after some training."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.5)
            if name.endswith("running_var"):
                buffer.uniform_(0.3, 2.0)
    return model


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)
