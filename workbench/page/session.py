"""The state of one page: the only mutable object, observed by the panels.

It knows no widgets and no pictures. Every change is made under one lock, whether it
comes from a click or from the thread that delivers a job's events, so panels are
notified of one change at a time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import traitlets

from workbench.errors import WorkbenchError
from workbench.files.atomic import STUDY, kind_of
from workbench.jobs.job import Job, JobEvent, JobRecord, explain_failure
from workbench.jobs.remote import WorkerProcess, follow
from workbench.jobs.runner import JobRunner, Perform
from workbench.jobs.runs import (
    facts_of,
    find_run,
    find_runs,
    make_run,
    network_of,
    runs_folder,
)
from workbench.page.presets import PRESETS, find_preset, load_example
from workbench.page.report import (
    Trained,
    describe_device,
    end_in_words,
    extended,
    trained_at,
)
from workbench.page.settings import Limits, RunSettings, held
from workbench.page.view_state import DEFAULTS
from workbench.progress.control import Control
from workbench.study.convention import CONVENTIONS
from workbench.study.records import Study, load_study

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """The contents of the red box, shown until it is closed."""

    sentence: str
    details: str = ""  # of a bug, folded


class Worker(Protocol):
    """Runs jobs; `remote.WorkerProcess` is one."""

    def perform(
        self, job: Job, report: Callable[[JobEvent], None], control: Control
    ) -> JobRecord:
        """Run one job and return how it ended."""

    def warm_up(self) -> None:
        """Load what a job needs before the first one."""


class Session(traitlets.HasTraits):
    """The state of one page.

    Args:
        folder: Folder of the runs, one subfolder each; by default in the user's data
            folder, where later pages find them.
        limits: Limits on the settings of a run.
        worker: Runs the jobs; by default a process that stays for the next job.
        interval: Seconds between checks of a job.
    """

    study = traitlets.Instance(Study, allow_none=True)
    preset = traitlets.Unicode("")  # name of the preset shown; "": none
    source = traitlets.Unicode("")  # if no preset is shown: "your run", or a file name
    view = traitlets.Dict()  # state of the pictures, by the names in `view_state`
    hidden = traitlets.Instance(frozenset, ())  # controls hidden by a teacher's link
    locked = traitlets.Instance(frozenset, ())
    pinned = traitlets.Instance(Study, allow_none=True)  # shown for comparison
    pinned_preset = traitlets.Unicode("")  # its name, if it is a preset
    runs = traitlets.Tuple()  # earlier runs, when last looked up
    weighting = traitlets.Enum(tuple(CONVENTIONS), "icml")
    settings = traitlets.Instance(RunSettings, ())
    state = traitlets.Enum(("idle", "running", "paused", "stopping"), "idle")
    event = traitlets.Instance(JobEvent, allow_none=True)  # the latest; None when idle
    history = traitlets.Dict()  # epoch, loss, accuracy of training, as tuples
    trained = traitlets.Instance(Trained, allow_none=True)
    notice = traitlets.Unicode("")  # how the last job ended
    problem = traitlets.Instance(Problem, allow_none=True)
    device = traitlets.Unicode("")

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        worker: Worker | None = None,
        interval: float = 0.1,
    ) -> None:
        super().__init__()
        self.limits = limits or Limits()
        self.lock = threading.RLock()
        self.folder = runs_folder() if folder is None else Path(folder)
        self._worker: Worker = worker or WorkerProcess()
        self.runner = JobRunner(self._worker.perform, interval=interval)
        self._cold = True
        self._own: tuple[str, Study | None] | None = None  # shown by the job
        self.device = describe_device()

    # What is shown

    @property
    def is_example(self) -> bool:
        """Whether the study shown is part of the package."""
        return self.preset != ""

    def open_preset(self, name: str = PRESETS[0].name) -> None:
        """Show a study of the package, and adopt its settings for the next run.

        Raises:
            WorkbenchError: If there is no preset with this name.
        """
        chosen = find_preset(name)
        with self.lock:
            self._expect_unlocked("presets")
            wanted = chosen.settings.within(self.limits)
            self.settings = wanted.keeping(self.settings, held(self.locked))
            pinned = self.pinned if name == self.pinned_preset else None
            self.show(pinned or load_example(name), preset=name)

    def open_file(self, path: str | os.PathLike[str], *, name: str = "") -> None:
        """Show a study, or measure a checkpoint, from the kernel's machine.

        Args:
            path: The file.
            name: Its name on the page; by default the file name.

        Raises:
            WorkbenchError: If it is neither, too large, or damaged.
        """
        self._expect_unlocked("open")
        kind = kind_of(path)
        source = Path(path).expanduser()
        with self.lock:
            if kind.name == STUDY:
                self.show(load_study(source), source=name or source.name)
                return
            self._expect_idle()
            self.trained = trained_at(str(source), kind.run)
            self._measure()

    def open_run(self, name: str) -> None:
        """Show an earlier run, watch one that is running, or adopt its network.

        Raises:
            WorkbenchError: If it no longer exists.
        """
        self._expect_unlocked("open")
        run = find_run(self.folder, name)
        with self.lock:
            self._expect_idle()
            if path := network_of(run):
                self.trained = trained_at(path, facts_of(path))
            if run.state == "running":
                self.history = {}
                job = replace(run.job, folder=str(run.folder.path))
                self._begin(job, follow, wish=run.folder.wished())
            elif run.state == "finished":
                self.show(load_study(run.files["study"]), source="your run")
            else:
                self.notice = end_in_words(
                    JobRecord(0, run.job.work, "cancelled", run.files, {}, {}),
                    self.trained,
                )

    def look_for_runs(self) -> None:
        """Look up earlier runs."""
        with self.lock:
            self.runs = find_runs(self.folder)

    def show(self, study: Study, *, preset: str = "", source: str = "") -> None:
        """Show this study, in the chosen weighting if that was measured."""
        with self.lock, self.hold_trait_notifications():  # nobody sees half of it
            if self.weighting not in study.levels:
                self.weighting = study.weighting
            self.preset, self.source = preset, source
            self.study = study

    def pin(self, preset: str = "") -> None:
        """Pin the study shown, at its epoch, or a preset's, for comparison."""
        with self.lock, self.hold_trait_notifications():
            shown = preset in ("", self.preset)
            whole = self.study if shown else load_example(preset)
            self.pinned, self.pinned_preset = whole, preset or self.preset
            moment = self.view.get("moment", DEFAULTS["moment"])
            if whole and not preset and 0 <= moment < len(whole.moments):
                self.pinned, self.pinned_preset = whole.moments[moment], ""

    def unpin(self) -> None:
        """Remove the pinned study."""
        with self.lock, self.hold_trait_notifications():
            self.pinned, self.pinned_preset = None, ""

    def show_weighting(self, name: str) -> None:
        """Choose the convention of averaging, for the pictures and the next run."""
        if name not in CONVENTIONS:
            raise WorkbenchError(
                f"Convention: {name!r} is unknown; choose one of "
                f"{', '.join(CONVENTIONS)}."
            )
        with self.lock:
            self._expect_free("weighting")
            self.weighting = name

    # Requests

    def change(self, **values: Any) -> None:
        """Change settings of the next run; see `RunSettings`.

        Raises:
            WorkbenchError: If a value is invalid; then nothing is changed.
        """
        with self.lock:
            wanted = self.settings.changed(self.limits, **values)
            new = wanted.differing(self.settings)  # empty: a control was only drawn
            self._expect_free(*new)
            self.settings = wanted
        if new:
            self._warm_up()

    def run(self) -> None:
        """Train a new network with the current settings, then measure and show it."""
        self._expect_unlocked("training")
        self._start("run", self.settings.to_work(self.weighting))

    def continue_training(self) -> None:
        """Resume stopped training with its original settings, then measure."""
        self._expect_unlocked("training")
        last = self._last()
        planned = {**last.about, "epochs": last.facts.get("epochs_planned")}
        self.limits.expect_within(planned)
        chosen = self.settings.to_measure(self.weighting)
        self._start("run", {**planned, **chosen, "resume": last.path})

    def measure_again(self) -> None:
        """Measure the last network with the current settings."""
        self._expect_unlocked("measuring")
        self._measure()

    def _measure(self) -> None:
        last = self._last()
        chosen = self.settings.to_measure(self.weighting)
        self._start("measure", {**last.about, **chosen, "checkpoint": last.path})

    def pause(self) -> None:
        """Make the job wait after the current batch."""
        with self.lock:
            if self.state == "running":
                self.runner.pause()
                self.state = "paused"

    def resume(self) -> None:
        """Let the job continue."""
        with self.lock:
            if self.state == "paused":
                self.runner.resume()
                self.state = "running"

    def stop(self) -> None:
        """Stop the job, keeping what was trained. The state changes at once."""
        with self.lock:
            if self.state in ("running", "paused"):
                self.runner.cancel()
                self.state = "stopping"

    def _expect_free(self, *names: str) -> None:  # names of settings
        if fixed := held(self.locked).intersection(names):
            raise _locked(fixed)

    def _expect_unlocked(self, control: str) -> None:
        if control in self.locked:
            raise _locked({control})

    # Errors

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Hold the lock; send exceptions to the red box and the log, and no further."""
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

        def notify(change: Any = None) -> None:
            with self.guarded():
                handler()

        self.observe(notify, names=list(names))
        notify()

    # The job

    def _last(self) -> Trained:
        if self.trained is None:
            raise WorkbenchError(
                "You have not trained a network yet; press Train first."
            )
        return self.trained

    def _start(self, work: str, settings: Mapping[str, Any]) -> None:
        with self.lock:
            self._expect_idle()
            if work == "run" and "resume" not in settings:
                self.history = {}
            folder = make_run(self.folder)
            self._begin(Job(work=work, settings=settings, folder=str(folder.path)))

    def _expect_idle(self) -> None:
        if self.state == "stopping":  # its results are still to be collected
            raise WorkbenchError("The last job is still stopping; wait a moment.")
        if self.state != "idle":
            raise WorkbenchError("A job is running; stop it, or wait until it ends.")

    def _begin(
        self, job: Job, perform: Perform | None = None, *, wish: str = "go"
    ) -> None:
        self.problem, self.notice, self.event = None, "", None
        self._own = None
        self._cold = False
        self.runner.start(
            job.work,
            job.settings,
            job.folder,
            on_events=self._on_events,
            on_end=self._on_end,
            perform=perform,
            wish=wish,
        )
        self.state = {"go": "running", "wait": "paused", "end": "stopping"}[wish]

    def _on_events(self, events: list[JobEvent]) -> None:
        with self.guarded():
            history: Mapping[str, tuple[float, ...]] = self.history
            for event in events:
                history = extended(history, event.progress.values)
            self.history = dict(history)
            self.event = events[-1]
            if path := events[-1].files.get("study"):
                self._show_own(path)

    def _on_end(self, record: JobRecord) -> None:
        with self.lock:
            try:
                with self.guarded():
                    self._take(record)
            finally:
                self.state = "idle"
                self.event = None

    def _take(self, record: JobRecord) -> None:
        """Collect the results of a job: a network, a study, a sentence."""
        facts = record.facts
        if path := record.files.get("checkpoint"):
            self.trained = trained_at(path, facts or facts_of(path))
        if "device" in facts:
            self.device = describe_device(str(facts["device"]))
        if record.error:
            self.problem = Problem(record.error, record.defect)
        self.notice = end_in_words(record, self.trained)
        if path := record.files.get("study"):
            self._show_own(path)
        self.runs = find_runs(self.folder)

    def _show_own(self, path: str) -> None:
        """Show the running job's study, once, unless another was chosen meanwhile."""
        before, study = self._own, self.study
        if before is not None and (path == before[0] or study is not before[1]):
            return
        self.show(load_study(path), source="your run")
        self._own = (path, self.study)

    def _warm_up(self) -> None:
        """Load what a run needs, in the background, once."""
        with self.lock:
            cold, self._cold = self._cold, False
        if cold:
            self._worker.warm_up()


def _locked(names: Set[str]) -> WorkbenchError:
    name = min(names)
    return WorkbenchError(f"{name} is locked on this page by the link that opened it.")
