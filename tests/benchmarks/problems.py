"""The networks and the data that everything is timed on.

Nothing but torch is needed, so that the same runs on a bare GPU machine: where the real
images or torchvision are missing, images are made up, and the problem says so.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.errors import WorkbenchError
from workbench.training.data import load_data
from workbench.training.models import build_model

SHAPES = {"fashion": (1, 28, 28), "cifar10": (3, 32, 32), "tiny": (1, 6, 6)}
NUM_CLASSES = 10


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A network, and its data in the batches that every contender gets."""

    name: str
    source: str  # where the images came from
    model: nn.Module  # in eval mode, on the device
    inputs: Tensor  # (N, channels, H, W), in the dtype of the network
    labels: Tensor  # (N,)
    batch_size: int

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Re-iterable pairs; the last may be smaller."""
        cut = (self.inputs.split(self.batch_size), self.labels.split(self.batch_size))
        return list(zip(*cut, strict=True))

    @property
    def num_examples(self) -> int:
        return len(self.labels)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    @property
    def dim(self) -> int:
        return sum(p.numel() for p in self.parameters)

    def vectors(self, num: int, seed: int = 0) -> Tensor:
        """Random columns, (P, num), in the network's dtype."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.dim, num, generator=generator)
        return noise.to(self.inputs)


def small(
    device: torch.device, data: str, quick: bool, per_class: int | None = None
) -> Problem:
    """`cnn` on Fashion-MNIST, trained for a few epochs."""
    name = "tiny" if quick else "fashion"
    num = per_class or (4 if quick else 136)
    inputs, labels, source = images(name, num, data)
    channels, size, _ = SHAPES[name]
    model = build_model("cnn", (channels, size, NUM_CLASSES))
    batch_size = 15 if quick else 272  # the last one of the small set is ragged
    start = Problem(f"cnn, {name}", source, model, inputs, labels, batch_size)
    return trained(_on(start, device), 4 if quick else 6, 0.05)


def large(device: torch.device, data: str, quick: bool) -> Problem:
    """`resnet18` on CIFAR-10 images, its running statistics those of the data."""
    name = "tiny" if quick else "cifar10"
    inputs, labels, source = images(name, 1 if quick else 5, data)
    model = Resnet18(SHAPES[name][0], NUM_CLASSES)
    start = Problem(f"resnet18, {name}", source, model, inputs, labels, 50)
    return trained(_on(start, device), 1, 0.01)


def more(problem: Problem, per_class: int, data: str) -> Problem:
    """The same network on another number of images."""
    name = problem.name.split(", ")[1]
    inputs, labels, source = images(name, per_class, data)
    device = problem.inputs.device
    return _on(replace(problem, inputs=inputs, labels=labels, source=source), device)


def in_double(problem: Problem) -> Problem:
    """A copy in float64, where rounding is no excuse."""
    return replace(
        problem,
        model=copy.deepcopy(problem.model).double(),
        inputs=problem.inputs.double(),
    )


def images(name: str, per_class: int, data: str) -> tuple[Tensor, Tensor, str]:
    """Real images where they lie below ``WORKBENCH_DATA``, else made-up ones.

    Shuffled, so that batches hold every class, as those of a data loader do.
    """
    found = None
    if data == "auto" and name != "tiny":
        root = os.environ.get("WORKBENCH_DATA", "")
        folder = os.path.join(root, "cifar10", "train")
        wanted = f"folder:{folder}" if name == "cifar10" else name
        try:
            found = load_data(wanted, per_class=per_class)
        except (WorkbenchError, ImportError):
            found = None
    if found is not None:
        inputs, labels, source = found.images, found.labels, f"real {name} images"
    else:
        inputs, labels = made_up(SHAPES[name], per_class)
        source = f"made-up images of the shape of {name}"
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return inputs[order], labels[order], source


def made_up(shape: tuple[int, int, int], per_class: int) -> tuple[Tensor, Tensor]:
    """Ten smooth patterns, one a class, each under its own noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(NUM_CLASSES, shape[0], 4, 4, generator=generator)
    pattern = nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    labels = torch.arange(NUM_CLASSES).repeat_interleave(per_class)
    noise = torch.randn(len(labels), *shape, generator=generator)
    return pattern[labels] + 0.8 * noise, labels


def trained(problem: Problem, epochs: int, rate: float) -> Problem:
    """Train in place by SGD with momentum; a plain loop, as torch alone gives it."""
    model = problem.model.train()
    optimizer = torch.optim.SGD(
        model.parameters(), rate, momentum=0.9, weight_decay=5e-4
    )
    size = min(64, problem.batch_size)
    for _ in range(epochs):
        cut = (problem.inputs.split(size), problem.labels.split(size))
        for inputs, labels in zip(*cut, strict=True):
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.eval()
    return problem


def _on(problem: Problem, device: torch.device) -> Problem:
    return replace(
        problem,
        model=problem.model.to(device),
        inputs=problem.inputs.to(device),
        labels=problem.labels.to(device),
    )


class Block(nn.Module):
    """Two convolutions with batch norm, added to what came in."""

    def __init__(self, fan_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or fan_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(fan_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + self.downsample(x)).relu()


class Resnet18(nn.Module):
    """`build_model("resnet18", ...)` without torchvision: He (2015), 3x3 stem."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        blocks, fan_in = [], 64
        for stage, width in enumerate((64, 128, 256, 512)):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(Block(fan_in, width, stride))
                fan_in = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.bn1(self.conv1(x)).relu())
        return self.fc(x.mean((2, 3)))
