"""Runs of several processes, which only exchange sums."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor

from workbench.errors import LostProcess, WorkbenchError

PATIENCE = timedelta(hours=3)  # to wait for another process: only one runs UMAP


@dataclass(frozen=True, slots=True)
class World:
    """Processes that share the examples of one run; by default only this one.

    Each holds the network and all data, and processes its share of every batch. After
    `sum` each has the result that one process would have, bit for bit the same in all,
    so that all take the same decisions.
    """

    rank: int = 0
    size: int = 1
    add: Callable[[Tensor], object] = dist.all_reduce  # in place, over all processes

    def share(self, count: int) -> slice:
        """Return the slice of ``count`` items that this process handles.

        Example:
            >>> [World(rank, 2).share(5) for rank in (0, 1)]
            [slice(0, 2, None), slice(2, 5, None)]
        """
        return slice(
            count * self.rank // self.size, count * (self.rank + 1) // self.size
        )

    def sum(self, tensor: Tensor) -> Tensor:
        """Replace the tensor, in place, by its sum over all processes."""
        if self.size > 1:
            self.add(tensor)
        return tensor


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes started by torchrun, if there are any.

    Sums use NCCL between GPUs, one GPU per process, and gloo between CPUs.

    Args:
        device: The device of this run: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        WorkbenchError: If there are fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise WorkbenchError(
                f"device: process {local + 1} on this machine has no GPU of its own, "
                f"as there are only {there}; start that many processes, or use "
                "--device cpu."
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    before = signal.signal(signal.SIGTERM, _ended)  # from torchrun, if another fails
    try:
        yield World(dist.get_rank(), size)
        gc.collect()  # leftovers of training keep the group's threads alive
        dist.destroy_process_group()  # after an error, process exit does this
    except RuntimeError as error:  # gloo raises no other type
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise LostProcess(str(error)) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(signum: int, frame: FrameType | None) -> None:
    raise LostProcess("told to end")
