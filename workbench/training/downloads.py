"""Torchvision's data sets: found on disk, checked, downloaded on request.

Names, addresses, checksums, unpacking and reading are torchvision's. Only the transfer
itself is ours, because torchvision's can be neither watched nor stopped.
"""

from __future__ import annotations

import errno
import os
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from workbench.errors import WorkbenchError, readable
from workbench.progress.control import Control, Progress, ProgressCallback
from workbench.training.source import Source

_TIMEOUT = 30.0  # seconds without a response
_CHUNK = 1 << 18  # bytes between checks of the control


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of torchvision's data sets."""

    title: str
    torchvision: str  # name of its class in torchvision.datasets
    mean: tuple[float, ...]  # of the training images, per channel of values in [0, 1]
    std: tuple[float, ...]


DOWNLOADS: Mapping[str, _Kind] = {
    "mnist": _Kind("MNIST", "MNIST", (0.1307,), (0.3081,)),
    "fashion": _Kind("Fashion-MNIST", "FashionMNIST", (0.2860,), (0.3530,)),
    "cifar10": _Kind(
        "CIFAR-10", "CIFAR10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    ),
    "cifar100": _Kind(
        "CIFAR-100", "CIFAR100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    ),
}


def open_download(
    name: str,
    folder: Path,
    split: str,
    download: bool = False,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Source:
    """Open one of torchvision's data sets in a folder.

    Args:
        name: A key of `DOWNLOADS`.
        folder: The folder where torchvision looks for it.
        split: ``train`` or ``test``.
        download: Download it if it is missing or damaged. An incomplete file is
            downloaded again from the start.
        progress: Called with the progress of the download.
        control: Can cancel the download; an incomplete file is never taken for a
            complete one.

    Raises:
        WorkbenchError: If it is missing or damaged, and not or not successfully
            downloaded.
        Cancelled: If ``control`` was cancelled.
    """
    from torchvision import datasets

    kind = DOWNLOADS[name]
    found = getattr(datasets, kind.torchvision)
    with readable("load_data", folder):
        missing, damaged = _inspect(found, folder)
    if missing or damaged:
        if not download:
            raise _not_there(name, folder, missing, damaged)
        _fetch(found, folder, kind.title, damaged, progress, control)
        missing, damaged = _inspect(found, folder)
        if missing or damaged:
            raise _not_there(name, folder, missing, damaged)
    data = found(folder, train=split == "train", download=False)
    pixels = torch.as_tensor(data.data)  # (M, H, W) or (M, H, W, 3) uint8
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    digits = name == "mnist"  # torchvision calls its classes "0 - zero"
    return Source(
        labels=torch.as_tensor(data.targets).long(),
        class_names=tuple(str(c)[0] if digits else str(c) for c in data.classes),
        read=lambda chosen: images[chosen].float().div_(255),
        words=f"torchvision's {kind.title} in {folder}",
        mean=kind.mean,
        std=kind.std,
    )


def _inspect(found: Any, folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a data set that are missing, and those that are damaged."""
    from torchvision.datasets.utils import check_integrity

    if hasattr(found, "resources"):  # MNIST's family: unpacked idx files
        raw = folder / found.__name__ / "raw"
        files = [raw / archive.removesuffix(".gz") for archive, _ in found.resources]
        whole = _is_whole_idx
        sums: dict[Path, str] = {}
    else:
        base = folder / found.base_folder
        listed = [*found.train_list, *found.test_list]
        listed.append([found.meta["filename"], found.meta["md5"]])
        sums = {base / file: md5 for file, md5 in listed}
        files = list(sums)

        def whole(file: Path) -> bool:
            return bool(check_integrity(file, sums[file]))

    missing = [file for file in files if not file.is_file()]
    damaged = [file for file in files if file not in missing and not whole(file)]
    return missing, damaged


def _is_whole_idx(file: Path) -> bool:
    """Whether an idx file is as long as its header says."""
    with file.open("rb") as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08":
            return False
        sizes = [int.from_bytes(stream.read(4), "big") for _ in range(magic[3])]
    expected = 4 + 4 * len(sizes)
    num_values = 1
    for size in sizes:
        num_values *= size
    return file.stat().st_size == expected + num_values and num_values > 0


def _not_there(
    name: str, folder: Path, missing: Sequence[Path], damaged: Sequence[Path]
) -> WorkbenchError:
    title = DOWNLOADS[name].title
    what = f"{damaged[0]} is damaged or incomplete" if damaged else ""
    if missing:
        what = f"{title} is not in {folder} ({missing[0].name} is missing)"
    return WorkbenchError(
        f"load_data: {what}. To download {title}, tick Download if missing on the "
        "page, pass download=True in Python, or --download on the command line. If "
        "you have it elsewhere, set $WORKBENCH_DATA before starting the page, or pass "
        "root= (--root)."
    )


def _fetch(
    found: Any,
    folder: Path,
    title: str,
    damaged: Sequence[Path],
    progress: ProgressCallback | None,
    control: Control | None,
) -> None:
    """Download missing or incomplete archives and let torchvision unpack them."""
    from torchvision.datasets.utils import check_integrity

    if hasattr(found, "resources"):
        raw = folder / found.__name__ / "raw"
        archives = [
            ([mirror + file for mirror in found.mirrors], raw / file, md5)
            for file, md5 in found.resources
        ]
    else:
        archives = [([found.url], folder / found.filename, found.tgz_md5)]
    try:
        for n, (addresses, file, md5) in enumerate(archives):
            part = (n / len(archives), (n + 1) / len(archives))
            file.parent.mkdir(parents=True, exist_ok=True)
            if not check_integrity(file, md5):
                _fetch_file(addresses, file, md5, title, part, progress, control)
        for file in damaged:  # else torchvision trusts an unpacked file
            file.unlink()
        found(folder, download=True)
    except OSError as error:
        raise WorkbenchError(
            f"load_data: {title} cannot be written to {folder} "
            f"({error.strerror or error}); free some space, or choose another root."
        ) from error
    except RuntimeError as error:
        raise WorkbenchError(
            f"load_data: {title} could not be unpacked in {folder} ({error}); delete "
            "its files there and try again."
        ) from error


def _fetch_file(
    addresses: Sequence[str],
    file: Path,
    md5: str,
    title: str,
    part: tuple[float, float],
    progress: ProgressCallback | None,
    control: Control | None,
) -> None:
    """Download a file from the first address that has it intact."""
    from torchvision.datasets.utils import check_integrity

    def tell(done: int, total: int) -> None:
        if control:
            control.check()
        if progress:
            low, high = part
            share = min(done / total, 1.0) if total else 0.0
            detail = f"{file.name}, {done / 1e6:.1f} MB"
            detail += f" of {total / 1e6:.1f} MB" if total else ""
            fraction = low + share * (high - low)
            progress(Progress(f"Downloading {title}", fraction, detail))

    target = file.with_name(file.name + ".part")
    failures = []
    try:
        for address in addresses:
            try:
                done = _transfer(address, target, tell)
            except (OSError, HTTPException) as error:  # no response, or cut short
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    raise  # the disk is full; another address will not help
                failures.append(f"{address}: {getattr(error, 'reason', error)}")
                continue
            if check_integrity(target, md5):
                os.replace(target, file)
                return
            failures.append(f"{address}: {done:,} bytes, not the expected file")
    finally:
        target.unlink(missing_ok=True)
    raise WorkbenchError(
        f"load_data: {title} could not be downloaded ({'; '.join(failures)}); check "
        "the connection and try again, or download the files yourself and give their "
        "folder as $WORKBENCH_DATA, set before starting the page, or root= (--root)."
    )


def _transfer(address: str, target: Path, tell: Callable[[int, int], None]) -> int:
    """Download a file; return how many bytes were received."""
    request = urllib.request.Request(
        address, headers={"User-Agent": "hessian-workbench"}
    )
    done = 0
    with (
        urllib.request.urlopen(request, timeout=_TIMEOUT) as answer,
        target.open("wb") as sink,
    ):
        total = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(_CHUNK):
            sink.write(chunk)
            done += len(chunk)
            tell(done, total)
    return done
