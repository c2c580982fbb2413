"""Hess, G and H as operators, against explicit matrices had another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests import oracles
from tests.cases import CASES, Problem
from tests.curvature.conftest import Solved
from tests.oracles import apart
from workbench.curvature.problem.cross_entropy import probabilities
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.products.forward_mode import BLOCK
from workbench.curvature.products.operators import operators
from workbench.linalg.operator import LinearOperator


def ops_of(problem: Problem) -> dict[str, LinearOperator]:
    return operators(problem.model, problem.data, batch_size=problem.batch_size)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_hess_is_the_explicit_hessian(case: Solved) -> None:
    assert apart(case.matrices["Hess"], case.hess) < 1e-9


@pytest.mark.parametrize("name", [n for n, make in CASES.items() if make().smooth])
def test_hess_is_the_difference_of_gradients(name: str) -> None:
    problem = CASES[name]()
    vectors = torch.randn(problem.dim, 3, dtype=torch.float64, generator=seeded())
    found = ops_of(problem)["Hess"].matmat(vectors)
    expected = oracles.hessian_by_differences(problem) @ vectors
    assert apart(found, expected) < 1e-7


def test_g_is_the_explicit_gauss_newton_matrix(case: Solved) -> None:
    assert apart(case.matrices["G"], case.g) < 1e-12


def test_hess_is_the_sum_of_g_and_h(case: Solved) -> None:
    assert apart(case.matrices["G"] + case.matrices["H"], case.hess) < 1e-9


def test_the_trace_of_g_is_the_mean_squared_length_of_the_gradients(
    case: Solved,
) -> None:
    lengths = case.gradients.delta.square().sum() / len(case.problem.labels)
    assert abs(float(case.matrices["G"].trace() / lengths) - 1) < 1e-12


def test_logistic_regression_has_a_closed_form_and_no_residual() -> None:
    problem = CASES["linear"]()
    probs = probabilities(problem.model(problem.inputs).detach())
    expected = torch.zeros(problem.dim, problem.dim, dtype=torch.float64)
    num, width = problem.inputs.shape
    num_classes = probs.shape[1]
    for p, x in zip(probs, problem.inputs, strict=True):
        s = torch.diag(p) - torch.outer(p, p)
        weight = torch.kron(s, torch.outer(x, x))
        cross = torch.kron(s, x[:, None])
        expected += torch.cat(
            [torch.cat([weight, cross], 1), torch.cat([cross.T, s], 1)]
        )
    expected /= num
    assert expected.shape[0] == num_classes * (width + 1)
    ops = ops_of(problem)
    assert apart(ops["Hess"].to_dense(), expected) < 1e-12
    assert apart(ops["G"].to_dense(), expected) < 1e-12
    assert float(ops["H"].to_dense().abs().max()) == 0.0


@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
def test_a_block_of_any_width_gives_what_single_vectors_give(kind: str) -> None:
    problem = CASES["convolution"]()
    operator = ops_of(problem)[kind]
    width = BLOCK + 3
    vectors = torch.randn(problem.dim, width, dtype=torch.float64, generator=seeded())
    whole = operator.matmat(vectors)
    single = torch.stack([operator.matvec(v) for v in vectors.T], dim=1)
    assert whole.shape == (problem.dim, width)
    assert apart(whole, single) < 1e-12


@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
@pytest.mark.parametrize("name", ["batch_norm", "residual", "attention"])
def test_ragged_batches_give_what_one_batch_gives(name: str, kind: str) -> None:
    problem = CASES[name]()
    vector = torch.randn(problem.dim, 2, dtype=torch.float64, generator=seeded())
    expected = operators(problem.model, problem.data, batch_size=99)[kind]
    for batch_size in (1, 5, 7):
        found = operators(problem.model, problem.data, batch_size=batch_size)[kind]
        assert apart(found.matmat(vector), expected.matmat(vector)) < 1e-12


class Images:
    """What a `Dataset` of ours looks like from here."""

    def __init__(self, problem: Problem) -> None:
        self.images, self.labels = problem.data


FORMS: dict[str, Any] = {
    "dataset": Images,
    "pair": lambda p: p.data,
    "list": lambda p: [(p.inputs[:5], p.labels[:5]), (p.inputs[5:], p.labels[5:])],
    "loader": lambda p: DataLoader(TensorDataset(*p.data), batch_size=4),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_the_data_gives_the_same_operators(form: str) -> None:
    problem = CASES["unequal"]()
    found = operators(problem.model, FORMS[form](problem))["Hess"].to_dense()
    assert apart(found, oracles.hessian_by_autograd(problem)) < 1e-9


@pytest.mark.parametrize("name", ["unequal", "residual", "layer_norm", "attention"])
@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
def test_single_precision_gives_the_same_to_its_rounding(name: str, kind: str) -> None:
    exact = ops_of(CASES[name]())[kind].to_dense()
    problem = CASES[name]()
    operator = operators(problem.model.float(), problem.data)[kind]
    assert operator.dtype == torch.float32
    assert apart(operator.to_dense().double(), exact) < 1e-5


def test_scipy_multiplies_with_the_same_matrix() -> None:
    problem = CASES["ragged"]()
    operator = ops_of(problem)["G"]
    matrix, scipy = operator.to_dense().numpy(), operator.to_scipy()
    rng = np.random.default_rng(0)
    vector, block = rng.standard_normal(problem.dim), rng.standard_normal((67, 3))
    assert scipy.shape == (67, 67)
    np.testing.assert_allclose(scipy @ vector, matrix @ vector, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(scipy @ block, matrix @ block, rtol=1e-11, atol=1e-13)


def test_the_network_is_left_as_it_was() -> None:
    problem = CASES["batch_norm"]()
    model = problem.model.train()
    model[4].eval()  # type: ignore[operator, index]
    modes = [module.training for module in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    for operator in operators(model, problem.data).values():
        operator.matvec(torch.ones(problem.dim, dtype=torch.float64))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_in_train_mode_is_measured_in_eval_mode(case: Solved) -> None:
    problem = CASES[case.name]()
    problem.model.train()
    vector = torch.randn(problem.dim, dtype=torch.float64, generator=seeded())
    assert apart(ops_of(problem)["G"].matvec(vector), case.g @ vector) < 1e-12


class Reversed(torch.autograd.Function):
    """A user's operation that knows reverse mode only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * ctx.saved_tensors[0].cos()


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Reversed.apply(x)


