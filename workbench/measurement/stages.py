"""Runs the stages of a measurement with one progress fraction, storing results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from workbench.machine.malloc import give_back_memory
from workbench.measurement.cost import STAGES
from workbench.measurement.stage_store import StageStore
from workbench.progress.control import Control, Progress, ProgressCallback, Report

Found = TypeVar("Found")


class Stages:
    """Runs stages one after another, or loads their stored results.

    Args:
        progress: Called with the stage and the overall fraction.
        control: Cancels.
        seconds: Approximate duration of each stage, by its name in `STAGES`.
        store: Where results are stored.
    """

    def __init__(
        self,
        progress: ProgressCallback | None,
        control: Control,
        seconds: Mapping[str, float],
        store: StageStore,
    ) -> None:
        self._progress, self._control, self._store = progress, control, store
        there = [name for name in seconds if store.has(name)]
        left = {k: 0.0 if k in there else v for k, v in seconds.items()}
        self._shares = {k: v / (sum(left.values()) or 1.0) for k, v in left.items()}
        self._before = 0.0
        self._done = 0.0

    def do(self, name: str, compute: Callable[[Report], Found]) -> Found:
        """Return the stored result of a stage, or compute it."""
        share = self._shares[name]

        def report(part: float) -> None:
            self._control.check()
            done = self._before + share * min(max(part, 0.0), 1.0)
            self._done = max(self._done, done)  # a residual may rise temporarily
            if self._progress is not None:
                self._progress(Progress(STAGES[name], min(self._done, 1.0)))

        report(0.0)
        found: Found | None = self._store.load(name)
        if found is None:
            found = compute(report)
            self._store.save(name, found)
            give_back_memory()  # the next stage needs tensors of other sizes
        self._before += share
        return found

    def silent(self, part: float) -> None:
        """A report for work outside any stage; can be cancelled."""
        self._control.check()
