"""What is given to one public function is taken, or refused, by all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control
from workbench.training.checkpoint import Checkpoint

PCA = wb.MeasureSettings(embedding="pca", num_drawn=20, num_probes=2)


def measured(model: Any, data: Any, **options: Any) -> float:
    settings = PCA if "classes" not in options else None
    options = options if settings else {**options, "embedding": "pca"}
    return wb.measure(model, data, settings, **options).spectra["G"].trace


# Each public function that takes a network and data, as a number that it finds.
FUNCTIONS: dict[str, Callable[..., float]] = {
    "operators": lambda *given, **options: float(
        wb.operators(*given, **options)["G"].to_dense().trace()
    ),
    "gram": lambda *given, **options: float(wb.gram(*given, **options).matrix.trace()),
    "class_means": lambda *given, **options: float(
        wb.class_means(*given, **options).everything.norm()
    ),
    "exact_spectrum": lambda *given, **options: float(
        wb.exact_spectrum(*given, **options).values.sum()
    ),
    "dual_operator": lambda *given, **options: float(
        wb.dual_operator(*given, **options).to_dense().trace()
    ),
    "plan": lambda *given, **options: wb.plan(*given, **options).sizes.num_examples,
    "measure": measured,
}
LABELS = torch.arange(12) % 3


@cache
def images() -> Tensor:
    noise = torch.randn(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return noise + LABELS[:, None, None, None]


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)).eval()


class Named(nn.Module):
    """Takes its input by name, and returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"scores": self.inner(pixels)}


class Noisy(nn.Module):
    """Random in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + torch.rand_like(x))


def pair() -> tuple[Tensor, Tensor]:
    return images(), LABELS


def batches() -> list[tuple[Tensor, Tensor]]:
    return list(zip(images().split(5), LABELS.split(5), strict=True))


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*pair()), batch_size=5)


class Augmented:
    """Gives other examples on each pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, labels in batches():
            yield inputs + torch.rand_like(inputs), labels


@cache
def checkpoint() -> Checkpoint:
    data = wb.Dataset.from_tensors(images(), LABELS)
    return wb.train(network(), data, wb.TrainConfig(epochs=0, device="cpu"))


@dataclass(frozen=True)
class Given:
    """What is given, and what is said against it; nothing: it is taken."""

    model: Callable[[], Any] = network
    data: Callable[[], Any] = pair
    options: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""


def read_only() -> tuple[np.ndarray, np.ndarray]:
    arrays = images().numpy().astype(">f8"), LABELS.numpy().astype(np.uint16)
    for array in arrays:
        array.flags.writeable = False
    return arrays


