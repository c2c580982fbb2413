"""Elapsed and remaining time of long work, in seconds and in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Stopwatch:
    """Seconds since its creation, without pauses. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._stopped: float | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Stop the clock; has no effect if it is stopped."""
        with self._lock:
            if self._stopped is None:
                self._stopped = self._clock()

    def go(self) -> None:
        """Restart the clock."""
        with self._lock:
            if self._stopped is not None:
                self._start += self._clock() - self._stopped
                self._stopped = None

    def seconds(self) -> float:
        """Return the time that has run."""
        with self._lock:
            now = self._clock() if self._stopped is None else self._stopped
            return now - self._start


class TimeLeft:
    """Estimates the seconds until some work ends from how its fraction has grown.

    The speed is measured from the first fraction above zero, so that preparation (an
    import, a download) does not distort it.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # (seconds, fraction)
        self._last: tuple[float, float] = (0.0, 0.0)

    def update(self, seconds: float, fraction: float) -> None:
        """Record a fraction; ignored if it has not grown."""
        if fraction > self._last[1]:
            self._last = (seconds, fraction)
            self._first = self._first or self._last

    def left(self, seconds: float) -> float | None:
        """Return the current estimate, or None while there is none.

        Between updates it counts down, but never below a tenth of the last estimate.
        """
        if self._first is None or self._last == self._first:
            return None
        (began, first), (seen, fraction) = self._first, self._last
        left = (seen - began) / (fraction - first) * (1.0 - fraction)
        return max(left - (seconds - seen), left / 10)


def say_duration(seconds: float) -> str:
    """Format a time span for people: "8 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
