"""`make bench` at a size of seconds: it agrees, it says so, and it notices if not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.benchmarks import peers
from tests.benchmarks import rows as module
from tests.benchmarks.__main__ import main
from tests.benchmarks.clock import Spread, in_turn, peak_memory
from tests.benchmarks.problems import Problem, Resnet18
from tests.conftest import ROOT

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """At this size, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.peers
def test_every_row_of_the_small_network_agrees_and_is_written(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    keys = ["g", "g10", "hess", "eig-g", "eig-hess", "means", "cross"]
    assert main(["--quick", "--out", str(out), "--rows", *keys]) == 0
    found = json.loads(out.read_text())
    assert [row["key"] for row in found["rows"]] == keys
    for row in found["rows"]:
        ours, *others = row["contenders"]
        assert ours["name"] == "workbench"
        assert ours["ratio"] == 1.0
        assert others
        assert all(one["units"] > 0 and one["ratio"] > 0 for one in others)
        single = row["key"] in ("g", "hess", "eig-g", "eig-hess")
        assert ("hessian-eigenthings" in [one["name"] for one in others]) == single


def off(result: Any) -> Any:
    """The same, wrong in the fourth digit."""
    return result * (1 + 1e-4)


@pytest.mark.parametrize(
    ("key", "name"), [("g", "double_backward"), ("means", "pair_by_pair")]
)
def test_nothing_is_timed_where_two_disagree(
    key: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    true: Callable[[Problem], Any] = getattr(peers, name)

    def wrong(problem: Problem) -> Any:
        found = true(problem)
        return off(found) if isinstance(found, Tensor) else lambda v: off(found(v))

    monkeypatch.setattr(peers, name, wrong)
    monkeypatch.setattr(peers, "installed", lambda peer: None)
    assert main(["--quick", "--rows", key]) == 1
    shown = capsys.readouterr()
    assert "differ by 1.0e-04 of the norm" in shown.err
    assert f"[{key}]" not in shown.out


def test_a_wrong_eigenvalue_is_noticed() -> None:
    exact = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    found = {"workbench": exact, "other": exact + 0.003, "power": exact + 1.0}
    errors = module.near(exact, found, skip=("power",))
    assert errors["power"] == pytest.approx(1.0)
    with pytest.raises(module.DisagreementError, match="other: an eigenvalue is 5"):
        module.near(exact, {**found, "other": exact + 0.005}, skip=("power",))


def test_a_whole_spectrum_with_a_wrong_eigenvalue_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--rows", "exact"]) == 0
    true = module.exact_spectrum

    def wrong(*args: Any, **options: Any) -> Any:
        found = true(*args, **options)  # with the same trace
        values = found.values.clone()
        values[1] += values[0] / 50
        values[0] -= values[0] / 50
        return replace(found, values=values)

    monkeypatch.setattr(module, "exact_spectrum", wrong)
    assert main(["--quick", "--rows", "exact"]) == 1
    assert "an eigenvalue is 2.0e-02 of the largest away" in capsys.readouterr().err


def test_a_machine_that_slows_down_does_not_change_the_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds * (1.0 if now < 40 else 8.0)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    times = in_turn(lambda: work(1), {"five": lambda: work(5)}, rounds=9, device=CPU)
    assert times["five"].units.median == pytest.approx(5.0)
    assert min(times["five"].samples) < times["five"].units.median  # on the way down
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)
    assert Spread.of([4.0, 1.0, 3.0, 2.0]) == Spread(2.5, 1.75, 3.25)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak")
def test_the_peak_is_seen_though_it_is_gone_at_the_end() -> None:
    found = peak_memory(lambda: torch.ones(2**25).sum(), CPU)  # 128 MB
    assert found is not None
    assert 0.9 * 2**27 < found < 1.5 * 2**27


def test_the_residual_network_is_that_of_the_same_name() -> None:
    from workbench.training.models import build_model

    ours = Resnet18(3, 10)
    theirs = build_model("resnet18", (3, 32, 10))
    shapes = [tuple(p.shape) for p in theirs.parameters()]
    assert [tuple(p.shape) for p in ours.parameters()] == shapes
    names = [n for n, _ in theirs.named_parameters()]
    with torch.no_grad():
        for mine, name in zip(ours.parameters(), names, strict=True):
            mine.copy_(theirs.get_parameter(name))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)


BARE = """
import sys
for name in (
    "bokeh", "curvlinops", "hessian_eigenthings", "hypothesis", "ipywidgets",
    "jupyter_bokeh", "platformdirs", "pyhessian", "pytest", "rich", "safetensors",
    "sklearn", "threadpoolctl", "torchvision", "traitlets", "typer", "umap",
):
    sys.modules[name] = None  # as if it were not installed
from tests.benchmarks.__main__ import main
sys.exit(main(["--quick", "--threads", "1", "--rows", "g", "means"]))
"""


def test_it_runs_with_nothing_but_torch_and_scipy() -> None:
    found = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "pyhessian: not installed, skipped" in found.stdout
    assert "[means]" in found.stdout
