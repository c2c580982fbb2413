"""What one page shows and does: the only mutable thing, observed by the panels.

No widget and no picture is known here. Every change is made under one lock, whether
it comes from a click or from the thread that delivers a job's events, so panels are
told one thing at a time.
"""

from __future__ import annotations

import importlib.resources
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import traitlets

from workbench.errors import WorkbenchError
from workbench.jobs import JobEvent, JobRecord, explain_failure, load_work
from workbench.runner import JobRunner
from workbench.settings import CONVENTIONS, Limits, RunSettings
from workbench.study import Study, load_study
from workbench.timing import say_duration

_log = logging.getLogger(__name__)
EXAMPLE = "digits-mlp.study"


@dataclass(frozen=True, slots=True)
class Problem:
    """What the red box says until it is closed."""

    sentence: str
    details: str = ""  # of a defect, folded


@dataclass(frozen=True, slots=True)
class Trained:
    """The last network that this session trained."""

    path: str  # of its checkpoint
    finished: bool  # False: training was stopped and can be continued
    facts: Mapping[str, Any]


class Session(traitlets.HasTraits):
    """The state of one page.

    Args:
        folder: Where the files of the jobs go; by default a new folder below the user's
            data folder, made when the first job needs it.
        limits: Bounds on what may be asked for.
        runner: What runs the jobs.
        warm_up: Whether to load torch and compile UMAP in the background when a control
            is first touched, so that the first run is quick. It costs some 900 MB of
            memory, so a hub of many kernels may say no; a kernel that only shows a
            study never pays.
    """

    study = traitlets.Instance(Study, allow_none=True)
    is_example = traitlets.Bool(False)
    weighting = traitlets.Enum(tuple(CONVENTIONS), "icml")
    settings = traitlets.Instance(RunSettings, ())
    state = traitlets.Enum(("idle", "running", "paused", "stopping"), "idle")
    event = traitlets.Instance(JobEvent, allow_none=True)  # the latest; None when idle
    history = traitlets.Dict()  # epoch, loss, accuracy of the training, as tuples
    trained = traitlets.Instance(Trained, allow_none=True)
    notice = traitlets.Unicode("")  # how the last job ended
    problem = traitlets.Instance(Problem, allow_none=True)
    device = traitlets.Unicode("")

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        runner: JobRunner | None = None,
        warm_up: bool = True,
    ) -> None:
        super().__init__()
        self.limits = limits or Limits()
        self.lock = threading.RLock()
        self._folder = None if folder is None else Path(folder)
        self._runner = runner or JobRunner()
        self._cold = warm_up
        self.device = describe_device()

    # What is shown

    def open_example(self) -> None:
        """Show the study that comes with the package."""
        place = importlib.resources.files("workbench") / "examples" / EXAMPLE
        with self.guarded(), importlib.resources.as_file(place) as path:
            self.show(load_study(path), is_example=True)

    def show(self, study: Study, *, is_example: bool = False) -> None:
        """Show this study, in the chosen weighting where it was measured."""
        with self.lock:
            if self.weighting not in study.levels:
                self.weighting = study.weighting
            self.is_example = is_example
            self.study = study

    def show_weighting(self, name: str) -> None:
        """Choose the convention of the averages: drawn now, and measured next."""
        if name not in CONVENTIONS:
            raise WorkbenchError(
                f"Convention: {name!r} is not known; choose {', '.join(CONVENTIONS)}."
            )
        with self.lock:
            self.weighting = name

    # What is asked for

    def change(self, **values: Any) -> None:
        """Change settings of the next run; see `RunSettings`.

        Raises:
            WorkbenchError: If a value does not do; then nothing is changed.
        """
        with self.lock:
            self.settings = self.settings.changed(self.limits, **values)
        self._warm_up()

    def run(self) -> None:
        """Train a new network as the settings say, then measure and show it."""
        self._start("run", self.settings.to_work(self.weighting))

    def continue_training(self) -> None:
        """Go on with the training that was stopped, then measure and show it."""
        settings = self.settings.to_work(self.weighting)
        self._start("run", {**settings, "resume": self._last().path})

    def measure_again(self) -> None:
        """Measure the last network with the settings of now."""
        settings = self.settings.to_work(self.weighting)
        keys = ("weighting", "embedding", "metric", "seed")
        chosen = {key: settings[key] for key in keys}
        self._start("measure", {**chosen, "checkpoint": self._last().path})

    def pause(self) -> None:
        """Let the job wait between two batches."""
        with self.lock:
            if self.state == "running":
                self._runner.pause()
                self.state = "paused"

    def resume(self) -> None:
        """Let the job go on."""
        with self.lock:
            if self.state == "paused":
                self._runner.resume()
                self.state = "running"

    def stop(self) -> None:
        """End the job; what was trained is kept. The state says so at once."""
        with self.lock:
            if self.state in ("running", "paused"):
                self._runner.cancel()
                self.state = "stopping"

    # What went wrong

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Hold the lock; an exception goes to the red box and the log, no further."""
        with self.lock:
            try:
                yield
            except WorkbenchError as error:
                self.problem = Problem(str(error))
            except Exception as error:
                _log.exception("a callback of the page failed")
                self.problem = Problem(*explain_failure(error))

    def watch(self, handler: Callable[[], None], *names: str) -> None:
        """Call ``handler`` now and whenever one of these traits changes, guarded."""

        def told(change: Any = None) -> None:
            with self.guarded():
                handler()

        self.observe(told, names=list(names))
        told()

    # The job

    def _last(self) -> Trained:
        if self.trained is None:
            raise WorkbenchError(
                "There is no network of your own to measure yet; press Train first."
            )
        return self.trained

    def _start(self, work: str, settings: Mapping[str, Any]) -> None:
        with self.lock:
            if self.state == "stopping":  # what it leaves is still to be taken over
                raise WorkbenchError("The last job is still stopping; wait a moment.")
            if self.state != "idle":
                raise WorkbenchError("A job is running; stop it, or wait for its end.")
            folder = self._make_folder()
            self.problem, self.notice, self.event = None, "", None
            if work == "run" and "resume" not in settings:
                self.history = {}
            self._cold = False
            self._runner.start(
                work, settings, folder, on_events=self._on_events, on_end=self._on_end
            )
            self.state = "running"

    def _make_folder(self) -> Path:
        if self._folder is None:
            base = platformdirs.user_data_path("hessian-workbench") / "runs"
            name = time.strftime("%Y-%m-%d-%H%M%S-") + secrets.token_hex(2)
            self._folder = base / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkbenchError(
                f"The folder {self._folder} for results cannot be made "
                f"({error.strerror}); set XDG_DATA_HOME to a folder you may write to."
            ) from error
        return self._folder

    def _on_events(self, events: list[JobEvent]) -> None:
        with self.guarded():
            history: Mapping[str, tuple[float, ...]] = self.history
            for event in events:
                history = _extended(history, event.progress.values)
            self.history = dict(history)
            self.event = events[-1]

    def _on_end(self, record: JobRecord) -> None:
        with self.lock:
            try:
                with self.guarded():
                    self._take(record)
            finally:
                self.state = "idle"
                self.event = None

    def _take(self, record: JobRecord) -> None:
        """Take over what a job left: a network, a study, a sentence."""
        facts = record.facts
        if path := record.files.get("checkpoint"):
            planned = facts.get("epochs_planned", facts.get("epochs"))
            finished = facts.get("epochs") == planned
            self.trained = Trained(path, finished, facts)
        if "device" in facts:
            self.device = describe_device(str(facts["device"]))
        if record.error:
            self.problem = Problem(record.error, record.defect)
        self.notice = _end_in_words(record, self.trained)
        if path := record.files.get("study"):
            self.show(load_study(path))

    def _warm_up(self) -> None:
        """Load what a run needs in the background, once."""
        with self.lock:
            cold, self._cold = self._cold, False
        if cold:
            name = "workbench-warm-up"
            threading.Thread(target=_warm_up, name=name, daemon=True).start()


def _warm_up() -> None:
    try:
        load_work().warm_up()
    except Exception:  # the run itself will say what is wrong
        _log.exception("warming up failed")


def describe_device(used: str = "") -> str:
    """Say in a few words what computes; ``used`` is torch's name for it, if known."""
    if used and not used.startswith("cpu"):
        return f"GPU ({used})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = cores or os.cpu_count() or 1
    cpu = f"CPU, {cores} core{'s' if cores > 1 else ''}"
    if not used and Path("/proc/driver/nvidia/gpus").is_dir():
        return f"{cpu} (GPU found)"
    return cpu


