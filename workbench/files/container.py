"""A file of arrays that is written completely or not at all, and checked when read.

It is a safetensors file: flat named arrays, with a JSON header and a checksum of both
in its metadata. Opening one never runs code. Studies, checkpoints and the finished
stages of a measurement are stored this way. Torch is loaded only by readers that ask
for tensors.
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
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from workbench.errors import WorkbenchError, printable
from workbench.files.foreign import foreign_kind, three_lines

MOST_HEADER = 32 * 2**20  # bytes of a file's head: names and plain values
MOST_TEXT = 4 * 2**20  # of these, our own header
MOST_ARRAYS = 100_000
MOST_SIDE = 2**40  # entries along one axis of an array
MOST_SAID = 120  # characters of the reason why a file is damaged
LITTER, STALE = ".workbench-", 3600.0  # leftovers: prefix, seconds of age
CHECKSUM = "workbench.crc32"
# NumPy's types by the names of safetensors, and one of torch's that NumPy lacks.
DTYPES = {"bool": "BOOL", "complex64": "C64", "bfloat16": "BF16"}
DTYPES |= {f"float{bits}": f"F{bits}" for bits in (16, 32, 64)}
DTYPES |= {f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)}
DTYPES |= {f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)}
# What reading a malformed file can raise; RuntimeError comes from torch.
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
    """One kind of file, and the words for it in error messages."""

    kind: str  # "study", "checkpoint" or "part"
    schema: int  # the latest that can be read
    who: str  # the function that reads it
    made_by: str  # the command that writes it
    again: str  # what to do if it is damaged


def write_whole(
    path: str | os.PathLike[str], content: Iterable[bytes | memoryview], who: str
) -> Path:
    """Write a temporary file, then rename it; an old file stays intact until then.

    A symbolic link is kept and its target replaced. Devices and pipes are refused.

    Args:
        path: The file.
        content: The whole content, in pieces.
        who: Begins the error message.

    Raises:
        WorkbenchError: If it cannot be written. Then no partial file remains, and the
            exception's cause is the system's error.
    """
    target = Path(path)
    try:
        real = Path(os.path.realpath(target))
        if not real.parent.is_dir():
            raise WorkbenchError(
                f"{who}: the folder {target.parent} does not exist; create it, or "
                "choose another."
            )
        before = real.stat() if real.exists() else None
        if before is not None and not (real.is_file() or real.is_dir()):
            raise WorkbenchError(
                f"{who}: cannot write {target}: it is a device or a pipe, not a file; "
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
    except (OSError, ValueError) as error:  # Value: a name with a null byte
        said = getattr(error, "strerror", None) or error
        raise WorkbenchError(f"{who}: cannot write {target}: {said}.") from error
    return target


def make_folder(folder: Path, who: str) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        WorkbenchError: If it cannot be made; ``who`` begins the sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"{who}: the folder {folder} cannot be made ({error.strerror}); choose "
            "another."
        ) from error


def is_full(error: WorkbenchError) -> bool:
    """Whether a write failed because the disk was full."""
    cause = error.__cause__
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(cause, OSError) and cause.errno in full


def save_somewhere(save: Callable[[Path], object], path: Path) -> tuple[Path, str]:
    """Save to a path, or if that fails, in the system's temporary folder.

    Use it for results that took long to compute, which a full disk must not lose.

    Args:
        save: Writes the file at a path.
        path: Where to save it.

    Returns:
        Where it was saved, and a sentence that says so if that is not ``path``, else
        "".

    Raises:
        WorkbenchError: If it cannot be written there either; about ``path``.
    """
    try:
        save(path)
    except WorkbenchError as error:
        try:
            other = Path(tempfile.mkdtemp(prefix="workbench-")) / path.name
            save(other)
        except (WorkbenchError, OSError):
            raise error from None
        return other, f"{error} It was saved as {other} instead; move it from there."
    return path, ""


def remove_litter(folder: Path, age: float = STALE) -> None:
    """Remove partial files that killed processes have left in a folder."""
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
        kind: As `Format.kind`.
        header: Plain values.
        arrays: NumPy arrays, or tensors on the CPU, by name.

    Raises:
        WorkbenchError: If it cannot be written.
    """
    text = json.dumps(header)
    kinds = {name: _kind(name, array) for name, array in arrays.items()}
    plain = {name: _numbers(array) for name, array in arrays.items()}
    metadata = {f"workbench.{kind}": text, CHECKSUM: checksum(text, plain)}
    return write_whole(path, _pieces(metadata, kinds, plain), "save")


def _kind(name: str, array: Any) -> str:
    """What safetensors calls its numbers."""
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise WorkbenchError(
            f"save: {printable(name)} has numbers of the type {dtype}, for which files "
            "have no place; convert them, for instance to float32."
        )
    return DTYPES[dtype]


def _numbers(array: Any) -> NDArray[Any]:
    """Of an array or a tensor, as they lie; what NumPy lacks as integers."""
    if str(array.dtype) == "torch.bfloat16":
        array = array.view(array.new_empty(0).short().dtype)
    return np.asarray(array, order="C")


def _pieces(
    metadata: Mapping[str, str],
    kinds: Mapping[str, str],
    arrays: Mapping[str, NDArray[Any]],
) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file piece by piece: a header, then each array's memory.

    The same bytes as safetensors' ``save``, which needs three times the file's size in
    memory. Its ``save_file`` does not, but makes files that only their owner can read.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    head: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    place = 0
    for name in order:
        array, start = arrays[name], place
        place += array.nbytes
        head[name] = {
            "dtype": kinds[name],
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
    """Read header and arrays, and build the value that they hold.

    Args:
        path: The file.
        form: The kind of file expected.
        framework: ``"np"`` for arrays, ``"pt"`` for tensors.
        build: Makes the value from header and arrays; an exception in `BROKEN` means
            that the file is damaged.

    Raises:
        WorkbenchError: If the file is missing, damaged, of another kind, from another
            tool or from a later version.
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
                raise ValueError("its checksum does not match")
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
        f"{who}: {source} has schema {schema} and this version reads schemas up to "
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
        return "is a study, not a checkpoint; 'workbench show' prints it."
    if form.kind == "study" and "workbench.checkpoint" in metadata:
        return "is a checkpoint, not a study; 'workbench measure' makes one from it."
    words = (
        f"is a safetensors file but not a {form.kind}; use one written by "
        f"`{form.made_by}`."
    )
    if form.kind == "checkpoint":
        words += f" {three_lines('safetensors')}"
    return words


def checksum(text: str, arrays: Mapping[str, Any]) -> str:
    """Return the CRC-32 of the header and of all arrays, sorted by name."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        flat = np.ascontiguousarray(_numbers(array).ravel())
        crc = zlib.crc32(flat.view(np.uint8).data, crc)
    return f"{crc:08x}"


def _damaged(source: Path, form: Format, error: Exception) -> WorkbenchError:
    said = printable(f"{type(error).__name__}: {error}")
    said = said if len(said) <= MOST_SAID else f"{said[: MOST_SAID - 3]}..."
    return WorkbenchError(
        f"{form.who}: {source} is damaged or not a {form.kind} ({said}); "
        f"{form.again}, or copy the file again."
    )
