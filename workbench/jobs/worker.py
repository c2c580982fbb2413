"""The process that does the jobs: ``python -m workbench.jobs.worker``.

It reads one line at a time from its standard input: the folder of a run to do, or
``warm``, to load torch and compile UMAP ahead of need. When its input ends, because
the page's kernel has ended, it finishes the run at hand and ends too. All that it says
goes into the folder of the run, where any page finds it; see `runfolder`.
"""

from __future__ import annotations

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
from workbench.machine.malloc import keep_freed_memory
from workbench.machine.nice import give_way
from workbench.progress.control import Control, Progress

_log = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between two looks at what is wished
FULL = 3  # exit status: how the work ended could not be written down
TURN = 0.5  # seconds between two looks at whose turn it is
LEFT_ALONE = 1800.0  # seconds that a run goes on while no page looks on
SERVER = "WORKBENCH_SERVER"  # number of the process that serves the page, if known


def main() -> None:
    """Do what is asked for, line by line."""
    give_way()
    keep_freed_memory()
    for line in sys.stdin:
        word = line.rstrip("\n")
        if word == "warm":
            load_work().warm_up()
        elif word:
            work_at(RunFolder(Path(word)))


def work_at(folder: RunFolder) -> JobRecord | None:
    """Do the job of this folder; None where there is none to read."""
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
    except OSError:  # a page that looks on sees this process end, and says so
        raise SystemExit(FULL) from None
    return record


def _wait_for_turn(turns: Turns, job: Job, notes: _Notes, control: Control) -> bool:
    """Wait until this run may begin; False where it is cancelled meanwhile.

    Before torch is loaded, so that who waits takes no memory. Where there can be no
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
    """Write events and signs of life; hand on what the pages wish."""
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
    """Whether the server that was started on this machine with the page has ended."""
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
    """Events on their way to the disk: of many at once, the last and each epoch's."""

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
    """Whether an event is worth a line although a later one is there."""
    epoch = event.progress.values.get("epoch", 0.5)
    return float(epoch).is_integer() or event.step != after.step


if __name__ == "__main__":
    main()
