"""Labelled images: a balanced, sorted selection that depends only on the seed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError, readable
from workbench.files.image_folder import class_label
from workbench.progress.control import Control, ProgressCallback
from workbench.study.card import Card, Described, listed
from workbench.training.downloads import DOWNLOADS, open_download
from workbench.training.folders import open_folder
from workbench.training.source import Source

DATA = ("digits", *DOWNLOADS, "folder:PATH")  # names accepted by load_data
SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dataset(Described):
    """Normalised images sorted by class, and their origin."""

    images: Tensor  # (N, channels, H, W) float32, normalised
    labels: Tensor  # (N,) int64, sorted
    class_names: tuple[str, ...]  # (C,)
    name: str  # as for load_data: "digits", "folder:PATH", ...; or "custom"
    source: str  # the origin of the images, in words
    split: str = "train"
    per_class: int | None = None  # as requested; None: all
    seed: int = 0  # of the selection
    root: str | None = None  # as requested
    num_available: int | None = None  # examples to choose from, if known
    mean: tuple[float, ...] = ()  # subtracted from each channel, in [0, 1]
    std: tuple[float, ...] = ()  # divisor of each channel after that

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def reloadable(self) -> bool:
        """Whether `load_data` can load it again by its name."""
        return bool(self.mean)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def card(self) -> Card:
        """What it is, in a few lines."""
        kind = str(self.images.dtype).removeprefix("torch.")
        chosen = "" if self.num_available is None else f" of {self.num_available:,}"
        return Card(
            f"Dataset {self.name}, {self.split}",
            {
                "images": f"{self.num_examples:,}{chosen}, each "
                f"{' x '.join(map(str, self.image_shape))}, {kind}",
                "classes": f"{self.num_classes:,}: {listed(self.class_names)}",
                "per class": f"{self.per_class:,}" if self.per_class else "",
                "source": self.source,
            },
        )

    @staticmethod
    def from_tensors(
        images: Tensor,
        labels: Tensor,
        class_names: Sequence[str] | None = None,
        name: str = "custom",
    ) -> Dataset:
        """Make a data set from your own images, used unchanged.

        Use this for data that `load_data` cannot read. Nothing is normalised: first
        subtract the mean and divide by the standard deviation, as the networks expect.
        The examples are sorted by class.

        Args:
            images: Finite values, shape (N, channels, H, W), or (N, H, W) for one
                channel. Anything that ``torch.as_tensor`` accepts.
            labels: Class of each image, whole numbers from 0. Shape (N,).
            class_names: One name per class; by default ``"0"``, ``"1"``, ...
            name: A name to show. It cannot be loaded again by this name.

        Raises:
            WorkbenchError: If shapes do not match, a value is not finite, a label is
                out of range, or a class has no examples.

        Example:
            >>> labels = torch.tensor([1, 0, 1, 0])
            >>> data = Dataset.from_tensors(torch.rand(4, 8, 8), labels)
            >>> data.image_shape, data.labels
            ((1, 8, 8), tensor([0, 0, 1, 1]))
        """
        images = torch.as_tensor(images).detach().to("cpu", torch.float32)
        if images.ndim == 3:
            images = images[:, None]
        found = torch.as_tensor(labels).detach().to("cpu")
        _check_tensors(images, found)
        found = found.long()
        num_classes = len(class_names) if class_names else int(found.max()) + 1
        names = tuple(
            class_label(str(name)) for name in class_names or range(num_classes)
        )
        counts = _count(found, names, "Dataset.from_tensors")
        order = found.argsort(stable=True)
        return Dataset(
            images=images[order].contiguous(),
            labels=found[order],
            class_names=names,
            name=name,
            source="tensors given in Python",
            per_class=int(counts[0]) if bool((counts == counts[0]).all()) else None,
        )


def load_data(
    name: str,
    *,
    per_class: int | None = None,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    download: bool = False,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Dataset:
    """Load a balanced selection of images, sorted by class.

    ``digits`` is bundled with scikit-learn. ``mnist``, ``fashion``, ``cifar10`` and
    ``cifar100`` are torchvision's, and are stored in ``root``, else
    ``$WORKBENCH_DATA``, else the user's cache folder. ``folder:PATH`` is any folder
    that contains one folder of images per class, or ``train`` and ``test`` folders of
    that kind, under any of their usual names. If all selected images are square, of
    equal size and at most 64 wide, they keep their size; otherwise their shorter side
    is resized to 32 and the centre cropped. They are grey if all of them are, otherwise
    RGB; transparent ones are placed on white.

    Each channel is normalised, ``(value - mean) / std``. The constants of the named
    sets are those of the whole training set, whatever was selected; those of a folder
    are of the selected training images, and are used for its test images too.

    Args:
        name: ``digits``, ``mnist``, ``fashion``, ``cifar10``, ``cifar100`` or
            ``folder:PATH``.
        per_class: Examples per class; None takes all, so that classes may differ in
            size. The seed fixes the selection, and a smaller one is part of a larger
            one.
        split: ``train`` or ``test``.
        root: Folder that holds torchvision's data sets.
        seed: Seed of the selection.
        download: Download files that are missing or damaged. Never done unless
            requested.
        progress: Called with the progress of a download or of reading a folder.
        control: Can cancel either.

    Raises:
        WorkbenchError: If the name or split does not exist, data are missing or
            damaged, a class has too few examples, or an image cannot be read.
        Cancelled: If ``control`` was cancelled.

    Example:
        >>> data = load_data("digits", per_class=13)
        >>> data.images.shape, data.labels.bincount()
        (torch.Size([130, 1, 8, 8]), tensor([13, 13, 13, 13, 13, 13, 13, 13, 13, 13]))
    """
    _check_choice(name, per_class, split, seed)
    kind, _, path = name.partition(":")
    like: Dataset | None = None
    if kind == "folder":
        with readable("load_data", path):
            path = str(Path(path).expanduser().absolute())
        name = f"folder:{path}"
        if split == "test":
            like = load_data(
                name, per_class=per_class, seed=seed, progress=None, control=control
            )
        shape = like.image_shape if like else None
        source = open_folder(Path(path), split, shape, progress, control)
    elif kind == "digits":
        source = _open_digits(split)
    else:
        folder = data_folder(root)
        source = open_download(kind, folder, split, download, progress, control)
    if like and like.class_names != source.class_names:
        raise WorkbenchError(
            f"load_data: {path} has different classes in test and train "
            f"({', '.join(source.class_names)}; {', '.join(like.class_names)}); give "
            "both the same folders."
        )
    labels = source.labels
    chosen = _choose(labels, source.class_names, per_class, seed, name)
    images = source.read(chosen)
    if like:
        mean, std = like.mean, like.std
    elif source.mean:
        mean, std = source.mean, source.std
    else:
        channels = images.transpose(0, 1).flatten(1).double()
        mean = tuple(channels.mean(1).tolist())
        # A constant channel is only shifted.
        std = tuple(s or 1.0 for s in channels.std(1, correction=0).tolist())
    shift, scale = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))
    return Dataset(
        images=images.sub_(shift).div_(scale),
        labels=labels[chosen],
        class_names=source.class_names,
        name=name,
        source=". ".join(
            filter(None, (source.words, " ".join(filter(None, source.notes))))
        ),
        split=split,
        per_class=per_class,
        seed=seed,
        root=None if root is None else str(Path(root).expanduser().absolute()),
        num_available=len(labels),
        mean=mean,
        std=std,
    )


def data_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Return ``root``, else ``$WORKBENCH_DATA``, else a folder in the user's cache."""
    given = root or os.environ.get("WORKBENCH_DATA")
    if given:
        with readable("load_data", given):
            return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("hessian-workbench")) / "data"


