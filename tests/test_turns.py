"""Turns: how many runs work at a time, in which order, and who has died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.jobs.turns import MOST, NEED, Place, Turns, most_runs

PLENTY = 100 * NEED


def make(
    base: Path, most: int = 2, free: Callable[[], float] = lambda: PLENTY
) -> Turns:
    turns = Turns(base, most=lambda: most, free=free)
    turns.join()
    return turns


def test_so_many_work_at_a_time_and_the_rest_in_the_order_they_came(
    tmp_path: Path,
) -> None:
    one, two, three, four = (make(tmp_path) for _ in range(4))
    assert two.try_to_begin() == Place(0, 1)  # one is before it, and has not looked yet
    assert one.try_to_begin() is None
    assert two.try_to_begin() is None
    assert four.try_to_begin() == Place(2, 1)
    assert three.try_to_begin() == Place(2, 0)
    assert Place(2, 0).words == "number 1 in the queue; 2 runs are working"
    one.leave()
    assert four.try_to_begin() == Place(1, 1)  # it does not overtake
    assert three.try_to_begin() is None
    assert four.try_to_begin() == Place(2, 0)
    two.leave()
    three.leave()
    assert four.try_to_begin() is None
    four.leave()
    assert not list(tmp_path.glob(".queue-*/[0-9]*"))


def test_another_run_begins_only_where_there_is_memory_for_it(tmp_path: Path) -> None:
    free = 0.0
    one, two, three = (make(tmp_path, 9, lambda: free) for _ in range(3))
    assert one.try_to_begin() is None  # somebody always works
    assert two.try_to_begin() == Place(1, 0)
    free = 1.5 * NEED  # but the first has hardly begun, and will take some of it
    assert two.try_to_begin() == Place(1, 0)
    free = 2.5 * NEED
    assert two.try_to_begin() is None
    assert three.try_to_begin() == Place(2, 0)
    for turns in (one, two, three):
        turns.leave()


@pytest.mark.skipif(os.name != "posix", reason="ends a process by force")
def test_the_ticket_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path\n"
        "from workbench.jobs.turns import Turns\n"
        f"turns = Turns(Path({str(tmp_path)!r})); turns.join(); turns.try_to_begin()\n"
        "print('begun', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        turns = make(tmp_path, 1)
        assert turns.try_to_begin() == Place(1, 0)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert turns.try_to_begin() is None
    assert len(list(tmp_path.glob(".queue-*/[0-9]*"))) == 1
    turns.leave()


@pytest.mark.parametrize(("told", "most"), [("3", 3), ("0", None), ("x", None)])
def test_the_limit_is_that_of_the_environment_or_the_cores(
    told: str, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MOST, told)
    assert most_runs() == most or (most is None and most_runs() >= 1)
