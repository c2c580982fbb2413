"""A disk that is full for some files: the first bytes are written, then no more."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class _Full:
    """A file that was opened for writing there."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def write(self, content: Any) -> int:
        self.file.write(memoryview(content)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    def writelines(self, content: Any) -> None:
        self.write(next(iter(content)))


def fill(monkeypatch: pytest.MonkeyPatch, full: Callable[[Path], bool]) -> None:
    """Let the disk be full for the files of which this is true."""
    opened = Path.open

    def opened_there(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = opened(self, mode, *args, **options)
        return _Full(file) if mode == "wb" and full(self) else file

    monkeypatch.setattr(Path, "open", opened_there)
