"""A queue: how many runs may work at a time on one machine, and in which order.

Each run has a ticket, a file that its process keeps locked; the operating system frees
the lock however the process ends. All tickets in one folder form one queue, so all
pages of a server, and all servers that share its data folder, are counted together.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.machine.room import free_memory

MOST = "WORKBENCH_RUNS"  # if set, how many may work at a time
NEED = 1.5e9  # bytes that must be free to begin a run beside others
YOUNG = 30.0  # seconds after which a run has allocated the memory it needs
WAITING, WORKING = "waiting", "working"


def most_runs() -> int:
    """Return how many runs may work at a time: one per core, unless set otherwise."""
    told = os.environ.get(MOST, "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a run in the queue."""

    working: int  # older runs that have begun
    waiting: int  # older runs that have not

    @property
    def words(self) -> str:
        """Describe it."""
        runs = "1 run is" if self.working == 1 else f"{self.working} runs are"
        return f"number {self.waiting + 1} in the queue; {runs} working"


class Turns:
    """The queue of one folder.

    Args:
        base: The folder of all runs.
        most: How many may work at a time.
        free: Returns the number of free bytes of memory.
    """

    def __init__(
        self,
        base: Path,
        *,
        most: Callable[[], int] = most_runs,
        free: Callable[[], float] = free_memory,
    ) -> None:
        # Locks do not work across machines that share a disk.
        self._folder = base / f".queue-{platform.node() or 'here'}"
        self._most, self._free = most, free
        self._ticket: Path | None = None
        self._held: FileLock | None = None

    def join(self) -> None:
        """Take a ticket, behind all earlier ones."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            name = f"{time.time_ns():020}-{secrets.token_hex(2)}"
            self._ticket = self._folder / name
            self._held = FileLock(self._ticket, timeout=0)
            self._held.acquire()
            self._ticket.write_text(WAITING)

    def try_to_begin(self) -> Place | None:
        """Begin, or return the place in the queue if it is not this run's turn yet."""
        assert self._ticket is not None, "join first"
        with self._alone():
            working, waiting, young = 0, 0, 0
            for path, state in self._others():
                if path.name > self._ticket.name:
                    continue
                working, waiting = (
                    working + (state == WORKING),
                    waiting + (state != WORKING),
                )
                age = time.time() - path.stat().st_mtime
                young += state == WORKING and age < YOUNG
            room = self._free() - young * NEED >= NEED
            if working + waiting == 0 or (
                waiting == 0 and working < self._most() and room
            ):
                self._ticket.write_text(WORKING)
                return None
            return Place(working, waiting)

    def leave(self) -> None:
        """Give the ticket back."""
        with contextlib.suppress(OSError, Timeout), self._alone():
            if self._ticket is not None:
                self._ticket.unlink(missing_ok=True)
        if self._held is not None:
            self._held.release()

    def _others(self) -> Iterator[tuple[Path, str]]:
        """Yield the tickets of live runs with their states; remove the others."""
        for path in sorted(self._folder.glob("[0-9]*")):
            if path == self._ticket:
                continue
            try:
                with FileLock(path, timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                yield path, path.read_text()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with FileLock(self._folder / "lock", timeout=10):
            yield
