"""Ways that are wrong in one place: none of them is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import apart
from workbench.curvature.products import layerwise
from workbench.curvature.products.forward_mode import General
from workbench.curvature.products.layerwise import LayerWise
from workbench.curvature.products.operators import KINDS, operators
from workbench.curvature.products.reverse_mode import Reverse
from workbench.curvature.products.way import Kind
from workbench.linalg.operator import LinearOperator

WAYS = {"layer by layer": LayerWise, "forward mode": General}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()


def ops() -> dict[str, LinearOperator]:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)).double()
    return operators(network(), (x, torch.arange(9) % 3))


def _in_blocks(product: Tensor) -> Tensor:
    return 1.01 * product if product.shape[1] > 1 else product


def _alone(product: Tensor) -> Tensor:
    return 1.01 * product if product.shape[1] == 1 else product


def _in_one_parameter(product: Tensor) -> Tensor:
    found = product.clone()
    found[:20] *= 1.01  # the first weights
    return found


def _in_the_second_vector(product: Tensor) -> Tensor:
    found = product.clone()
    found[:, 1:2] *= 1.01
    return found


def _nan(product: Tensor) -> Tensor:
    return product * torch.nan


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "in blocks": _in_blocks,
    "alone": _alone,
    "in one parameter": _in_one_parameter,
    "in the second vector": _in_the_second_vector,
    "not a number": _nan,
    "another sign": torch.neg,
}
SINGLY = ("in blocks", "in the second vector")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WAYS)
def test_a_way_that_is_wrong_for_one_kind_is_left_for_that_kind(
    name: str, kind: Kind, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "layer by layer":
        monkeypatch.setattr(layerwise, "SMALL", 0)
    right = {k: operator.to_dense() for k, operator in ops().items()}
    own = WAYS[name].product

    def product(way: Any, asked: Kind, vectors: Tensor) -> Tensor:
        found = own(way, asked, vectors)
        return FAULTS[fault](found) if asked == kind else found

    monkeypatch.setattr(WAYS[name], "product", product)
    found = ops()
    for other in KINDS:
        assert apart(found[other].to_dense(), right[other]) < 1e-12
        taken = found[other].how.startswith(name)
        if name == "forward mode" and fault in SINGLY:
            continue  # it goes on with one vector after the other, which is right
        assert taken == (other != kind), found[other].how


@pytest.mark.parametrize("direction", ["push", "pull"])
@pytest.mark.parametrize("name", WAYS)
def test_a_way_whose_halves_are_wrong_is_left_for_g(
    name: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `Dual` and the means of many classes take of it."""
    if name == "layer by layer":
        monkeypatch.setattr(layerwise, "SMALL", 0)
    own = getattr(WAYS[name], direction)

    def wrong(way: Any, *given: Any) -> Any:
        found = own(way, *given)
        if direction == "pull":
            return 1.01 * found
        return ((y, p, 1.01 * pushed) for y, p, pushed in found)

    monkeypatch.setattr(WAYS[name], direction, wrong)
    assert not ops()["G"].how.startswith(name)


def test_one_double_backward_is_the_truth_of_hess_and_h(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    both = Reverse.both

    def counted(way: Reverse, vectors: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(vectors.shape[1])
        return both(way, vectors)

    monkeypatch.setattr(Reverse, "both", counted)
    found = ops()
    vector = torch.ones(found["G"].dim).double()
    for kind in KINDS:
        found[kind].matvec(vector)
    assert calls == [2]
