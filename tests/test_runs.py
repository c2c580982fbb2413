"""The runs of before, and files of others: found, told apart, refused."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.files import atomic as files
from workbench.files.atomic import kind_of
from workbench.files.container import LITTER
from workbench.jobs import runs
from workbench.jobs.job import Job, JobRecord
from workbench.jobs.run_folder import RunFolder
from workbench.jobs.runs import find_run, find_runs, make_run, network_of, runs_folder

ASKED = {"data": "digits", "model": "mlp", "per_class": 100, "epochs": 30}


def add_run(base: Path, *names: str, ended: bool = True) -> RunFolder:
    folder = make_run(base)
    job = Job(work="run", settings=ASKED, folder=str(folder.path))
    folder.write_job(job)
    for name in names:
        (folder.path / name).write_text("")
    if ended:
        folder.end(JobRecord(1, "run", "finished", folder.files(), {}, {}))
    return folder


def checkpoint_file(path: Path, **run: object) -> Path:
    """A file with the head of a checkpoint and no weights."""
    header = json.dumps({"schema": 1, "run": run})
    text = json.dumps({"__metadata__": {"workbench.checkpoint": header}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def test_each_run_is_found_in_the_state_it_is_in(tmp_path: Path) -> None:
    add_run(tmp_path)  # there is nothing to open
    made = {
        "finished": add_run(tmp_path, "run-001.ckpt", "run-001.study"),
        "stopped": add_run(tmp_path, "run-001.ckpt", ended=False),
        "running": add_run(tmp_path, ended=False),
    }
    made["running"].touch("alive")
    (tmp_path / "2026-nothing").mkdir()
    found = {run.state: run for run in find_runs(tmp_path)}
    assert {state: run.folder for state, run in found.items()} == made
    words = found["stopped"].words
    assert words.startswith("digits · mlp · 100 per class · 30 epochs, ")
    assert network_of(found["running"]) is None
    assert network_of(found["stopped"]) == str(made["stopped"].path / "run-001.ckpt")


def test_the_newest_runs_are_shown_first_and_only_so_many(tmp_path: Path) -> None:
    for number in range(5):
        folder = add_run(tmp_path, "run.study")
        folder.path.rename(tmp_path / f"2026-01-0{number + 1}")
    found = find_runs(tmp_path, most=3)
    assert [run.name[-1] for run in found] == ["5", "4", "3"]
    assert find_runs(tmp_path / "none") == ()


@pytest.mark.parametrize("name", ["../../etc", "none", "", ".", "a/b"])
def test_a_name_finds_no_folder_outside(tmp_path: Path, name: str) -> None:
    add_run(tmp_path, "run.study").path.rename(tmp_path / "a")
    base = tmp_path / "a" if name == "." else tmp_path
    with pytest.raises(WorkbenchError, match="no longer exists"):
        find_run(base / "runs" if name != "none" else base, name)


def test_a_study_and_a_checkpoint_are_told_apart_by_their_first_bytes(
    tmp_path: Path,
) -> None:
    study = make_study(2, 30).save(tmp_path / "a.study")
    assert kind_of(study).name == files.STUDY
    head = checkpoint_file(tmp_path / "a.ckpt", model="mlp")
    assert (kind_of(head).name, kind_of(head).run) == (
        files.CHECKPOINT,
        {"model": "mlp"},
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a pickle",
        (2**60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b'{"__metadata__": {}}',
        (5000).to_bytes(8, "little") + b"[" * 5000,
    ],
)
def test_a_file_of_another_kind_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    said = "neither a study nor a checkpoint|a damaged zip archive or PyTorch file"
    with pytest.raises(WorkbenchError, match=said):
        kind_of(path)


def test_a_file_that_is_too_large_or_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkbenchError, match="cannot be read"):
        kind_of(tmp_path / "none")
    with pytest.raises(WorkbenchError, match="is a folder"):
        kind_of(tmp_path)
    big = checkpoint_file(tmp_path / "big.ckpt")
    os.truncate(big, 3 * 2**30)  # a hole: it takes no room on the disk
    with pytest.raises(
        WorkbenchError, match="3,072 MB and the limit for a checkpoint is 2,048"
    ):
        kind_of(big)


def test_the_kinds_are_those_that_are_written() -> None:
    from workbench.study import records as study
    from workbench.training import checkpoint

    assert study._FORM.kind == files.STUDY
    assert checkpoint._FORM.kind == files.CHECKPOINT


def test_without_a_home_results_go_to_a_private_folder_and_none_named_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for answer in (nobody, lambda _: Path("~/x")):
        monkeypatch.setattr(runs.platformdirs, "user_data_path", answer)
        assert runs_folder().is_relative_to(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WorkbenchError, match="pipe is a device or a pipe, not a file"):
        kind_of(tmp_path / "pipe")


def test_a_new_run_takes_away_what_killed_ones_left_but_not_what_is_at_work(
    tmp_path: Path,
) -> None:
    killed, working, fresh = (make_run(tmp_path).path for _ in range(3))
    for folder in (killed, working, fresh):
        (folder / "run-001.ckpt").write_text("x")
        (folder / "run-001.ckpt.parts").mkdir()
        (folder / "run-001.ckpt.parts" / "G").write_text("x")
        (folder / f"{LITTER}1").write_text("x")
    RunFolder(working).touch("alive")
    for path in (*killed.iterdir(), *working.glob("*.parts"), *working.glob(".*")):
        os.utime(path, (0, 0))
    make_run(tmp_path)
    assert [path.name for path in killed.iterdir()] == ["run-001.ckpt"]
    for folder in (working, fresh):
        assert (folder / "run-001.ckpt.parts" / "G").exists()
        assert (folder / f"{LITTER}1").exists()
