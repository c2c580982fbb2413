"""One file of arrays: written whole or not at all, and checked when it is read.

It is a safetensors file: flat named arrays, and a JSON header with a checksum of both
in its metadata. Opening one never runs code. Studies, checkpoints and the finished
stages of a measurement are such files. No torch: who wants tensors says so.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from workbench.errors import WorkbenchError, printable
from workbench.files.foreign import foreign_kind, three_lines

MOST_HEADER = 32 * 2**20  # bytes of all names and plain values in a file
MOST_TEXT = 4 * 2**20  # of them, those of our own
MOST_ARRAYS = 100_000
MOST_SIDE = 2**40  # entries along one axis of an array
MOST_SAID = 120  # letters of what is wrong with a file
LITTER, STALE = ".workbench-", 3600.0  # of a killed process: name, seconds of age
CHECKSUM = "workbench.crc32"
# What safetensors calls the numbers of NumPy.
DTYPES = {"bool": "BOOL", "complex64": "C64"}
DTYPES |= {f"float{bits}": f"F{bits}" for bits in (16, 32, 64)}
DTYPES |= {f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)}
DTYPES |= {f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)}
# What reading a file that is not as it should be can raise; Runtime: torch's.
BROKEN = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    SafetensorError,
)
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file, and how to speak of it."""

    kind: str  # "study", "checkpoint" or "part"
    schema: int  # the latest that is read
    who: str  # reads it
    made_by: str  # the command that writes it
    again: str  # what to do where it is damaged


def write_whole(
    path: str | os.PathLike[str], content: Iterable[bytes | memoryview], who: str
) -> Path:
    """Write a file beside its place, then rename it: the old one stays until then.

    A link stays, and what it points at is replaced. Devices and pipes are refused.

    Args:
        path: The file.
        content: All of it, in pieces.
        who: Begins the sentence of what goes wrong.

    Raises:
        WorkbenchError: If it cannot be written; nothing of it is left then. Its cause
            is the system's error.
    """
    target = Path(path)
    try:
        real = Path(os.path.realpath(target))
        if not real.parent.is_dir():
            raise WorkbenchError(
                f"{who}: the folder {target.parent} does not exist; make it, "
                "or choose another."
            )
        before = real.stat() if real.exists() else None
        if before is not None and not (real.is_file() or real.is_dir()):
            raise WorkbenchError(
                f"{who}: cannot write {target}: it is a device or a pipe and no file; "
                "choose another name."
            )
        part = real.with_name(f"{LITTER}{secrets.token_hex(8)}")
        try:
            with part.open("wb") as file:
                file.writelines(content)
            if before is not None and real.is_file():
                with suppress(OSError):
                    part.chmod(before.st_mode & 0o777)
            os.replace(part, real)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    except WorkbenchError:
        raise
    except (OSError, ValueError) as error:  # Value: a name with a zero byte
        said = getattr(error, "strerror", None) or error
        raise WorkbenchError(f"{who}: cannot write {target}: {said}.") from error
    return target


def is_full(error: WorkbenchError) -> bool:
    """Whether something could not be written because there was no room for it."""
    cause = error.__cause__
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(cause, OSError) and cause.errno in full


def save_somewhere(save: Callable[[Path], object], path: Path) -> tuple[Path, str]:
    """Save to a path, else below the system's folder for temporary files.

    So that what took long is not lost where a disk is full.

    Args:
        save: Writes the file at a path.
        path: Where it should be.

    Returns:
        Where it is, and where that is elsewhere a sentence that says so, else "".

    Raises:
        WorkbenchError: If it cannot be written there either; about the first place.
    """
    try:
        save(path)
    except WorkbenchError as error:
        try:
            other = Path(tempfile.mkdtemp(prefix="workbench-")) / path.name
            save(other)
        except (WorkbenchError, OSError):
            raise error from None
        return other, f"{error} It is in {other} instead: move it from there."
    return path, ""


def remove_litter(folder: Path, age: float = STALE) -> None:
    """Remove what processes that were killed while writing have left in a folder."""
    with suppress(OSError):
        for path in folder.glob(f"{LITTER}*"):
            with suppress(OSError):
                if path.is_file() and time.time() - path.stat().st_mtime >= age:
                    path.unlink()


def write_container(
    path: str | os.PathLike[str],
    kind: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, Any],
) -> Path:
    """Write arrays and a header.

    Args:
        path: The file.
        kind: As in `Format`.
        header: Plain values.
        arrays: By name: NumPy's, or tensors on the CPU.

    Raises:
        WorkbenchError: If it cannot be written.
    """
    text = json.dumps(header)
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {f"workbench.{kind}": text, CHECKSUM: checksum(text, plain)}
    return write_whole(path, _pieces(metadata, plain), "save")


