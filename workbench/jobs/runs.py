"""The runs on this machine: running, finished or interrupted."""

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
    """One run as found on disk."""

    folder: RunFolder
    job: Job
    state: str  # "running", "finished" (there is a study), "stopped" (only a network)
    since: float  # seconds since it began
    files: dict[str, str]  # "checkpoint", "study" -> path

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def words(self) -> str:
        """Describe it in one line."""
        asked = self.job.settings
        words = [str(asked.get(key, "")) for key in ("data", "model")]
        if per_class := asked.get("per_class"):
            words.append(f"{per_class} per class")
        if epochs := asked.get("epochs"):
            words.append(f"{epochs} epochs")
        told = " · ".join(word for word in words if word) or "a measurement"
        return f"{told}, {say_duration(self.since)} ago"


def runs_folder() -> Path:
    """Return the folder of all runs of this user; temporary if there is no home."""
    try:
        found = platformdirs.user_data_path("hessian-workbench")
    except RuntimeError:  # neither HOME nor XDG_DATA_HOME
        found = Path("~")
    return (found if found.is_absolute() else private_folder("data")) / "runs"


def make_run(base: Path) -> RunFolder:
    """Create a folder for a new run, after removing leftovers of killed runs.

    Raises:
        WorkbenchError: If it cannot be created.
    """
    with suppress(OSError):
        for older in os.listdir(base):
            RunFolder(base / older).remove_leftovers()
    name = time.strftime("%Y-%m-%d-%H%M%S-") + secrets.token_hex(2)
    try:
        (base / name).mkdir(parents=True)
    except OSError as error:
        raise WorkbenchError(
            f"The folder {base / name} for results cannot be created "
            f"({error.strerror}); set XDG_DATA_HOME to a writable folder."
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
    """Return the run with this name.

    Raises:
        WorkbenchError: If it no longer exists.
    """
    plain = name == Path(name).name
    if (run := _run(RunFolder(base / name)) if plain else None) is None:
        raise WorkbenchError(f"The run {name} no longer exists; choose another.")
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
    """Return the path of a run's network: its own, or the one it was to measure."""
    settings = run.job.settings
    path = run.files.get("checkpoint") or settings.get("checkpoint")
    return str(path) if path and Path(path).is_file() else None


def facts_of(path: str) -> dict[str, object]:
    """Return the facts of a checkpoint's training; {} if it cannot be read."""
    try:
        return kind_of(path).run
    except WorkbenchError:
        return {}
