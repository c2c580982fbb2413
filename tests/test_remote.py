"""Jobs in another process: events, wishes, a record; found again, lost, forced."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_work import FakeWork, wait_until
from workbench.files.container import LITTER
from workbench.jobs import remote, turns, worker
from workbench.jobs.job import Job, JobEvent, JobRecord, explain_failure
from workbench.jobs.remote import MEMORY, WorkerProcess, follow
from workbench.jobs.run_folder import RunFolder
from workbench.jobs.runner import Perform
from workbench.jobs.worker import work_at
from workbench.page.report import end_in_words
from workbench.progress.control import Control, Progress

SETTINGS = {"weighting": "icml"}


def make_job(folder: Path, work: str = "run") -> Job:
    job = Job(work=work, settings=SETTINGS, folder=str(folder), number=3)
    RunFolder(folder).write_job(job)
    return job


WORK: dict[str, Perform] = {}  # what is done in which folder


class Elsewhere:
    """A job at work in a thread, by the files of its folder alone."""

    def __init__(
        self, folder: Path, work: FakeWork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            worker, "perform", lambda job, *more: WORK[job.folder](job, *more)
        )
        WORK[str(folder)] = work.perform
        monkeypatch.setattr(worker, "PAUSE", 0.01)
        self.job, self.folder = make_job(folder), RunFolder(folder)
        self.thread = threading.Thread(target=work_at, args=(self.folder,), daemon=True)
        self.thread.start()

    def follow(self, control: Control | None = None) -> list[JobEvent]:
        events: list[JobEvent] = []
        self.record = follow(self.job, events.append, control or Control())
        self.thread.join(5)
        return events


def test_one_who_comes_late_sees_every_epoch_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Elsewhere(tmp_path, FakeWork(epochs=60, pace=0.002), monkeypatch)
    wait_until(lambda: (tmp_path / "events.jsonl").exists())
    events = job.follow()
    epochs = [
        e.progress.values["epoch"] for e in events if "epoch" in e.progress.values
    ]
    assert epochs == list(range(1, 61))
    assert job.record.status == "finished", job.record
    assert Path(job.record.files["study"]).is_file()
    assert job.folder.record() == job.record
    assert job.follow() == events  # and again


@pytest.mark.parametrize("work", ["train", "measure"])
def test_a_stop_reaches_the_work_and_what_was_trained_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    fake, control = FakeWork(hold=work), Control()
    job = Elsewhere(tmp_path, fake, monkeypatch)
    assert fake.held.wait(5)
    control.cancel()
    job.follow(control)
    assert job.record.status == "cancelled"
    assert set(job.record.files) == {"checkpoint"}


def test_a_pause_holds_the_work_until_it_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, control = FakeWork(epochs=100, pace=0.001), Control()
    job = Elsewhere(tmp_path, fake, monkeypatch)
    following = threading.Thread(target=job.follow, args=(control,), daemon=True)
    following.start()
    control.pause()
    wait_until(lambda: job.folder.wished() == "wait")
    lines = tmp_path / "events.jsonl"

    def rests() -> bool:
        if not lines.exists():
            return False
        before = lines.stat().st_size
        threading.Event().wait(0.05)
        return lines.stat().st_size == before

    wait_until(rests)
    control.resume()
    following.join(20)
    assert job.record.status == "finished", job.record


def test_runs_wait_for_their_turn_say_their_place_and_can_be_stopped_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(turns.MOST, "1")
    monkeypatch.setattr(worker, "TURN", 0.02)
    fakes = [FakeWork(hold="train"), FakeWork(), FakeWork()]
    jobs = []
    for number, fake in enumerate(fakes):
        folder = tmp_path / str(number)
        folder.mkdir()
        jobs.append(Elsewhere(folder, fake, monkeypatch))
        wait_until(lambda folder=folder: (folder / "events.jsonl").exists())
    assert fakes[0].held.wait(5)
    said = [
        event.progress.detail
        for job in jobs[1:]
        for event in next(job.folder.events())
        if event.progress.stage == "Waiting"
    ]
    assert "number 1 in the queue; 1 run is working" in said
    assert "number 2 in the queue; 1 run is working" in said
    jobs[1].folder.wish("end")
    jobs[1].thread.join(5)
    assert jobs[1].folder.record().status == "cancelled"
    jobs[0].folder.wish("end")
    jobs[2].follow()
    assert jobs[2].record.status == "finished"


def test_work_that_no_page_looks_at_ends_after_a_while_and_keeps_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LEFT_ALONE", 0.0)
    job = Elsewhere(tmp_path, FakeWork(hold="train"), monkeypatch)
    job.thread.join(10)
    record = job.folder.record()
    assert record is not None
    assert (record.status, set(record.files)) == ("cancelled", {"checkpoint"})


def test_work_ends_with_the_server_of_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(worker.SERVER, str(2**22 + 1))  # no process has that number
    job = Elsewhere(tmp_path, FakeWork(hold="train"), monkeypatch)
    job.thread.join(10)
    record = job.folder.record()
    assert record is not None
    assert record.status == "cancelled"


def test_of_many_events_the_last_and_those_of_whole_epochs_are_written(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    notes = worker._Notes(folder)
    for epoch in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 2.75):
        notes.put(JobEvent(1, 0, 2, Progress("Training", 0.1, "", {"epoch": epoch})))
    notes.put(JobEvent(1, 1, 2, Progress("Measuring", 0.1)))
    notes.write()
    (written,) = (next(folder.events()),)
    told = [event.progress.values.get("epoch") for event in written]
    assert told == [1.0, 2.0, 2.75, None]


@pytest.fixture
def process() -> Iterator[WorkerProcess]:
    made = WorkerProcess()
    yield made
    kept = made._process
    made.close()
    if kept is not None:
        kept.kill()
        kept.wait(10)


def kill(folder: RunFolder) -> None:
    wait_until(lambda: folder.process is not None)
    number = folder.process
    assert number is not None
    os.kill(number, signal.SIGKILL)


def test_a_process_that_dies_is_told_in_a_sentence_and_the_next_job_works(
    tmp_path: Path, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    killer = threading.Thread(target=kill, args=(RunFolder(first),))
    killer.start()
    job = Job(work="train", settings={"data": "none"}, folder=str(first), number=1)
    record = process.perform(job, lambda event: None, Control())
    killer.join()
    assert (record.status, record.error) == ("failed", MEMORY)
    job = Job(
        work="measure",
        settings={"checkpoint": "/no/such.ckpt"},
        folder=str(second),
        number=2,
    )
    record = process.perform(job, lambda event: None, Control())
    assert record.status == "failed"
    assert "there is no file /no/such.ckpt" in record.error


def test_measuring_that_does_not_stop_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UMAP cannot be stopped midway; nothing of a measurement is kept anyway."""
    killed: list[int] = []
    job, folder = make_job(tmp_path, "measure"), RunFolder(tmp_path)
    folder.touch("alive")
    folder.add([JobEvent(3, 0, 1, Progress("UMAP", 0.9))])
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    monkeypatch.setattr(remote.os, "kill", lambda number, sign: killed.append(number))
    control = Control()
    control.cancel()
    record = follow(job, lambda event: None, control, gone=lambda: bool(killed))
    assert killed[-1] == os.getpid()
    assert (record.status, record.error) == ("cancelled", "")


