"""Where to compute."""

from __future__ import annotations

import torch

from workbench.errors import WorkbenchError


def resolve_device(
    asked: str | torch.device | None = "auto", *, near: torch.device | None = None
) -> torch.device:
    """Return the device that is asked for, once it is sure that it is there.

    Args:
        asked: Its name. ``"auto"`` is a CUDA device if there is one; else where the
            numbers are; else mps, else the CPU. None: where the numbers are.
        near: Where the numbers are, if they are anywhere yet.

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
    if found.type == "meta":  # where no numbers are
        raise _missing(asked, there)
    return found


def _missing(asked: object, there: list[str]) -> WorkbenchError:
    return WorkbenchError(
        f"device {str(asked)!r} is not on this machine; use auto, {', '.join(there)}."
    )
