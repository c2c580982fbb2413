"""Any folder of images, one folder per class, resized and cropped by torchvision."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.files.image_folder import (
    class_label,
    class_names,
    find_classes,
    list_images,
    no_image,
    passed_over,
)
from workbench.progress.control import Control, Progress, ProgressCallback
from workbench.training.source import Source

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_KEPT = 64  # pixels; larger images, and images of unequal size, are resized
RESIZED = 32  # pixels, to that
COPIES = 0.75  # share of duplicate images from which on a folder is refused
_GREY = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N"}  # Pillow's modes
_DEEP = 65535.0  # white in 16 bits


def open_folder(
    path: Path,
    split: str,
    shape: tuple[int, int, int] | None = None,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Source:
    """List the images of a folder; only those selected later are read.

    Transparent images are placed on white, 16-bit ones scaled, and photographs rotated
    according to their EXIF orientation.

    Args:
        path: Contains one folder per class, or splits with those: see `find_classes`.
        split: Which split. A folder without splits is all ``train``.
        shape: Channels and size of the result; by default chosen to suit the images.
        progress: Called with the progress of reading.
        control: Can cancel the reading.

    Raises:
        WorkbenchError: If there is no such folder, or no class in it. Reading raises it
            if an image cannot be read, or most of them are identical.
    """
    found = find_classes(path, split)
    folder = found.folder
    names = class_names(folder)
    listed = [
        (file, c) for c, name in enumerate(names) for file in list_images(folder / name)
    ]
    if not listed:
        raise WorkbenchError(
            f"load_data: the {len(names)} folders of {folder} contain "
            f"{no_image(folder, names)}"
        )
    files, labels = [file for file, _ in listed], [c for _, c in listed]
    labelled = tuple(class_label(name) for name in names)
    notes = [found.note, passed_over(folder, names)]

    def read(chosen: Tensor) -> Tensor:
        indices = chosen.tolist()
        images, note = _read([files[i] for i in indices], shape, progress, control)
        notes.append(note)
        of = [labelled[labels[i]] for i in indices]
        notes.append(_copies(images, [files[i] for i in indices], of, folder))
        if progress and (note := " ".join(filter(None, notes))):
            progress(Progress("Reading images", 1.0, note=note))
        return images

    return Source(
        labels=torch.tensor(labels),
        class_names=labelled,
        read=read,
        words=f"images in {folder}",
        notes=notes,
    )


def _copies(
    images: Tensor, files: Sequence[str], classes: Sequence[str], folder: Path
) -> str:
    """Report identical images, compared pixel by pixel as read.

    Raises:
        WorkbenchError: If most of them are identical, which means that something went
            wrong.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for n, image in enumerate(images):
        groups[hashlib.blake2b(image.numpy().tobytes()).digest()].append(n)
    num, largest = len(files), max(groups.values(), key=len)
    share = 1 - len(groups) / num
    if num >= 4 and (2 * len(largest) > num or share > COPIES):
        alike = " and ".join(Path(files[n]).name for n in largest[:2])
        raise WorkbenchError(
            f"load_data: of {num:,} images in {folder}, only {len(groups):,} differ "
            f"once read; {alike}, for instance, are identical. Check whether they are "
            "blank, empty or copies."
        )
    across = [g for g in groups.values() if len({classes[n] for n in g}) > 1]
    if across:
        first = across[0][0]
        other = next(n for n in across[0] if classes[n] != classes[first])
        return (
            f"The same image is in two classes {len(across):,} "
            f"time{'s' if len(across) > 1 else ''}: {files[first]} and {files[other]}."
        )
    return f"{share:.0%} of the images are copies of others." if share > 0.1 else ""


def _read(
    files: Sequence[str],
    shape: tuple[int, int, int] | None,
    progress: ProgressCallback | None,
    control: Control | None,
) -> tuple[Tensor, str]:
    """Read the files into one tensor with values in [0, 1]; note what was left out."""
    from PIL import Image
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    if progress:
        progress(Progress("Reading images", 0.0, f"{len(files):,} images"))
    told = time.monotonic()
    channels, height, width = shape or _common_shape(files, control)
    images = torch.empty(len(files), channels, height, width)
    num_films = 0
    for n, file in enumerate(files):
        if control:
            control.check()
        if progress and time.monotonic() > told + 0.5:
            told = time.monotonic()
            detail = f"image {n:,} of {len(files):,}"
            progress(Progress("Reading images", n / len(files), detail))
        try:
            image, film = _decoded(file, "L" if channels == 1 else "RGB")
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            if isinstance(error, WorkbenchError):
                raise
            raise _unreadable(file, error) from error
        if image.size != (width, height):
            image = center_crop(resize(image, min(height, width)), [height, width])
        images[n] = pil_to_tensor(image).float().div_(255)  # 16-bit images are grey
        num_films += film
    are = "file holds" if num_films == 1 else "files hold"
    some = f"{num_films:,} {are} several images, of which the first is taken."
    return images, some if num_films else ""


def _decoded(file: str, mode: str) -> tuple[Image, bool]:
    """Read one image in this mode; ``F``, single precision, for more than 8 bits.

    Transparency becomes white, and EXIF orientation is applied.

    Returns:
        The image, and whether more follow in the file, such as frames or pages.
    """
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        opened.load()
        # Some cameras append small previews to a photograph.
        film = opened.format != "MPO" and getattr(opened, "is_animated", False)
        image: Image.Image = opened
        try:
            image = ImageOps.exif_transpose(opened)
        except Exception:  # bad metadata; the pixels are fine
            image = opened.copy()
    if image.mode[0] in "IF":
        values = np.asarray(image).astype(np.float32)
        if image.mode == "F" or not 0 <= values.min() <= values.max() <= _DEEP:
            raise WorkbenchError(
                f"load_data: {file} has more than 16 bits per pixel (mode "
                f"{image.mode}); save it with 8 or 16 bits."
            )
        return Image.fromarray(values * np.float32(255 / _DEEP)), film
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert(mode), film


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
    width, height = next(iter(sizes))
    keep = len(sizes) == 1 and width == height <= LARGEST_KEPT
    size = width if keep else RESIZED
    return (1 if modes <= _GREY else 3), size, size


def _unreadable(file: str, error: Exception) -> WorkbenchError:
    return WorkbenchError(
        f"load_data: the image {file} cannot be read ({error}); replace it or remove "
        "it from the folder."
    )
