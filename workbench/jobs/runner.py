"""Runs jobs one at a time, and reports to the page at a pace it can follow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.jobs.job import STEPS, Job, JobEvent, JobRecord, explain_failure
from workbench.progress.control import Control, Progress
from workbench.progress.timing import Stopwatch, TimeLeft

_log = logging.getLogger(__name__)


Perform = Callable[[Job, Callable[[JobEvent], None], Control], JobRecord]


class JobRunner:
    """Runs one job at a time, supervised by a thread of this process.

    A second thread delivers events and the record, at most ten times a second and at
    least once a second, so the work never waits for the page.

    Args:
        perform: Runs one job and returns how it ended: `workbench.jobs.job.perform` in
            this process, `workbench.jobs.remote.WorkerProcess.perform` in another.
        interval: Seconds between deliveries.
    """

    def __init__(self, perform: Perform, *, interval: float = 0.1) -> None:
        self._perform, self._interval = perform, interval
        self._number = 0
        self._control, self._watch = Control(), Stopwatch()
        self._worker: threading.Thread | None = None

    def start(
        self,
        work: str,
        settings: Mapping[str, Any],
        folder: str | Path,
        *,
        on_events: Callable[[list[JobEvent]], None],
        on_end: Callable[[JobRecord], None],
        perform: Perform | None = None,
        wish: str = "go",
    ) -> int:
        """Start a job, run by ``perform`` if it is given, and return its number.

        ``wish`` is the latest request ("go", "wait" or "end") to a job found running. A
        job of this runner that is still running is cancelled, and the new one begins
        once it has ended. Compare job numbers to drop late events of the old one.
        """
        self.cancel()
        self._number += 1
        self._control, self._watch = Control(), Stopwatch()
        if wish == "wait":
            self.pause()
        elif wish == "end":
            self.cancel()
        job = Job(work=work, settings=settings, folder=str(folder), number=self._number)
        line, previous = _Line(), self._worker
        self._worker = _thread(
            job, self._do, perform or self._perform, job, self._control, line, previous
        )
        _thread(job, self._deliver, self._watch, line, on_events, on_end)
        return job.number

    def pause(self) -> None:
        """Ask the running job to wait."""
        self._control.pause()
        self._watch.stop()

    def resume(self) -> None:
        """End a pause."""
        self._watch.go()
        self._control.resume()

    def cancel(self) -> None:
        """Ask the running job to end; it does so when it next checks its control."""
        self._watch.go()
        self._control.cancel()

    @property
    def busy(self) -> bool:
        """Whether a job is still running."""
        return self._worker is not None and self._worker.is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the work to end; its record may be delivered a moment later."""
        if self._worker is not None:
            self._worker.join(timeout)

    def _do(
        self,
        perform: Perform,
        job: Job,
        control: Control,
        line: _Line,
        previous: threading.Thread | None,
    ) -> None:
        if previous is not None and previous.is_alive():
            waiting = Progress("Waiting", 0.0, "for the previous job to end")
            line.put(JobEvent(job.number, 0, len(STEPS[job.work]), waiting))
            previous.join()
        try:
            record = perform(job, line.put, control)
        except Exception as error:  # it could not be started
            _log.exception("job %s was not done", job.work)
            failed = explain_failure(error)
            record = JobRecord(job.number, job.work, "failed", {}, {}, {}, *failed)
        line.end(record)

    def _deliver(
        self,
        watch: Stopwatch,
        line: _Line,
        on_events: Callable[[list[JobEvent]], None],
        on_end: Callable[[JobRecord], None],
    ) -> None:
        clock = _Clock(watch)
        while True:
            events, record = line.take(timeout=1.0)
            if timed := clock.timed(events):
                _call(on_events, timed)
            if record is not None:
                _call(on_end, record)
                return
            time.sleep(self._interval)


def _thread(job: Job, target: Callable[..., None], *args: Any) -> threading.Thread:
    """Start a daemon thread: it never keeps the process alive."""
    name = f"workbench-job-{job.number}{target.__name__}"
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread


def _call(receiver: Callable[[Any], None], value: Any) -> None:
    """Call a receiver; its failure must not stop later deliveries."""
    try:
        receiver(value)
    except Exception:
        _log.exception("a receiver of job events failed")


class _Clock:
    """Adds to events the elapsed and remaining time of their step."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._last: JobEvent | None = None
        self._began, self._left = 0.0, TimeLeft()

    def timed(self, events: list[JobEvent]) -> list[JobEvent]:
        """Time new events; without any, repeat the last one as a heartbeat."""
        now = self._watch.seconds()
        timed = []
        for event in events or ([self._last] if self._last else []):
            if self._last is None or event.step != self._last.step:
                self._began, self._left = now, TimeLeft()
            self._left.update(now, event.progress.fraction)
            self._last = replace(
                event, elapsed=now - self._began, seconds_left=self._left.left(now)
            )
            timed.append(self._last)
        return timed


class _Line:
    """A mailbox between the worker and the thread that delivers its events."""

    def __init__(self) -> None:
        self._events: list[JobEvent] = []
        self._record: JobRecord | None = None
        self._changed = threading.Condition()

    def put(self, event: JobEvent) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify()

    def end(self, record: JobRecord) -> None:
        with self._changed:
            self._record = record
            self._changed.notify()

    def take(self, timeout: float) -> tuple[list[JobEvent], JobRecord | None]:
        with self._changed:
            if not self._events and self._record is None:
                self._changed.wait(timeout)
            events, self._events = self._events, []
            return events, self._record
