"""The runs that are on this machine: those at work, finished or cut off."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from workbench.errors import WorkbenchError
from workbench.files.atomic import kind_of
from workbench.jobs.job import Job
from workbench.jobs.run_folder import RunFolder
from workbench.machine.scratch import private_folder
from workbench.progress.timing import say_duration

NUM_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it is found on the disk."""

    folder: RunFolder
    job: Job
    state: str  # "running", "finished" (there is a study), "stopped" (only a network)
    since: float  # seconds since it began
    files: dict[str, str]  # "checkpoint", "study" -> path

    @property
    def name(self) -> str:
        """What it is known by."""
        return self.folder.path.name

    @property
    def words(self) -> str:
        """Say in one line what it is."""
        asked = self.job.settings
        words = [str(asked.get(key, "")) for key in ("data", "model")]
        if per_class := asked.get("per_class"):
            words.append(f"{per_class} per class")
        if epochs := asked.get("epochs"):
            words.append(f"{epochs} epochs")
        told = " · ".join(word for word in words if word) or "a measurement"
        return f"{told}, {say_duration(self.since)} ago"


def runs_folder() -> Path:
    """The folder of all runs of this user; without a home, a temporary one."""
    try:
        found = platformdirs.user_data_path("hessian-workbench")
    except RuntimeError:  # neither HOME nor XDG_DATA_HOME
        found = Path("~")
    return (found if found.is_absolute() else private_folder("data")) / "runs"


def make_run(base: Path) -> RunFolder:
    """Make a folder for a new run; what killed ones have left is taken away first.

    Raises:
        WorkbenchError: If it cannot be made.
    """
    with suppress(OSError):
        for older in os.listdir(base):
            RunFolder(base / older).remove_leftovers()
    name = time.strftime("%Y-%m-%d-%H%M%S-") + secrets.token_hex(2)
    try:
        (base / name).mkdir(parents=True)
    except OSError as error:
        raise WorkbenchError(
            f"The folder {base / name} for results cannot be made "
            f"({error.strerror}); set XDG_DATA_HOME to a folder you may write to."
        ) from error
    return RunFolder(base / name)


def find_runs(base: Path, most: int = NUM_SHOWN) -> tuple[Run, ...]:
    """Return the newest runs with something to open, newest first."""
    try:
        names = sorted(os.listdir(base), reverse=True)
    except OSError:
        return ()
    found: list[Run] = []
    for name in names[: 4 * most]:
        if len(found) < most and (run := _run(RunFolder(base / name))) is not None:
            found.append(run)
    return tuple(found)


def find_run(base: Path, name: str) -> Run:
    """Return the run of that name.

    Raises:
        WorkbenchError: If there is nothing of it any more.
    """
    plain = name == Path(name).name
    if (run := _run(RunFolder(base / name)) if plain else None) is None:
        raise WorkbenchError(f"The run {name} is not there any more; choose another.")
    return run


def _run(folder: RunFolder) -> Run | None:
    job = folder.job()
    if job is None:
        return None
    try:
        since = max(0.0, time.time() - (folder.path / "job.json").stat().st_mtime)
    except OSError:
        return None
    files, ended = folder.files(), folder.record() is not None
    if not ended and folder.process is not None:
        state = "running"
    elif "study" in files:
        state = "finished"
    elif "checkpoint" in files:
        state = "stopped"
    else:
        return None
    return Run(folder, job, state, since, files)


def network_of(run: Run) -> str | None:
    """Path of the network of a run: its own, or the one that it was to measure."""
    settings = run.job.settings
    path = run.files.get("checkpoint") or settings.get("checkpoint")
    return str(path) if path and Path(path).is_file() else None


def facts_of(path: str) -> dict[str, object]:
    """What was trained, as a checkpoint says itself; {} where it cannot be read."""
    try:
        return kind_of(path).run
    except WorkbenchError:
        return {}
