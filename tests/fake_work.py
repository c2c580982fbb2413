"""Work that takes no time, for tests of what starts, watches and ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.studies import make_study
from workbench.jobs.job import Job, JobEvent, JobRecord, Outcome, Step, perform
from workbench.progress.control import Cancelled, Control, Progress, ProgressCallback
from workbench.study.records import load_study


class FakeWork:
    """Training and measuring by the same interface, as quick or slow as wanted.

    ``hold`` makes a step wait at its middle until ``free`` is set or it is cancelled;
    ``pace`` is the seconds an epoch takes.
    """

    def __init__(
        self, *, hold: str = "", epochs: int = 4, pace: float = 0.0, moments: int = 0
    ) -> None:
        self.moments = moments
        self.hold, self.epochs, self.pace = hold, epochs, pace
        self.free, self.held = threading.Event(), threading.Event()
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.raises: dict[str, Exception] = {}
        self.warmed = 0

    def perform(
        self, job: Job, report: Callable[[JobEvent], None], control: Control
    ) -> JobRecord:
        return perform(job, report, control, find=self.find)

    def warm_up(self) -> None:
        self.warmed += 1

    def find(self, name: str) -> Step:
        steps: dict[str, Step] = {
            "train": self.train,
            "measure": self.measure,
            "film": self.film,
        }
        return steps[name]

    def train(
        self,
        settings: Mapping[str, Any],
        folder: Path,
        progress: ProgressCallback,
        control: Control,
    ) -> Outcome:
        self._enter("train", settings)
        done = 0
        status = "finished"
        try:
            for epoch in range(1, self.epochs + 1):
                control.check()
                time.sleep(self.pace)
                values = {
                    "epoch": epoch,
                    "loss": 1 / epoch,
                    "accuracy": 1 - 0.5 / epoch,
                }
                detail = f"epoch {epoch} of {self.epochs}"
                progress(Progress("Training", epoch / self.epochs, detail, values))
                done = epoch
                if epoch == self.epochs // 2:
                    self._wait("train", control)
        except Cancelled:
            status = "cancelled"
        path = folder / f"run-{len(self.asked)}.ckpt"
        path.write_text("weights")
        facts = {"epochs": done, "epochs_planned": self.epochs, "device": "cpu"}
        return Outcome({"checkpoint": str(path)}, status, facts)

    def measure(
        self,
        settings: Mapping[str, Any],
        folder: Path,
        progress: ProgressCallback,
        control: Control,
    ) -> Outcome:
        self._enter("measure", settings)
        progress(Progress("Measuring the spectrum", 0.5))
        self._wait("measure", control)
        control.check()
        path = folder / f"run-{len(self.asked)}.study"
        make_study(3, 40, settings["weighting"]).save(path)
        return Outcome({"study": str(path)})

    def film(
        self,
        settings: Mapping[str, Any],
        folder: Path,
        progress: ProgressCallback,
        control: Control,
    ) -> Outcome:
        self._enter("film", settings)
        self._wait("film", control)
        control.check()
        if not self.moments:
            return Outcome({})
        study = load_study(settings["study"])
        moments = make_study(3, 40, study.weighting, num_moments=self.moments).moments
        path = folder / f"run-{len(self.asked)}.study"
        replace(study, moments=moments).save(path)
        return Outcome({"study": str(path)})

    def _enter(self, name: str, settings: Mapping[str, Any]) -> None:
        self.asked.append((name, dict(settings)))
        if name in self.raises:
            raise self.raises[name]

    def _wait(self, name: str, control: Control) -> None:
        if self.hold != name:
            return
        self.held.set()
        while not self.free.is_set():
            control.check()
            time.sleep(0.002)


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something another thread does; fail where it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
