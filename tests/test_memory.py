from pathlib import Path

import psutil
import pytest
import torch

from workbench.machine import memory
from workbench.machine.memory import device_memory, total_memory
from workbench.machine.room import free_memory


def test_a_container_s_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    whole = total_memory(tmp_path)
    assert whole > 2**28
    (tmp_path / "memory.max").write_text(f"{2**27}\n")
    assert total_memory(tmp_path) == 2**27


def test_a_container_without_limit_has_the_machine_s(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert total_memory(tmp_path) == total_memory(tmp_path / "none")


@pytest.mark.parametrize(
    ("limit", "used", "stat", "dropped"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ],
)
def test_what_is_free_in_a_container_is_its_limit_without_what_it_uses(
    tmp_path: Path, limit: str, used: str, stat: str, dropped: str
) -> None:
    assert free_memory(tmp_path) <= psutil.virtual_memory().total
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("max\n")
    (tmp_path / used).write_text("50000\n")
    assert free_memory(tmp_path) > 2**20
    (tmp_path / limit).write_text("80000\n")
    assert free_memory(tmp_path) == 30000
    (tmp_path / stat).write_text(f"anon 1\n{dropped} 20000\n")
    assert free_memory(tmp_path) == 50000  # the system can drop these
    (tmp_path / used).write_text("990000\n")
    assert free_memory(tmp_path) == 0


def test_a_plan_counts_on_what_others_leave_and_on_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "free_memory", lambda: 3 * 2**20)
    monkeypatch.setattr(memory, "own_memory", lambda: 2**20)
    assert device_memory(cpu) == 4 * 2**20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert device_memory(cpu) == 2 * 2**20
    monkeypatch.setattr(memory, "free_memory", lambda: 2**60)
    assert device_memory(cpu) == total_memory() // 2