def _extended(
    history: Mapping[str, tuple[float, ...]], values: Mapping[str, float]
) -> Mapping[str, tuple[float, ...]]:
    """Add loss and accuracy at this epoch; a part of an epoch stands for the moment."""
    names = ("epoch", "loss", "accuracy")
    if any(name not in values for name in names):
        return history
    before = history.get("epoch", ())
    keep = sum(e == int(e) and e < values["epoch"] for e in before)
    return {
        name: (*history.get(name, ())[:keep], float(values[name])) for name in names
    }


def _end_in_words(record: JobRecord, trained: Trained | None) -> str:
    """One or two sentences on how a job ended."""
    if record.status == "finished":
        did = "Trained and measured" if record.work == "run" else "Measured"
        return f"{did} in {say_duration(sum(record.seconds.values()))}."
    kept = "checkpoint" in record.files
    if record.status == "failed":
        return (
            "The trained network is kept: Measure again tries once more."
            if kept
            else ""
        )
    if kept and trained is not None and not trained.finished:
        epoch, planned = trained.facts["epochs"] + 1, trained.facts["epochs_planned"]
        return (
            f"Stopped in epoch {epoch} of {planned}. What was learnt is kept: "
            "Continue trains on, Measure again shows it as it is."
        )
    if kept or record.work == "measure":
        return "Measuring was stopped. The network is kept: Measure again starts anew."
    return "Stopped before anything was learnt."
