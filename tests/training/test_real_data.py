"""The real images, where ``WORKBENCH_DATA`` says that they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.training.test_data import PAPYAN
from workbench.training.data import load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train

ROOT = Path(os.environ.get("WORKBENCH_DATA") or "unset")


def there(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (ROOT / folder).is_dir(), reason=f"no {folder} below WORKBENCH_DATA"
    )


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        pytest.param("mnist", "MNIST", marks=there("MNIST")),
        pytest.param("fashion", "FashionMNIST", marks=there("FashionMNIST")),
    ],
)
def test_every_size_of_the_paper_works(name: str, folder: str) -> None:
    for per_class in PAPYAN:
        data = load_data(name, per_class=per_class)
        assert data.labels.bincount().tolist() == [per_class] * 10
    # The constants of the whole set nearly centre a large choice.
    assert data.images.mean().abs() < 0.02
    assert data.images.std().item() == pytest.approx(1.0, abs=0.02)
    assert load_data(name, split="test").num_examples == 10_000


@there("FashionMNIST")
@pytest.mark.slow
def test_the_cnn_learns_fashion() -> None:
    data = load_data("fashion", per_class=136)
    done = train(build_model("cnn", data), data, TrainConfig(epochs=20, device="cpu"))
    assert done.run["train_accuracy"] > 0.85
    assert done.run["train_loss"] < 0.5


@there("cifar10")
def test_the_real_cifar10_images_load_from_their_folder() -> None:
    name = f"folder:{ROOT / 'cifar10'}"
    data = load_data(name, per_class=13)
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    assert data.image_shape == (3, 32, 32)
    assert data.labels.bincount().tolist() == [13] * 10
    again = load_data(f"{name}/train", per_class=13)
    assert torch.equal(again.images, data.images)
    # The spread of natural images: close to the constants of the whole set.
    assert data.mean == pytest.approx((0.49, 0.48, 0.45), abs=0.06)
    assert data.std == pytest.approx((0.25, 0.24, 0.26), abs=0.04)


@there("cifar10")
@pytest.mark.slow
def test_resnet18_starts_to_learn_cifar10() -> None:
    data = load_data(f"folder:{ROOT / 'cifar10'}", per_class=13)
    done = train(
        build_model("resnet18", data),
        data,
        TrainConfig(epochs=2, lr=0.01, device="cpu"),
    )
    assert done.history["loss"][1] < done.history["loss"][0]
