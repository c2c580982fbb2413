"""Finished stages of a measurement on disk, so that a killed one can resume.

Each finished stage is a safetensors file: flat named arrays, and a JSON header in its
metadata. Opening one never runs code.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from workbench import __version__
from workbench.curvature.gram.coordinates import Coordinates
from workbench.curvature.gram.gram import Gram
from workbench.curvature.means.averages import CrossClassMeans
from workbench.curvature.means.class_gram import ClassGram
from workbench.curvature.problem.batches import LabelledImages
from workbench.curvature.problem.criterion import as_criterion
from workbench.errors import WorkbenchError
from workbench.files.container import (
    Format,
    is_full,
    read_container,
    remove_litter,
    save_somewhere,
    write_container,
)
from workbench.linalg.lanczos import EigenPairs
from workbench.linalg.operator import Dense
from workbench.machine.distributed import World
from workbench.measurement.cost import STAGES
from workbench.measurement.layers import BlockValues
from workbench.measurement.null import Nulls
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.subject import Subject
from workbench.measurement.ways import WAYS
from workbench.study.convention import Convention
from workbench.study.layers import Layers
from workbench.study.null import Null
from workbench.study.records import Embedding, LastLayer, Levels, Study
from workbench.study.spectrum import Spectrum
from workbench.study.walk import Walk

_FORM = Format("part", 1, "measure", "workbench measure", "measuring that again")
_RECORDS: Mapping[str, Any] = {
    kind.__name__: kind
    for kind in (
        BlockValues, ClassGram, Convention, Coordinates, CrossClassMeans, Dense,
        EigenPairs, Embedding, Gram, LastLayer, Layers, Levels, Null, Nulls, Spectrum,
        Walk, *WAYS,
    )
}  # fmt: skip


def fingerprint(subject: Subject, settings: MeasureSettings) -> str:
    """Hash what a stored stage depends on: weights, data and settings."""
    data = subject.data
    if isinstance(data, LabelledImages):
        data = (data.images, data.labels)
    versions = {"workbench": __version__, "torch": torch.__version__}
    criterion: Any = as_criterion(subject.options.get("loss", "cross_entropy"))
    loss = {f.name: getattr(criterion, f.name) for f in fields(criterion)}
    plain = {**versions, **asdict(settings), **subject.options, "loss": str(loss)}
    crc = zlib.crc32(json.dumps(plain, default=str).encode())
    pieces = (subject.model.state_dict(), loss, *data)  # a loader, batch by batch
    for piece in pieces:
        for tensor in tree_leaves(piece):
            if isinstance(tensor, Tensor):
                numbers = tensor.detach().cpu().contiguous().flatten()
                crc = zlib.crc32(numbers.view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


class StageStore:
    """The finished stages of one measurement, in a folder or not stored.

    Args:
        folder: Their folder; None stores nothing.
        key: The `fingerprint`; stages with another are ignored.
        world: One process writes; a stage that not all can read is measured again.
        outside: Objects that a stage may refer to by name instead of containing them.
        note: Called with sentences worth showing.
    """

    def __init__(
        self,
        folder: Path | None,
        key: str,
        world: World,
        outside: Mapping[str, Any],
        note: Callable[[str], None],
    ) -> None:
        self._folder, self._key, self._world = folder, key, world
        self._outside, self._note = outside, note
        self._said: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether there is a file of this stage, usable or not."""
        return self._folder is not None and (self._folder / name).is_file()

    def keep(self, name: str, make: Callable[[], str]) -> str:
        """Return the stored text, or make and store it."""
        text = self.load(name)
        if not isinstance(text, str):
            text = make()
            self.save(name, text)
        return text

    def load(self, name: str) -> Any:
        """Return the value of a finished stage; None if there is no usable one."""
        if self._folder is None:
            return None
        value = self._read(self._folder / name)
        num_readers = float(self._world.sum(torch.tensor(float(value is not None))))
        return value[0] if value and num_readers == self._world.size else None

    def save(self, name: str, value: Any) -> None:
        """Store the value of a stage, unless the disk is full."""
        if self._folder is None or self._world.rank:
            return
        tensors: dict[str, Tensor] = {}
        packed = _pack(value, "", tensors, self._outside)
        header = {"schema": _FORM.schema, "key": self._key, "value": packed}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_container(self._folder / name, _FORM.kind, header, tensors)
        except (WorkbenchError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            self._say(
                f"Finished stages cannot be stored in {self._folder} "
                f"({getattr(cause, 'strerror', None) or error}); continuing without."
            )

    def _read(self, path: Path) -> tuple[Any] | None:
        if not path.is_file():
            return None

        def build(header: dict[str, Any], tensors: dict[str, Any]) -> tuple[Any] | None:
            if header["key"] == self._key:
                return (_unpack(header["value"], tensors, self._outside),)
            self._say(
                f"{path.parent} contains stages of another network, other settings or "
                "another version; measuring everything again."
            )
            return None

        try:
            return read_container(path, _FORM, "pt", build)
        except WorkbenchError as error:
            self._say(
                f"{path} is damaged ({error.__cause__}); measuring this stage again."
            )
            return None

    def _say(self, sentence: str) -> None:
        """Say it only once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._note(sentence)


def save_study(study: Study, path: Path, parts: Path) -> tuple[Path, str]:
    """Write a study and remove its finished stages; if the disk is full, remove first.

    Returns:
        Its path, and a sentence if that is not the requested one; see `save_somewhere`.

    Raises:
        WorkbenchError: If it cannot be written anywhere.
    """

    def save(place: Path) -> None:
        try:
            study.save(place)
        except WorkbenchError as error:
            if not is_full(error) or not parts.is_dir():
                raise
            remove_parts(parts)
            study.save(place)

    found = save_somewhere(save, path)
    remove_parts(parts)
    return found


def remove_parts(folder: Path) -> None:
    """Remove the stages once the study is written, but no other files."""
    for name in ("plan", "way", *STAGES):
        (folder / name).unlink(missing_ok=True)
        (folder / f".{name}").unlink(missing_ok=True)
    remove_litter(folder, age=0.0)
    for moment in folder.glob("epoch-*"):
        remove_parts(moment)
    with suppress(OSError):
        folder.rmdir()


def _pack(
    value: Any, name: str, tensors: dict[str, Tensor], outside: Mapping[str, Any]
) -> Any:
    """Replace each array below ``value`` by its name, and put it into ``tensors``."""
    for key, thing in outside.items():
        if value is thing:
            return {"outside": key}
    if isinstance(value, Tensor):
        order = sorted(range(value.ndim), key=value.stride, reverse=True)
        plain = value.detach().cpu().permute(order)
        tensors[name] = plain.contiguous()  # nearly always contiguous: no copy
        return {"tensor": name, "order": order, "device": str(value.device)}
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
        return {"array": name}
    if is_dataclass(value):
        inner = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        packed = _pack(inner, name, tensors, outside)
        return {"record": type(value).__name__, **packed}
    if isinstance(value, Mapping):
        return {
            "fields": {
                k: _pack(v, f"{name}/{k}", tensors, outside) for k, v in value.items()
            }
        }
    if isinstance(value, (list, tuple)):
        items = [_pack(v, f"{name}/{n}", tensors, outside) for n, v in enumerate(value)]
        return {"items": items}
    return {"plain": value}


def _unpack(
    packed: Mapping[str, Any], tensors: Mapping[str, Tensor], outside: Mapping[str, Any]
) -> Any:
    match packed:
        case {"outside": key}:
            return outside[key]
        case {"tensor": name, "order": order, "device": device}:
            # With the original strides and alignment, which determine the order of
            # sums.
            back = [order.index(axis) for axis in range(len(order))]
            return tensors[name].clone().to(device).permute(back)
        case {"array": name}:
            return tensors[name].numpy()
        case {"fields": inner, **rest}:
            found = {k: _unpack(v, tensors, outside) for k, v in inner.items()}
            return _RECORDS[rest["record"]](**found) if rest else found
        case {"items": items}:
            return tuple(_unpack(v, tensors, outside) for v in items)
        case {"plain": value}:
            return value
    raise ValueError(f"a value of the form {sorted(packed)}")
