"""The command line, as a person or a script meets it."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.main import get_command

from tests.studies import make_study
from workbench import __version__
from workbench.cli import terminal
from workbench.cli.main import app, main
from workbench.cli.terminal import ProgressDisplay, print_summary
from workbench.progress.control import Progress
from workbench.study.records import load_study
from workbench.study.summary import summary
from workbench.study.tables import csv_tables
from workbench.training.checkpoint import load_checkpoint

SMALL = ["train", "--per-class", "6", "--model", "linear", "--epochs", "3"]


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.ckpt"
    assert run(*SMALL, "--seed", 3, "--out", path) == 0
    return path


def test_epochs_that_were_kept_become_moments_of_the_study(tmp_path: Path) -> None:
    path = tmp_path / "film.ckpt"
    assert run(*SMALL, "--snapshots", "0,2,3", "--out", path) == 0
    assert run("measure", path, "--embedding", "pca") == 0
    film = load_study(tmp_path / "film.study").film
    assert [moment.run["epochs"] for moment in film] == [0, 2, 3]
    assert run("measure", path, "--embedding", "pca", "--no-moments", "--force") == 0
    assert load_study(tmp_path / "film.study").moments == ()


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    return make_study(4, num_gradients=50).save(tmp_path / "run.study")


def test_the_commands_have_these_flags_and_tell_of_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = {
        "train": "data per-class model epochs lr weight-decay batch-size seed "
        "snapshots device root download resume out force",
        "measure": "weighting embedding metric classes parameters method eigenvalues "
        "steps device minutes moments plan json out force",
        "show": "json",
        "export": "html csv weighting pin force",
        "app": "port no-browser lab host allow-host base-url token",
        "sweep": "out scheduler workers",
        "figure": "out runs settings",
    }
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == set(wanted)
    for command, flags in wanted.items():
        options = [p for p in commands[command].params if p.param_type_name == "option"]
        found = [flag.removeprefix("--") for p in options for flag in p.opts]
        assert sorted(found) == sorted(flags.split())
        assert run(command, "--help") == 0
        text = capsys.readouterr().out
        assert [f for f in found if not re.search(rf"--{f}[ ,/]", text)] == []


def test_without_a_command_it_says_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    commands = ("train", "measure", "show", "export", "sweep", "figure", "app")
    assert all(f"  {name} " in text for name in commands)
    assert run("--version") == 0
    assert capsys.readouterr().out == f"hessian-workbench {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("paint", "No such command"),
        ("train --colour red", "No such option"),
        ("train --epochs many", "--epochs"),
        ("train --epochs -1", "epochs is -1"),
        ("train --lr nan", "lr is nan"),
        ("train --snapshots 0;1", "--snapshots: '0;1' is not a list of epochs"),
        ("train --epochs 3 --snapshots 9", "snapshots names epoch 9"),
        ("train --data cats", "digits"),
        ("train --data folder:/nowhere", "/nowhere does not exist"),
        ("train --data digits --model alexnet", "resnet18"),
        ("train --per-class 9999", "9999"),
        ("train --device abacus", "abacus"),
        ("train --out /nowhere/run.ckpt", "/nowhere does not exist"),
        ("train --out .", "is a folder"),
        ("train --resume nothing.ckpt", "nothing.ckpt"),
        ("train --resume run.ckpt --data digits --seed 1", "leave out --data, --seed"),
        ("measure", "checkpoint"),
        ("measure nothing.ckpt", "nothing.ckpt"),
        ("measure nothing.ckpt --weighting nips", "slide, icml, jmlr"),
        ("measure nothing.ckpt --embedding som", "umap, tsne, pca"),
        ("measure nothing.ckpt --metric cubic", "cosine, euclidean"),
        ("show nothing.study", "nothing.study"),
        (f"show {'a' * 300}", "cannot be read (File name too long)"),
        ("train --data folder:~nobody-here", "~nobody-here cannot be read"),
        ("show nothing.study --yaml", "No such option"),
        ("app --port 99999", "1 to 65535"),
        ("app --port http", "--port"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_status_2(
    arguments: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_study_comes_from_three_commands(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.study"
    assert run("measure", checkpoint, "--embedding", "pca", "--out", out) == 0
    assert capsys.readouterr().out == ""
    assert run("show", out, "--json") == 0
    text, err = capsys.readouterr()
    assert err == ""
    found = json.loads(text)
    assert found["run"]["data"] == "digits"
    assert found["run"]["num_examples"] == 60
    assert found["run"]["epochs"] == found["run"]["seed"] == 3
    trace = found["levels"]["trace"]
    parts = sum(trace[name] for name in ("G0", "G1", "G2", "G3"))
    assert parts == pytest.approx(trace["G"], rel=1e-6)
    assert found["spectra"]["G"]["trace"] == pytest.approx(trace["G"], rel=1e-6)
    hess = found["spectra"]["G"]["trace"] + found["spectra"]["H"]["trace"]
    assert hess == pytest.approx(found["spectra"]["Hess"]["trace"], rel=1e-4)
    assert len(found["attribution"]["overlap"]) >= found["attribution"]["num_outliers"]


def test_the_block_of_some_parameters_is_measured_and_shown_as_that(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bias.study"
    measured = ("measure", checkpoint, "--embedding", "pca", "--out", out)
    assert run(*measured, "--parameters", "*.weight,nothing") == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    names = load_checkpoint(checkpoint).load_model().state_dict()
    assert all(name in err for name in ("'nothing'", *names))
    assert not out.exists()
    assert run(*measured, "--parameters", "*.bias") == 0
    study = load_study(out)
    assert study.spectra["G"].dim == 10
    assert study.settings["parameters"] == ["*.bias"]
    capsys.readouterr()
    assert run("show", out) == 0
    assert "10 of 650 parameters" in " ".join(capsys.readouterr().out.split())
    assert run("show", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"]["num_network_params"] == 650
    assert told["layers"]["layers"][0]["num_parameters"] == 10


def test_the_plan_is_a_line_or_one_json_object(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("measure", checkpoint, "--plan") == 0
    line = capsys.readouterr().out
    assert line.startswith("Plan: ")
    assert line.count("\n") == 1
    assert " Products: G, Hess, H forward mode. Checking them takes " in line
    assert run("measure", checkpoint, "--plan", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["products"] == dict.fromkeys(("G", "Hess", "H"), "forward mode")
    assert 0 < facts["proof_seconds"] < 60
    assert facts["line"].startswith("Plan: ")
    study = tmp_path / "no.study"
    assert run("measure", checkpoint, "--json", "--out", study) == 2
    assert not study.exists()


def test_the_study_lies_beside_the_checkpoint_by_default(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("measure", checkpoint, "--embedding", "pca") == 0
    assert load_study(checkpoint.with_suffix(".study")).settings["embedding"] == "pca"
    assert run("measure", checkpoint) == 2
    assert "--force" in capsys.readouterr().err


def test_a_file_that_is_there_is_not_overwritten_unless_forced(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.ckpt"
    out.write_text("precious")
    assert run(*SMALL, "--out", out) == 2
    assert "exists" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(*SMALL, "--out", out, "--force") == 0
    assert out.stat().st_size > 1000


def test_a_folder_that_is_missing_is_noticed_before_the_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("workbench.training.data.load_data", work)
    monkeypatch.setattr("workbench.training.checkpoint.load_checkpoint", work)
    missing = tmp_path / "missing"
    assert run(*SMALL, "--out", missing / "run.ckpt") == 2
    assert run("measure", "run.ckpt", "--out", missing / "run.study") == 2
    assert capsys.readouterr().err.count("does not exist") == 2


def test_a_run_goes_on_where_it_stopped(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "more.ckpt"
    assert run("train", "--resume", checkpoint, "--out", out) == 2
    assert "3 epochs" in capsys.readouterr().err
    assert run("train", "--resume", checkpoint, "--epochs", 5, "--out", out) == 0
    assert "5 of 5 epochs" in capsys.readouterr().err


def interrupting(monkeypatch: pytest.MonkeyPatch, at: float, times: int = 1) -> None:
    """Press Ctrl-C when the work has come this far."""
    show = ProgressDisplay.__call__
    left = [times]

    def shown(self: ProgressDisplay, progress: Progress) -> None:
        show(self, progress)
        while progress.fraction >= at and left[0]:
            left[0] -= 1
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressDisplay, "__call__", shown)


def test_ctrl_c_keeps_what_was_trained(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, more = tmp_path / "run.ckpt", tmp_path / "more.ckpt"
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupting(patch, at=0.3)
        assert run(*SMALL[:-1], "200", "--out", out) == 130
    assert signal.getsignal(signal.SIGINT) is before
    err = capsys.readouterr().err
    assert "what was learnt will be saved" in err
    assert "Traceback" not in err
    done = int(err.rsplit(" of 200 epochs")[0].rsplit(" ", 1)[1])
    assert 0 < done < 200
    assert run("train", "--resume", out, "--epochs", done + 2, "--out", more) == 0


def test_a_second_ctrl_c_breaks_off_and_keeps_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupting(monkeypatch, at=0.3, times=2)
    out = tmp_path / "run.ckpt"
    assert run(*SMALL[:-1], "200", "--out", out) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_measurement_and_keeps_what_was_finished(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, parts = tmp_path / "run.study", tmp_path / "run.study.parts"
    measuring = ["measure", checkpoint, "--embedding", "pca", "--out", out]
    with monkeypatch.context() as patch:
        interrupting(patch, at=0.9)
        assert run(*measuring) == 130
    assert f"what was finished is kept in {parts}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [parts]
    assert (parts / "means").exists()
    assert run(*measuring) == 0
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_a_lack_of_memory_is_one_line_and_status_1(
    error: Exception,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("workbench.training.data.load_data", load)
    assert run(*SMALL, "--out", tmp_path / "run.ckpt") == 1
    err = capsys.readouterr().err
    assert err.startswith("Error: Not enough memory")
    assert err.count("\n") == 1


def test_a_defect_is_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("workbench.training.data.load_data", load)
    with pytest.raises(RuntimeError, match="broken"):
        run(*SMALL, "--out", tmp_path / "run.ckpt")


def test_ctrl_c_reaches_the_real_program(tmp_path: Path) -> None:
    out = tmp_path / "run.ckpt"
    command = [sys.executable, "-m", "workbench", "train", "--model", "mlp"]
    program = subprocess.Popen(
        [*command, "--epochs", "100000", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stderr is not None
        assert program.stderr.readline().startswith("Training")
        program.send_signal(signal.SIGINT)
        err = program.communicate(timeout=60)[1]
    finally:
        program.kill()
    assert program.returncode == 130
    assert out.is_file()
    assert "Traceback" not in err


@pytest.mark.parametrize("code", ["show {} --json", "show {}", "--help"])
def test_showing_needs_no_torch(study_file: Path, code: str) -> None:
    arguments = code.format(study_file).split()
    program = (
        "import sys; from workbench.cli.main import main; "
        f"status = main({arguments!r}); "
        "heavy = {'torch', 'torchvision', 'umap', 'sklearn', 'bokeh', 'voila'}; "
        "print(status, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == "0 []\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="devices of Linux")
@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_output_that_takes_no_more_is_one_line(
    study_file: Path, flag: list[str]
) -> None:
    command = [sys.executable, "-m", "workbench", "show", str(study_file), *flag]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    said = "Error: the output cannot be written (No space left on device); free some"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_the_tables_say_the_numbers(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", study_file) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = summary(load_study(study_file))
    for one in found["spectra"].values():
        for pair in one["top"][:10] + one.get("bottom", [])[:3]:
            assert f" {pair['value']:.4g} ± {pair['residual']:.0e} " in out
        assert f" {one['trace']:.4g} " in out
    assert all(name in out for name in found["levels"]["parts"])
    assert found["attribution"]["rule"] in " ".join(out.split())
    for layer, share in zip(
        found["layers"]["layers"], found["layers"]["outlier_share"], strict=True
    ):
        (row,) = (line for line in out.splitlines() if f"│ {layer['name']} (" in line)
        assert f" {share:.1%} " in row
        assert f" {layer['trace_share']:.1%} " in row
        assert f" {layer['eigenvalues']['G'][0]:.4g} " in row


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\ud800\u202e[red]"


@pytest.fixture
def hostile_file(tmp_path: Path) -> Path:
    """A study whose every text works a terminal, if it gets there."""
    study = make_study(3, 40, class_names=(HOSTILE, "=1+1", "+a"))
    G = replace(study.spectra["G"], method=HOSTILE)
    return replace(
        study,
        run={**study.run, "data": HOSTILE, "model": HOSTILE, "device": HOSTILE},
        settings={**study.settings, "embedding": HOSTILE},
        spectra={"G": G},
        outlier_rule=HOSTILE,
        embedding=replace(study.embedding, note=HOSTILE, method=HOSTILE),
        layers=replace(
            study.layers,
            names=(HOSTILE, "a", "b"),
            kinds=(HOSTILE,) * 3,
            parameters=((HOSTILE,),) * 3,
            note=HOSTILE,
        ),
        plan=HOSTILE,
        versions={HOSTILE: HOSTILE},
        created=HOSTILE,
    ).save(tmp_path / "hostile.study")


def test_what_a_file_says_reaches_the_terminal_escaped(
    hostile_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", hostile_file) == 0
    assert run("show", "--json", hostile_file) == 0
    assert run("export", hostile_file, "--html", hostile_file.parent / "x.html") == 0
    read = summary(load_study(hostile_file))
    raw = {"run": {**read["run"], "model": HOSTILE}, "picture": HOSTILE}
    print_summary(read | raw | {"levels": {**read["levels"], "trace": {HOSTILE: 1.0}}})
    ProgressDisplay(Console()).say(HOSTILE)
    said = "".join(capsys.readouterr())
    assert "\\x1b]0;owned\\x07" in said
    assert "[red]" in said
    assert not set(said) & set("\x1b\x07\r\x9b\u202e")
    said.encode()


def test_an_error_with_text_of_a_file_is_escaped(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_checkpoint(checkpoint)
    path = tmp_path / "x.ckpt"
    replace(found, run={**found.run, "model": HOSTILE}).save(path)
    assert run("measure", path) == 2
    said = capsys.readouterr().err
    assert "the network \\x1b]0;owned" in said
    assert "\x1b" not in said


def test_tables_hold_no_formulas_and_name_their_coding(hostile_file: Path) -> None:
    tables = csv_tables(load_study(hostile_file))
    rows = list(csv.reader(tables["embedding"].splitlines()))
    assert {"'=1+1", "'+a"} <= {row[2] for row in rows}
    head = tables["overlaps"].splitlines()[0]
    assert ",'=1+1,'+a" in head
    assert all(text.isascii() for text in tables.values())
    named = make_study(3, 40, class_names=("sac", "été", "-1"))
    tables = csv_tables(named)
    assert tables["overlaps"].startswith("\ufeffweighting,")
    assert tables["overlaps"].splitlines()[0].endswith("sac,été,-1,epoch")
    assert tables["eigenvalues"].startswith("of,")


def test_the_tables_bear_numbers_that_do_not_exist() -> None:
    found = summary(make_study(4))
    found["run"]["train_loss"] = None
    found["levels"]["trace"]["G"] = None
    found["attribution"]["overlap"][0] = None
    screen = StringIO()
    print_summary(found, Console(file=screen, width=100))
    assert "loss unknown" in screen.getvalue()


def test_without_a_terminal_progress_is_a_line_a_stage_and_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    screen = StringIO()
    with ProgressDisplay(Console(file=screen, width=20)) as display:
        for second in range(21):
            values = {"loss": 0.51234, "epoch": second}
            display(Progress("Training", second / 20, "epoch 1 of 3", values))
            clock[0] += 1
        display(Progress("Measuring", 0.0))
    assert screen.getvalue().splitlines() == [
        "Training 0%, epoch 1 of 3, loss 0.512",
        "Training 55%, epoch 1 of 3, loss 0.512, 9 s left",
        "Measuring 0%",
    ]


def test_on_a_terminal_progress_is_a_bar_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ProgressDisplay(console) as display:
        for second in range(4):
            display(Progress("Training", second / 100, f"epoch {second}"))
            clock[0] += 1
        display.say("A sentence.")
    shown = screen.getvalue()
    assert "epoch 3, 2 min left" in shown
    assert "A sentence." in shown
