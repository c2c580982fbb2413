"""The folder of one run on disk: its job, its progress, its result.

One process works in it, any number may read it. So a reloaded page finds its training
again, and no work is lost if a kernel dies. JSON only; nothing in such a folder is ever
executed.

    job.json      the job
    events.jsonl  every event, one per line
    wish          "go", "wait" or "end": the latest request from a page
    alive         pid of the worker process, touched every second
    watched       touched by every page that is watching
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
SILENT = 60.0  # seconds without a sign of life until a process counts as gone
_BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Reads and writes the files of one run."""

    path: Path

    # The job

    def write_job(self, job: Job) -> None:
        """Write the job to do here.

        Raises:
            OSError: If it cannot be written.
        """
        self._write("job.json", json.dumps(asdict(job)))

    def job(self) -> Job | None:
        """Return the job; None if it cannot be read."""
        return _read(self.path / "job.json", lambda found: Job(**found))

    def wish(self, wish: str) -> None:
        """Ask the worker process to go on, to wait or to end."""
        with suppress(OSError):  # full disk: the worker is killed instead
            self._write("wish", wish)

    def wished(self) -> str:
        """Return the latest request; ``"go"`` if there is none."""
        try:
            found = (self.path / "wish").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "go"
        return found if found in WISHES else "go"

    # Its progress

    def add(self, events: list[JobEvent]) -> None:
        """Append events; on a full disk they are lost and the work continues."""
        lines = "".join(json.dumps(asdict(event)) + "\n" for event in events)
        with (
            suppress(OSError),
            (self.path / "events.jsonl").open("a", encoding="utf-8") as file,
        ):
            file.write(lines)

    def events(self) -> Iterator[list[JobEvent]]:
        """Yield, each time, the events added since the last time."""
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
        """Give a sign of life: ``"alive"`` for the worker, ``"watched"`` for a page.

        On a full disk only the file's modification time is updated, which takes no
        space, so the work is not taken for dead.
        """
        try:
            self._write(name, str(os.getpid()))
        except OSError:
            with suppress(OSError):
                os.utime(self.path / name)

    def age(self, name: str) -> float:
        """Return the seconds since the last sign of life; infinite without any."""
        try:
            return max(0.0, time.time() - (self.path / name).stat().st_mtime)
        except OSError:
            return float("inf")

    @property
    def process(self) -> int | None:
        """The pid of the process working here; None if there is none."""
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

    # Its result

    def end(self, record: JobRecord) -> None:
        """Write the record; on a full disk, delete the events to make room for it.

        Raises:
            OSError: If there is no room even then.
        """
        text = json.dumps(asdict(record))
        try:
            self._write("record.json", text)
        except OSError:
            with suppress(OSError):
                (self.path / "events.jsonl").write_text("")
            self._write("record.json", text)

    def record(self) -> JobRecord | None:
        """Return how the run ended; None while it has not."""
        return _read(self.path / "record.json", lambda found: JobRecord(**found))

    def newest(self, suffix: str) -> Path | None:
        """Return the newest file with this suffix, such as ``".ckpt"``."""
        found = [p for p in self.path.glob(f"*{suffix}") if not p.name.startswith(".")]
        return max(found, key=lambda p: p.stat().st_mtime, default=None)

    def files(self) -> dict[str, str]:
        """Return the paths of the checkpoint and the study in this folder."""
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
        """Remove useless files left by a process that was killed here."""
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
