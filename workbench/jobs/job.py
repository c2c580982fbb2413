"""Long work as jobs: settings in, events, then a record out; pause and cancel.

Only plain values cross, so the same job can run in a thread of this process, as here,
or on a worker elsewhere. This file imports no torch: the steps of a job are looked up
by name in the thread that runs it.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control, Progress, ProgressCallback

_log = logging.getLogger(__name__)
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

ELSEWHERE = "elsewhere"  # of a record's facts: that something was saved elsewhere

# The steps of each job, in order. A cancelled step ends the job and keeps its files.
STEPS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "measure": ("measure", "film"),
    "run": ("train", "measure", "film"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of long work, in plain values."""

    work: str  # "train", "measure" or "run" = train, then measure, then the film
    settings: Mapping[str, Any]
    folder: str  # its files are written here; it exists
    number: int = 0  # grows with every job; what bears an older number is stale


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step of a job ends in."""

    files: Mapping[str, str]  # "checkpoint", "study" -> path of the file written
    status: str = "finished"  # or "cancelled", with what was done so far in the files
    facts: Mapping[str, Any] = field(default_factory=dict)  # the run, as `show` prints


Step = Callable[[Mapping[str, Any], Path, ProgressCallback, Control], Outcome]


@dataclass(frozen=True, slots=True)
class JobEvent:
    """How far a running job has come."""

    number: int
    step: int  # index of the step in STEPS
    num_steps: int
    progress: Progress  # of this step
    elapsed: float = 0.0  # seconds since the step began, pauses left out
    seconds_left: float | None = None  # of this step; None while there is no telling
    files: Mapping[str, str] = field(default_factory=dict)  # of the steps before


@dataclass(frozen=True, slots=True)
class JobRecord:
    """How a job ended. Files of the steps that were done are there in every case."""

    number: int
    work: str
    status: str  # "finished", "cancelled" or "failed"
    files: Mapping[str, str]
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]  # each stage, in order, and how long it took
    error: str = ""  # one sentence for a person; empty unless failed
    defect: str = ""  # short traceback, where the fault is ours


def load_work() -> ModuleType:
    """Import the functions that do the steps; this is where torch comes in.

    Its threads are told to sleep while they wait. By default they spin, and where
    others want the cores too, as a page's server and browser do, that costs most of
    the time: digits, trained and measured on two busy cores, 50 s instead of 170.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return importlib.import_module("workbench.jobs.work")


def find_step(name: str) -> Step:
    """Return the function that does this step."""
    step: Step = getattr(load_work(), name)
    return step


def perform(
    job: Job,
    report: Callable[[JobEvent], None],
    control: Control,
    *,
    find: Callable[[str], Step] = find_step,
) -> JobRecord:
    """Do one job, here and now, and return how it ended. Raises nothing.

    Args:
        job: What to do.
        report: Called with every event, in this thread, possibly very often.
        control: Pauses and cancels the job from another thread.
        find: From the name of a step to the function that does it.
    """
    files: dict[str, str] = {}
    facts: dict[str, Any] = {}
    status, error, defect = "finished", "", ""
    names = STEPS[job.work]
    stages = _Stages()

    def event(index: int, progress: Progress) -> None:
        stages.enter(progress.stage)
        there = dict(files)
        report(JobEvent(job.number, index, len(names), progress, files=there))

    try:
        for index, name in enumerate(names):
            event(index, Progress("Getting ready", 0.0, "loading PyTorch"))
            control.check()
            settings = {**job.settings, **files}
            outcome = find(name)(
                settings, Path(job.folder), partial(event, index), control
            )
            files.update(outcome.files)
            facts.update(outcome.facts)
            status = outcome.status
            if status != "finished":
                break
    except Cancelled:
        status = "cancelled"
    except WorkbenchError as found:
        status, error = "failed", str(found)
    except Exception as found:
        _log.exception("job %s failed", job.work)
        status = "failed"
        error, defect = explain_failure(found)
    return JobRecord(
        job.number, job.work, status, files, facts, stages.seconds(), error, defect
    )


class _Stages:
    """The seconds spent in each stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "", time.monotonic()

    def enter(self, stage: str) -> None:
        now = time.monotonic()
        spent = self._seconds.get(self._stage, 0.0) + now - self._since
        self._seconds[self._stage] = spent
        self._stage, self._since = stage, now

    def seconds(self) -> dict[str, float]:
        self.enter("")
        return {stage: spent for stage, spent in self._seconds.items() if stage}


def explain_failure(error: BaseException) -> tuple[str, str]:
    """Return a sentence for a person, and the short traceback of a defect or ''."""
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        sentence = (
            "There is not enough memory for this; choose fewer examples per class or "
            "a smaller network."
        )
        return sentence, ""
    if isinstance(error, WorkbenchError):
        return str(error), ""
    if isinstance(error, OSError) and error.errno in _OF_DISKS:
        where = error.filename or "The folder for results"
        sentence = (
            f"{where} cannot be written ({error.strerror}); free some space, or set "
            "XDG_DATA_HOME to a folder you may write to and start again."
        )
        return sentence, ""
    sentence = (
        f"Something went wrong inside the workbench ({type(error).__name__}); "
        "nothing on this page is lost, and you can go on. "
        "If it happens again, please report the details below."
    )
    return sentence, "".join(traceback.format_exception(error, limit=-6))[-4000:]
