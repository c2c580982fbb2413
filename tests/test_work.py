"""The steps of jobs with the real training and measurement, on a tiny problem."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import full_disk
from tests.conftest import ROOT
from workbench.jobs import work
from workbench.jobs.job import Job, JobEvent, perform
from workbench.measurement.ways.way import MatrixWay
from workbench.page.report import end_in_words
from workbench.page.settings import RunSettings
from workbench.progress.control import Control, Progress
from workbench.study.records import load_study
from workbench.training import loop
from workbench.training.checkpoint import load_checkpoint

TINY = RunSettings(per_class=6, epochs=3, model="linear", embedding="pca")


def run(folder: Path, work: str = "run", **more: Any) -> tuple[Any, list[JobEvent]]:
    events: list[JobEvent] = []
    settings = TINY.to_work("jmlr") | {"device": "cpu"} | more
    job = Job(work=work, settings=settings, folder=str(folder))
    return perform(job, events.append, Control()), events


def test_a_run_leaves_a_checkpoint_and_the_study_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "FILM_SECONDS", math.inf)  # however busy the machine is
    record, events = run(tmp_path)
    assert record.status == "finished", record.error + record.defect
    study = load_study(record.files["study"])
    assert study.weighting == "jmlr"
    assert study.embedding.method == "pca"
    assert study.run["epochs"] == 3
    assert load_checkpoint(record.files["checkpoint"]).run == record.facts
    json.dumps(dict(record.facts))
    assert [moment.run["epochs"] for moment in study.film] == [0, 1, 2, 3]
    assert load_study(tmp_path / "run-001.study").moments == ()  # shown before them
    for step in (0, 1, 2):
        fractions = [e.progress.fraction for e in events if e.step == step]
        assert fractions == sorted(fractions)
        assert fractions[-1] == pytest.approx(1.0)


TIMED = """
import json, sys, time
from functools import partial
import torch
from tests.fake_work import wait_until
from workbench.jobs import runner
from workbench.jobs.job import perform
from workbench.page.settings import RunSettings
from workbench.progress.timing import Stopwatch

