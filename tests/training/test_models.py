"""The networks: fitted to the images, counted, and the same for the same seed."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.training.data import Dataset
from workbench.training.models import MODELS, POOLINGS, Shape, build_model, name_of

SHAPES = [(1, 8, 10), (1, 28, 10), (3, 32, 7), (2, 3, 3), (1, 1, 2)]
SMALL = ("linear", "mlp", "cnn")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def images(channels: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, size, size, generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_each_network_gives_a_logit_a_class_for_images_of_any_size(
    name: str, shape: tuple[int, int, int]
) -> None:
    channels, size, num_classes = shape
    model = build_model(name, shape).eval()
    with torch.no_grad():
        logits = model(images(channels, size))
    assert logits.shape == (2, num_classes)
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("linear", (1, 8, 10), 64 * 10 + 10),
        ("mlp", (1, 8, 10), 64 * 24 + 48 + 24 * 24 + 48 + 24 * 10 + 10),
        ("cnn", (1, 28, 10), 9 * (16 + 16 * 32 + 32 * 48) + 2 * 96 + 48 * 10 + 10),
        # As published for CIFAR-10, with one linear layer on top.
        ("vgg11", (3, 32, 10), 9_231_114),
        ("vgg16", (3, 32, 10), 14_728_266),
        ("resnet18", (3, 32, 10), 11_173_962),
        ("resnet50", (3, 32, 10), 23_520_842),
        ("densenet40", (3, 32, 10), 1_019_722),
    ],
)
def test_networks_have_the_parameters_of_the_papers(
    name: str, shape: tuple[int, int, int], expected: int
) -> None:
    assert count(build_model(name, shape)) == expected


def test_the_mlp_on_digits_has_a_gauss_newton_matrix_that_fits() -> None:
    assert count(build_model("mlp", (1, 8, 10))) <= 4_900


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("linear", "mlp")])
def test_stems_keep_the_size_of_small_images(name: str) -> None:
    model = build_model(name, (3, 32, 10)).eval()
    sizes: list[torch.Size] = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            module.register_forward_hook(lambda m, i, o: sizes.append(o.shape))
    with torch.no_grad():
        model(images(3, 32))
    assert sizes[0][-2:] == (32, 32)
    assert sizes[1][-1] == (16 if name in ("cnn", "vgg11") else 32)


@pytest.mark.parametrize("name", MODELS)
def test_measurements_can_watch_each_layer_once(name: str) -> None:
    model = build_model(name, (3, 32, 10))
    calls: Counter[nn.Module] = Counter()
    plain = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
    watched = [m for m in model.modules() if isinstance(m, plain)]
    for module in watched:
        module.register_forward_hook(lambda m, i, o: calls.update([m]))
    model(images(3, 32))
    assert calls == Counter(watched)
    assert sum(count(m) for m in watched) == count(model)
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    assert not any(relu.inplace for relu in relus)


@pytest.mark.parametrize("name", MODELS)
def test_batch_norm_follows_each_hidden_layer_but_for_linear(name: str) -> None:
    kinds = [type(m) for m in build_model(name, (1, 8, 10)).modules()]
    norms = kinds.count(nn.BatchNorm1d) + kinds.count(nn.BatchNorm2d)
    layers = kinds.count(nn.Linear) + kinds.count(nn.Conv2d)
    assert norms == layers - 1  # each but the last; a dense layer's comes before it


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_fixes_the_weights(name: str) -> None:
    first, again, other = (build_model(name, (1, 8, 10), seed=s) for s in (5, 5, 6))
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize("name", SMALL)
def test_building_leaves_the_random_numbers_of_the_caller_alone(name: str) -> None:
    state = torch.get_rng_state()
    build_model(name, (1, 8, 10), seed=3)
    name_of(nn.Linear(1, 1), (1, 8, 8, 10))
    assert not torch.equal(state, torch.get_rng_state())  # nn.Linear above took some
    state = torch.get_rng_state()
    build_model(name, (1, 8, 10), seed=3)
    name_of(nn.Identity(), (1, 8, 8, 10))
    assert torch.equal(state, torch.get_rng_state())


def test_fresh_weights_neither_blow_up_nor_vanish() -> None:
    for name in MODELS:
        model = build_model(name, (3, 32, 10)).train()
        with torch.no_grad():
            spread = model(images(3, 32)).std().item()
        assert 1e-3 < spread < 30, name


def test_a_data_set_says_the_shape_and_need_not_be_square() -> None:
    data = Dataset.from_tensors(torch.randn(4, 2, 6, 9), torch.tensor([0, 1, 2, 1]))
    for name in ("linear", "mlp", "cnn", "vgg11", "resnet18"):
        logits = build_model(name, data).eval()(data.images)
        assert logits.shape == (4, 3)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_known_by_its_layers(name: str) -> None:
    model = build_model(name, (1, 8, 10))
    assert name_of(model, (1, 8, 8, 10)) == name
    assert name_of(model, (1, 8, 8, 11)) is None
    assert name_of(nn.Sequential(model), (1, 8, 8, 10)) is None


def test_a_network_that_only_looks_alike_is_not_taken_for_a_named_one() -> None:
    class Sequential(nn.Sequential):
        """Prints as torch's does, and computes something else."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    named = build_model("linear", (1, 8, 10))
    alike = Sequential(*named)
    assert repr(alike) == repr(named)
    assert name_of(alike, (1, 8, 8, 10)) is None


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("resnet", (1, 8, 10), r"no network 'resnet'; use one of linear, mlp, .*own"),
        ("mlp", (0, 8, 10), r"are \(0, 8, 8, 10\); all must be at least 1"),
        ("mlp", (1, 0, 10), r"all must be at least 1"),
        ("mlp", (1, 8, 1), r"classes at least 2"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(
    name: str, shape: tuple[int, int, int], sentence: str
) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        build_model(name, shape)


def test_the_linear_network_is_softmax_regression() -> None:
    model = build_model("linear", (1, 2, 3))
    x = images(1, 2)
    weight, bias = model.parameters()
    expected = [
        [math.fsum((w * v).flatten().tolist()) for w in weight.view(3, 1, 2, 2)]
        for v in x
    ]
    torch.testing.assert_close(model(x), torch.tensor(expected) + bias)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_network_of_another_shape_gives_a_logit_a_class(
    name: str, batch_norm: bool, pooling: str
) -> None:
    if name == "mlp" and pooling != "max":
        return
    shape = Shape(width=5, depth=4, batch_norm=batch_norm, pooling=pooling)
    model = build_model(name, (1, 8, 3), shape=shape).eval()
    assert model(images(1, 8)).shape == (2, 3)
    norms = sum(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in model)
    assert norms == 4 * batch_norm
    assert sum(isinstance(m, (nn.Linear, nn.Conv2d)) for m in model) == 5
    assert name_of(model, (1, 8, 8, 3)) is None


def test_the_shape_of_a_network_is_its_own_unless_changed() -> None:
    for name, shape in (("mlp", (24, 2)), ("cnn", (16, 3))):
        width, depth = shape
        given = build_model(name, (1, 8, 3), shape=Shape(width=width, depth=depth))
        own = build_model(name, (1, 8, 3))
        for a, b in zip(given.parameters(), own.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("linear", Shape(width=3)),
        ("resnet18", Shape(batch_norm=False)),
        ("mlp", Shape(pooling="none")),
        ("cnn", Shape(pooling="median")),
        ("cnn", Shape(depth=0)),
    ],
)
def test_a_shape_that_a_network_cannot_have_is_refused(name: str, shape: Shape) -> None:
    with pytest.raises(WorkbenchError, match="build_model"):
        build_model(name, (1, 8, 3), shape=shape)
