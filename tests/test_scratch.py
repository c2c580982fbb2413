"""Folders where others cannot be written, and numba's cache among them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from workbench.machine import scratch

pytestmark = pytest.mark.skipif(os.name != "posix", reason="users and modes")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_private_folder_is_the_same_every_time_and_for_nobody_else() -> None:
    made = scratch.private_folder("x")
    assert made == scratch.private_folder("x")
    assert made.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["open to others", "a link"])
def test_a_folder_that_somebody_else_has_prepared_is_not_used(
    how: str, temporary: Path
) -> None:
    taken = temporary / f"hessian-workbench-{os.getuid()}"
    if how == "a link":
        (temporary / "theirs").mkdir(mode=0o700)
        taken.symlink_to(temporary / "theirs")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    made = scratch.private_folder("x")
    assert not made.is_relative_to(taken)
    assert made.stat().st_mode & 0o077 == 0
    assert list(taken.iterdir()) == []


SEARCH = """
from numba import njit
@njit(cache=True)
def double(x):
    return 2 * x
"""
USE = """
from workbench.machine.scratch import let_numba_cache
let_numba_cache()
from pynndescent import double
print(double(21))
"""


@pytest.mark.parametrize("home", ["/proc/none", None])
def test_umap_s_search_compiles_where_neither_home_nor_package_can_be_written(
    home: str | None, tmp_path: Path
) -> None:
    package = tmp_path / "site" / "pynndescent"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SEARCH)
    (package / "__pycache__").touch()  # so that no folder can be made there, by root
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", scratch.NUMBA)}
    env |= {"TMPDIR": str(tmp_path), "PYTHONPATH": f"{package.parent}:{ROOT}"}
    env |= {"XDG_CACHE_HOME": "/proc/none"} | ({"HOME": home} if home else {})
    done = subprocess.run(
        [sys.executable, "-c", USE], capture_output=True, text=True, env=env
    )
    assert done.stdout == "42\n", done.stderr
    (kept,) = tmp_path.glob("hessian-workbench-*/numba")
    assert list(kept.iterdir())
