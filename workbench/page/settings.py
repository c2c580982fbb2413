"""The settings that the page offers, and their limits. Plain values, no torch.

The browser is not trusted: everything it sends is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from workbench.errors import WorkbenchError
from workbench.machine.paths import typed_path
from workbench.study.convention import ICML, JMLR, SLIDE

# Names as in workbench.training, which this file must not import; a test compares.
DATA: Mapping[str, str] = {
    "digits": "Digits (bundled)",
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "folder": "Image folder",
}
DOWNLOADABLE = ("mnist", "fashion", "cifar10", "cifar100")
MODELS: Mapping[str, str] = {
    "linear": "Linear",
    "mlp": "MLP",
    "cnn": "CNN (3 conv)",
    "vgg11": "VGG-11",
    "vgg16": "VGG-16",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "densenet40": "DenseNet-40",
}
CONVENTION_LABELS: Mapping[str, str] = {c.name: c.label for c in (ICML, SLIDE, JMLR)}
EMBEDDINGS: Mapping[str, str] = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}
METRICS: Mapping[str, str] = {"cosine": "Cosine", "euclidean": "Euclidean"}

# What a teacher's link can hide or lock: cards, menus and single controls.
CONTROLS: tuple[str, ...] = (
    *("presets", "open", "share", "code"),
    *("data", "network", "training", "measuring"),
    *("dataset", "per_class", "model", "epochs", "lr", "seed"),
    *("weighting", "embedding", "metric"),
)
# The settings that belong to each of them.
HELD: Mapping[str, tuple[str, ...]] = {
    "data": ("data", "folder", "download", "per_class"),
    "network": ("model", "seed"),
    "training": ("epochs", "lr", "weight_decay"),
    "measuring": ("weighting", "embedding", "metric"),
    "dataset": ("data", "folder", "download"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The smallest and largest values that a page accepts."""

    epochs: tuple[int, int] = (1, 500)
    per_class: tuple[int, int] = (2, 5000)
    lr: tuple[float, float] = (1e-6, 10.0)
    weight_decay: tuple[float, float] = (0.0, 10.0)
    seed: tuple[int, int] = (0, 2**31 - 1)

    def expect_within(self, begun: Mapping[str, Any]) -> None:
        """Refuse to continue a run that this page would not have started.

        Raises:
            WorkbenchError: If it has too many epochs or examples per class. Values that
                are not numbers pass: None means all available examples.
        """
        for name in ("epochs", "per_class"):
            value, most = begun.get(name), getattr(self, name)[1]
            if isinstance(value, int) and value > most:
                raise WorkbenchError(
                    f"{_NUMBERS[name][0]}: this network was started with {value:,} "
                    f"and this page allows at most {most:,}; train a new one within "
                    "that."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings of one training and its measurement."""

    data: str = "digits"
    folder: str = ""  # path of the image folder; read when data is "folder"
    download: bool = False  # whether missing data may be downloaded
    per_class: int = 100
    model: str = "mlp"
    epochs: int = 30
    lr: float = 0.05
    weight_decay: float = 5e-4
    seed: int = 0
    embedding: str = "umap"
    metric: str = "cosine"

    def changed(self, limits: Limits, **values: Any) -> RunSettings:
        """Return a copy with these values, each checked.

        Raises:
            WorkbenchError: If a value has the wrong type or is outside the limits.
        """
        unknown = set(values) - {f.name for f in fields(self)}
        if unknown:
            raise TypeError(f"RunSettings has no {sorted(unknown)}")
        return replace(self, **{k: _check(k, v, limits) for k, v in values.items()})

    def within(self, limits: Limits) -> RunSettings:
        """Return a copy with its numbers clipped to the limits."""
        values = {}
        for name in _NUMBERS:
            low, high = getattr(limits, name)
            values[name] = min(max(getattr(self, name), low), high)
        return replace(self, **values)

    def differing(self, other: RunSettings) -> set[str]:
        """Return the names of the settings that differ."""
        names = (f.name for f in fields(self))
        return {n for n in names if getattr(self, n) != getattr(other, n)}

    def keeping(self, other: RunSettings, names: Iterable[str]) -> RunSettings:
        """Return a copy that takes these values from ``other``."""
        kept = self.differing(other).intersection(names)
        return replace(self, **{name: getattr(other, name) for name in kept})

    def to_work(self, weighting: str) -> dict[str, Any]:
        """Return what the jobs take: names of `workbench.train` and `measure`.

        Raises:
            WorkbenchError: If an image folder is chosen and its path is empty.
        """
        data = self.data
        if data == "folder":
            if not self.folder.strip():
                raise WorkbenchError(
                    "Image folder: the path is empty; type the path of a folder that "
                    "contains one folder of images per class."
                )
            data = f"folder:{typed_path(self.folder)}"
        return {
            "data": data,
            "download": self.download and self.data in DOWNLOADABLE,
            "per_class": self.per_class,
            "model": self.model,
            "epochs": self.epochs,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            **self.to_measure(weighting),
        }

    def to_measure(self, weighting: str) -> dict[str, Any]:
        """Return the settings for measuring a network, whatever it was trained on."""
        return {
            "weighting": weighting,
            "embedding": self.embedding,
            "metric": self.metric,
            "seed": self.seed,
        }


def held(controls: Iterable[str]) -> set[str]:
    """Return the settings that belong to these controls."""
    return {setting for name in controls for setting in HELD.get(name, (name,))}


_CHOICES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "data": ("Dataset", DATA),
    "model": ("Network", MODELS),
    "embedding": ("Embedding", EMBEDDINGS),
    "metric": ("Distance", METRICS),
}
_NUMBERS: Mapping[str, tuple[str, type]] = {
    "epochs": ("Epochs", int),
    "per_class": ("Examples per class", int),
    "lr": ("Learning rate", float),
    "weight_decay": ("Weight decay", float),
    "seed": ("Seed", int),
}


def _check(name: str, value: Any, limits: Limits) -> Any:
    """Return the value in its proper type, or raise a sentence on what is wrong."""
    if name in _CHOICES:
        label, choices = _CHOICES[name]
        if value not in choices:
            raise WorkbenchError(
                f"{label}: {value!r} is unknown; choose one of {', '.join(choices)}."
            )
        return value
    if name in _NUMBERS:
        label, kind = _NUMBERS[name]
        low, high = getattr(limits, name)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not low <= number <= high or (kind is int and number != int(number)):
            what, form = ("a whole number", ",") if kind is int else ("a number", "g")
            raise WorkbenchError(
                f"{label}: {value} is out of range; "
                f"choose {what} from {low:{form}} to {high:{form}}."
            )
        return kind(number)
    if name == "download":
        return bool(value)
    text = str(value)
    if "\0" in text or len(text) > 4096:
        raise WorkbenchError("Image folder: this is not a valid path; type one.")
    return text
