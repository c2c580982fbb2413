"""The memory that is planned, against what a process reaches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import warnings
from pathlib import Path
warnings.filterwarnings("ignore")
import torch
from torch import nn
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.measurement.plan import checked, plan

torch.set_num_threads(1)
torch.manual_seed(0)
method, width, per_class = {method!r}, {width}, {per_class}
labels = torch.arange(3 * per_class) % 3
inputs = torch.randn(3, 1, 20, 20)[labels] + torch.randn(len(labels), 1, 20, 20)
layers = nn.Flatten(), nn.Linear(400, width), nn.ReLU(), nn.Linear(width, 3)
settings = MeasureSettings(
    method=method, device="cpu", embedding="pca", num_drawn=30, num_steps=8,
    exact_hessian=False,
)
planned = checked(plan(nn.Sequential(*layers), (inputs, labels), settings)).memory
measure(nn.Sequential(*layers), (inputs, labels), settings)
# not ru_maxrss, which begins with that of the process that started this one
status = Path("/proc/self/status").read_text()
(peak,) = (line.split()[1] for line in status.splitlines() if "VmHWM" in line)
print(planned, 1024 * int(peak))
"""
SETTINGS = [
    ("krylov", 1000, 4),
    pytest.param("streamed", 1000, 4, marks=pytest.mark.slow),
    pytest.param("dual", 300, 300, marks=pytest.mark.slow),
    pytest.param("dense", 8, 100, marks=pytest.mark.slow),
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read")
@pytest.mark.parametrize(("method", "width", "per_class"), SETTINGS)
def test_a_measurement_stays_within_the_memory_that_was_planned(
    method: str, width: int, per_class: int
) -> None:
    program = PROGRAM.format(method=method, width=width, per_class=per_class)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    planned, reached = map(int, done.stdout.split())
    assert reached <= 1.15 * planned
