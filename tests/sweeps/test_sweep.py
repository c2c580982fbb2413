"""A sweep: every cell once, whatever fails or is killed, and always the same table."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.conftest import ROOT
from tests.studies import make_study
from workbench.cli.main import main
from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control, Progress
from workbench.study.records import load_study
from workbench.study.size import predicted_of, size_of
from workbench.sweeps import sweep as sweeps
from workbench.sweeps.cells import Outcome, find_study, run_cell, study_path
from workbench.sweeps.rows import numbers_of
from workbench.sweeps.settings import Cell, SweepSettings

GRID = {
    "model": "mlp",
    "width": 6,
    "num_classes": 3,
    "per_class": 6,
    "epochs": [2, 3],
    "weight_decay": [5e-4, 0.02],
}
TOML = "[grid]\n" + "\n".join(f"{name} = {value!r}" for name, value in GRID.items())
NUM_KILLS = int(os.environ.get("KILLS", "4"))
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",  # of dask, as its cluster closes
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A sweep of 2 x 2 cells, by the default cluster."""
    out = tmp_path_factory.mktemp("sweep")
    return out, wb.sweep(GRID, out)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Run the cells here, one after the other; returns those that were run."""
    ran: list[Cell] = []

    def outcomes(cells, folder, scheduler, num_workers, control, tell):
        for cell in cells:
            control.check()
            ran.append(cell)
            if cell.seed == 13:
                yield cell, Outcome(None, "it could not be.")
            else:
                study = make_study(3, num_gradients=30)
                study.run["sweep"] = cell.values
                yield cell, Outcome(study)

    monkeypatch.setattr(sweeps, "_outcomes", outcomes)
    return ran


@pytest.mark.slow
def test_each_cell_is_a_row_with_its_settings_and_the_numbers_of_its_study(
    done: tuple[Path, pd.DataFrame],
) -> None:
    out, table = done
    assert list(table["status"]) == ["finished"] * 4
    assert list(table["epochs"]) == [2, 2, 3, 3]
    for row in table.to_dict("records"):
        study = load_study(out / row["study"])
        assert study.run["epochs"] == row["epochs"]
        assert study.run["training"]["weight_decay"] == row["weight_decay"]
        assert study.run["model"] == "mlp, width 6"
        assert study.num_classes == 3
        size = size_of(study, study.levels["jmlr"])
        assert size is not None
        assert row["ratio_jmlr"] == size.class_part
    assert table["lam_1_G"].nunique() == 4


@pytest.mark.slow
def test_the_table_on_disk_is_the_table_returned(
    done: tuple[Path, pd.DataFrame],
) -> None:
    out, table = done
    read = pd.read_csv(out / "table.csv")
    assert list(read.columns) == list(table.columns)
    numeric = table.select_dtypes("float").columns
    np.testing.assert_array_equal(
        read[numeric].to_numpy(float), table[numeric].to_numpy(float)
    )


@pytest.mark.slow
def test_a_finished_sweep_starts_no_process_and_gives_the_same_table(
    done: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = done
    monkeypatch.setattr(sweeps, "_client", lambda *_: pytest.fail("a process"))
    before = (out / "table.csv").read_bytes()
    pd.testing.assert_frame_equal(wb.sweep(GRID, out), table)
    assert (out / "table.csv").read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_that_is_killed_at_random_gives_the_table_of_an_undisturbed_one(
    done: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    undisturbed = (done[0] / "table.csv").read_bytes()
    grid, out = tmp_path / "grid.toml", tmp_path / "out"
    grid.write_text(TOML, encoding="utf-8")
    draw = random.Random(0)
    command = [sys.executable, "-m", "workbench", "sweep", grid, "--out", out]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(NUM_KILLS):
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(1, 15))
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = subprocess.run(command, env=env, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert (out / "table.csv").read_bytes() == undisturbed
    assert not list(out.glob("*.begun"))


@pytest.mark.slow
def test_a_cell_that_was_interrupted_continues_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(**{**GRID, "epochs": 3, "weight_decay": 0.02})
    whole = run_cell(cell).study
    assert whole is not None
    begun = tmp_path / "begun"

    def interrupted(*_: object, **__: object) -> None:
        raise WorkbenchError("interrupted")

    with monkeypatch.context() as context:
        context.setattr("workbench.measurement.measurement.measure", interrupted)
        assert run_cell(cell, begun).error == "interrupted"
    with monkeypatch.context() as context:
        context.setattr("workbench.training.train.train", interrupted)
        continued = run_cell(cell, begun).study  # what was trained is used
    assert continued is not None
    assert numbers_of(continued) == pytest.approx(numbers_of(whole), rel=0, nan_ok=True)


def test_a_failed_cell_is_reported_and_the_others_go_on(
    alone: list[Cell], tmp_path: Path
) -> None:
    events: list[Progress] = []
    table = wb.sweep({"seed": [0, 13, 1]}, tmp_path, progress=events.append)
    assert list(table["status"]) == ["finished", "failed", "finished"]
    assert list(table["error"]) == ["", "it could not be.", ""]
    assert any("failed: it could not be." in event.note for event in events)
    assert events[-1].fraction == 1
    assert "2 of 3 cells finished, 1 failed" in events[-1].detail


def test_only_failed_and_missing_cells_are_run_again(
    alone: list[Cell], tmp_path: Path
) -> None:
    grid = {"seed": [0, 13, 1]}
    cells = SweepSettings(grid=grid).cells
    wb.sweep(grid, tmp_path)
    study_path(tmp_path, cells[2]).write_bytes(b"damaged")
    alone.clear()
    wb.sweep(grid, tmp_path)
    assert alone == [cells[1], cells[2]]


def test_a_study_of_other_settings_under_this_name_is_not_taken(
    alone: list[Cell], tmp_path: Path
) -> None:
    cell, other = SweepSettings(grid={"seed": [0, 1]}).cells
    wb.sweep({"seed": [1]}, tmp_path)
    study_path(tmp_path, other).rename(study_path(tmp_path, cell))
    assert find_study(tmp_path, cell) is None


def test_the_table_lists_what_is_still_waiting(
    alone: list[Cell], tmp_path: Path
) -> None:
    control = Control()

    def cancel(event: Progress) -> None:
        if event.fraction >= 1 / 3:
            control.cancel()

    with pytest.raises(Cancelled):
        wb.sweep({"seed": [0, 1, 2]}, tmp_path, progress=cancel, control=control)
    read = pd.read_csv(tmp_path / "table.csv")
    assert list(read["status"]) == ["finished", "waiting", "waiting"]
    assert len(alone) == 1


def test_two_sweeps_do_not_write_to_one_folder(
    alone: list[Cell], tmp_path: Path
) -> None:
    said: list[str] = []

    def second(event: Progress) -> None:
        if not said:
            said.append("")
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

    def attempt() -> None:
        try:
            wb.sweep({"seed": [0]}, tmp_path)
        except WorkbenchError as error:
            said[0] = str(error)

    wb.sweep({"seed": [0]}, tmp_path, progress=second)
    assert "another sweep is writing" in said[0]


@pytest.mark.parametrize("name", ["pandas", "distributed"])
def test_a_missing_library_is_named_with_what_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(WorkbenchError, match=rf"{name} is not.*workbench\[sweep\]"):
        wb.sweep({"seed": [0]}, tmp_path)


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"no dask scheduler answers at tcp://127"):
        wb.sweep({"seed": [0]}, tmp_path, scheduler="tcp://127.0.0.1:9")


def test_a_cell_that_cannot_be_run_says_why() -> None:
    assert "has only 174 examples" in run_cell(Cell(per_class=5000)).error


def test_the_command_says_what_it_wrote_and_what_failed(
    alone: list[Cell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text("[grid]\nseed = [0, 13]\n", encoding="utf-8")
    assert main(["sweep", str(grid), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "1 of 2 runs; 1 failed, as the column 'error' tells." in said
    grid.write_text("[grid]\nsede = 1\n", encoding="utf-8")
    assert main(["sweep", str(grid), "--out", str(tmp_path / "out")]) == 2
    assert "did you mean seed?" in capsys.readouterr().err


def test_numbers_of_a_study_are_those_of_its_records() -> None:
    study = make_study(4, num_gradients=60)
    found = numbers_of(study)
    for name, levels in study.levels.items():
        size, predicted = size_of(study, levels), predicted_of(study, levels)
        assert size is not None
        assert predicted is not None
        assert found[f"ratio_{name}"] == size.class_part
        assert found[f"predicted_{name}"] == predicted.size
        shares = [found[f"share_{part}_{name}"] for part in levels.convention.parts]
        assert sum(shares) == pytest.approx(1, abs=1e-9)
    values = study.spectra["G"].eigenvalues
    count = study.num_outliers
    assert found["gap"] == values[count - 1] / values[count]
    assert found["cosine"] == study.last_layer.cosine
    bare = make_study(4, num_gradients=60, with_last_layer=False, with_null=False)
    assert math.isnan(numbers_of(bare)["predicted_icml"])
    assert math.isnan(numbers_of(bare)["overlap_null_icml"])


@pytest.mark.slow
def test_a_scheduler_that_is_there_gives_the_same_numbers(
    done: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    from distributed import LocalCluster

    grid = {**GRID, "epochs": 2, "weight_decay": 0.02}
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        found = wb.sweep(grid, tmp_path, scheduler=cluster.scheduler_address)
    (row,) = found.to_dict("records")
    same = done[1].set_index("study").loc[row.pop("study")]
    for name, value in row.items():
        assert value == same[name] or pd.isna([value, same[name]]).all(), name
