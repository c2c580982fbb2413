"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from workbench.machine.room import free_memory, own_memory

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
    """Bytes that a plan may count on: of a GPU, all; of this machine, those not taken.

    What this process holds already counts as its own, so that the answer stays about
    the same while it works. Of the processes of one run, each has its share.
    """
    if device.type != "cpu":
        return int(torch.cuda.get_device_properties(device).total_memory)
    ours = min(free_memory() + own_memory(), total_memory())
    return ours // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def say_bytes(count: float) -> str:
    """Say a size as people do.

    Example:
        >>> say_bytes(3.2e9), say_bytes(5e6)
        ('3.2 GB', '5 MB')
    """
    if count < 1e8:
        return f"{max(count / 1e6, 1):.0f} MB"
    return f"{count / 1e9:.1f} GB"
