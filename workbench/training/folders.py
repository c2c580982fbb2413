"""Any folder of images, one folder a class, cut by torchvision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.control import Control, Progress, ProgressCallback
from workbench.errors import WorkbenchError
from workbench.imagefolder import SUFFIXES, class_names, list_images, split_folder
from workbench.training.source import Source

LARGEST_KEPT = 64  # pixels; larger images, and those of unequal size, are resized
RESIZED = 32  # pixels, to that
_GREY = {"1", "L", "LA"}  # Pillow's modes of eight bits or less without colour


def open_folder(
    path: Path,
    split: str,
    shape: tuple[int, int, int] | None = None,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Source:
    """List the images of a folder; only those chosen later are read.

    Args:
        path: Holds one folder a class, or ``train`` and ``test`` with those.
        split: Which of the two. A folder without them is all ``train``.
        shape: Channels and size to give the images; by default what suits those chosen.
        progress: Told how far the reading is.
        control: Can cancel the reading.

    Raises:
        WorkbenchError: If there is no such folder, or no class in it. Reading raises
            it if an image cannot be read.
    """
    folder = split_folder(path, split)
    names = class_names(folder)
    listed = [
        (file, c) for c, name in enumerate(names) for file in list_images(folder / name)
    ]
    if not listed:
        raise WorkbenchError(
            f"load_data: the {len(names)} folders of {folder} hold no image; "
            f"images end in {', '.join(SUFFIXES)}."
        )
    files = [file for file, _ in listed]

    def read(chosen: Tensor) -> Tensor:
        return _read([files[i] for i in chosen.tolist()], shape, progress, control)

    return Source(
        labels=torch.tensor([c for _, c in listed]),
        class_names=names,
        read=read,
        words=f"images below {folder}",
    )


def _read(
    files: Sequence[str],
    shape: tuple[int, int, int] | None,
    progress: ProgressCallback | None,
    control: Control | None,
) -> Tensor:
    """Read the files into one tensor of values in [0, 1]."""
    from PIL import Image
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    if progress:
        progress(Progress("Reading images", 0.0, f"{len(files):,} images"))
    told = time.monotonic()
    channels, height, width = shape or _common_shape(files, control)
    images = torch.empty(len(files), channels, height, width)
    for n, file in enumerate(files):
        if control:
            control.check()
        if progress and time.monotonic() > told + 0.5:
            told = time.monotonic()
            detail = f"image {n:,} of {len(files):,}"
            progress(Progress("Reading images", n / len(files), detail))
        try:
            with Image.open(file) as opened:
                image = opened.convert("L" if channels == 1 else "RGB")
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            raise _unreadable(file, error) from error
        if image.size != (width, height):
            image = center_crop(resize(image, min(height, width)), [height, width])
        images[n] = pil_to_tensor(image).float().div_(255)
    return images


def _common_shape(
    files: Sequence[str], control: Control | None
) -> tuple[int, int, int]:
    """Choose channels and size from the headers of the files."""
    from PIL import Image

    modes, sizes = set(), set()
    for file in files:
        if control:
            control.check()
        try:
            with Image.open(file) as image:
                modes.add(image.mode)
                sizes.add(image.size)
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            raise _unreadable(file, error) from error
        if image.mode[0] in "IF":
            raise WorkbenchError(
                f"load_data: {file} has more than 8 bits a pixel (mode {image.mode}); "
                "save it with 8 bits."
            )
    width, height = next(iter(sizes))
    keep = len(sizes) == 1 and width == height <= LARGEST_KEPT
    size = width if keep else RESIZED
    return (1 if modes <= _GREY else 3), size, size


def _unreadable(file: str, error: Exception) -> WorkbenchError:
    return WorkbenchError(
        f"load_data: the image {file} cannot be read ({error}); "
        "replace it or take it out of the folder."
    )
