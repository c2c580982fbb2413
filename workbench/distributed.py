"""The processes of one run, and what they say to each other: sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


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
