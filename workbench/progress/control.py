"""How long work reports progress and is paused or cancelled.

Every function that can take longer than a second accepts ``progress`` and ``control``.
It calls ``control.check()`` between batches (at least once a second) and reports
progress at least every two seconds. Only plain values are exchanged, so the same work
can run in a thread of this process or in a worker process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Progress:
    """One event of a running job."""

    stage: str  # current activity, in a student's words: "Training"
    fraction: float  # of the whole call, 0 to 1, never decreasing
    detail: str = ""  # "epoch 3 of 30"
    values: Mapping[str, float] = field(default_factory=dict)  # loss, accuracy, epoch
    note: str = ""  # a sentence to keep on screen: the plan, or what had to be redone


ProgressCallback = Callable[[Progress], None]
Report = Callable[[float], None]  # called with the completed share of a piece of work


def span(report: Report, start: float, stop: float = 1.0) -> Report:
    """Report a piece of work, 0 to 1, as ``start`` to ``stop`` of the whole."""
    return lambda share: report(start + (stop - start) * share)


def progress_span(
    progress: ProgressCallback | None, start: float, stop: float, detail: str = ""
) -> ProgressCallback | None:
    """The same as `span`, for events; ``detail`` fills in where an event has none."""
    if progress is None:
        return None

    def scaled(event: Progress) -> None:
        fraction = start + (stop - start) * event.fraction
        progress(replace(event, fraction=fraction, detail=event.detail or detail))

    return scaled


def as_report(
    progress: ProgressCallback | None, stage: str, stop: float = 1.0
) -> Report:
    """Turn completed shares into events of one stage, which fills 0 to ``stop``."""

    def report(share: float) -> None:
        if progress is not None:
            progress(Progress(stage, stop * share))

    return report


class Cancelled(Exception):  # noqa: N818 - a request that was obeyed, not an error
    """Raised by ``Control.check`` once ``cancel`` was called."""


class Control:
    """Pauses, resumes and cancels a job from another thread."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()
        self._cancelled = threading.Event()

    def pause(self) -> None:
        """Make ``check`` wait until ``resume`` or ``cancel``."""
        self._running.clear()

    def resume(self) -> None:
        """End a pause."""
        self._running.set()

    def cancel(self) -> None:
        """Make the next ``check`` raise `Cancelled`; ends a pause."""
        self._cancelled.set()
        self._running.set()

    @property
    def paused(self) -> bool:
        """Whether a pause was asked for."""
        return not self._running.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether a cancel was asked for."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Wait while paused, then return, or raise `Cancelled`."""
        self._running.wait()
        if self._cancelled.is_set():
            raise Cancelled