UNSUPPORTED = {
    "reverse mode": lambda: nn.Sequential(nn.Linear(4, 5), Sine(), nn.Linear(5, 3)),
    "forward mode": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Linear(5, 3)
    ),
}


@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_layer_without_forward_mode_is_taken_in_steps_or_by_reverse_mode(
    name: str, kind: str
) -> None:
    model = UNSUPPORTED[name]().double()
    data = torch.randn(6, 4).double(), torch.arange(6) % 3
    operator = operators(model, data)[kind]
    p = Problem(model, *data)
    right = {"G": oracles.gauss_newton(p), "Hess": oracles.hessian_by_differences(p)}
    right["H"] = right["Hess"] - right["G"]
    assert apart(operator.to_dense(), right[kind]) < 1e-7
    assert operator.how.startswith(f"{name} (")


def test_ways_that_fail_leave_no_copy_of_the_weights_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies = []
    snapshot = EmpiricalRisk.snapshot

    def counted(risk: EmpiricalRisk) -> Any:
        copies.append(risk)
        return snapshot(risk)

    monkeypatch.setattr(EmpiricalRisk, "snapshot", counted)
    data = torch.randn(6, 4).double(), torch.arange(6) % 3
    g = operators(UNSUPPORTED["reverse mode"]().double(), data)["G"]
    g.matvec(torch.ones(g.dim).double())
    assert g.how.startswith("reverse mode (")  # three of forward mode were tried
    assert len(copies) == 1


@pytest.mark.peers
@pytest.mark.parametrize("name", ["unequal", "batch_norm", "residual"])
def test_curvlinops_gives_the_same_products(name: str) -> None:
    # Its Hessian is wrong for layer norm: reverse over forward, in torch to 2.14.
    from curvlinops import GGNLinearOperator, HessianLinearOperator

    problem = CASES[name]()
    data = list(
        zip(problem.inputs.split(5), problem.labels.split(5), strict=True)
    )  # ragged
    arguments = (
        problem.model,
        nn.CrossEntropyLoss(reduction="mean"),
        list(problem.parameters.values()),
        data,
    )
    vectors = torch.randn(problem.dim, 4, dtype=torch.float64, generator=seeded())
    ops = operators(problem.model, data)
    for kind, peer in (("G", GGNLinearOperator), ("Hess", HessianLinearOperator)):
        theirs = peer(*arguments, check_deterministic=False)  # type: ignore[arg-type]
        assert apart(ops[kind].matmat(vectors), theirs @ vectors) < 1e-10
