"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")


def total_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of the machine, or of the container where that is less.

    A system that tells neither counts as 8 GB.
    """
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        found = 8 * 2**30
    for name in CGROUPS:
        try:
            limit = (root / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            found = min(found, int(limit))
    return found


def device_memory(device: torch.device) -> int:
    """Bytes of a device; of this machine, its share of the processes of one run."""
    if device.type != "cpu":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return total_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def say_bytes(count: float) -> str:
    """Say a size as people do.

    Example:
        >>> say_bytes(3.2e9), say_bytes(5e6)
        ('3.2 GB', '5 MB')
    """
    if count < 1e8:
        return f"{max(count / 1e6, 1):.0f} MB"
    return f"{count / 1e9:.1f} GB"
