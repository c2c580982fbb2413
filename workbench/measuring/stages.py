"""The stages of a measurement, as one fraction that never falls."""

from __future__ import annotations

from collections.abc import Callable

from workbench.control import Control, Progress, ProgressCallback


class Stages:
    """Turns the shares of the stages into one fraction that never falls; cancels."""

    def __init__(
        self,
        progress: ProgressCallback | None,
        control: Control,
        costs: dict[str, float],
    ) -> None:
        self._progress = progress
        self._control = control
        self._costs = costs
        self._before = 0.0
        self._done = 0.0
        self._stage = ""

    def start(self, stage: str) -> Callable[[float], None]:
        """Enter a stage; returns what to call with its share done."""
        if self._stage:
            self._before += self._costs[self._stage]
        self._stage = stage
        total = sum(self._costs.values())
        before, cost = self._before, self._costs[stage]

        def report(share: float) -> None:
            self._control.check()
            if self._progress is not None:
                done = (before + cost * min(max(share, 0.0), 1.0)) / total
                self._done = max(self._done, done)  # a residual may rise for a step
                self._progress(Progress(stage, self._done))

        report(0.0)
        return report


def part_of(report: Callable[[float], None], start: float) -> Callable[[float], None]:
    """The rest of a stage, from ``start`` on."""
    return lambda share: report(start + (1.0 - start) * share)
