"""Times that mean something on a busy machine: ratios of things run in turn."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PEAK = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: list[float]) -> Spread:
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass(frozen=True, slots=True)
class Times:
    """One contender's time, in gradients of the loss run just before and after it."""

    units: Spread
    seconds: float  # median, on this machine as it was
    samples: list[float]  # in units, one a round


def in_turn(
    unit: Callable[[], Any],
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    device: torch.device,
) -> dict[str, Times]:
    """Run all contenders in turn, each between two runs of the unit.

    What slows the machine down for a while slows both, and the ratio stays. The order
    turns from round to round.
    """
    units: dict[str, list[float]] = {name: [] for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    before = timed(unit, device)
    for turn in range(rounds):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken = timed(contenders[name], device)
            after = timed(unit, device)
            units[name].append(2 * taken / (before + after))
            seconds[name].append(taken)
            before = after
    return {
        name: Times(Spread.of(units[name]), statistics.median(seconds[name]), found)
        for name, found in units.items()
    }


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one run, the device's queue emptied before and after."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def peak_memory(work: Callable[[], Any], device: torch.device) -> float | None:
    """Bytes that a run takes on top of what was there; None where nothing tells."""
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        there = torch.cuda.memory_allocated(device)
        work()
        _wait(device)
        return float(torch.cuda.max_memory_allocated(device) - there)
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        RESET.write_text("5")  # Linux: the peak becomes what is there now
    except (OSError, AttributeError):
        return None
    there = _peak()
    work()
    return _peak() - there


def _peak() -> float:
    lines = PEAK.read_text().splitlines()
    (found,) = [line for line in lines if line.startswith("VmHWM")]
    return 1024.0 * int(found.split()[1])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