@pytest.mark.parametrize(
    ("step", "values", "files"),
    [
        (0, {}, ()),  # torch is loaded, data are fetched
        (1, {"epoch": 3.0}, ("checkpoint",)),
        (2, {"epoch": 3.0}, ("checkpoint", "study")),  # the film
    ],
)
def test_what_does_not_stop_is_ended_by_force_where_nothing_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    values: dict[str, float],
    files: tuple[str, ...],
) -> None:
    job, folder, killed = make_job(tmp_path), RunFolder(tmp_path), threading.Event()
    folder.add([JobEvent(3, 0, 3, Progress("Training", 0.9, "", values))])
    folder.add([JobEvent(3, step, 3, Progress("At it", 0.1))])
    for name in files:
        (tmp_path / f"run.{'ckpt' if name == 'checkpoint' else name}").write_text("")
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    control = Control()
    control.cancel()
    record = follow(
        job, lambda event: None, control, gone=killed.is_set, kill=killed.set
    )
    assert (record.status, set(record.files)) == ("cancelled", set(files))
    if "study" in files:
        assert end_in_words(record, None) == "Trained and measured."


def test_a_training_that_has_learnt_something_is_never_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder, killed = make_job(tmp_path), RunFolder(tmp_path), threading.Event()
    folder.add([JobEvent(3, 0, 3, Progress("Training", 0.1, "", {"epoch": 0.5}))])
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    control = Control()
    control.cancel()
    ended = JobRecord(3, "run", "cancelled", {"checkpoint": "a"}, {}, {})
    late = threading.Timer(0.5, folder.end, [ended])
    late.start()
    record = follow(
        job, lambda event: None, control, gone=lambda: False, kill=killed.set
    )
    assert record == ended
    assert not killed.is_set()


