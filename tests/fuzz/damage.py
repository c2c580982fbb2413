"""Damages and forges files of ours: the same number gives the same file."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from workbench.files.container import CHECKSUM, checksum

Array = NDArray[Any]
Arrays = dict[str, Array]

TEXTS = (
    "",
    "x" * 300,
    "\x1b[2J\x1b]0;owned\x07",
    "\ud800",
    "\u202egnp.exe",
    "'); import os; os.abort() #",
    "a\nimport os",
    "</script><script>alert(1)</script>",
    "=1+1",
    "__class__",
    "../../etc/passwd",
    "\x00",
    "G",
    "icml",
    "%s{0}{x}",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 255, 2**31, 2**53, 2**63, -(2**63), 10**30,
    0.0, -0.0, 0.5, 1e-320, 1e-12, 1e30, 1e300, -1e300, math.nan, math.inf, -math.inf,
    [], {}, [[]], [0], ["a", "b"], {"array": "nowhere"}, {"a": 1}, [None], [1] * 50,
)  # fmt: skip
NUMBERS = (0.0, -1.0, 1e-300, 1e-30, 1e30, 1e39, 1e300, np.nan, np.inf, -np.inf, 3.0)


def damaged(content: bytes, number: int) -> bytes:
    """Change bytes, as disks and downloads do."""
    rng = random.Random(number)
    found = bytearray(content)
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        most = len(found) if rng.random() < 0.5 else min(header, len(found))
        place = rng.randrange(max(most, 1))
        length = rng.choice((1, 1, 4, 8, 100))
        match rng.randrange(7):
            case 0:
                found = found[:place]
            case 1 if place < len(found):
                found[place] ^= 1 << rng.randrange(8)
            case 2:
                found[place : place + length] = rng.randbytes(length)
            case 3:
                found[place:place] = rng.randbytes(length)
            case 4:
                del found[place : place + length]
            case 5:
                found[place : place + length] = bytes(length)
            case _:
                found[place:place] = found[place : place + length]
    return bytes(found)


def opened(path: Path, kind: str) -> tuple[Any, Arrays]:
    """Read the header and the arrays of a file."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()[f"workbench.{kind}"]), arrays


def forged(header: Any, arrays: Arrays, kind: str, number: int) -> bytes:
    """Change plain values or arrays, and make the checksum right again."""
    rng = random.Random(number)
    header, arrays = json.loads(json.dumps(header)), dict(arrays)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if arrays and rng.random() < 0.4:
            _forge_array(arrays, rng)
        else:
            _forge_value(header, rng)
    text = json.dumps(header)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        crc = checksum(text, whole)
    except (TypeError, ValueError):
        crc = "0"
    content = save(whole, {f"workbench.{kind}": text, CHECKSUM: crc})
    return _with_shapes(content, rng) if rng.random() < 0.05 else content


def _forge_value(header: Any, rng: random.Random) -> None:
    """Change one value somewhere in the tree, each level as often."""
    place: Any = header
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = rng.choice(keys)
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.12:
            break
        place = inner
    match rng.randrange(8):
        case 0:
            del place[key]
        case 1:
            place[key] = rng.choice(TEXTS)
        case 2 if isinstance(place, dict):
            place[rng.choice(TEXTS)] = place.pop(key)
        case 3 if isinstance(place, dict):
            place[rng.choice(TEXTS)] = copy.deepcopy(rng.choice(VALUES))
        case 4:
            place[key] = copy.deepcopy(place[rng.choice(keys)])
        case 5 if isinstance(inner, (int, float)) and not isinstance(inner, bool):
            place[key] = rng.choice((inner + 1, inner - 1, -inner, inner * 1000))
        case _:
            place[key] = copy.deepcopy(rng.choice(VALUES))


def _forge_array(arrays: Arrays, rng: random.Random) -> None:
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    seeded = np.random.default_rng(rng.randrange(2**32))
    changes: tuple[Callable[[], Array], ...] = (
        lambda: array[:0] if array.ndim else array,
        lambda: array[: max(len(array) - 1, 0)] if array.ndim else array,
        lambda: np.concatenate([array, array]) if array.ndim else array,
        lambda: array.ravel(),
        lambda: array[..., None],
        lambda: array.astype(rng.choice(("f4", "f8", "i8", "u1", "i4", "bool"))),
        lambda: np.zeros_like(array),
        lambda: np.full_like(array, _fitting(rng, array)),
        lambda: _one_changed(array, rng),
        lambda: _one_changed(array, rng),
        lambda: seeded.permutation(array.ravel()).reshape(array.shape),
        lambda: -array if array.dtype != bool else array,
        lambda: array[::-1] if array.ndim else array,
        lambda: arrays[rng.choice(sorted(arrays))].copy(),
    )
    if rng.random() < 0.05:
        del arrays[name]
        return
    with np.errstate(all="ignore"):
        arrays[name] = rng.choice(changes)()


def _fitting(rng: random.Random, array: Array) -> Any:
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            return array.dtype.type(rng.choice(NUMBERS))
    return rng.choice((-2, -1, 0, 1, 3, 9, 100))


def _one_changed(array: Array, rng: random.Random) -> Array:
    if not array.size:
        return array
    changed = array.copy()
    changed.flat[rng.randrange(array.size)] = _fitting(rng, array)
    return changed


def _with_shapes(content: bytes, rng: random.Random) -> bytes:
    """Another shape in safetensors' own header, such as (0, 2^62)."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return content
    entry = header[rng.choice(names)]
    entry["shape"] = rng.choice(
        ([0, 2**62], [0, 2**40, 2**40], [1] * 70, [2**62], [-1], [])
    )
    if 0 in entry["shape"]:
        entry["data_offsets"] = [0, 0]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
