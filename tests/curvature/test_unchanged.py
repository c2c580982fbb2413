"""Operators are of the network and data that they were made of, or refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.zoo.case import mlp, shaken, vectors
from workbench.errors import WorkbenchError
from workbench.linalg.operator import LinearOperator

Change = Callable[[nn.Module, Tensor], None]


def bound(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, LinearOperator]:
    """Operators, of which one has been used."""
    found = wb.operators(model, (x, y))
    found["G"].matvec(torch.ones(found["G"].dim, dtype=torch.float64))
    return found


def network() -> nn.Module:
    return shaken(mlp(nn.BatchNorm1d(5), nn.Tanh())).double().eval()


def data() -> tuple[Tensor, Tensor]:
    x, y = vectors(12)
    return x.double(), y


def a_step(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    model(x).square().sum().backward()
    optimizer.step()


def other_weights(model: nn.Module, x: Tensor) -> None:
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})


def other_memory(model: nn.Module, x: Tensor) -> None:
    for p in model.parameters():
        p.data = p.data * 1.5


def other_statistics(model: nn.Module, x: Tensor) -> None:
    model.train()(5 * x)


def other_parameter(model: nn.Module, x: Tensor) -> None:
    model[0].bias = nn.Parameter(model[0].bias.detach() + 1)


def other_inputs(model: nn.Module, x: Tensor) -> None:
    x.mul_(2)


@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
@pytest.mark.parametrize(
    "change",
    [
        a_step,
        other_weights,
        other_memory,
        other_statistics,
        other_parameter,
        other_inputs,
    ],
)
def test_products_after_a_change_are_refused(change: Change, kind: str) -> None:
    model, (x, y) = network(), data()
    found = bound(model, x, y)
    change(model, x)
    with pytest.raises(WorkbenchError, match="has changed since it was bound"):
        found[kind].matvec(torch.ones(found[kind].dim, dtype=torch.float64))


def test_the_dual_is_of_one_network_too() -> None:
    model, (x, y) = network(), data()
    dual = wb.dual_operator(model, (x, y))
    a_step(model, x)
    with pytest.raises(WorkbenchError, match="has changed since it was bound"):
        dual.matvec(torch.ones(dual.dim, dtype=torch.float64))


def same_weights(model: nn.Module, x: Tensor) -> None:
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})


def same_in_other_memory(model: nn.Module, x: Tensor) -> None:
    for p in model.parameters():
        p.data = p.data.clone()


def a_pass(model: nn.Module, x: Tensor) -> None:
    model.train(False)(x)


@pytest.mark.parametrize("change", [same_weights, same_in_other_memory, a_pass])
def test_what_leaves_the_numbers_is_no_change(change: Change) -> None:
    model, (x, y) = network(), data()
    found = bound(model, x, y)
    v = torch.ones(found["H"].dim, dtype=torch.float64)
    before = found["H"].matvec(v)
    change(model, x)
    assert torch.equal(found["H"].matvec(v), before)
