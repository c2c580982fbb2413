"""Data that come as loaders, streams and generators, and do not always repeat."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

from tests.zoo.case import Situation, case, mlp, vectors
from tests.zoo.forwards import Net


def loaded(**options: Any) -> Situation:
    """A loader of twelve vectors."""
    x, y = vectors(12)
    loader = DataLoader(TensorDataset(x, y), **{"batch_size": 5, **options})
    return Situation(mlp(), loader, examples=[(x, y)], watch=(x, y))


@case()
def loader() -> Situation:
    return loaded()


SHUFFLED = dict.fromkeys(
    ("class_means", "gram", "exact_spectrum", "dual_operator"), "either"
)


@case(but=SHUFFLED)
def loader_that_shuffles() -> Situation:
    return loaded(shuffle=True)


@case(but=SHUFFLED)
def loader_that_shuffles_with_its_own_generator() -> Situation:
    return loaded(shuffle=True, generator=torch.Generator().manual_seed(1))


@case()
def loader_with_a_last_batch_of_one() -> Situation:
    return loaded(batch_size=11)


@case()
def loader_with_batches_of_one() -> Situation:
    return loaded(batch_size=1)


@case()
def a_first_batch_of_one() -> Situation:
    x, y = vectors(8)
    return Situation(mlp(), [(x[:1], y[:1]), (x[1:], y[1:])])


@case()
def batches_as_lists() -> Situation:
    x, y = vectors(8)
    return Situation(mlp(), [[x[:5], y[:5]], [x[5:], y[5:]]])


@case(expect="either")
def loader_that_drops_the_last_batch() -> Situation:
    """The same ten examples each time: well defined, or worth a word."""
    found = loaded(drop_last=True)
    x, y = found.watch
    return Situation(found.model, found.data, examples=[(x[:10], y[:10])])


@case(expect="refused")
def loader_that_shuffles_and_drops() -> Situation:
    return loaded(shuffle=True, drop_last=True)


@case(expect="refused")
def loader_that_draws_with_replacement() -> Situation:
    return loaded(sampler=WeightedRandomSampler([1.0] * 12, 12))


class Augmented(Dataset[Any]):
    """Noise by torch, numpy or Python."""

    def __init__(self, kind: str) -> None:
        self.x, self.y = vectors(12)
        self.kind = kind

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        size = {
            "torch": lambda: torch.rand(4),
            "numpy": lambda: torch.from_numpy(np.random.rand(4)),
            "python": lambda: torch.tensor([random.random() for _ in range(4)]),
        }[self.kind]()
        return self.x[i] + 0.3 * size, self.y[i]


def _augmented(kind: str) -> Situation:
    return Situation(mlp(), DataLoader(Augmented(kind), batch_size=5))


@case(expect="refused")
def augmented_by_torch() -> Situation:
    return _augmented("torch")


@case(expect="refused")
def augmented_by_numpy() -> Situation:
    return _augmented("numpy")


@case(expect="refused")
def augmented_by_python() -> Situation:
    return _augmented("python")


@case(expect="refused")
def normalised_by_the_shuffled_batch() -> Situation:
    def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x, y = (torch.stack(column) for column in zip(*rows, strict=True))
        return x - x.mean(0), y

    return loaded(shuffle=True, collate_fn=collate)


class Stream(IterableDataset[Any]):
    def __init__(self) -> None:
        self.x, self.y = vectors(12)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.x, self.y, strict=True)


@case()
def a_stream() -> Situation:
    stream = Stream()
    loader = DataLoader(stream, batch_size=5)
    return Situation(mlp(), loader, examples=[(stream.x, stream.y)])


class Again:
    """Goes through its batches anew, each time as told."""

    def __init__(self, *passes: list[tuple[Tensor, Tensor]]) -> None:
        self.passes, self.turn = passes, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        found = self.passes[min(self.turn, len(self.passes) - 1)]
        self.turn += 1
        return iter(found)


def _halves() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    x, y = vectors(12)
    return (x[:6], y[:6]), (x[6:], y[6:])


@case()
def an_own_iterable() -> Situation:
    first, second = _halves()
    return Situation(mlp(), Again([first, second]), examples=[first, second])


@case(expect="refused")
def a_second_pass_that_is_shorter() -> Situation:
    first, second = _halves()
    return Situation(mlp(), Again([first, second], [first]))


@case(expect="refused")
def a_second_pass_that_is_empty() -> Situation:
    first, second = _halves()
    return Situation(mlp(), Again([first, second], []))


@case(expect="refused")
def labels_that_change() -> Situation:
    first, second = _halves()
    other = (second[0], second[1].flip(0))
    return Situation(mlp(), Again([first, second], [first, other]))


@case(expect="refused")
def a_generator() -> Situation:
    return Situation(mlp(), (batch for batch in _halves()))


@case(expect="refused")
def an_iterator_of_a_loader() -> Situation:
    return Situation(mlp(), iter(loaded().data))


@case(expect="refused")
def an_empty_loader() -> Situation:
    return Situation(mlp(), [])


@case(expect="refused")
def batches_without_labels() -> Situation:
    x, _ = vectors(12)
    return Situation(mlp(), [x[:6], x[6:]])


@case(expect="refused")
def batches_of_three() -> Situation:
    x, y = vectors(12)
    return Situation(mlp(), [(x, y, y)])


@case()
def inputs_of_numpy() -> Situation:
    x, y = vectors(12)
    return Situation(mlp(), (x.numpy(), y.numpy()), examples=[(x, y)])


@case(expect="refused")
def a_data_set_of_single_examples() -> Situation:
    return Situation(mlp(), TensorDataset(*vectors(12)))


@case(expect="refused")
def a_loader_that_raises() -> Situation:
    class Raises(Dataset[Any]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            raise OSError("image 7 cannot be read")

    return Situation(mlp(), DataLoader(Raises(), batch_size=5))


@case(expect="refused")
def no_data() -> Situation:
    return Situation(mlp(), None)


class ByName(Dataset[Any]):
    """Arrays and numbers by name."""

    def __init__(self) -> None:
        self.x, self.y = vectors(12)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"x": self.x[i].numpy(), "label": int(self.y[i])}


@case()
def loader_of_dictionaries() -> Situation:
    data = ByName()
    loader = DataLoader(data, batch_size=5)
    return Situation(Net(), loader, examples=[(data.x, data.y)])


@case(entries=("operators",))
def loader_with_workers() -> Situation:
    return loaded(num_workers=1)


class FillsOneBuffer:
    """Batches that are the same memory each time, as of loaders that read ahead."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = torch.empty_like(self.x[:5]), torch.empty_like(self.y[:5])
        for start in range(0, len(self.x), 5):
            num = len(self.x[start : start + 5])
            x[:num], y[:num] = self.x[start : start + 5], self.y[start : start + 5]
            yield x[:num], y[:num]


@case()
def loader_that_fills_one_buffer() -> Situation:
    x, y = vectors(12)
    return Situation(mlp(), FillsOneBuffer(x, y), examples=[(x, y)], watch=(x, y))
