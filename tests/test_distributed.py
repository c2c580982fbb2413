"""Several processes, one result: with torchrun, and gloo between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from tests.worlds import together
from workbench.errors import WorkbenchError
from workbench.machine.distributed import ALONE, World, joined
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.study.records import load_study
from workbench.training.checkpoint import Checkpoint, load_checkpoint
from workbench.training.data import load_data
from workbench.training.joint import JointBatchNorm
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train

TRAIN = """
import sys, torch
from torch import nn
from workbench.machine.distributed import joined
from workbench.training.data import load_data
from workbench.training.train import TrainConfig, train

torch.manual_seed(0)
data = load_data("digits", per_class=9)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
    nn.Linear(36, 10),
).double()
with joined("cpu") as world:
    done = train(model, data, TrainConfig(epochs=3, batch_size=25), world=world)
    if world.rank == 0:
        done.save(sys.argv[1])
"""

MEASURE = """
import os, signal, sys
from workbench.cli.main import main
from workbench.measurement import measurement

assert callable(measurement.whole_hess)
if os.environ["RANK"] == "1":
    measurement.whole_hess = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main(sys.argv[1:]))
"""


def torchrun(size: int, *arguments: str) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launch, f"--nproc-per-node={size}", *arguments]


def plain(value: Any, name: str = "") -> dict[str, np.ndarray]:
    """All arrays of a record, by name."""
    if isinstance(value, np.ndarray):
        return {name: value}
    if not isinstance(value, dict):
        return {}
    return {k: v for n, x in value.items() for k, v in plain(x, f"{name}/{n}").items()}


@pytest.mark.slow
def test_training_finds_the_same_weights_in_1_2_and_4_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TRAIN)
    found: dict[int, Checkpoint] = {}
    for size in (1, 2, 4):
        out = tmp_path / f"{size}.ckpt"
        command = torchrun(size, str(script), str(out))
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        found[size] = load_checkpoint(out)
    for size in (2, 4):
        for name, expected in found[1].weights.items():
            torch.testing.assert_close(
                found[size].weights[name], expected, rtol=1e-6, atol=1e-9
            )
        assert found[size].run["num_evaluated"] == 90
        assert found[size].run["train_loss"] == pytest.approx(
            found[1].run["train_loss"], rel=1e-6
        )
        assert found[size].history["loss"] == pytest.approx(
            found[1].history["loss"], rel=1e-6
        )


@pytest.mark.parametrize("limit", [5000, 0])
@pytest.mark.parametrize("size", [2, 4])
def test_measuring_finds_the_same_numbers(
    size: int, limit: int, tmp_path: Path
) -> None:
    data = load_data("digits", per_class=2)
    model = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 10)
    )
    done = train(model, data, TrainConfig(epochs=3, device="cpu"))
    chosen = MeasureSettings(
        embedding="pca", device="cpu", num_drawn=0, exact_limit=limit, tol=1e-6
    )
    alone = plain(asdict(measure(done, chosen)))

    def one(world: World) -> dict[str, np.ndarray]:
        return plain(asdict(measure(done, chosen, world=world, parts=tmp_path)))

    several = together(size, one)
    for name, expected in alone.items():
        scale = np.abs(expected).max(initial=1e-12)
        loose = "overlap" in name or "points" in name or "nodes" in name
        if any(word in name for word in ("residuals", "share_error", "weights")):
            continue  # rounding, and the squares of vectors that are free to turn
        for found in several:
            error = np.abs(found[name] - expected).max(initial=0.0)
            assert error <= (1e-4 if loose else 1e-6) * scale, name
            np.testing.assert_array_equal(found[name], several[0][name])


@pytest.mark.slow
def test_two_processes_measure_what_one_does_though_one_was_killed_on_the_way(
    tmp_path: Path,
) -> None:
    data = load_data("digits", per_class=2)
    model = build_model("linear", data)
    done = train(model, data, TrainConfig(epochs=3, device="cpu"))
    script, out = tmp_path / "script.py", tmp_path / "run.study"
    script.write_text(MEASURE)
    command = ["measure", str(done.save(tmp_path / "run.ckpt")), "--out", str(out)]
    command += ["--embedding", "pca", "--device", "cpu"]

    def run(*program: str) -> subprocess.CompletedProcess[str]:
        whole = torchrun(2, *program, *command)
        return subprocess.run(whole, capture_output=True, text=True, timeout=120)

    killed = run(str(script))
    assert killed.returncode != 0
    lines = [li for li in killed.stderr.splitlines() if li.startswith("Error: ")]
    assert "another process of this run has ended" in lines[0]
    assert "workbench/cli/main.py" not in killed.stderr
    parts = tmp_path / "run.study.parts"
    assert {"plan", "means"} <= {path.name for path in parts.iterdir()}
    assert not out.exists()

    again = run("-m", "workbench")
    assert again.returncode == 0, again.stderr
    assert "stages of another" not in again.stderr
    assert not parts.exists()
    chosen = MeasureSettings(embedding="pca", device="cpu")
    alone = measure(done, chosen)
    found = load_study(out)
    top = alone.spectra["G"].eigenvalues[0]  # H of a linear network is zero
    for name, spectrum in alone.spectra.items():
        values, ours = spectrum.eigenvalues, found.spectra[name].eigenvalues
        np.testing.assert_allclose(ours, values, rtol=0, atol=1e-6 * top)
    for name, levels in alone.levels.items():
        assert found.levels[name].trace == pytest.approx(levels.trace, rel=1e-6)
        np.testing.assert_allclose(found.levels[name].kept, levels.kept, rtol=1e-6)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "run.ckpt"
    command = torchrun(2, "-m", "workbench", "train", "--epochs", "100000")
    command += ["--model", "linear", "--device", "cpu", "--out", str(out)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        part = tmp_path / "run.ckpt.part"
        deadline = time.monotonic() + 120
        while not part.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert part.exists()
        victim = _children(run.pid)[1]
        os.kill(victim, signal.SIGKILL)
        err = run.communicate(timeout=60)[1]
    finally:
        run.kill()
    assert run.returncode != 0
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert lines
    assert "another process of this run has ended" in lines[0]
    assert "workbench/cli/main.py" not in err  # the one traceback is torchrun's own
    assert not out.exists()
    assert load_checkpoint(part).run["epochs"] > 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_batch_norm_sees_the_batch_of_all() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(7, 3, 2, 2, dtype=torch.float64)
    target = torch.randn(7, 3, 2, 2, dtype=torch.float64)

    def one(world: World) -> tuple[torch.Tensor, nn.BatchNorm2d]:
        norm = nn.BatchNorm2d(3).double().train()
        own = world.share(7)
        there = JointBatchNorm(norm, world) if world.size > 1 else norm
        x = inputs[own].clone().requires_grad_()
        (relu(there(x)) * target[own]).sum().backward()
        assert x.grad is not None
        return x.grad, norm

    expected, norm = one(ALONE)
    found = together(3, one)
    torch.testing.assert_close(torch.cat([grad for grad, _ in found]), expected)
    for _, other in found:
        torch.testing.assert_close(other.running_mean, norm.running_mean)
        torch.testing.assert_close(other.running_var, norm.running_var)
        assert other.num_batches_tracked == 1
    total = sum(other.weight.grad for _, other in found)  # type: ignore[misc]
    torch.testing.assert_close(total, norm.weight.grad)


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("auto") as world:
        assert world is ALONE


def test_a_process_without_a_gpu_of_its_own_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(WorkbenchError, match="has no GPU of its own"), joined("auto"):
        pass


def test_what_was_learnt_is_kept_on_the_way_and_goes_on_to_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workbench.training.loop.KEEP_EVERY", 0.0)
    data = load_data("digits", per_class=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    kept: list[Checkpoint] = []
    config = TrainConfig(epochs=4, device="cpu", batch_size=16)
    whole = train(model, data, config, keep=kept.append)
    assert [found.run["epochs"] for found in kept] == [1, 2, 3]
    assert {found.status for found in kept} == {"cancelled"}
    for found in kept:
        again = train(replace(found, module=model, data=data))
        for name, tensor in whole.weights.items():
            assert torch.equal(again.weights[name], tensor)
        assert again.run == whole.run
