"""How much memory is free for this process right now. No torch."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
# Limit, usage, and the reclaimable part of it in memory.stat: cgroup versions 2 and 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory(root: Path = CGROUP) -> int:
    """Return the free bytes of the machine, or of the container if that is less."""
    found = int(psutil.virtual_memory().available)
    for limit, used, dropped in _FILES:
        most, now = _number(root / limit), _number(root / used)
        if most is not None and now is not None:
            cached = _named((root / used).parent / "memory.stat", dropped)
            found = min(found, most - now + cached)
    return max(found, 0)


def own_memory() -> int:
    """Return the bytes held by this process."""
    return int(psutil.Process().memory_info().rss)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _named(path: Path, name: str) -> int:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if line[:1] == [name]), 0)
