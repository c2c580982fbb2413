"""Networks that keep something from a pass: caches by shape, of weights, of modes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.case import Situation, case, family, vectors
from tests.zoo.forwards import Net


class Positions(Net):
    """Encodings by shape, made in the first pass and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def between(self, h: Tensor) -> Tensor:
        key = tuple(h.shape[1:])
        if key not in self.kept:
            self.kept[key] = torch.arange(h.shape[1], dtype=h.dtype).sin()
        return h + self.kept[key]


class LazyPositions(Net):
    positions: Tensor | None = None

    def between(self, h: Tensor) -> Tensor:
        if self.positions is None:
            self.positions = torch.arange(h.shape[1], dtype=h.dtype).sin()
        return (h + self.positions).tanh()


class LazyBuffer(Net):
    def between(self, h: Tensor) -> Tensor:
        if not hasattr(self, "positions"):
            positions = torch.arange(h.shape[1], dtype=h.dtype).sin()
            self.register_buffer("positions", positions, persistent=False)
        return (h + self.positions).tanh()


class KeptPerBatch(Net):
    """A mask kept for the size of the batch that came first."""

    mask: Tensor | None = None

    def between(self, h: Tensor) -> Tensor:
        if self.mask is None or self.mask.shape != h.shape:
            self.mask = torch.linspace(0.5, 1, 5, dtype=h.dtype).expand_as(h)
        return h * self.mask


class KeptWeight(Net):
    """LeViT's: a function of a parameter, made in the first pass and kept."""

    kept: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(5))

    def between(self, h: Tensor) -> Tensor:
        if self.kept is None or self.training:
            self.kept = self.bias.tanh()
        return h * self.kept


family(
    {
        "positions_kept_by_shape": Positions,
        "positions_made_in_the_first_pass": LazyPositions,
        "a_buffer_made_in_the_first_pass": LazyBuffer,
        "a_mask_kept_for_a_batch": KeptPerBatch,
        "a_function_of_a_parameter_kept": KeptWeight,
    },
    vectors,
    fresh=True,
)


@case(expect="either")
def a_function_of_a_parameter_kept_without_its_graph() -> Situation:
    """Somebody took the accuracy first: plain autograd no longer sees the bias."""
    model = KeptWeight().eval()
    with torch.no_grad():
        model(vectors()[0])
    return Situation(model, vectors())


@case()
def positions_kept_from_inference_mode() -> Situation:
    model = LazyPositions().eval()
    x, y = vectors()
    with torch.inference_mode():
        model(x)
    truth = LazyPositions()
    truth.load_state_dict(model.state_dict())
    return Situation(model, (x, y), truth=truth)
