"""What the page lets people choose, and how far. Plain values, no torch.

The browser controls nothing: whatever arrives from it is checked here.
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
    *("dataset", "per_class", "model", "epochs", "lr", "weight_decay", "batch_size"),
    "seed",
    *("weighting", "embedding", "metric"),
)
# The settings that each of them stands for.
HELD: Mapping[str, tuple[str, ...]] = {
    "data": ("data", "folder", "download", "per_class"),
    "network": ("model", "seed"),
    "training": ("epochs", "lr", "weight_decay", "batch_size"),
    "measuring": ("weighting", "embedding", "metric"),
    "dataset": ("data", "folder", "download"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest and smallest values that one page accepts."""

    epochs: tuple[int, int] = (1, 500)
    per_class: tuple[int, int] = (2, 5000)
    lr: tuple[float, float] = (1e-6, 10.0)
    weight_decay: tuple[float, float] = (0.0, 10.0)
    batch_size: tuple[int, int] = (2, 5000)
    seed: tuple[int, int] = (0, 2**31 - 1)

    def expect_within(self, begun: Mapping[str, Any]) -> None:
        """Refuse to go on with what this page would not have begun.

        Raises:
            WorkbenchError: If its epochs or examples a class are too many. What is no
                number is let through: None stands for all examples that there are.
        """
        for name in ("epochs", "per_class"):
            value, most = begun.get(name), getattr(self, name)[1]
            if isinstance(value, int) and value > most:
                raise WorkbenchError(
                    f"{_NUMBERS[name][0]}: this network was begun with {value:,} and "
                    f"this page allows at most {most:,}; train one within that."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """One training and its measurement, as the controls say it."""

    data: str = "digits"
    folder: str = ""  # path of the image folder; read when data is "folder"
    download: bool = False  # whether missing data may be fetched
    per_class: int = 100
    model: str = "mlp"
    epochs: int = 30
    lr: float = 0.05
    weight_decay: float = 5e-4
    batch_size: int = 128
    seed: int = 0
    embedding: str = "umap"
    metric: str = "cosine"

    def changed(self, limits: Limits, **values: Any) -> RunSettings:
        """Return a copy with these values, each checked.

        Raises:
            WorkbenchError: If a value is of the wrong kind or outside the limits.
        """
        unknown = set(values) - {f.name for f in fields(self)}
        if unknown:
            raise TypeError(f"RunSettings has no {sorted(unknown)}")
        return replace(self, **{k: _check(k, v, limits) for k, v in values.items()})

    def within(self, limits: Limits) -> RunSettings:
        """Return a copy whose numbers are brought within the limits."""
        values = {}
        for name in _NUMBERS:
            low, high = getattr(limits, name)
            values[name] = min(max(getattr(self, name), low), high)
        return replace(self, **values)

    def differing(self, other: RunSettings) -> set[str]:
        """Return the names of the values in which two settings differ."""
        names = (f.name for f in fields(self))
        return {n for n in names if getattr(self, n) != getattr(other, n)}

    def keeping(self, other: RunSettings, names: Iterable[str]) -> RunSettings:
        """Return a copy with these values of another."""
        kept = self.differing(other).intersection(names)
        return replace(self, **{name: getattr(other, name) for name in kept})

    def to_work(self, weighting: str) -> dict[str, Any]:
        """Return what the jobs take: names of `workbench.train` and `measure`.

        Raises:
            WorkbenchError: If an image folder is asked for and no path is given.
        """
        data = self.data
        if data == "folder":
            if not self.folder.strip():
                raise WorkbenchError(
                    "Image folder: no path is given; type the path of a folder that "
                    "holds one folder of images for each class."
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
            "batch_size": self.batch_size,
            **self.to_measure(weighting),
        }

    def to_measure(self, weighting: str) -> dict[str, Any]:
        """Return what measuring a network takes, whatever it was trained on."""
        return {
            "weighting": weighting,
            "embedding": self.embedding,
            "metric": self.metric,
            "seed": self.seed,
        }


def held(controls: Iterable[str]) -> set[str]:
    """Return the settings that these controls stand for."""
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
    "batch_size": ("Batch size", int),
    "seed": ("Seed", int),
}


def _check(name: str, value: Any, limits: Limits) -> Any:
    """Return the value in its type, or raise the sentence that says what is wrong."""
    if name in _CHOICES:
        label, choices = _CHOICES[name]
        if value not in choices:
            raise WorkbenchError(
                f"{label}: {value!r} is not known; choose one of {', '.join(choices)}."
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
        raise WorkbenchError("Image folder: this is not a path; type one.")
    return text