def _open_digits(split: str) -> Source:
    """Open the 1,797 scanned digits that come with scikit-learn."""
    if split != "train":
        raise WorkbenchError(
            "load_data: digits has no test split, only one set of 1,797 images; use "
            "split='train', or a data set with both, such as fashion."
        )
    table = torch.from_numpy(_digits())
    images = table[:, :-1].float().reshape(-1, 1, 8, 8) / 16  # 0 to 16 in the file
    return Source(
        labels=table[:, -1].long(),
        class_names=tuple("0123456789"),
        read=lambda chosen: images[chosen],
        words="scikit-learn's bundled digits, 8x8 scans (UCI optdigits, test part)",
        mean=(0.3053,),
        std=(0.3760,),
    )


def _digits() -> NDArray[np.float64]:
    """Read scikit-learn's digits: 64 pixels and the label per row, (1797, 65).

    Reads the file without importing scikit-learn, which takes 100 MB, unless the file
    is not where it is expected.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        with suppress(OSError), gzip.open(file, "rt") as text:
            return np.loadtxt(text, delimiter=",")
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _check_choice(name: str, per_class: int | None, split: str, seed: int) -> None:
    """Raise unless the arguments are valid."""
    kind, colon, path = name.partition(":")
    if kind == "folder" and not path:
        raise WorkbenchError(
            "load_data: 'folder' needs the path of an image folder after a colon; "
            "write folder:PATH."
        )
    if kind not in {"digits", "folder", *DOWNLOADS} or (colon and kind != "folder"):
        raise WorkbenchError(
            f"load_data: there is no data set {name!r}; use one of {', '.join(DATA)}."
        )
    if split not in SPLITS:
        raise WorkbenchError(
            f"load_data: there is no split {split!r}; use 'train' or 'test'."
        )
    if per_class is not None and not _is_int(per_class, 1):
        raise WorkbenchError(
            f"load_data: per_class is {per_class!r}; give a whole number, at least 1, "
            "or None for all examples."
        )
    if not _is_int(seed, 0):
        raise WorkbenchError(
            f"load_data: the seed is {seed!r}; give a whole number, at least 0."
        )


def _is_int(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _check_tensors(images: Tensor, labels: Tensor) -> None:
    """Raise unless the tensors are images and one integer label for each."""
    who = "Dataset.from_tensors"
    if images.ndim != 4 or 0 in images.shape:
        raise WorkbenchError(
            f"{who}: images have shape {tuple(images.shape)}; give (N, channels, H, "
            "W), all at least 1."
        )
    if labels.shape != (len(images),):
        raise WorkbenchError(
            f"{who}: labels have shape {tuple(labels.shape)} for {len(images)} "
            "images; give one label per image."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise WorkbenchError(
            f"{who}: labels are {labels.dtype}; give integers, such as torch.int64."
        )
    if num_bad := int((~images.isfinite()).sum()):
        raise WorkbenchError(
            f"{who}: {num_bad} values of the images are NaN or infinite; replace them "
            "or remove those images."
        )


def _count(labels: Tensor, class_names: Sequence[str], who: str) -> Tensor:
    """Count the examples of each class; raise if one has none."""
    num_classes = len(class_names)
    if num_classes < 2:
        raise WorkbenchError(
            f"{who}: {num_classes} class found; at least 2 are needed."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise WorkbenchError(
            f"{who}: labels range from {low} to {high} but there are {num_classes} "
            f"classes; labels must be from 0 to {num_classes - 1}."
        )
    counts = labels.bincount(minlength=num_classes)
    if empty := [class_names[c] for c in (counts == 0).nonzero().flatten().tolist()]:
        raise WorkbenchError(
            f"{who}: no example of {', '.join(empty[:10])}; every class needs at "
            "least one: add some or leave the class out."
        )
    return counts


def _choose(
    labels: Tensor,
    class_names: Sequence[str],
    per_class: int | None,
    seed: int,
    name: str,
) -> Tensor:
    """Return the indices of the chosen examples, sorted by class."""
    counts = _count(labels, class_names, f"load_data: {name}")
    least = int(counts.min())
    if per_class is not None and least < per_class:
        c = int(counts.argmin())
        raise WorkbenchError(
            f"load_data: class {class_names[c]!r} of {name} has only {least} "
            f"examples, fewer than per_class={per_class}; use at most "
            f"per_class={least}."
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for c, count in enumerate(counts.tolist()):
        members = (labels == c).nonzero().flatten()
        # Always drawn from all members, so that a smaller selection is part of a
        # larger.
        order = torch.randperm(count, generator=generator)[:per_class]
        chosen.append(members[order.sort().values])
    return torch.cat(chosen)
