"""Inputs and outputs that are no single tensor, and batches of several shapes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import tv_tensors

from tests.zoo.case import (
    Call,
    Situation,
    case,
    family,
    images,
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


class Batched(NamedTuple):
    x: Tensor
    scale: Tensor


class OfTuple(Net):
    """Takes a named tuple, and an option that a second argument would stand for."""

    def forward(self, batch: Batched, factor: float = 1.0) -> Tensor:
        return super().forward(batch.x) * batch.scale * factor


@case()
def a_named_tuple_and_an_option() -> Situation:
    x, y = vectors()
    return Situation(OfTuple(), [(Batched(x, torch.rand(9, 1)), y)])


class OfList(Net):
    def forward(self, xs: list[Tensor], factor: float = 1.0) -> Tensor:
        return super().forward(torch.cat(xs, 1)) * factor


@case()
def a_list_and_an_option() -> Situation:
    x, y = vectors()
    return Situation(OfList(), [([x[:, :2], x[:, 2:]], y)])


@case()
def a_list_of_one() -> Situation:
    x, y = vectors()
    return Situation(OfList(), [([x], y)])


class PassesOn(nn.Module):
    """Whatever it is given goes on to another network."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.inside(*args, **named)


class OfMapping(Net):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["x"])


@case()
def a_wrapper_around_a_network_of_one_mapping() -> Situation:
    x, y = vectors()
    return Situation(
        PassesOn(OfMapping()), {"x": x, "labels": y}, examples=[({"x": x}, y)]
    )


@case()
def a_wrapper_around_a_network_of_one_list() -> Situation:
    x, y = vectors()
    return Situation(PassesOn(OfList()), [([x], y)])


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


class Scales(Net):
    def forward(self, batch: dict[str, Any]) -> Tensor:
        return super().forward(batch["x"]) * batch["scale"]


def _scaled(make: Callable[[float], Any], *sizes: int) -> Situation:
    x, y = vectors(sum(sizes))
    parts = zip(x.split(sizes), y.split(sizes), strict=True)
    data = [
        ({"x": part, "scale": make(1.0 + 2 * i)}, label)
        for i, (part, label) in enumerate(parts)
    ]
    return Situation(Scales(), data)


@case()
def batches_with_a_number_each() -> Situation:
    return _scaled(float, 6, 6)


@case()
def batches_with_a_tensor_of_no_axis_each() -> Situation:
    return _scaled(torch.tensor, 6, 6)


@case()
def batches_of_one_with_a_number_each() -> Situation:
    return _scaled(float, 1, 1, 1, 1)


@case()
def batches_under_different_names() -> Situation:
    class Either(Net):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            ((name, x),) = batch.items()
            return super().forward(x) * (1 if name == "x" else 2)

    x, y = vectors(12)
    return Situation(Either(), [({"x": x[:6]}, y[:6]), ({"z": x[6:]}, y[6:])])


@case()
def batches_of_bytes_and_of_floats() -> Situation:
    class Both(Net):
        def forward(self, x: Tensor) -> Tensor:
            size = 1 if x.is_floating_point() else 10
            return super().forward(x.to(self.a.weight.dtype) / size)

    x, y = vectors(12)
    return Situation(Both(), [((10 * x[:6]).long(), y[:6]), (x[6:], y[6:])])


@case()
def an_empty_batch_between() -> Situation:
    x, y = vectors(12)
    return Situation(mlp(), [(x[:6], y[:6]), (x[:0], y[:0]), (x[6:], y[6:])])


@case(expect="refused")
def a_data_set_with_images_and_a_transform() -> Situation:
    class Held(Dataset[Any]):
        def __init__(self) -> None:
            self.images, self.labels = vectors(12)

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            return self.images[i] * 2 - 1, self.labels[i]

    return Situation(mlp(), Held())


FEW = ("operators", "class_means", "gram")


@case(entries=FEW)
def images_of_torchvision() -> Situation:
    x, y = images()
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Tanh())
    return Situation(model, (tv_tensors.Image(x), y), examples=[(x, y)])


@case(entries=FEW)
def complex_inputs() -> Situation:
    class Parts(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.view_as_real(x).flatten(1))

    return Situation(Parts(), (torch.randn(9, 2, dtype=torch.complex128), labels()))


@case(entries=FEW, expect="refused")
def sparse_inputs() -> Situation:
    x, y = vectors()
    return Situation(mlp(), (x.relu().to_sparse(), y))


@case(entries=FEW, expect="refused")
def quantised_inputs() -> Situation:
    x, y = vectors()
    x = torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)
    return Situation(Call(lambda t: t.dequantize()), (x, y))


ODD: dict[str, Callable[[Tensor], Any]] = {
    "class_numbers_for_logits": lambda f: f.argmax(1),
    "logits_of_whole_numbers": lambda f: f.long(),
    "complex_logits": torch.fft.fft,
    "sparse_logits": lambda f: f.to_sparse(),
    "a_list_of_detections": lambda f: [{"scores": row} for row in f],
}
family(
    {name: lambda answer=answer: Answers(answer) for name, answer in ODD.items()},
    vectors,
    expect="refused",
    entries=("operators",),
)