TAKEN = {
    "tensors": Given(),
    "NumPy arrays": Given(data=lambda: (images().numpy(), LABELS.numpy())),
    "read-only arrays of other kinds": Given(data=read_only),
    "reversed arrays": Given(
        data=lambda: (images().numpy()[::-1], LABELS.numpy()[::-1])
    ),
    "tensors and an array": Given(data=lambda: (images(), LABELS.numpy())),
    "a list of the two": Given(data=lambda: [images(), LABELS]),
    "int32 labels": Given(data=lambda: (images(), LABELS.int())),
    "a list of batches": Given(data=batches),
    "a tuple of batches of arrays": Given(
        data=lambda: tuple((x.numpy(), y.numpy()) for x, y in batches())
    ),
    "a DataLoader": Given(data=loader),
    "a Dataset": Given(data=lambda: wb.Dataset.from_tensors(*pair())),
    "a mapping": Given(data=lambda: {"input": images(), "labels": LABELS}),
    "batches that are mappings": Given(
        data=lambda: [{"input": x, "label": y} for x, y in batches()]
    ),
    "a network of names": Given(
        Named,
        lambda: {"pixels": images().numpy(), "labels": LABELS.numpy()},
        {"outputs": lambda found: found["scores"]},
    ),
    "a network in train mode": Given(model=lambda: network().train()),
    "a checkpoint": Given(checkpoint, lambda: None),
    "a checkpoint and data": Given(checkpoint),
    "a batch size": Given(options={"batch_size": 5}),
    "a batch size for a loader": Given(data=loader, options={"batch_size": 5}),
    "the device": Given(options={"device": "cpu"}),
    "the device of the network": Given(options={"device": None}),
    "a torch.device": Given(options={"device": torch.device("cpu")}),
    "a control": Given(options={"control": Control()}),
    "a loss of torch": Given(options={"loss": nn.CrossEntropyLoss()}),
    "a full check": Given(options={"check": "full"}),
}
REFUSED = {
    "no data": Given(data=lambda: None, said="the network came without data; pass a"),
    "an empty list": Given(data=list, said="the data hold no example"),
    "empty tensors": Given(
        data=lambda: (images()[:0], LABELS[:0]), said="the data hold no example"
    ),
    "no labels": Given(data=images, said="the data are one tensor, without labels"),
    "an array without labels": Given(
        data=lambda: images().numpy(), said="the data are one tensor, without labels"
    ),
    "a list of labels": Given(
        data=lambda: (images(), LABELS.tolist()), said="do not come in pairs of tensors"
    ),
    "labels as floats": Given(
        data=lambda: (images(), LABELS.float()),
        said="the labels have dtype torch.float",
    ),
    "arrays of labels as floats": Given(
        data=lambda: (images().numpy(), LABELS.double().numpy()),
        said="the labels have dtype torch.float64",
    ),
    "labels below zero": Given(
        data=lambda: (images(), LABELS - 1), said="and minimum -1; expected whole"
    ),
    "labels beyond the logits": Given(
        data=lambda: (images(), LABELS + 1), said="a label is 3 but the network has 3"
    ),
    "labels as words": Given(
        data=lambda: (images(), np.array(["cat"] * 12)), said="an array of the data hol"
    ),
    "fewer labels": Given(
        data=lambda: (images(), LABELS[:5]), said="12 inputs and 5 l"
    ),
    "a generator": Given(
        data=lambda: (batch for batch in batches()), said="a generator, which cannot be"
    ),
    "single examples": Given(
        data=lambda: TensorDataset(*pair()), said="a TensorDataset, which cannot be"
    ),
    "a path": Given(data=lambda: "digits", said="do not come in pairs of tensors"),
    "a number": Given(data=lambda: 3, said="the data are a int, which cannot be"),
    "other examples each time": Given(data=Augmented, said="on a second pass"),
    "NaN": Given(
        data=lambda: (images() / 0 - images() / 0, LABELS), said="hold NaN or infinity"
    ),
    "images of another size": Given(
        data=lambda: (torch.ones(12, 1, 3, 3), LABELS), said="does not take inputs of s"
    ),
    "a list for a network": Given(model=list, said="the network is a list; expected"),
    "a function": Given(model=lambda: torch.relu, said="the network is a builtin_func"),
    "a class": Given(model=lambda: nn.Linear, said="the network is a type; expected a"),
    "a functional without parameters": Given(
        model=nn.Flatten, said="no parameter that requires a gradient"
    ),
    "frozen weights": Given(
        model=lambda: network().requires_grad_(False), said="no parameter that require"
    ),
    "a random network": Given(model=Noisy, said="two passes over the same inputs"),
    "a batch size of 0": Given(options={"batch_size": 0}, said="batch_size is 0; exp"),
    "half a batch": Given(
        options={"batch_size": 2.5}, said="batch_size is 2.5; expect"
    ),
    "a batch size in words": Given(
        options={"batch_size": "8"}, said="batch_size is 8;"
    ),
    "a batch size of 0 for a loader": Given(
        data=loader, options={"batch_size": 0}, said="batch_size is 0; expected at leas"
    ),
    "no such device": Given(
        options={"device": "abacus"},
        said="device 'abacus' is not available on this machine; use",
    ),
    "no such GPU": Given(
        options={"device": "cuda:99"},
        said="device 'cuda:99' is not available on this machine",
    ),
    "a device without numbers": Given(
        options={"device": "meta"},
        said="device 'meta' is not available on this machine; use",
    ),
    "no such parameter": Given(
        options={"parameters": "layer9"}, said="no parameter is called 'layer9'; give"
    ),
    "no such check": Given(
        options={"check": "often"}, said="check is 'often'; expected"
    ),
    "no such loss": Given(options={"loss": "hinge"}, said="loss is 'hinge'"),
}


@cache
def expected(name: str) -> float:
    return FUNCTIONS[name](network(), pair())


@pytest.mark.parametrize("given", TAKEN.values(), ids=TAKEN)
def test_it_is_taken_by_all_and_means_the_same(given: Given) -> None:
    for name, function in FUNCTIONS.items():
        found = function(given.model(), given.data(), **given.options)
        assert found == pytest.approx(expected(name), rel=1e-5), name


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_it_is_refused_by_all_in_one_sentence(given: Given) -> None:
    said = {}
    for name, function in FUNCTIONS.items():
        with pytest.raises(WorkbenchError) as caught:
            function(given.model(), given.data(), **given.options)
        said[name] = str(caught.value)
    assert len(set(said.values())) == 1, said
    (sentence,) = set(said.values())
    assert given.said in sentence
    assert "\n" not in sentence
    assert len(sentence) <= 300


def test_some_classes_are_chosen_alike() -> None:
    model, data = wb.choose_classes(network(), pair(), [2, 0])
    for name, function in FUNCTIONS.items():
        found = function(network(), pair(), classes=[2, 0])
        assert found == pytest.approx(function(model, data), rel=1e-5), name
        assert found != pytest.approx(expected(name), rel=1e-3), name


@pytest.mark.parametrize(
    "classes", [[1], [1, 1], [0, 7], [0, -1], ["a", "b"], 1, []], ids=str
)
def test_classes_that_cannot_be_chosen_are_refused_by_all(classes: Any) -> None:
    for name, function in FUNCTIONS.items():
        with pytest.raises(WorkbenchError, match="class") as caught:
            function(network(), pair(), classes=classes)
        assert "\n" not in str(caught.value), name


def test_a_cancel_is_obeyed_by_all() -> None:
    for name, function in FUNCTIONS.items():
        control = Control()
        control.cancel()
        try:
            function(network(), pair(), control=control)
        except Cancelled:
            continue
        pytest.fail(f"{name} went on")