torch.set_num_threads(1)
runner.Stopwatch = partial(Stopwatch, time.process_time)  # whatever else runs here
chosen = RunSettings(per_class=100, epochs=300, model="mlp", embedding="pca")
events, ended = [], []
runner.JobRunner(perform).start(
    "train", chosen.to_work("icml") | {"device": "cpu"}, sys.argv[1],
    on_events=events.extend, on_end=ended.append,
)
wait_until(lambda: bool(ended), seconds=120)
told = [event for event in events if event.progress.stage == "Training"]
print(json.dumps([[event.elapsed, event.seconds_left] for event in told]))
"""


@pytest.mark.slow
def test_a_real_training_ends_when_it_says_from_a_third_on(tmp_path: Path) -> None:
    """Within a factor of two, but for the last half second, in a process of its own."""
    code = [sys.executable, "-W", "ignore", "-c", TIMED, str(tmp_path)]
    out = subprocess.run(code, check=True, capture_output=True, text=True, cwd=ROOT)
    told = json.loads(out.stdout.splitlines()[-1])
    begin, end = told[0][0], told[-1][0]
    assert end - begin > 1.0
    for elapsed, seconds_left in told:
        if elapsed > begin + (end - begin) / 3:
            said, true = (max(s, 0.5) for s in (seconds_left, end - elapsed))
            assert 0.5 <= said / true <= 2


def test_the_threads_of_torch_sleep_while_they_wait() -> None:
    """Set before torch is there, or it would not be heard."""
    code = (
        "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "from workbench.jobs.job import load_work\n"
        "assert 'torch' not in sys.modules\n"
        "load_work()\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_measuring_again_reads_the_checkpoint_and_writes_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "FILM_SECONDS", 0.0)  # one earlier epoch
    first, _ = run(tmp_path, "train")
    files = []
    for weighting in ("icml", "slide"):
        record, _ = run(
            tmp_path,
            "measure",
            checkpoint=first.files["checkpoint"],
            weighting=weighting,
        )
        assert record.status == "finished", record.error + record.defect
        assert load_study(record.files["study"]).weighting == weighting
        files.append(record.files["study"])
    assert len(set(files)) == 2


def test_a_training_that_was_stopped_goes_on_to_its_planned_end(tmp_path: Path) -> None:
    control = Control()
    settings = TINY.to_work("icml") | {"epochs": 40, "device": "cpu"}

    def stop(event: JobEvent) -> None:
        if event.progress.values.get("epoch", 0) >= 2:
            control.cancel()

    job = Job(work="run", settings=settings, folder=str(tmp_path))
    stopped = perform(job, stop, control)
    assert stopped.status == "cancelled"
    assert set(stopped.files) == {"checkpoint"}
    assert 2 <= stopped.facts["epochs"] < 40
    resumed, _ = run(tmp_path, "train", resume=stopped.files["checkpoint"])
    assert resumed.status == "finished", resumed.error + resumed.defect
    assert resumed.facts["epochs"] == 40


class Killed(BaseException):
    """The end of the process."""


def killed_at(stage: str, epoch: float = 0.0) -> Any:
    def watch(event: Progress) -> None:
        if event.stage.startswith(stage) and event.values.get("epoch", 0.0) >= epoch:
            raise Killed

    return watch


def test_what_a_killed_process_had_done_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TINY.to_work("icml") | {"device": "cpu"}
    monkeypatch.setattr("workbench.training.loop.KEEP_EVERY", 0.0)
    with pytest.raises(Killed):
        work.train(settings, tmp_path, killed_at("Training", 2.0), Control())
    (left,) = tmp_path.glob("*.ckpt")
    assert load_checkpoint(left).status == "cancelled"
    resumed, _ = run(tmp_path, "train", resume=str(left))
    settings["checkpoint"] = path = resumed.files["checkpoint"]
    assert load_checkpoint(path).run["epochs"] == 3
    with pytest.raises(Killed):
        work.measure(settings, tmp_path, killed_at("Splitting"), Control())
    parts = Path(f"{path}.parts")
    assert (parts / "G").is_file()

    def again(*_: Any) -> None:
        raise AssertionError("this stage was done")

    monkeypatch.setattr(MatrixWay, "spectrum", again)
    (other := tmp_path / "other").mkdir()
    done = work.measure(settings, other, lambda _: None, Control())
    assert load_study(done.files["study"]).spectra["G"].complete
    assert not parts.exists()
    monkeypatch.undo()
    settings["study"] = done.files["study"]
    with pytest.raises(Killed):
        work.film(settings, tmp_path, killed_at("Splitting"), Control())
    (moment,) = parts.glob("epoch-*")
    assert (moment / "G").is_file()
    monkeypatch.setattr(work, "FILM_SECONDS", 0.0)  # no other epoch
    monkeypatch.setattr(MatrixWay, "spectrum", again)
    film = work.film(settings, tmp_path, lambda _: None, Control())
    assert len(load_study(film.files["study"]).moments) == 1
    assert not parts.exists()


def test_a_full_disk_ends_no_training_and_loses_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    folder = tmp_path / "full"
    for place in (folder, tmp_path / "elsewhere"):
        place.mkdir()
    fill(folder, monkeypatch)
    record, events = run(folder, "train")
    assert record.status == "finished", record.error + record.defect
    path = Path(record.files["checkpoint"])
    assert load_checkpoint(path).run["epochs"] == 3
    assert path.is_relative_to(tmp_path / "elsewhere")
    said = end_in_words(record, None)
    assert f"No space left on device. It was saved as {path} instead" in said
    notes = [e.progress.note for e in events if e.progress.note]
    assert len(notes) == 1
    assert "Training continues; nothing is saved until it ends." in notes[0]
    assert "epoch 3 of 3, not saved yet (No space left on device)" in [
        e.progress.detail for e in events
    ]
    assert list(folder.iterdir()) == []


def test_a_study_takes_the_room_of_its_finished_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _ = run(tmp_path, "train")
    checkpoint = record.files["checkpoint"]
    parts = Path(f"{checkpoint}.parts")
    fill(tmp_path, monkeypatch, lambda: parts.exists())  # they take all there is
    record, _ = run(tmp_path, "measure", checkpoint=checkpoint)
    assert record.status == "finished", record.error + record.defect
    assert load_study(record.files["study"]).run["epochs"] == 3
    assert Path(record.files["study"]).parent == tmp_path
    assert not parts.exists()


def fill(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: Callable[[], bool] = lambda: True,
) -> None:
    """Let a folder be on a full disk, but for the stages of a measurement."""
    full_disk.fill(monkeypatch, lambda file: file.parent == folder and full())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"data": "folder:/no/such/folder"}, "/no/such/folder"),
        ({"per_class": 5000}, "5000"),
    ],
)
def test_bad_input_is_a_sentence_and_no_defect(
    tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    record, _ = run(tmp_path, **changed)
    assert record.status == "failed"
    assert says in record.error
    assert record.defect == ""
    assert record.files == {}
