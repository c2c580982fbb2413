"""The stages of a measurement: one fraction that never falls, each kept when done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from workbench.machine.malloc import give_back_memory
from workbench.measurement.cost import STAGES
from workbench.measurement.stage_store import StageStore
from workbench.progress.control import Control, Progress, ProgressCallback, Report

Found = TypeVar("Found")


class Stages:
    """Does stages one after the other, or reads what they found before.

    Args:
        progress: Told the stage and the fraction of the whole.
        control: Cancels.
        seconds: How long each stage will take, about; by its name in `STAGES`.
        store: Where they are kept.
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
        """What the stage found before, else what it finds now."""
        share = self._shares[name]

        def report(part: float) -> None:
            self._control.check()
            done = self._before + share * min(max(part, 0.0), 1.0)
            self._done = max(self._done, done)  # a residual may rise for a step
            if self._progress is not None:
                self._progress(Progress(STAGES[name], min(self._done, 1.0)))

        report(0.0)
        found: Found | None = self._store.load(name)
        if found is None:
            found = compute(report)
            self._store.save(name, found)
            give_back_memory()  # the next stage has tensors of other sizes
        self._before += share
        return found

    def silent(self, part: float) -> None:
        """A report of work that no stage has; cancellable."""
        self._control.check()
