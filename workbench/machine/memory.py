"""How much memory this process can use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from workbench.machine.room import free_memory, own_memory

CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")


def total_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory of the machine, or of the container if that is less.

    If the system reports neither, 8 GB are assumed.
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
    """Return the bytes a plan can count on: all of a GPU, or the free host memory.

    Memory that this process already holds counts as available, so the answer stays
    about the same while it works. The processes of one run share it equally.
    """
    if device.type != "cpu":
        return int(torch.cuda.get_device_properties(device).total_memory)
    ours = min(free_memory() + own_memory(), total_memory())
    return ours // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def say_bytes(count: float) -> str:
    """Format a size for people.

    Example:
        >>> say_bytes(3.2e9), say_bytes(5e6)
        ('3.2 GB', '5 MB')
    """
    if count < 1e8:
        return f"{max(count / 1e6, 1):.0f} MB"
    return f"{count / 1e9:.1f} GB"
