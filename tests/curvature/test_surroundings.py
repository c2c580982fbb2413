"""TF32 is off while curvature is computed, whatever the caller has on."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn

from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.layerwise import LayerWise
from workbench.linalg.precision import full_precision


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("on", [True, False])
def test_tf32_is_off_inside_and_as_before_outside(on: bool) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = tf32()
    try:
        matmul.allow_tf32, cudnn.allow_tf32 = on, True
        with suppress(ZeroDivisionError), full_precision():
            assert tf32() == (False, False)
            raise ZeroDivisionError
        assert tf32() == (on, True)
        with evaluating(nn.Linear(1, 1)):
            assert tf32() == (False, False)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_tf32_is_off_while_layers_are_taken_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Risk:
        dim = 1

    seen = []

    def block(self: LayerWise, kind: str, vectors: torch.Tensor) -> torch.Tensor:
        seen.append(tf32())
        return vectors

    monkeypatch.setattr(LayerWise, "_block", block)
    layers = LayerWise(Risk(), None, {}, {})  # type: ignore[arg-type]
    layers.product("G", torch.zeros(1, 1))
    assert seen == [(False, False)]
