"""Jobs: events, a record in every case, pause, cancel, and nothing stale."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fake_work import FakeWork, wait_until
from workbench.errors import WorkbenchError
from workbench.jobs.job import (
    Job,
    JobEvent,
    JobRecord,
    Outcome,
    Step,
    explain_failure,
    perform,
)
from workbench.jobs.runner import JobRunner
from workbench.progress.control import Control
from workbench.progress.timing import Stopwatch, TimeLeft, say_duration

MEASURE = {"weighting": "icml"}


def job(folder: Path, work: str = "run", **settings: Any) -> Job:
    return Job(work=work, settings=MEASURE | settings, folder=str(folder), number=7)


def test_a_run_trains_then_measures_the_checkpoint_and_its_earlier_epochs(
    tmp_path: Path,
) -> None:
    work, events = FakeWork(), []
    record = perform(job(tmp_path), events.append, Control(), find=work.find)
    assert [name for name, _ in work.asked] == ["train", "measure", "film"]
    assert work.asked[1][1]["checkpoint"] == record.files["checkpoint"]
    assert work.asked[2][1]["study"] == record.files["study"]
    assert record.status == "finished"
    assert Path(record.files["study"]).is_file()
    assert [e.step for e in events] == sorted(e.step for e in events)
    assert {e.num_steps for e in events} == {3}
    there = {event.step: set(event.files) for event in events}
    assert there == {0: set(), 1: {"checkpoint"}, 2: {"checkpoint", "study"}}
    assert {e.number for e in events} == {record.number} == {7}


def test_a_record_and_its_events_are_plain_enough_to_travel(tmp_path: Path) -> None:
    events: list[JobEvent] = []
    record = perform(job(tmp_path), events.append, Control(), find=FakeWork().find)
    assert pickle.loads(pickle.dumps(record)) == record
    assert pickle.loads(pickle.dumps(events)) == events
    assert pickle.loads(pickle.dumps(job(tmp_path))) == job(tmp_path)


def test_cancelling_during_training_keeps_the_checkpoint_and_measures_nothing(
    tmp_path: Path,
) -> None:
    work, control = FakeWork(hold="train"), Control()

    def report(event: JobEvent) -> None:
        if event.progress.fraction == 0.5:
            control.cancel()

    record = perform(job(tmp_path), report, control, find=work.find)
    assert record.status == "cancelled"
    assert record.facts["epochs"] == 2
    assert set(record.files) == {"checkpoint"}
    assert Path(record.files["checkpoint"]).is_file()
    assert [name for name, _ in work.asked] == ["train"]


def test_what_follows_a_step_that_was_cancelled_is_not_begun(tmp_path: Path) -> None:
    begun: list[str] = []

    def find(name: str) -> Step:
        def step(*_: Any) -> Outcome:
            begun.append(name)
            return Outcome({}, "cancelled")

        return step

    record = perform(job(tmp_path), lambda _: None, Control(), find=find)
    assert (record.status, begun) == ("cancelled", ["train"])


def test_cancelling_during_measuring_keeps_the_checkpoint(tmp_path: Path) -> None:
    work, control = FakeWork(hold="measure"), Control()

    def report(event: JobEvent) -> None:
        if event.step == 1 and event.progress.fraction > 0:
            control.cancel()

    record = perform(job(tmp_path), report, control, find=work.find)
    assert (record.status, set(record.files)) == ("cancelled", {"checkpoint"})
    assert record.error == record.defect == ""


def test_bad_input_becomes_its_own_sentence_without_a_traceback(
    tmp_path: Path,
) -> None:
    work = FakeWork()
    work.raises["train"] = WorkbenchError("load_data: no folder /x; check the path.")
    record = perform(job(tmp_path), lambda _: None, Control(), find=work.find)
    assert record.status == "failed"
    assert record.error == "load_data: no folder /x; check the path."
    assert record.defect == ""


def test_a_defect_becomes_a_sentence_with_a_short_traceback(tmp_path: Path) -> None:
    work = FakeWork()
    work.raises["measure"] = RuntimeError("shapes (3,) and (4,) differ")
    record = perform(job(tmp_path), lambda _: None, Control(), find=work.find)
    assert record.status == "failed"
    assert "RuntimeError" in record.error
    assert "shapes (3,) and (4,) differ" not in record.error
    assert "shapes (3,) and (4,) differ" in record.defect
    assert set(record.files) == {"checkpoint"}


def test_a_lack_of_memory_says_what_to_make_smaller() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch calls it."""

    for error in (
        MemoryError(),
        OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        sentence, defect = explain_failure(error)
        assert "fewer examples" in sentence
        assert defect == ""


def test_the_record_says_how_long_each_stage_took(tmp_path: Path) -> None:
    record = perform(job(tmp_path), lambda _: None, Control(), find=FakeWork().find)
    names = ["Getting ready", "Training", "Measuring the spectrum"]
    assert list(record.seconds) == names
    assert 0 < sum(record.seconds.values()) < 5


class Receiver:
    """What a session would be told."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []
        self.calls = 0
        self.records: list[JobRecord] = []

    def on_events(self, events: list[JobEvent]) -> None:
        self.calls += 1
        self.events += events

    def on_end(self, record: JobRecord) -> None:
        self.records.append(record)

    def start(self, runner: JobRunner, folder: Path, work: str = "run") -> int:
        return runner.start(
            work, MEASURE, folder, on_events=self.on_events, on_end=self.on_end
        )


def test_the_record_comes_after_every_event_and_frees_the_runner(
    tmp_path: Path,
) -> None:
    got, runner = Receiver(), JobRunner(FakeWork().perform, interval=0)
    number = got.start(runner, tmp_path)
    wait_until(lambda: bool(got.records))
    assert got.records[0].status == "finished"
    assert got.records[0].number == number
    told = [e.progress.detail for e in got.events if e.progress.stage == "Training"]
    assert told == [f"epoch {n} of 4" for n in (1, 2, 3, 4)]
    runner.join(5)
    assert not runner.busy


def test_a_thousand_events_are_told_at_most_ten_times_a_second(tmp_path: Path) -> None:
    work, got = FakeWork(epochs=1000, pace=0.0005), Receiver()
    began = time.monotonic()
    got.start(JobRunner(work.perform), tmp_path)
    wait_until(lambda: bool(got.records))
    assert len(got.events) > 1000
    assert got.calls <= 2 + 10 * (time.monotonic() - began)


def test_a_pause_holds_the_work_and_its_clock_until_resume(tmp_path: Path) -> None:
    work, got = FakeWork(hold="train"), Receiver()
    runner = JobRunner(work.perform, interval=0)
    got.start(runner, tmp_path)
    assert work.held.wait(5)
    runner.pause()
    work.free.set()
    seconds = runner._watch.seconds()
    time.sleep(0.1)
    assert [name for name, _ in work.asked] == ["train"]
    assert runner._watch.seconds() == seconds
    runner.resume()
    wait_until(lambda: bool(got.records))
    assert got.records[0].status == "finished"


def test_cancel_ends_a_paused_job(tmp_path: Path) -> None:
    work, got = FakeWork(hold="measure"), Receiver()
    runner = JobRunner(work.perform, interval=0)
    got.start(runner, tmp_path)
    assert work.held.wait(5)
    runner.pause()
    runner.cancel()
    wait_until(lambda: bool(got.records))
    assert got.records[0].status == "cancelled"


def test_a_second_job_cancels_the_first_and_waits_for_its_end(tmp_path: Path) -> None:
    """As UMAP's, the first one's work does not look at its control for a while."""
    work, first, second = FakeWork(), Receiver(), Receiver()
    begun, free, over = threading.Event(), threading.Event(), threading.Event()

    def find(name: str) -> Step:
        def stubborn(_: Any, __: Any, ___: Any, control: Control) -> Outcome:
            begun.set()
            assert free.wait(5)
            over.set()
            control.check()
            return Outcome({})

        assert over.is_set() or not begun.is_set()
        return work.find(name) if begun.is_set() else stubborn

    runner = JobRunner(partial(perform, find=find), interval=0)
    old = first.start(runner, tmp_path)
    assert begun.wait(5)
    new = second.start(runner, tmp_path)
    wait_until(lambda: bool(second.events))
    assert second.events[-1].progress.stage == "Waiting"
    assert not work.asked
    free.set()
    wait_until(lambda: bool(first.records and second.records))
    assert first.records[0].status == "cancelled"
    assert second.records[0].status == "finished"
    assert new > old
    assert {e.number for e in second.events} == {new}


@pytest.mark.parametrize("broken", ["on_events", "on_end"])
def test_a_receiver_that_fails_does_not_end_the_job(
    tmp_path: Path, broken: str
) -> None:
    got, runner = Receiver(), JobRunner(FakeWork().perform, interval=0)

    def fail(_: Any) -> None:
        raise RuntimeError("a broken panel")

    setattr(got, broken, fail)
    got.start(runner, tmp_path)
    runner.join(5)
    assert not runner.busy
    if broken == "on_events":
        wait_until(lambda: bool(got.records))


def test_silent_work_is_heard_of_every_second(tmp_path: Path) -> None:
    work, got = FakeWork(hold="measure"), Receiver()
    got.start(JobRunner(work.perform, interval=0), tmp_path)
    assert work.held.wait(5)
    calls = got.calls
    wait_until(lambda: got.calls > calls + 1, seconds=4)
    assert got.events[-1].elapsed > got.events[-2].elapsed + 0.5
    work.free.set()
    wait_until(lambda: bool(got.records))


def test_the_stopwatch_leaves_pauses_out() -> None:
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    now[0] = 2.0
    watch.stop()
    now[0] = 100.0
    watch.stop()
    assert watch.seconds() == 2.0
    watch.go()
    now[0] = 101.0
    assert watch.seconds() == 3.0


@pytest.mark.parametrize("ready", [0.0, 60.0])
@pytest.mark.parametrize("bend", [0.7, 1.0, 1.4])
def test_the_time_left_is_within_a_factor_two_from_a_third_on(
    ready: float, bend: float
) -> None:
    """Also where it took a while to begin, and where the speed changes on the way."""
    left, total = TimeLeft(), 60.0
    for n in range(1, 60):
        fraction = (n / 60) ** bend
        left.update(ready + n, fraction)
        estimate = left.left(ready + n)
        if n >= 20:
            assert estimate is not None
            assert 0.5 <= estimate / (total - n) <= 2


def test_the_time_left_counts_down_between_two_events_and_stays_positive() -> None:
    left = TimeLeft()
    assert left.left(5.0) is None
    left.update(1.0, 0.1)
    assert left.left(1.0) is None
    left.update(2.0, 0.2)
    assert left.left(2.0) == pytest.approx(8.0)
    assert left.left(5.0) == pytest.approx(5.0)
    assert left.left(500.0) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (12.4, "12 s"), (89, "89 s"), (150, "2 min"), (7500, "2 h 5 min")],
)
def test_a_duration_is_said_as_people_do(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said


def test_jobs_and_session_import_neither_torch_nor_umap() -> None:
    code = (
        "import sys, workbench.page.session\n"
        "heavy = {'torch', 'torchvision', 'umap', 'sklearn', 'bokeh', 'ipywidgets'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
