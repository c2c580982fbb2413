"""Recognises other tools' files by their first bytes, without executing anything."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

MOST_PICKLE = 2**20  # bytes of a pickle that are searched for names, not loaded

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # torch.save before 1.6
_BY_START: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them (.h5)"),
    (b"\x93NUMPY", "a NumPy file (.npy)"),
    (b"GGUF", "a GGUF file of a language model"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ\0", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer: run 'git lfs pull' first"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"%PDF", "a PDF"),
)
_TORCH = "torch.load(F, weights_only=True)"


def foreign_kind(path: Path) -> str:
    """Describe another tool's file and what to do instead: the end of a sentence.

    Returns:
        ``"a PyTorch file ..."`` with advice and a full stop; "" if it is not
        recognised.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return ""
    if start.startswith(_ZIP):
        return _zip_kind(path)
    if start.startswith(_OLD_TORCH):
        return f"a PyTorch file (.pth, .pt), not a checkpoint of ours. {three_lines()}"
    if start[:1] == _PICKLE and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 1:
        return (
            "a Python pickle, which could run code and is not opened; save the state "
            "dict with torch.save or safetensors, then train and measure in Python."
        )
    for begins, name in _BY_START:
        if start.startswith(begins):
            if name.endswith("first"):
                return f"{name}."
            return f"{name}, not a study or checkpoint of ours; {_ELSE}"
    if start[4:8] == b"TFL3" or path.suffix.lower() in (".onnx", ".tflite", ".pb"):
        return f"a model of another framework; {_ELSE}"
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it first."
    if start.lstrip()[:15].lower().startswith((b"<!doctype", b"<html")):
        return "a web page: the download failed or needs a login."
    return ""


_ELSE = "only PyTorch networks can be measured, such as those from 'workbench train'."


def three_lines(load: str = "torch") -> str:
    """Explain how to measure the weights in a file F, in three lines of Python."""
    read = _TORCH if load == "torch" else "safetensors.torch.load_file(F)"
    return (
        f"In Python: model.load_state_dict({read}); "
        "c = wb.train(model, data, wb.TrainConfig(epochs=0)); "
        "wb.measure(c).save('run.study')"
    )


def _zip_kind(path: Path) -> str:
    """Recognise a zip archive: torch, Lightning, Keras and NumPy write them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = [n for n in names if n.endswith("/data.pkl") or n == "data.pkl"]
            if pickled:
                with archive.open(pickled[0]) as file:
                    inside = file.read(MOST_PICKLE)
                return _torch_kind(names, inside)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError,
            RuntimeError, zlib.error):  # fmt: skip
        return "a damaged zip archive or PyTorch file; copy it again."
    if any(name.endswith("model.weights.h5") for name in names):
        return f"a Keras file (.keras), not a checkpoint of ours; {_ELSE}"
    if names and all(name.endswith(".npy") for name in names):
        return f"a NumPy archive (.npz), not a checkpoint of ours; {_ELSE}"
    return "a zip archive; unpack it and give the file or image folder inside."


def _torch_kind(names: list[str], inside: bytes) -> str:
    if any("/code/" in name for name in names):
        return (
            "a TorchScript file, not a checkpoint of ours; save the state dict of the "
            "network instead. {three_lines()}"
        )
    if b"pytorch-lightning_version" in inside:
        return (
            "a Lightning checkpoint; its ['state_dict'] holds the weights. "
            f"{three_lines()}"
        )
    return f"a PyTorch file (.pth, .pt), not a checkpoint of ours. {three_lines()}"
