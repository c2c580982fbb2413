"""Each entry of the public interface answers each fault by one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.cases import CASES
from tests.oracles import apart
from workbench.curvature.gram.assembly import gram
from workbench.curvature.gram.exact import exact_spectrum
from workbench.curvature.means.class_means import class_means
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.products.dual import dual_operator
from workbench.curvature.products.operators import operators
from workbench.errors import WorkbenchError
from workbench.linalg.lanczos import top_eigenpairs
from workbench.measurement.measurement import MeasureSettings
from workbench.measurement.plan import plan

ENTRIES: dict[str, Callable[..., Any]] = {
    "operators": operators,
    "class_means": class_means,
    "gram": gram,
    "empirical_risk": empirical_risk,
    "dual_operator": dual_operator,
    "exact_spectrum": exact_spectrum,
    "plan": lambda model, data, device="auto": plan(
        model, data, MeasureSettings(device=device)
    ),
}


def _nan(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Any, Any]:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = torch.nan
    return model, (x, y)


def _frozen(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Any, Any]:
    return model.requires_grad_(False), (x, y)


class _Random(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.inside(x), 0.5, training=True)


FAULTS: dict[str, tuple[Callable[..., tuple[Any, Any]], str]] = {
    "NaN weights": (_nan, "hold NaN or infinite weights"),
    "a class missing": (
        lambda model, x, y: (model, (x[y != 1], y[y != 1])),
        r"classes \[1\] have no example",
    ),
    "a frozen network": (_frozen, "no parameter that requires a gradient"),
    "no parameter": (
        lambda model, x, y: (nn.Flatten(), (x, y)),
        "no parameter that requires a gradient",
    ),
    "an infinite input": (
        lambda model, x, y: (model, (x / 0, y)),
        "hold NaN or infinity",
    ),
    "no example": (lambda model, x, y: (model, (x[:0], y[:0])), "hold no example"),
    "a generator": (
        lambda model, x, y: (model, iter([(x, y)])),
        "cannot be gone through several times",
    ),
    "train-mode dropout": (
        lambda model, x, y: (_Random(model), (x, y)),
        "different logits in eval mode",
    ),
    "float labels": (
        lambda model, x, y: (model, (x, y.double())),
        "expected whole class numbers",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_bad_input_gets_one_sentence_at_the_border(entry: str, fault: str) -> None:
    problem = CASES["unequal"]()
    make, words = FAULTS[fault]
    model, data = make(problem.model, problem.inputs, problem.labels)
    if fault == "a class missing" and entry not in ("class_means", "plan"):
        ENTRIES[entry](model, data)  # no class is looked at
        return
    with pytest.raises(WorkbenchError, match=words) as caught:
        ENTRIES[entry](model, data)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("device", ["abacus", "cuda"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_device_that_is_not_there_gets_one_sentence(entry: str, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    problem = CASES["unequal"]()
    words = f"device '{device}' is not available on this machine"
    with pytest.raises(WorkbenchError, match=words) as caught:
        ENTRIES[entry](problem.model, problem.data, device=device)
    assert "\n" not in str(caught.value)


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    problem = CASES["unequal"]()
    whole = operators(problem.model, problem.data)["Hess"].to_dense()
    large = operators(problem.model, problem.data, batch_size=10**6)["Hess"].to_dense()
    assert apart(large, whole) < 1e-12


class _Once(torch.autograd.Function):
    """Its backward pass cannot be differentiated, and it has no forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * (1 - ctx.saved_tensors[0].tanh().square())


class _OnceOnly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Once.apply(x)


@pytest.mark.parametrize("kind", ["G", "Hess", "H"])
def test_a_layer_without_a_second_derivative_is_taken_by_first_ones(kind: str) -> None:
    problem = CASES["unequal"]()
    layers = list(problem.model)  # type: ignore[call-overload]
    once, twice = (
        operators(nn.Sequential(layers[0], tanh, *layers[2:]), problem.data)[kind]
        for tanh in (_OnceOnly(), nn.Tanh())
    )
    assert apart(once.to_dense(), twice.to_dense()) < 1e-7
    way = "reverse mode" if kind == "G" else "differences of gradients"
    assert once.how.startswith(way)
    assert top_eigenpairs(once, 2).status == "converged"
