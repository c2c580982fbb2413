"""Where to compute."""

from __future__ import annotations

import torch

from workbench.errors import WorkbenchError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device of this name; ``auto`` is cuda, else mps, else cpu.

    Raises:
        WorkbenchError: If there is no such device on this machine.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there[:0] = ["cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device(there[0])
    if name not in there:
        raise WorkbenchError(
            f"device {name!r} is not on this machine; use auto, {', '.join(there)}."
        )
    return torch.device(name)
