"""Long work as jobs: settings go in, events and a final record come out.

A job can be paused and cancelled. Only plain values are exchanged, so the same job can
run in a thread of this process, as here, or in a worker process. This file does not
import torch: the steps of a job are looked up by name in the thread that runs it.
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

ELSEWHERE = "elsewhere"  # key of a record's facts: a file had to be saved elsewhere

# The steps of each job, in order. Cancelling a step ends the job but keeps its files.
STEPS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "measure": ("measure", "film"),
    "run": ("train", "measure", "film"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request for long work, in plain values."""

    work: str  # "train", "measure" or "run" = train, then measure, then the film
    settings: Mapping[str, Any]
    folder: str  # an existing folder for its files
    number: int = 0  # increases with every job; events with an older number are stale


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one step of a job."""

    files: Mapping[str, str]  # "checkpoint", "study" -> path of the file written
    status: str = "finished"  # or "cancelled": the files hold the work done so far
    facts: Mapping[str, Any] = field(default_factory=dict)  # the run, as `show` prints


Step = Callable[[Mapping[str, Any], Path, ProgressCallback, Control], Outcome]


@dataclass(frozen=True, slots=True)
class JobEvent:
    """The progress of a running job."""

    number: int
    step: int  # index of the step in STEPS
    num_steps: int
    progress: Progress  # of this step
    elapsed: float = 0.0  # seconds since the step began, without pauses
    seconds_left: float | None = None  # of this step; None if not known yet
    files: Mapping[str, str] = field(default_factory=dict)  # of earlier steps


@dataclass(frozen=True, slots=True)
class JobRecord:
    """How a job ended. The files of completed steps exist in every case."""

    number: int
    work: str
    status: str  # "finished", "cancelled" or "failed"
    files: Mapping[str, str]
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]  # time spent in each stage, in order
    error: str = ""  # one sentence for a person; empty unless failed
    defect: str = ""  # short traceback, if the fault is ours


def load_work() -> ModuleType:
    """Import the functions that perform the steps, and with them torch.

    Torch's threads are set to sleep while they wait. By default they spin, which slows
    everything down when other programs, such as the page's server and the browser, need
    the cores too: training and measuring digits on two busy cores takes 50 s instead of
    170 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return importlib.import_module("workbench.jobs.work")


def find_step(name: str) -> Step:
    """Return the function that performs this step."""
    step: Step = getattr(load_work(), name)
    return step


def perform(
    job: Job,
    report: Callable[[JobEvent], None],
    control: Control,
    *,
    find: Callable[[str], Step] = find_step,
) -> JobRecord:
    """Run one job in this thread and return how it ended. Never raises.

    Args:
        job: The job to run.
        report: Called with every event in this thread, possibly very often.
        control: Pauses and cancels the job from another thread.
        find: Maps the name of a step to the function that performs it.
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
    """Return a sentence for the user, and a short traceback if the fault is ours."""
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        sentence = (
            "Not enough memory for this; choose fewer examples per class or a smaller "
            "network."
        )
        return sentence, ""
    if isinstance(error, WorkbenchError):
        return str(error), ""
    if isinstance(error, OSError) and error.errno in _OF_DISKS:
        where = error.filename or "The folder for results"
        sentence = (
            f"{where} cannot be written ({error.strerror}); free some space, or set "
            "XDG_DATA_HOME to a writable folder and start again."
        )
        return sentence, ""
    sentence = (
        f"Something went wrong inside the workbench ({type(error).__name__}); nothing "
        "on this page is lost, and you can continue. If it happens again, please "
        "report the details below."
    )
    return sentence, "".join(traceback.format_exception(error, limit=-6))[-4000:]
