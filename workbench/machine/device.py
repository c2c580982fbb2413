"""The device to compute on."""

from __future__ import annotations

import torch

from workbench.errors import WorkbenchError


def resolve_device(
    asked: str | torch.device | None = "auto", *, near: torch.device | None = None
) -> torch.device:
    """Return the requested device after checking that it exists.

    Args:
        asked: Its name. ``"auto"`` means a CUDA device if there is one, else the device
            that holds the tensors, else mps, else the CPU. None means the device that
            holds the tensors.
        near: The device that holds the tensors, if there are any yet.

    Raises:
        WorkbenchError: If this machine has no such device.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if asked == "auto" and there[0] == "cuda":
        chosen: str | torch.device = "cuda"
    elif asked is None or asked == "auto":
        chosen = near if near is not None else there[0]
    else:
        chosen = asked
    try:
        found = torch.device(chosen)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise _missing(asked, there) from error
    if found.type == "meta":  # a tensor without data
        raise _missing(asked, there)
    return found


def _missing(asked: object, there: list[str]) -> WorkbenchError:
    return WorkbenchError(
        f"device {str(asked)!r} is not available on this machine; use auto, "
        f"{', '.join(there)}."
    )