def test_a_stop_does_not_wait_until_a_cold_process_has_loaded_torch(
    tmp_path: Path, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.05)
    control = Control()
    control.cancel()
    process.warm_up()
    began = time.monotonic()
    job = Job(work="run", settings={"data": "none"}, folder=str(tmp_path), number=1)
    record = process.perform(job, lambda event: None, control)
    assert record.status == "cancelled"
    assert time.monotonic() - began < 1.0


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGTERM)",
            "signal SIGTERM: a user or the system",
        ),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "signal SIGSEGV: a fault",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed (signal SIGKILL)"),
        ("sys.exit(4)", "exited (status 4)"),
    ],
)
def test_a_process_that_was_ended_is_told_by_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, said: str
) -> None:
    code = f"import os, signal, sys; sys.stdin.readline(); {end}"
    popen = subprocess.Popen

    def start(arguments: list[str], **options: Any) -> Any:
        return popen([arguments[0], "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    process = WorkerProcess()
    record = process.perform(make_job(tmp_path), lambda event: None, Control())
    process.close()
    assert said in record.error
    assert ("memory" in record.error) == ("SIGKILL" in end)
    assert len(record.error) <= 300


def test_a_run_that_was_left_by_its_process_is_told_after_a_reload(
    tmp_path: Path,
) -> None:
    job, folder = make_job(tmp_path), RunFolder(tmp_path)
    (tmp_path / "alive").write_text(str(2**22 + 1))
    (tmp_path / "run-001.ckpt").write_text("weights")
    record = follow(job, lambda event: None, Control())
    assert (record.status, set(record.files)) == ("failed", {"checkpoint"})
    assert folder.record() == record


def test_a_full_disk_takes_neither_signs_of_life_nor_the_end_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, job = RunFolder(tmp_path), make_job(tmp_path)
    folder.touch("alive")
    os.utime(tmp_path / "alive", (0, 0))
    (tmp_path / "events.jsonl").write_text("{}\n" * 99)
    write = Path.write_text

    def full(self: Path, text: str, **options: Any) -> int:
        if (tmp_path / "events.jsonl").stat().st_size and text:
            write(self, "", **options)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    folder.touch("alive")
    assert folder.age("alive") < 60
    folder.wish("end")
    record = JobRecord(1, job.work, "finished", {}, {}, {})
    folder.end(record)
    assert folder.record() == record
    assert not list(tmp_path.glob(f"{LITTER}*"))


def test_files_that_are_no_json_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for name in ("job.json", "record.json", "alive", "wish", "events.jsonl"):
        (tmp_path / name).write_bytes(b"\xff{[\n")
    assert (folder.job(), folder.record(), folder.process) == (None, None, None)
    assert folder.wished() == "go"
    assert next(folder.events()) == []
    (tmp_path / "record.json").write_text('{"status": "finished"}')
    assert folder.record() is None


def test_a_record_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    record = JobRecord(1, "run", "failed", {"a": "b"}, {"x": 1.5}, {"t": 0.1}, "e", "d")
    RunFolder(tmp_path).end(record)
    assert RunFolder(tmp_path).record() == record


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (-9, MEMORY),
        (None, "disappeared without a record"),  # found elsewhere: nobody knows
        (worker.FULL, "cannot be written: free some space"),
        (1, "exited (status 1)"),
    ],
)
def test_a_process_that_is_gone_is_said_by_how_it_ended(
    status: int | None, said: str, tmp_path: Path
) -> None:
    job = make_job(tmp_path)
    record = follow(
        job, lambda _: None, Control(), gone=lambda: True, status=lambda: status
    )
    assert record.status == "failed"
    assert said in record.error


def test_a_full_disk_ends_no_work_but_by_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path)
    folder = RunFolder(tmp_path)
    folder.touch("alive")
    os.utime(tmp_path / "alive", (1, 1))

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_text", full)
    folder.touch("alive")
    assert folder.age("alive") < 60
    monkeypatch.setattr(worker, "perform", FakeWork().perform)
    with pytest.raises(SystemExit) as ended:
        work_at(folder)
    assert ended.value.code == worker.FULL
    with pytest.raises(OSError, match="No space"):
        folder.write_job(Job(work="run", settings={}, folder=""))
    assert not list(tmp_path.glob(".job*"))
    sentence, defect = explain_failure(OSError(errno.ENOSPC, "No space left", "/x/y"))
    assert sentence.startswith(
        "/x/y cannot be written (No space left); free some space"
    )
    assert defect == ""
