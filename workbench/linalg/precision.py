"""Full precision, whatever the caller's settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products in the dtype of their factors: no autocast, TF32 or bfloat16.

    Also leaves inference mode, which does not track gradients. The caller's settings
    are restored on exit.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            stack.enter_context(torch.autocast("cuda", enabled=False))
        stack.enter_context(_exact_products())
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """Make float32 products exact, by torch's older and newer switches.

    The older ones cannot be read if they conflict with the newer, which then suffice.
    """
    backends = torch.backends
    owners: tuple[Any, ...] = (backends, backends.cudnn, backends.mkldnn)
    inner = [
        getattr(o, name, None) for o in owners for name in ("matmul", "conv", "rnn")
    ]
    switches = [
        switch
        for switch in (*owners, backends.cuda.matmul, *inner)
        if hasattr(switch, "fp32_precision")
    ]
    newer = [switch.fp32_precision for switch in switches]
    matmul, cudnn = backends.cuda.matmul, backends.cudnn
    try:
        precision = torch.get_float32_matmul_precision()
        older: tuple[Any, ...] | None = precision, matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:
        older = None
    if older is not None:
        torch.set_float32_matmul_precision("highest")
        matmul.allow_tf32 = cudnn.allow_tf32 = False
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older[0])
            matmul.allow_tf32, cudnn.allow_tf32 = older[1:]
        for switch, value in zip(switches, newer, strict=True):
            switch.fp32_precision = value
