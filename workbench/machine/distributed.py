"""The processes of one run, and what they say to each other: sums."""

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

PATIENCE = timedelta(hours=3)  # of one process for another: UMAP runs in one alone


@dataclass(frozen=True, slots=True)
class World:
    """Processes that share the examples of one run; by default this one alone.

    Each holds the network and all of the data, passes over its share of every batch,
    and after `sum` has what one process would have: the same bits in all of them, so
    that they take the same decisions.
    """

    rank: int = 0
    size: int = 1
    add: Callable[[Tensor], object] = dist.all_reduce  # in place, over all processes

    def share(self, count: int) -> slice:
        """Which of ``count`` things in a row are this process's.

        Example:
            >>> [World(rank, 2).share(5) for rank in (0, 1)]
            [slice(0, 2, None), slice(2, 5, None)]
        """
        return slice(
            count * self.rank // self.size, count * (self.rank + 1) // self.size
        )

    def sum(self, tensor: Tensor) -> Tensor:
        """Add what the processes hold, in place; everybody gets the sum."""
        if self.size > 1:
            self.add(tensor)
        return tensor


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun has started, if it has.

    Sums go by NCCL between GPUs, each process with its own, and by gloo between CPUs.

    Args:
        device: Where this run computes: ``"auto"``, ``"cpu"`` or ``"cuda"``.

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
                f"device: process {local + 1} of this machine has no GPU of its own, "
                f"there are {there}; start as many processes, or take --device cpu."
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    before = signal.signal(signal.SIGTERM, _ended)  # torchrun's, when another fails
    try:
        yield World(dist.get_rank(), size)
        gc.collect()  # what a training left holds the group: its threads outlive it
        dist.destroy_process_group()  # after an error, the end of the process does it
    except RuntimeError as error:  # gloo's are of no other type
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise LostProcess(str(error)) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(signum: int, frame: FrameType | None) -> None:
    raise LostProcess("told to end")
