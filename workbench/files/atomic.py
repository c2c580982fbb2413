"""What kind of file this is, judged by its first bytes. Sizes are capped. No torch.

Reads only the JSON at the head of a safetensors file, so a file is refused, or
recognised as a study or a checkpoint, before it is loaded.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, readable
from workbench.files.foreign import foreign_kind

STUDY, CHECKPOINT = "study", "checkpoint"
LARGEST = {STUDY: 64 * 2**20, CHECKPOINT: 2 * 2**30}  # bytes
UPLOAD = 64 * 2**20  # bytes that may be uploaded through the browser
HEADER = 8 * 2**20  # bytes of the JSON at a file's head


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file claims to be."""

    name: str  # "study" or "checkpoint"
    run: dict[str, Any]  # of a checkpoint: what was trained


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """Tell a study from a checkpoint.

    Raises:
        WorkbenchError: If the file is missing, too large, or neither.
    """
    with readable("Open", path):
        source = Path(path).expanduser()
        if source.is_dir():
            raise WorkbenchError(
                f"Open: {source} is a folder; give a file, or choose 'Image folder' "
                "as the dataset to train on the images in it."
            )
        if source.exists() and not source.is_file():
            raise WorkbenchError(
                f"Open: {source} is a device or a pipe, not a file; give a file."
            )
        size = source.stat().st_size
        with source.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= min(size, HEADER) else b""
    try:
        said = json.loads(text)["__metadata__"]
        kind = next(k for k in (STUDY, CHECKPOINT) if f"workbench.{k}" in said)
        header = json.loads(said[f"workbench.{kind}"])
        run = dict(header["run"]) if kind == CHECKPOINT else {}
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError) as error:
        if other := foreign_kind(source):
            raise WorkbenchError(f"Open: {source.name} is {other}") from error
        raise WorkbenchError(
            f"Open: {source.name} is neither a study nor a checkpoint; open a file "
            "from 'workbench measure', 'workbench train' or this page."
        ) from error
    if size > LARGEST[kind]:
        raise WorkbenchError(
            f"Open: {source.name} is {size / 2**20:,.0f} MB and the limit for a "
            f"{kind} is {LARGEST[kind] // 2**20:,} MB; open a smaller one."
        )
    return Kind(kind, run)
