"""Inputs and outputs that are no single tensor, and batches of several shapes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import (
    Call,
    Situation,
    case,
    labels,
    mlp,
    sequences,
    vectors,
)
from tests.zoo.forwards import Net


class AnyLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.tanh(self.a(x)).mean(1))


@case()
def batches_of_different_lengths() -> Situation:
    return Situation(AnyLength(), [sequences(6, 5), sequences(6, 7), sequences(3, 1)])


@case()
def images_of_different_sizes() -> Situation:
    layers = nn.Conv2d(1, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(3, 3))
    y = labels(6)
    data = [(torch.randn(6, 1, 4, 5), y), (torch.randn(6, 1, 3, 3), y)]
    return Situation(model, data)


class Named(Net):
    """Takes its inputs by name, as transformers do."""

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        assert mask is not None
        return super().forward(hidden) * mask[:, None]


def _batch() -> dict[str, Tensor]:
    x, y = vectors()
    return {"hidden": x, "mask": torch.rand(9) + 0.5, "labels": y}


def _cut(batch: dict[str, Tensor], *at: int) -> list[dict[str, Tensor]]:
    stops = [*at, len(batch["labels"])]
    return [
        {k: v[i:j] for k, v in batch.items()}
        for i, j in zip([0, *at], stops, strict=True)
    ]


@case()
def inputs_by_name() -> Situation:
    batch = _batch()
    y = batch.pop("labels")
    return Situation(Named(), (batch, y))


@case()
def batches_by_name() -> Situation:
    return Situation(Named(), _cut(_batch(), 4, 8))


@case()
def a_dictionary_as_one_argument() -> Situation:
    class Takes(Net):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return super().forward(batch["x"]) + batch["shift"]

    x, y = vectors()
    return Situation(Takes(), ({"x": x, "shift": torch.randn(9, 3)}, y))


@case()
def a_tree_of_inputs() -> Situation:
    class Tree(Net):
        def forward(self, tree: Any) -> Tensor:
            x, rest = tree
            return super().forward(x) + self.o.weight[:, rest["index"][0]].T

    x, y = vectors()
    return Situation(Tree(), ((x, {"index": [torch.arange(9) % 5]}), y))


@case(expect="either")
def two_arguments() -> Situation:
    class Two(Net):
        def forward(self, x: Tensor, shift: Tensor) -> Tensor:
            return super().forward(x) + shift

    x, y = vectors()
    truth = Two()
    model = Call(lambda pair: truth(*pair))
    model.inner = truth
    return Situation(truth, ((x, torch.randn(9, 3)), y), truth=model)


class Answers(Net):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(super().forward(x))


@case()
def logits_of_an_object() -> Situation:
    return Situation(
        Answers(lambda f: SimpleNamespace(logits=f, hidden=None)), vectors()
    )


@case()
def logits_in_a_mapping() -> Situation:
    return Situation(Answers(lambda f: {"loss": None, "logits": f}), vectors())


@case()
def logits_by_a_function() -> Situation:
    kwargs = {"outputs": lambda out: out["scores"][0]}
    return Situation(Answers(lambda f: {"scores": [f]}), vectors(), kwargs)


@case(expect="refused")
def outputs_in_a_tuple() -> Situation:
    return Situation(Answers(lambda f: (f, f)), vectors())


@case(expect="refused")
def no_output() -> Situation:
    return Situation(Answers(lambda f: None), vectors())


@case(expect="refused")
def a_function_that_does_not_fit_the_outputs() -> Situation:
    kwargs = {"outputs": lambda out: out["scores"]}
    return Situation(mlp(), vectors(), kwargs)
