"""One run's folder on disk: what is asked for, how far it is, how it ended.

One process works in it, any number may read: so a page that was reloaded finds its
training again, and a kernel that dies takes no work with it. JSON only; nothing in
such a folder is ever executed.

    job.json      what to do
    events.jsonl  every event, one a line
    wish          "go", "wait" or "end": what the last page that pressed a button wants
    alive         number of the process at work, touched every second
    watched       touched by every page that looks on
    record.json   how it ended
    *.ckpt, *.study
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.files.container import LITTER, STALE, remove_litter
from workbench.jobs.job import Job, JobEvent, JobRecord
from workbench.progress.control import Progress

WISHES = ("go", "wait", "end")
SILENT = 60.0  # seconds without a sign of life after which a process counts as gone
_BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Reads and writes the files of one run."""

    path: Path

    # What is asked for

    def write_job(self, job: Job) -> None:
        """Say what to do here.

        Raises:
            OSError: If that cannot be written.
        """
        self._write("job.json", json.dumps(asdict(job)))

    def job(self) -> Job | None:
        """Return what was asked for; None where that cannot be read."""
        return _read(self.path / "job.json", lambda found: Job(**found))

    def wish(self, wish: str) -> None:
        """Ask the process at work to go on, to wait, or to end."""
        with suppress(OSError):  # a full disk; who does not hear is ended by force
            self._write("wish", wish)

    def wished(self) -> str:
        """Return the last wish; ``"go"`` where there is none."""
        try:
            found = (self.path / "wish").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "go"
        return found if found in WISHES else "go"

    # How far it is

    def add(self, events: list[JobEvent]) -> None:
        """Write down events; on a full disk they are lost, and the work goes on."""
        lines = "".join(json.dumps(asdict(event)) + "\n" for event in events)
        with (
            suppress(OSError),
            (self.path / "events.jsonl").open("a", encoding="utf-8") as file,
        ):
            file.write(lines)

    def events(self) -> Iterator[list[JobEvent]]:
        """Yield, again and again, the events that are new since the last time."""
        place, rest = 0, b""
        while True:
            try:
                with (self.path / "events.jsonl").open("rb") as file:
                    file.seek(place)
                    fresh = file.read()
            except OSError:
                fresh = b""
            place += len(fresh)
            *lines, rest = (rest + fresh).split(b"\n")
            yield [event for line in lines if (event := _event(line)) is not None]

    def touch(self, name: str) -> None:
        """Give a sign of life: ``"alive"`` of the worker, ``"watched"`` of a page.

        On a full disk, the time of the last one is moved on: that takes no room, and no
        work ends for want of it.
        """
        try:
            self._write(name, str(os.getpid()))
        except OSError:
            with suppress(OSError):
                os.utime(self.path / name)

    def age(self, name: str) -> float:
        """Seconds since the last sign of life; infinite where there was none."""
        try:
            return max(0.0, time.time() - (self.path / name).stat().st_mtime)
        except OSError:
            return float("inf")

    @property
    def process(self) -> int | None:
        """The number of the process that is at work here; None where none is."""
        if self.age("alive") > SILENT:
            return None
        number = _read(self.path / "alive", int)
        if number is None or os.name != "posix":
            return number
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass
        return number

    # How it ended

    def end(self, record: JobRecord) -> None:
        """Write down how it ended; on a full disk in the room of the events.

        Raises:
            OSError: If there is no room for that either.
        """
        text = json.dumps(asdict(record))
        try:
            self._write("record.json", text)
        except OSError:
            with suppress(OSError):
                (self.path / "events.jsonl").write_text("")
            self._write("record.json", text)

    def record(self) -> JobRecord | None:
        """Return how it ended; None where it has not."""
        return _read(self.path / "record.json", lambda found: JobRecord(**found))

    def newest(self, suffix: str) -> Path | None:
        """Return the newest file that ends in this, such as ``".ckpt"``."""
        found = [p for p in self.path.glob(f"*{suffix}") if not p.name.startswith(".")]
        return max(found, key=lambda p: p.stat().st_mtime, default=None)

    def files(self) -> dict[str, str]:
        """Return the checkpoint and the study that are here."""
        named = {"checkpoint": ".ckpt", "study": ".study"}
        found = {name: self.newest(suffix) for name, suffix in named.items()}
        return {name: str(path) for name, path in found.items() if path is not None}

    def _write(self, name: str, text: str) -> None:
        part = self.path / f"{LITTER}{secrets.token_hex(8)}"
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, self.path / name)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what a process that was killed here has left and nobody needs."""
        if self.process is not None:
            return
        remove_litter(self.path)
        with suppress(OSError):
            for parts in self.path.glob("*.parts"):
                if time.time() - parts.stat().st_mtime > STALE:
                    shutil.rmtree(parts, ignore_errors=True)


def _read(path: Path, make: Any) -> Any:
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except _BROKEN:
        return None


def _event(line: bytes) -> JobEvent | None:
    try:
        found = json.loads(line)
        return JobEvent(**{**found, "progress": Progress(**found["progress"])})
    except _BROKEN:
        return None