def _pieces(
    metadata: Mapping[str, str], arrays: Mapping[str, Any]
) -> Iterator[bytes | memoryview]:
    """A safetensors file, piece by piece: a header, then the arrays as they lie.

    The same bytes as of safetensors' ``save``, which holds a file three times over in
    memory. Its ``save_file`` does not, but lets nobody else read its files.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    head: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    place = 0
    for name in order:
        array, start = arrays[name], place
        place += array.nbytes
        head[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (start, place),
        }
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in order:
        yield arrays[name].reshape(-1).view(np.uint8).data


def read_container(
    path: str | os.PathLike[str],
    form: Format,
    framework: str,
    build: Callable[[dict[str, Any], dict[str, Any]], Content],
) -> Content:
    """Read header and arrays, and build what they hold.

    Args:
        path: The file.
        form: What it should be.
        framework: ``"np"`` for arrays, ``"pt"`` for tensors.
        build: From header and arrays to the value; what it raises of `BROKEN` says that
            the file is damaged.

    Raises:
        WorkbenchError: If the file is missing, another tool's, damaged, of another kind
            or written by a later version.
    """
    source, who = Path(path), form.who
    try:
        if not source.is_file():
            raise WorkbenchError(f"{who}: there is no file {source}; check the path.")
        with source.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > MOST_HEADER:
                raise SafetensorError("its header is too long")
        text, crc, arrays = _read(source, form, framework)
        header = json.loads(text)
        schema = header["schema"]
        if type(schema) is not int or schema < 1:
            raise ValueError(f"schema {schema!r}")
        if schema <= form.schema:
            if crc != checksum(text, arrays):
                raise ValueError("its checksum is another")
            return build(header, arrays)
    except WorkbenchError:
        raise
    except SafetensorError as error:
        if kind := foreign_kind(source):
            raise WorkbenchError(f"{who}: {source.name} is {kind}") from error
        raise _damaged(source, form, error) from error
    except OSError as error:
        raise WorkbenchError(
            f"{who}: {source} cannot be read ({error.strerror or error}); check the "
            "path."
        ) from error
    except BROKEN as error:
        raise _damaged(source, form, error) from error
    raise WorkbenchError(
        f"{who}: {source} has schema {schema} and this version reads up to "
        f"{form.schema}; update hessian-workbench to open it."
    )


def _read(
    source: Path, form: Format, framework: str
) -> tuple[str, str | None, dict[str, Any]]:
    """Return the header, the checksum and the arrays of a file."""
    arrays: dict[str, Any] = {}
    with safe_open(source, framework=framework) as opened:
        metadata = opened.metadata() or {}
        text = metadata.get(f"workbench.{form.kind}")
        if text is None:
            raise WorkbenchError(f"{form.who}: {source.name} {_other(metadata, form)}")
        if len(text) > MOST_TEXT or len(opened.keys()) > MOST_ARRAYS:
            raise ValueError("its header is too long")
        for name in opened.keys():  # noqa: SIM118
            shape = opened.get_slice(name).get_shape()
            if len(shape) > 16 or max(shape, default=0) > MOST_SIDE:
                raise ValueError(f"an array of shape {shape[:16]}")
            arrays[name] = opened.get_tensor(name)
    return text, metadata.get(CHECKSUM), arrays


def _other(metadata: Mapping[str, str], form: Format) -> str:
    """Say what a safetensors file without this header is."""
    if form.kind == "checkpoint" and "workbench.study" in metadata:
        return "is a study and holds no checkpoint; 'workbench show' prints it."
    if form.kind == "study" and "workbench.checkpoint" in metadata:
        return "is a checkpoint and holds no study; 'workbench measure' makes one."
    words = (
        f"is a safetensors file but holds no {form.kind}; a {form.kind} is what "
        f"`{form.made_by}` writes."
    )
    if form.kind == "checkpoint":
        words += f" {three_lines('safetensors')}"
    return words


def checksum(text: str, arrays: Mapping[str, Any]) -> str:
    """CRC-32 of the header and, in the order of their names, of all arrays."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        flat = array.ravel() if isinstance(array, np.ndarray) else array.flatten()
        crc = zlib.crc32(np.ascontiguousarray(flat).view(np.uint8).data, crc)
    return f"{crc:08x}"


def _damaged(source: Path, form: Format, error: Exception) -> WorkbenchError:
    said = printable(f"{type(error).__name__}: {error}")
    said = said if len(said) <= MOST_SAID else f"{said[: MOST_SAID - 3]}..."
    return WorkbenchError(
        f"{form.who}: {source} is damaged or no {form.kind} ({said}); "
        f"{form.again}, or copy the file again."
    )
