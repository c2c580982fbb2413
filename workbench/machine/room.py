"""How much memory this process could have now, beside all others. No torch."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
# Limit, use, and in memory.stat what of it the system can drop: version 2, and 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory(root: Path = CGROUP) -> int:
    """Bytes that are free on the machine, or in the container where that is less."""
    found = int(psutil.virtual_memory().available)
    for limit, used, dropped in _FILES:
        most, now = _number(root / limit), _number(root / used)
        if most is not None and now is not None:
            cached = _named((root / used).parent / "memory.stat", dropped)
            found = min(found, most - now + cached)
    return max(found, 0)


def own_memory() -> int:
    """Bytes that this process holds; with what is free, it is what it could have."""
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
