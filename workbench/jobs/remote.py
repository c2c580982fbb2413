"""Jobs in a process of their own: begun from here, or found running after a reload.

The page's kernel stays small and quick, and whatever happens to it, the work goes on;
whatever happens to the work, the page lives on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from workbench.jobs.job import STEPS, Job, JobEvent, JobRecord
from workbench.jobs.run_folder import RunFolder
from workbench.jobs.worker import FULL
from workbench.progress.control import Control, Progress

PATIENCE = 0.7  # seconds to stop by itself, where an end by force loses nothing
PAUSE = 0.05
START = 30.0  # seconds that a process found elsewhere may be silent at first
MEMORY = (
    "The process that did the work was killed (signal SIGKILL), which is what a "
    "machine does when its memory is full. If nobody killed it, choose fewer examples "
    "per class or a smaller network."
)
NO_ROOM = (
    "The work ended, but {} cannot be written: free some space there. What it had "
    "saved by then is under Open."
)


class WorkerProcess:
    """A process that does jobs for one page, kept for the next one.

    Args:
        keep: Whether it stays when a job is done, with torch loaded and UMAP compiled:
            some 900 MB. Without, each job has a process of its own.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep, self._lock = keep, threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def warm_up(self) -> None:
        """Let the process load what a run needs, if it is one that stays."""
        if self._keep:
            self._tell("warm")

    def perform(
        self, job: Job, report: Callable[[JobEvent], None], control: Control
    ) -> JobRecord:
        """Do a job there, as `workbench.jobs.job.perform` does it here."""
        folder = RunFolder(Path(job.folder))
        folder.write_job(job)
        folder.touch("watched")
        begun = Progress("Getting ready", 0.0, "starting a process")
        report(JobEvent(job.number, 0, len(STEPS[job.work]), begun))
        process = self._tell(str(folder.path.resolve()))
        return follow(
            job,
            report,
            control,
            gone=lambda: process.poll() is not None,
            kill=process.kill,
            status=lambda: process.returncode,
        )

    def close(self) -> None:
        """Let the process end, as soon as it has done what it is at."""
        with self._lock:
            self._dismiss()

    def _tell(self, word: str) -> subprocess.Popen[str]:
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._dismiss()
            if self._process is None:
                self._process = self._start()
            process = self._process
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            if not self._keep:
                self._dismiss()
            return process

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "workbench.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            start_new_session=True,  # so that it outlives the kernel
        )

    def _dismiss(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process = None


def follow(
    job: Job,
    report: Callable[[JobEvent], None],
    control: Control,
    *,
    gone: Callable[[], bool] | None = None,
    kill: Callable[[], None] | None = None,
    status: Callable[[], int | None] = lambda: None,
) -> JobRecord:
    """Look on while a process does a job, hand on wishes, and return how it ended.

    Args:
        job: What is done, in which folder.
        report: Called with all events, those before this call too.
        control: What the page wishes. A cancel ends the process by force if need be,
            but not a training that has learnt something.
        gone: Whether the process has ended; by default judged by its signs of life.
        kill: Ends the process; by default the one whose number is in the folder.
        status: The exit status of the process, where it is known.
    """
    folder = RunFolder(Path(job.folder))
    gone, kill = gone or _silent(folder), kill or partial(_kill, folder)
    events, step, learnt = folder.events(), 0, False
    asked, stopped, looked = folder.wished(), time.monotonic(), 0.0
    while True:
        was_gone = gone()  # before the record is looked for: then it is there
        for event in next(events):
            report(event)
            step = event.step
            learnt = learnt or bool(event.progress.values)
        if (record := folder.record()) is not None:
            return record
        if was_gone:
            return _lost(job, folder, control, status())
        now = time.monotonic()
        if now - looked > 1.0:
            folder.touch("watched")
            looked = now
        wish = "end" if control.cancelled else "wait" if control.paused else "go"
        if wish != asked:
            folder.wish(wish)
            asked, stopped = wish, now
        stubborn = wish == "end" and now - stopped > PATIENCE
        if stubborn and not (learnt and STEPS[job.work][step] == "train"):
            kill()
        time.sleep(PAUSE)


def _silent(folder: RunFolder) -> Callable[[], bool]:
    began = time.monotonic()

    def silent() -> bool:
        if folder.process is not None:
            return False
        return folder.age("alive") < float("inf") or time.monotonic() - began > START

    return silent


def _kill(folder: RunFolder) -> None:
    """End the process at work in this folder."""
    if (number := folder.process) is not None:
        with contextlib.suppress(OSError):
            os.kill(number, getattr(signal, "SIGKILL", signal.SIGTERM))


def _lost(
    job: Job, folder: RunFolder, control: Control, status: int | None
) -> JobRecord:
    """Say how a job ended whose process is gone, and write it down if that can be."""
    cancelled = control.cancelled
    full = status == FULL
    said = NO_ROOM.format(folder.path) if full else why_ended(status)
    record = JobRecord(
        job.number,
        job.work,
        "cancelled" if cancelled else "failed",
        folder.files(),
        {},
        {},
        "" if cancelled else said,
    )
    with contextlib.suppress(OSError):
        folder.end(record)
    return record


def why_ended(status: int | None) -> str:
    """Say why a process that was at work is gone.

    Args:
        status: Its exit status; minus the number of the signal that ended it; None
            where that is not known, as it was started elsewhere.
    """
    again = "What was finished is kept; start it again."
    if status is None:
        return (
            "The process that did the work is gone without a record: it was killed, or "
            f"the machine restarted or ran out of memory. {again}"
        )
    if status >= 0:
        return (
            f"The process that did the work ended by itself (exit status {status}) "
            f"before it was done. {again}"
        )
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    if name == "SIGKILL":
        return MEMORY
    fault = {
        "SIGSEGV": "a fault in a library",
        "SIGBUS": "a fault of memory or a full disk",
        "SIGILL": "a library that is not made for this processor",
        "SIGABRT": "a fault in a library",
        "SIGXCPU": "a limit on computing time",
        "SIGTERM": "somebody or the system told it to end",
        "SIGINT": "somebody or the system told it to end",
        "SIGHUP": "the session that it belonged to ended",
    }.get(name)
    why = f": {fault}" if fault else ""
    return f"The process that did the work was ended by signal {name}{why}. {again}"
