"""Networks by name, as in the papers, adapted to small images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.training.data import Dataset

POOLINGS = ("max", "mean", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of an ``mlp`` or ``cnn``; None stands for that network's own."""

    width: int | None = None  # of each hidden layer of the mlp, 24; channels of the
    # first convolution of the cnn, 16: the second has twice, the third three times that
    depth: int | None = None  # hidden layers, 2, or convolutions, 3
    batch_norm: bool = True  # after each of them; without it, each has a bias
    pooling: str = "max"  # of the cnn: max or mean, 2x2 after each convolution, and the
    # mean pixel at the end; none: neither, so that every pixel is a feature


def build_model(
    name: str,
    data: Dataset | tuple[int, int, int],
    *,
    seed: int = 0,
    shape: Shape | None = None,
) -> nn.Module:
    """Build a network with random initial weights, on the CPU.

    Every network except ``linear`` has batch norm. Stems are for small images: a 3x3
    convolution of stride 1, without pooling. A 2x2 pooling is left out once the image
    is one pixel high or wide, so every network accepts images of any size from 1x1.

    | name | layers | parameters |
    |---|---|---|
    | ``linear`` | softmax regression | 650 on 8x8, C = 10 |
    | ``mlp`` | two hidden layers of 24 | 2,458 on 8x8, C = 10 |
    | ``cnn`` | three convolutions of 16, 32, 48 channels | 19,258 on 1x28x28, C = 10 |
    | ``vgg11``, ``vgg16`` | torchvision's, one linear layer on top | 9.2 M, 14.7 M |
    | ``resnet18``, ``resnet50`` | torchvision's | 11.2 M, 23.5 M |
    | ``densenet40`` | growth rate 12, no bottleneck | 1.0 M |

    Args:
        name: One of `MODELS`.
        data: The data set to fit, or (channels, size, number of classes).
        seed: Seed of the weights: the same seed gives the same weights. The global
            random state is not changed.
        shape: Another width, depth or pooling, or no batch norm, of ``mlp`` or ``cnn``.
            Such a network has no name: a checkpoint of it needs the network again.

    Raises:
        WorkbenchError: If there is no network of this name, or a size is not positive.

    Example:
        >>> model = build_model("linear", (1, 8, 10))
        >>> sum(p.numel() for p in model.parameters())
        650
    """
    if name not in MODELS:
        raise WorkbenchError(
            f"build_model: there is no network {name!r}; use one of "
            f"{', '.join(MODELS)}, or pass your own nn.Module."
        )
    if isinstance(data, Dataset):
        sizes = (*data.image_shape, data.num_classes)
    else:
        channels, size, num_classes = data
        sizes = (channels, size, size, num_classes)
    if min(sizes) < 1 or sizes[-1] < 2:
        raise WorkbenchError(
            f"build_model: channels, height, width and classes are {sizes}; all must "
            "be at least 1, and classes at least 2."
        )
    shape = shape or Shape()
    _check_shape(name, shape)
    # Not torch.manual_seed, which would also reseed the caller's accelerators.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if name == "mlp":
            return _mlp(*sizes, shape)
        if name == "cnn":
            return _cnn(*sizes, shape)
        return MODELS[name](*sizes)


def _check_shape(name: str, shape: Shape) -> None:
    """Raise unless this network can have this shape."""
    if shape == Shape():
        return
    if name not in SHAPED or (name == "mlp" and shape.pooling != "max"):
        raise WorkbenchError(
            f"build_model: {name} has a fixed shape; leave out width, depth, "
            "batch_norm and pooling, or use mlp or cnn (only cnn has a pooling)."
        )
    for word, value in (("width", shape.width), ("depth", shape.depth)):
        if value is not None and (type(value) is not int or value < 1):
            raise WorkbenchError(
                f"build_model: {word} is {value!r}; give a whole number, at least 1, "
                "or None for the network's own."
            )
    if shape.pooling not in POOLINGS:
        raise WorkbenchError(
            f"build_model: there is no pooling {shape.pooling!r}; use one of "
            f"{', '.join(POOLINGS)}."
        )


