"""Paths as people type, paste and drag them, and checks of what they point to."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from workbench.errors import WorkbenchError, readable

STARTED_IN = "WORKBENCH_STARTED_IN"  # the folder where the app was started
LONGEST, NAME = 4096, 255  # characters of a path, and of a name in it


def typed_path(text: str) -> Path:
    """Return the absolute path that a user's text stands for.

    Surrounding quotes are removed, because terminals and file managers add them;
    ``file://`` is understood. A relative path starts at the folder where the app was
    started or, if nothing of that name exists there, at this process's working folder.

    Raises:
        WorkbenchError: If it is empty or not a path.

    Example:
        >>> typed_path(" '/tmp/a b' "), typed_path("file:///tmp/a%20b")
        (PosixPath('/tmp/a b'), PosixPath('/tmp/a b'))
    """
    plain = text.strip()
    if len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\"":
        plain = plain[1:-1].strip()
    if not plain:
        raise WorkbenchError("Open: the path is empty; type one.")
    if "\0" in plain or len(plain) > LONGEST:
        raise WorkbenchError("Open: this is not a valid path; type one.")
    if plain.lower().startswith("file:"):
        plain = url2pathname(urlsplit(plain).path)
    with readable("Open", plain):
        path = Path(plain).expanduser()
        if path.is_absolute():
            return path
        path.stat() if len(path.name) > NAME else None  # too long for any disk
        start = Path(os.environ.get(STARTED_IN) or ".").absolute() / path
        here = path.absolute()
        return here if here.exists() and not start.exists() else start


def expect_file_or_folder(path: Path) -> bool:
    """Return True for a folder and False for a regular file; refuse anything else.

    Raises:
        WorkbenchError: If it does not exist, cannot be read, or is a pipe or a device,
            which might never end.
    """
    with readable("Open", path):
        mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return True
    if not stat.S_ISREG(mode):
        raise WorkbenchError(
            f"Open: {path} is a pipe, a socket or a device; choose a regular file or "
            "a folder."
        )
    return False
