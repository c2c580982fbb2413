"""How long work has run and will run: a stopwatch, the time left, both in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Stopwatch:
    """Seconds since it was made, pauses left out. Any thread may look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._stopped: float | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Hold the time; stopping twice is stopping once."""
        with self._lock:
            if self._stopped is None:
                self._stopped = self._clock()

    def go(self) -> None:
        """Let the time run on."""
        with self._lock:
            if self._stopped is not None:
                self._start += self._clock() - self._stopped
                self._stopped = None

    def seconds(self) -> float:
        """Return the time that ran."""
        with self._lock:
            now = self._clock() if self._stopped is None else self._stopped
            return now - self._start


class TimeLeft:
    """Seconds until some work ends, judged by how its fraction has grown so far.

    The speed is counted from the first fraction above zero, so that getting ready (an
    import, a download) is not taken for the speed of the work.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # (seconds, fraction)
        self._last: tuple[float, float] = (0.0, 0.0)

    def update(self, seconds: float, fraction: float) -> None:
        """Take note of a fraction; one that did not grow says nothing new."""
        if fraction > self._last[1]:
            self._last = (seconds, fraction)
            self._first = self._first or self._last

    def left(self, seconds: float) -> float | None:
        """Return the estimate at this moment, or None while there is no telling.

        Between two fractions it counts down, but never below a tenth of what it was.
        """
        if self._first is None or self._last == self._first:
            return None
        (began, first), (seen, fraction) = self._first, self._last
        left = (seen - began) / (fraction - first) * (1.0 - fraction)
        return max(left - (seconds - seen), left / 10)


def say_duration(seconds: float) -> str:
    """Say a time span as people do: "8 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
