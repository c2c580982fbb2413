"""Jobs in their own process: started from here, or found running after a reload.

The page's kernel stays small and responsive. If the kernel dies, the work continues; if
the work dies, the page survives.
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

PATIENCE = 0.7  # seconds to stop by itself before it is killed, if that loses nothing
PAUSE = 0.05
START = 30.0  # seconds that a process we did not start may be silent at first
MEMORY = (
    "The worker process was killed (signal SIGKILL). Systems do this when they run "
    "out of memory: unless somebody killed it, choose fewer examples per class or a "
    "smaller network."
)
NO_ROOM = (
    "The work ended, but {} cannot be written: free some space there. What it had "
    "saved before that is under Open."
)


class WorkerProcess:
    """A process that runs jobs for one page and stays for the next job.

    Args:
        keep: Whether the process stays when a job is done, with torch loaded and UMAP
            compiled (about 900 MB). Otherwise each job gets a new process.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep, self._lock = keep, threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def warm_up(self) -> None:
        """Have the process load what a run needs, if it is kept between jobs."""
        if self._keep:
            self._tell("warm")

    def perform(
        self, job: Job, report: Callable[[JobEvent], None], control: Control
    ) -> JobRecord:
        """Run a job in that process; same result as `workbench.jobs.job.perform`."""
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
        """Let the process exit once its current job is done."""
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
    """Watch a process do a job, pass on the page's requests, and return how it ended.

    Args:
        job: The job and its folder.
        report: Called with all events, including those from before this call.
        control: The page's requests. Cancelling kills the process if it does not stop
            in time, unless it is training and has learnt something.
        gone: Tells whether the process has ended; by default judged by its signs of
            life.
        kill: Kills the process; by default the one whose pid is in the folder.
        status: Returns the exit status of the process, if known.
    """
    folder = RunFolder(Path(job.folder))
    gone, kill = gone or _silent(folder), kill or partial(_kill, folder)
    events, step, learnt = folder.events(), 0, False
    asked, stopped, looked = folder.wished(), time.monotonic(), 0.0
    while True:
        was_gone = gone()  # checked before reading the record, which then exists
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
    """Kill the process working in this folder."""
    if (number := folder.process) is not None:
        with contextlib.suppress(OSError):
            os.kill(number, getattr(signal, "SIGKILL", signal.SIGTERM))


def _lost(
    job: Job, folder: RunFolder, control: Control, status: int | None
) -> JobRecord:
    """Return the record of a job whose process is gone, and write it if possible."""
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
    """Explain why a worker process is gone.

    Args:
        status: Its exit status, or minus the number of the signal that ended it. None
            if unknown, because another process started it.
    """
    again = "Finished work is kept; start it again."
    if status is None:
        return (
            "The worker process disappeared without a record: it was killed, or the "
            "machine restarted or ran out of memory. {again}"
        )
    if status >= 0:
        return (
            f"The worker process exited (status {status}) before it was done. {again}"
        )
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    if name == "SIGKILL":
        return MEMORY
    fault = {
        "SIGSEGV": "a fault in a library",
        "SIGBUS": "a memory fault or a full disk",
        "SIGILL": "a library not built for this processor",
        "SIGABRT": "a fault in a library",
        "SIGXCPU": "a limit on computing time",
        "SIGTERM": "a user or the system asked it to stop",
        "SIGINT": "a user or the system asked it to stop",
        "SIGHUP": "its session ended",
    }.get(name)
    why = f": {fault}" if fault else ""
    return f"The worker process was ended by signal {name}{why}. {again}"
