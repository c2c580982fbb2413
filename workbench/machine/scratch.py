"""Private folders of one user, for systems where the usual ones are not writable."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import platformdirs

NUMBA = "NUMBA_CACHE_DIR"
LOCK = ".lock"  # held while the process that made the folder lives


def can_write(folder: Path) -> bool:
    """Whether a file can be created in this folder; creates the folder if missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")  # on a full disk only this fails
    except OSError:
        return False
    return True


def home() -> Path | None:
    """Return the user's home folder; None if there is none, as in many containers."""
    try:
        found = Path("~").expanduser()
    except RuntimeError:  # HOME is not set, and the user has no name
        return None
    return found if found.is_absolute() and found.is_dir() else None


def private_folder(name: str) -> Path:
    """Return a folder inside the temporary one that only this user can enter.

    All processes of the user share it, unless somebody else has already created a
    folder of that name: what is read from it, such as compiled code, must be our own.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"hessian-workbench-{user}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        mine = os.name != "posix" or (
            found.st_uid == os.getuid() and not found.st_mode & 0o077
        )
        if stat.S_ISDIR(found.st_mode) and mine:
            (folder / name).mkdir(exist_ok=True)
            return folder / name
    return Path(tempfile.mkdtemp(prefix=f"workbench-{name}-"))


def let_numba_cache() -> None:
    """Give numba a writable cache for compiled code; call it before importing UMAP.

    Numba caches beside the source or in the user's home. If neither is writable, it
    refuses to compile functions that ask to be cached, such as UMAP's search.
    """
    if os.environ.get(NUMBA):
        return
    spec = importlib.util.find_spec("pynndescent")
    beside = Path(spec.origin).parent / "__pycache__" if spec and spec.origin else None
    if beside is not None and can_write(beside):
        return
    if home() is not None:
        kept = platformdirs.user_cache_path("numba", appauthor=False)  # as numba's own
        if kept.is_absolute() and can_write(kept):
            return
    with contextlib.suppress(OSError):  # then numba reports it itself
        os.environ[NUMBA] = str(private_folder("numba"))
        if numba := sys.modules.get("numba"):
            numba.config.reload_config()


def sweep(folder: Path, prefix: str) -> None:
    """Remove folders with this prefix left by processes that were killed."""
    from filelock import FileLock, Timeout

    for left in folder.glob(f"{prefix}*"):
        lock = left / LOCK
        with contextlib.suppress(OSError, Timeout):
            if left.is_symlink() or not lock.is_file():
                continue
            if hasattr(os, "getuid") and left.stat().st_uid != os.getuid():
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
