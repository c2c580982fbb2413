"""Every loss with a closed-form curvature, in every shape, to 1e-9 of the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.zoo.case import default_dtype
from tests.zoo.judge import close
from tests.zoo.oracle import Oracle, terms

TOL = 1e-9
NUM = 7
BATCHES = (4, 1, 2)  # unequal, so that a mean of means is another number
CROSS = nn.CrossEntropyLoss
WEIGHT = torch.tensor([0.5, 2.0, 1.3], dtype=torch.float64)


class Shaped(nn.Module):
    """A small network with outputs of any shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(2, 3), nn.Linear(3, prod(shape))
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.tanh(self.a(x))).view(len(x), *self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """A loss, the shape of one example's outputs, and how its targets are made."""

    loss: str | nn.Module
    shape: tuple[int, ...]
    targets: Callable[[tuple[int, ...]], Tensor]

    def problem(self) -> tuple[nn.Module, Tensor, Tensor]:
        """Network, inputs and targets, always the same."""
        with torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
            torch.manual_seed(0)
            model = Shaped(self.shape)
            x = torch.randn(NUM, 2)
            return model, x, self.targets((NUM, *self.shape))


def hard(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, shape[1], (shape[0], *shape[2:]))


def some_ignored(shape: tuple[int, ...]) -> Tensor:
    """The whole batch of one among them."""
    y = hard(shape)
    flat = y.view(shape[0], -1)
    flat[0], flat[4], flat[5, 0] = -100, -100, -100
    return y


def first_ignored(shape: tuple[int, ...]) -> Tensor:
    """With another number for it, one that is a class."""
    return hard(shape)


def soft(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape).softmax(1)


def unnormalised(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape)


def numbers(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape)


def zero_or_one(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 2, shape).double()


def whole_zero_or_one(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 2, shape)


def shares(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape)


LOSSES: dict[str, Loss] = {}
for _shape in ((3,), (3, 2), (3, 2, 2)):
    for _words, _options, _targets in (
        ("plain", {}, hard),
        ("summed", {"reduction": "sum"}, hard),
        ("weighted", {"weight": WEIGHT}, hard),
        ("weighted and summed", {"weight": WEIGHT, "reduction": "sum"}, hard),
        ("ignoring", {}, some_ignored),
        ("ignoring a class", {"ignore_index": 1}, first_ignored),
        ("weighted and ignoring", {"weight": WEIGHT}, some_ignored),
        ("smoothed", {"label_smoothing": 0.2}, hard),
        ("smoothed and weighted", {"label_smoothing": 0.2, "weight": WEIGHT}, hard),
        (
            "everything",
            {"label_smoothing": 0.2, "weight": WEIGHT, "reduction": "sum"},
            some_ignored,
        ),
        ("smoothed and ignoring", {"label_smoothing": 0.1}, some_ignored),
        ("soft", {}, soft),
        ("soft and summed", {"reduction": "sum"}, soft),
        ("soft and weighted", {"weight": WEIGHT}, soft),
        ("soft and smoothed", {"label_smoothing": 0.2}, soft),
        ("soft but no distribution", {}, unnormalised),
    ):
        _options: dict[str, Any]
        LOSSES[f"cross-entropy {_shape}, {_words}"] = Loss(
            CROSS(**_options), _shape, _targets
        )
for _shape in ((), (1,), (3,), (2, 2)):
    LOSSES[f"square {_shape}"] = Loss("mse", _shape, numbers)
    LOSSES[f"square {_shape}, summed"] = Loss(
        nn.MSELoss(reduction="sum"), _shape, numbers
    )
    LOSSES[f"binary {_shape}"] = Loss("bce", _shape, zero_or_one)
    LOSSES[f"binary {_shape}, summed"] = Loss(
        nn.BCEWithLogitsLoss(reduction="sum"), _shape, shares
    )
LOSSES |= {
    "binary (3,), positives weighted": Loss(
        nn.BCEWithLogitsLoss(pos_weight=WEIGHT), (3,), zero_or_one
    ),
    "binary (1,), positives weighted": Loss(
        nn.BCEWithLogitsLoss(pos_weight=WEIGHT[1:2]), (1,), zero_or_one
    ),
    "binary (1,), whole labels": Loss("bce", (1,), whole_zero_or_one),
    "binary (), whole labels": Loss("bce", (), whole_zero_or_one),
    "cross-entropy by name": Loss("cross_entropy", (3,), hard),
    "mean square of an instance": Loss(nn.MSELoss(), (3,), numbers),
}


def as_torch(loss: str | nn.Module, f: Tensor, y: Tensor) -> Tensor:
    """The loss of all examples as one batch, by torch."""
    named = {"cross_entropy": CROSS(), "mse": nn.MSELoss()}
    made = named.get(loss, nn.BCEWithLogitsLoss()) if isinstance(loss, str) else loss
    if isinstance(made, nn.BCEWithLogitsLoss):
        y = y.to(f.dtype)
    return made(f, y)


@pytest.mark.parametrize("name", LOSSES)
def test_the_oracles_closed_forms_are_the_derivatives_of_torchs_loss(name: str) -> None:
    case = LOSSES[name]
    model, x, y = case.problem()
    f = model(x).detach().requires_grad_()
    found = terms(case.loss, list(f), list(y))
    (gradient,) = torch.autograd.grad(as_torch(case.loss, f, y), f)
    hessian = torch.autograd.functional.hessian(lambda f: as_torch(case.loss, f, y), f)
    blocks = hessian.reshape(NUM, f[0].numel(), NUM, f[0].numel())
    for i, curvature in enumerate(found):
        close(curvature.residual, gradient[i].flatten(), 1e-12, "residual", 1.0)
        close(curvature.hessian, blocks[i, :, i], 1e-12, "curvature", 1.0)


def split(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(BATCHES), y.split(BATCHES), strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_g_h_and_hess_are_those_of_the_loss_over_all_the_data(name: str) -> None:
    case = LOSSES[name]
    model, x, y = case.problem()
    oracle = Oracle(lambda: model, (x, y), loss=case.loss)
    eye = torch.eye(oracle.dim, dtype=torch.float64)
    right = {"G": oracle.g, "H": oracle.h_times(eye)}
    right["Hess"] = right["G"] + right["H"]
    size = float(right["Hess"].abs().max())
    operators = wb.operators(model, split(x, y), loss=case.loss)
    for kind, matrix in right.items():
        close(operators[kind].to_dense(), matrix, TOL, kind, size)


@pytest.mark.parametrize("name", LOSSES)
def test_the_spectrum_of_g_is_that_of_the_loss(name: str) -> None:
    case = LOSSES[name]
    model, x, y = case.problem()
    right = Oracle(lambda: model, (x, y), loss=case.loss).eigenvalues
    found = {
        "exact": wb.exact_spectrum(model, split(x, y), loss=case.loss).values,
        "dual": torch.linalg.eigvalsh(
            wb.dual_operator(model, split(x, y), loss=case.loss).to_dense()
        ).flip(0),
    }
    inner = torch.linalg.eigvalsh(wb.gram(model, split(x, y), loss=case.loss).matrix)
    found["gram"] = inner.flip(0) / inner.sum() * right.sum()  # up to its constant
    for name, values in found.items():
        num = max(len(values), len(right))
        both = [torch.cat([v, v.new_zeros(num - len(v))]) for v in (values, right)]
        close(both[0], both[1], TOL, name)


def test_examples_that_are_ignored_might_as_well_be_left_out() -> None:
    model, x, y = LOSSES["cross-entropy (3,), ignoring"].problem()
    there = y != -100
    v = torch.linspace(-1, 1, sum(p.numel() for p in model.parameters())).double()
    whole = wb.operators(model, split(x, y), loss=CROSS())["Hess"].matvec(v)
    kept = wb.operators(model, (x[there], y[there]))["Hess"].matvec(v)
    close(whole, kept, TOL, "Hess v")


def test_a_binary_logit_is_a_softmax_of_two() -> None:
    model, x, y = LOSSES["binary (1,), whole labels"].problem()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = model

        def forward(self, x: Tensor) -> Tensor:
            f = self.inside(x)
            return torch.cat([torch.zeros_like(f), f], dim=1)

    v = torch.linspace(-1, 1, sum(p.numel() for p in model.parameters())).double()
    for kind in ("G", "Hess", "H"):
        one = wb.operators(model, (x, y), loss="bce")[kind].matvec(v)
        two = wb.operators(Two(), (x, y[:, 0]))[kind].matvec(v)
        close(one, two, TOL, kind, 1.0)


def test_a_vocabulary_of_thirty_thousand_fits() -> None:
    """(B, T, C, C) numbers would be 7 GB."""
    vocabulary, tokens = 30_000, torch.randint(0, 30_000, (1, 2))
    model = nn.Sequential(nn.Embedding(vocabulary, 1), nn.Linear(1, vocabulary))
    model[0].weight.requires_grad_(False)
    operators = wb.operators(
        model.double(),
        (tokens, tokens.flip(1)),
        loss=CROSS(),
        outputs=lambda f: f.transpose(1, 2),
    )
    v = torch.randn(2 * vocabulary, dtype=torch.float64)
    f = model(tokens)
    parameters = list(model[1].parameters())
    w = torch.zeros_like(f, requires_grad=True)
    pulled = torch.autograd.grad(f, parameters, w, create_graph=True)
    inner = torch.cat([g.flatten() for g in pulled]) @ v
    jv = torch.autograd.grad(inner, w, retain_graph=True)[0]
    p = f.detach().softmax(2)
    u = p * (jv - (p * jv).sum(2, keepdim=True)) / 2
    right = torch.cat([g.flatten() for g in torch.autograd.grad(f, parameters, u)])
    close(operators["G"].matvec(v), right, TOL, "G v")
