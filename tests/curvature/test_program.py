"""Batch norm folded into the layer below: derivatives by formula, against torch's."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from workbench.curvature.products.program import Weights

NORM = {"mean": "mean", "var": "var", "eps": 0.1}
FORMS = {
    "layer": Weights("weight", "bias"),
    "layer without bias": Weights("weight", None),
    "layer and norm": Weights("weight", "bias", gamma="gamma", beta="beta", **NORM),
    "no bias, and norm": Weights("weight", None, gamma="gamma", beta="beta", **NORM),
    "norm without scale": Weights("weight", "bias", beta="beta", **NORM),
    "norm without shift": Weights("weight", "bias", gamma="gamma", **NORM),
    "bare norm": Weights("weight", None, **NORM),
    "norm alone": Weights(None, None, gamma="gamma", beta="beta", **NORM),
}
LEARNT = ("weight", "bias", "gamma", "beta")
NUM = 3


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (4, 2, 3, 1), "var": (4,), "mean": (4,), "bias": (4,)}
    shapes |= {"gamma": (4,), "beta": (4,)}
    found = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    return {**found, "var": found["var"].abs()}


def same(one: Tensor, other: Tensor) -> None:
    assert one.shape == other.shape
    assert float((one - other).abs().max()) < 1e-13


@pytest.mark.parametrize("form", FORMS)
def test_each_derivative_is_torchs_own_whatever_is_looked_at(form: str) -> None:
    own, theta = FORMS[form], tensors()
    for num in range(1, 5):
        for looked_at in combinations(LEARNT, num):
            _compare(own, theta, looked_at)


def _compare(
    own: Weights, theta: dict[str, Tensor], looked_at: tuple[str, ...]
) -> None:
    chosen = {name: theta[name] for name in looked_at}

    def fold(some: dict[str, Tensor]) -> list[Tensor]:
        return [t for t in own.fold({**theta, **some}) if t is not None]

    generator = torch.Generator().manual_seed(1)

    def noise(like: Tensor) -> Tensor:
        shape = (NUM, *like.shape)
        return torch.randn(shape, generator=generator, dtype=like.dtype)

    along = {name: noise(t) for name, t in chosen.items()}
    pushed = vmap(lambda d: jvp(fold, (chosen,), (d,))[1])(along)
    found = [t for t in own.push(theta, along, NUM) if t is not None]
    for one, other in zip(found, pushed, strict=True):
        same(one, other)

    gradients = [noise(t) for t in fold(chosen)]
    pulled = vmap(lambda g: vjp(fold, chosen)[1](g)[0])(gradients)
    weight, bias = (*gradients, None)[:2]
    by_name = own.pull(theta, weight, bias)
    for name, right in pulled.items():
        same(by_name.get(name, torch.zeros_like(right)), right)

    first = [g[0] for g in gradients]

    def pull(some: dict[str, Tensor]) -> dict[str, Tensor]:
        return vjp(fold, some)[1](first)[0]

    bent = vmap(lambda d: jvp(pull, (chosen,), (d,))[1])(along)
    weight, bias = (*first, None)[:2]
    by_name = own.bend(theta, along, weight, bias)
    for name, right in bent.items():
        same(by_name.get(name, torch.zeros_like(right)), right)
