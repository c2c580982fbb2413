"""Per-example gradients: the factored path against one backward pass a number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.cases import CASES, Problem
from tests.curvature.conftest import Solved
from tests.oracles import apart
from workbench.curvature.gram.layer_gradients import (
    gradient_rows,
    layer_gradients,
    layer_groups,
)
from workbench.curvature.gram.rows import LayerGradients
from workbench.curvature.problem.binding import empirical_risk

FACTORED = {"linear", "unequal", "ragged", "convolution", "residual", "two_classes"}


def cotangents(problem: Problem, num: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (len(problem.inputs), problem.num_classes, num)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def rows_one_by_one(problem: Problem, columns: Tensor) -> Tensor:
    parameters = list(problem.parameters.values())
    rows = []
    for x, block in zip(problem.inputs, columns, strict=True):
        logits = problem.model(x[None])[0]
        for column in block.T:
            grads = torch.autograd.grad(
                logits, parameters, column, retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows).reshape(len(columns), columns.shape[2], -1)


def test_rows_are_the_gradients_of_each_example(case: Solved) -> None:
    problem = case.problem
    columns = cotangents(problem)
    found = gradient_rows(case.risk, problem.inputs, columns)
    assert apart(found, rows_one_by_one(problem, columns)) < 1e-12


def test_rows_of_one_example_are_those_it_has_among_others(case: Solved) -> None:
    problem = case.problem
    columns = cotangents(problem)
    together = gradient_rows(case.risk, problem.inputs, columns)
    alone = gradient_rows(case.risk, problem.inputs[3:4], columns[3:4])
    assert apart(alone[0], together[3]) < 1e-12


def test_squared_lengths_are_those_of_the_rows(case: Solved) -> None:
    problem = case.problem
    columns = cotangents(problem)
    expected = rows_one_by_one(problem, columns).square().sum(2)
    layers = layer_gradients(case.risk, problem.inputs, columns)
    assert apart(sum(layer.squared_norms() for layer in layers), expected) < 1e-12


def test_each_parameter_comes_once_and_as_its_group_says(case: Solved) -> None:
    problem = case.problem
    layers = list(layer_gradients(case.risk, problem.inputs, cotangents(problem)))
    names = [name for layer in layers for name in layer.names]
    assert sorted(names) == sorted(problem.parameters)
    groups = layer_groups(case.risk)
    assert sorted(groups) == sorted(layer.names for layer in layers)
    for layer in layers:
        sizes = sum(problem.parameters[name].numel() for name in layer.names)
        assert layer.num_parameters == sizes == layer.rows().shape[2]


def test_only_the_layers_asked_for_come(case: Solved) -> None:
    problem = case.problem
    columns = cotangents(problem)
    for names in layer_groups(case.risk):
        layers = layer_gradients(case.risk, problem.inputs, columns, set(names))
        assert [layer.names for layer in layers] == [names]


@pytest.mark.parametrize("name", sorted(FACTORED))
def test_weights_of_linear_and_convolutional_layers_come_as_factors(name: str) -> None:
    problem = CASES[name]()
    risk = empirical_risk(problem.model, problem.data)
    layers = layer_gradients(risk, problem.inputs, cotangents(problem))
    factored = {n for layer in layers if layer.inputs is not None for n in layer.names}
    weights = {n for n, p in problem.parameters.items() if p.ndim > 1}
    assert weights <= factored


def test_rows_of_factors_are_sums_of_outer_products() -> None:
    inputs = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # one example, two positions
    outputs = torch.tensor([[[[1.0], [10.0]]]])  # one number, one output
    layer = LayerGradients(("weight", "bias"), inputs, outputs)
    expected = torch.tensor([[[1 + 30.0, 2 + 40.0, 1 + 10.0]]])
    assert torch.equal(layer.rows(), expected)
    assert float(layer.squared_norms()) == float(expected.square().sum())


def test_an_activation_in_place_does_not_change_what_is_kept() -> None:
    problem = CASES["batch_norm"]()
    columns = cotangents(problem)
    risk = empirical_risk(problem.model, problem.data)
    found = gradient_rows(risk, problem.inputs, columns)
    problem.model[2] = nn.ReLU(inplace=False)  # type: ignore[operator]
    assert torch.equal(gradient_rows(risk, problem.inputs, columns), found)


class Named(nn.Module):
    """Calls its layer by the argument's name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


class Unused(nn.Module):
    """A layer that is called and leads nowhere, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = nn.Linear(4, 2)
        self.idle = nn.Linear(4, 2)
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.dead(x)
        return self.layer(x)


class Routed(nn.Module):
    """Examples take one branch or the other by their values."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 3, dtype=x.dtype)
        go = x[:, 0] > 0
        if go.any():
            out[go] = self.left(x[go])
        if (~go).any():
            out[~go] = self.right(x[~go])
        return out


@pytest.mark.parametrize("build", [Named, Unused, Routed])
def test_unusual_networks_get_the_same_rows(build: type[nn.Module]) -> None:
    model = build().double()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    problem = Problem(model, inputs, torch.arange(6) % 3)
    columns = cotangents(problem)
    risk = empirical_risk(model, problem.data)
    found = gradient_rows(risk, inputs, columns)
    assert apart(found, rows_one_by_one(problem, columns)) < 1e-12