def _linear(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """Softmax regression."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, num_classes)
    )


def _mlp(
    channels: int,
    height: int,
    width: int,
    num_classes: int,
    shape: Shape = Shape(),
) -> nn.Module:
    """Hidden layers have no bias where they have batch norm, which has one."""
    layers: list[nn.Module] = [nn.Flatten()]
    fan_in, fan_out = channels * height * width, shape.width or 24
    for _ in range(shape.depth or 2):
        layers += [nn.Linear(fan_in, fan_out, bias=not shape.batch_norm)]
        layers += [nn.BatchNorm1d(fan_out)] * shape.batch_norm + [nn.ReLU()]
        fan_in = fan_out
    return nn.Sequential(*layers, nn.Linear(fan_in, num_classes))


def _cnn(
    channels: int,
    height: int,
    width: int,
    num_classes: int,
    shape: Shape = Shape(),
) -> nn.Module:
    """Convolution, batch norm, ReLU and pooling, three times; then the mean pixel."""
    layers: list[nn.Module] = []
    for n in range(shape.depth or 3):
        out = (shape.width or 16) * (n + 1)
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=not shape.batch_norm)]
        layers += [nn.BatchNorm2d(out)] * shape.batch_norm + [nn.ReLU()]
        if shape.pooling != "none":
            layers += [nn.MaxPool2d(2) if shape.pooling == "max" else nn.AvgPool2d(2)]
        channels = out
    if shape.pooling == "none":
        fan_in = channels * height * width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(fan_in, num_classes))
    features = _fit_poolings(layers, height, width)
    return nn.Sequential(*features, *_head(channels, num_classes))


def _vgg(letter: str) -> Callable[[int, int, int, int], nn.Module]:
    def build(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
        from torchvision.models import vgg

        layers = list(vgg.make_layers(vgg.cfgs[letter], batch_norm=True))
        layers[0] = nn.Conv2d(channels, 64, 3, padding=1)
        model = nn.Sequential(
            *_fit_poolings(layers, height, width), *_head(512, num_classes)
        )
        return _prepare(model)

    return build


def _resnet(name: str) -> Callable[[int, int, int, int], nn.Module]:
    def build(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
        from torchvision.models import resnet

        model = getattr(resnet, name)(weights=None, num_classes=num_classes)
        model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        return _prepare(model)

    return build


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, concatenated to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with ``growth`` more channels."""
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], dim=1)


def _densenet40(channels: int, height: int, width: int, num_classes: int) -> nn.Module:
    """Three blocks of twelve layers; torchvision's have bottlenecks (Huang, 2017)."""
    growth, width_now = 12, 16
    layers: list[nn.Module] = [nn.Conv2d(channels, width_now, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            layers += [nn.BatchNorm2d(width_now), nn.ReLU()]
            layers += [nn.Conv2d(width_now, width_now, 1, bias=False), nn.AvgPool2d(2)]
        for _ in range(12):
            layers += [DenseLayer(width_now, growth)]
            width_now += growth
    layers += [nn.BatchNorm2d(width_now), nn.ReLU()]
    features = _fit_poolings(layers, height, width)
    return _prepare(nn.Sequential(*features, *_head(width_now, num_classes)))


def _head(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


def _fit_poolings(layers: list[nn.Module], height: int, width: int) -> list[nn.Module]:
    """Remove 2x2 poolings that would shrink the image to nothing."""
    kept = []
    for layer in layers:
        if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            if min(height, width) < 2:
                continue
            height, width = height // 2, width // 2
        kept.append(layer)
    return kept


def _prepare(model: nn.Module) -> nn.Module:
    """Initialise as torchvision does (He, 2015), and keep each ReLU's input."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.ReLU):
            module.inplace = False  # measurements need the values of each layer
    return model


MODELS: Mapping[str, Callable[[int, int, int, int], nn.Module]] = {
    "linear": _linear,
    "mlp": _mlp,
    "cnn": _cnn,
    "vgg11": _vgg("A"),
    "vgg16": _vgg("D"),
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
    "densenet40": _densenet40,
}


SHAPED = ("mlp", "cnn")  # those that `Shape` can change


def name_of(model: nn.Module, shape: tuple[int, int, int, int]) -> str | None:
    """Return the name under which `build_model` builds this network, else None."""
    described = repr(model)
    for name, builder in MODELS.items():
        with torch.device("meta"):  # layers without memory
            made = builder(*shape)
        if type(made) is type(model) and repr(made) == described:
            return name
    return None
