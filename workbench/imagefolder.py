"""A folder of images, one folder a class: what is in it. Opens none of them; no torch.

So the page counts what it is given by the same rules as a training later reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import WorkbenchError, printable, readable

SUFFIXES = (  # torchvision's
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp",
)  # fmt: skip
MOST_LABEL = 255  # letters of the name of a class
MOST_CLASSES = 1000
MOST_FILES = 200_000  # to count so many takes a second


def split_folder(path: Path, split: str = "train") -> Path:
    """Return the folder that holds the class folders of this split.

    Raises:
        WorkbenchError: If there is none, or it cannot be read.
    """
    with readable("load_data", path):
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise WorkbenchError(
                f"load_data: {path} {what}; "
                "give the path of a folder that holds one folder of images a class."
            )
        # A class may be called "train": then its folder holds images, and no folder.
        if _class_folders(path / "train"):
            if (path / split).is_dir():
                return path / split
        elif split == "train":
            return path
    raise WorkbenchError(
        f"load_data: {path} has no {split!r} folder with class folders in it; "
        "use split='train', or make one."
    )


def class_label(name: str) -> str:
    r"""What a class is called whose folder has this name, in any coding.

    Example:
        >>> print(class_label("caf\udce9"))  # "café" in Latin-1, on a disk in UTF-8
        caf\udce9
    """
    return printable(name)[:MOST_LABEL]


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders, sorted.

    Raises:
        WorkbenchError: If there is none, or it cannot be read.
    """
    with readable("load_data", folder):
        names = _class_folders(folder)
    if not names:
        raise WorkbenchError(
            f"load_data: {folder} holds no folder; "
            "put the images of each class into a folder named after the class."
        )
    return tuple(names)


def list_images(folder: Path) -> list[str]:
    """Return the paths of the images in a class folder, in the order they are read.

    Raises:
        WorkbenchError: If it, or a folder in it, cannot be read.
    """
    with readable("load_data", folder):
        found = sorted(_files(folder))
    return [os.path.join(place, name) for place, name in found if _is_image(name)]


def count_images(path: Path) -> tuple[int, int]:
    """Return how many classes and images a folder holds for training.

    Raises:
        WorkbenchError: If there are fewer than two classes, too much of anything, a
            class without an image, or a folder that cannot be read.
    """
    folder = split_folder(path)
    names = class_names(folder)
    if not 2 <= len(names) <= MOST_CLASSES:
        raise WorkbenchError(
            f"Image folder: {folder} holds {len(names):,} folder"
            f"{'s' if len(names) > 1 else ''}; give one with 2 to {MOST_CLASSES:,}, "
            "one for each class."
        )
    num_files, counts = 0, dict.fromkeys(names, 0)
    with readable("Image folder", folder):
        for name in names:
            for _, file in _files(folder / name):
                num_files += 1
                counts[name] += _is_image(file)
                if num_files > MOST_FILES:
                    raise WorkbenchError(
                        f"Image folder: {folder} holds more than {MOST_FILES:,} files; "
                        "give one with fewer."
                    )
    if empty := [name for name, count in counts.items() if count == 0]:
        raise WorkbenchError(
            f"Image folder: {folder / empty[0]} holds no image; images end in "
            f"{', '.join(SUFFIXES)}."
        )
    return len(names), sum(counts.values())


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield place and name of each file in a folder and those in it."""

    def fail(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, onerror=fail, followlinks=True):
        for name in names:
            yield place, name


def _is_image(name: str) -> bool:
    # Names with a leading dot are other programs' notes, not images.
    return name.lower().endswith(SUFFIXES) and name[0] != "."


def _class_folders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
