"""The worker process, which runs the jobs: ``python -m workbench.jobs.worker``.

It reads lines from standard input: each is the folder of a run to do, or ``warm``, to
load torch and compile UMAP in advance. When its input ends, because the page's kernel
has ended, it finishes the current run and exits. All its output goes into the folder of
the run, where any page can find it; see `workbench.jobs.run_folder`.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from pathlib import Path

from filelock import Timeout

from workbench.jobs.job import STEPS, Job, JobEvent, JobRecord, load_work, perform
from workbench.jobs.run_folder import RunFolder
from workbench.jobs.turns import Turns
from workbench.machine.malloc import give_back_memory, keep_freed_memory
from workbench.machine.nice import give_way
from workbench.progress.control import Control, Progress

_log = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between checks for requests
FULL = 3  # exit status: the record could not be written
TURN = 0.5  # seconds between checks of the queue
LEFT_ALONE = 1800.0  # seconds that a run continues while no page is watching
SERVER = "WORKBENCH_SERVER"  # pid of the page's server, if known


def main() -> None:
    """Obey the lines of standard input."""
    give_way()
    keep_freed_memory()
    for line in sys.stdin:
        word = line.rstrip("\n")
        if word == "warm":
            load_work().warm_up()
        elif word:
            work_at(RunFolder(Path(word)))
            gc.collect()
        give_back_memory()  # until the next line


def work_at(folder: RunFolder) -> JobRecord | None:
    """Do the job in this folder; return None if it cannot be read."""
    job = folder.job()
    if job is None:
        return None
    control, ended = Control(), threading.Event()
    notes = _Notes(folder)
    folder.touch("alive")
    watching = threading.Thread(
        target=_watch, args=(folder, control, notes, ended), daemon=True
    )
    watching.start()
    turns = Turns(folder.path.parent)
    try:
        if _wait_for_turn(turns, job, notes, control):
            record = perform(job, notes.put, control)
        else:
            record = JobRecord(job.number, job.work, "cancelled", {}, {}, {})
    finally:
        turns.leave()
    ended.set()
    watching.join()
    notes.write()
    try:
        folder.end(record)
    except OSError:  # a watching page sees this process exit, and reports it
        raise SystemExit(FULL) from None
    return record


def _wait_for_turn(turns: Turns, job: Job, notes: _Notes, control: Control) -> bool:
    """Wait until this run may begin; return False if it is cancelled meanwhile.

    This happens before torch is loaded, so waiting takes no memory. If there can be no
    queue, as on a disk without locks, nobody waits.
    """
    try:
        turns.join()
        while place := turns.try_to_begin():
            waits = Progress("Waiting", 0.0, place.words)
            notes.put(JobEvent(job.number, 0, len(STEPS[job.work]), waits))
            asked = time.monotonic()
            while time.monotonic() - asked < TURN:
                if control.cancelled:
                    return False
                time.sleep(PAUSE)
    except (OSError, NotImplementedError, Timeout):
        _log.exception("there is no queue; the run begins")
    return True


def _watch(
    folder: RunFolder, control: Control, notes: _Notes, ended: threading.Event
) -> None:
    """Write events and signs of life; pass on the pages' requests."""
    began = touched = time.monotonic()
    while not ended.wait(PAUSE):
        notes.write()
        now = time.monotonic()
        if now - touched > 1.0:
            folder.touch("alive")
            touched = now
        wish = folder.wished()
        alone = min(folder.age("watched"), now - began) > LEFT_ALONE
        if wish == "end" or alone or _server_is_gone():
            control.cancel()
        elif wish == "wait" and not control.paused:
            control.pause()
        elif wish == "go" and control.paused:
            control.resume()


def _server_is_gone() -> bool:
    """Whether the server that started the page on this machine has ended."""
    number = os.environ.get(SERVER, "")
    if os.name != "posix" or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


class _Notes:
    """Events to be written to disk: of many at once, the last and one per epoch."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._events: list[JobEvent] = []

    def put(self, event: JobEvent) -> None:
        with self._lock:
            if self._events and not _lasting(self._events[-1], event):
                self._events.pop()
            self._events.append(event)

    def write(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        if events:
            self._folder.add(events)


def _lasting(event: JobEvent, after: JobEvent) -> bool:
    """Whether to write an event although there is a later one."""
    epoch = event.progress.values.get("epoch", 0.5)
    return float(epoch).is_integer() or event.step != after.step


if __name__ == "__main__":
    main()
