"""Set-up: make from nothing, what is declared, the wheel, Binder."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import chromium
from tests.conftest import ROOT
from workbench import __version__
from workbench.ui import serve

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGE = "workbench/ui/jupyter/nbconvert/templates/workbench"

COMPILE = "-c from workbench.jobs.work import warm_up; warm_up().join()"

# A python that is asked for its version, makes a .venv of fakes, and pip that logs.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
  "-c import sys; sys.exit"*) exit {old} ;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python
    printf '#!/bin/sh\\necho "ran $*" >> log\\n' > .venv/bin/workbench
    chmod +x .venv/bin/workbench ;;
  *torch==*) echo "$*" >> log; exit {missing} ;;
  *) echo "$*" >> log ;;
esac
"""


class Checkout:
    """A folder with the Makefile and a fake python on an otherwise bare PATH."""

    def __init__(self, folder: Path, *, old: int = 0, missing: int = 0) -> None:
        self.folder = folder
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copy(ROOT / "pyproject.toml", folder)
        binaries = folder / "bin"
        binaries.mkdir()
        (binaries / "python3").write_text(FAKE_PYTHON.format(old=old, missing=missing))
        (binaries / "python3").chmod(0o755)
        for name in ("sh", "mkdir", "cp", "chmod", "touch", "sed", "rm"):
            found = shutil.which(name)
            assert found
            (binaries / name).symlink_to(found)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        make = shutil.which("make")
        assert make
        return subprocess.run(
            [make, *arguments],
            cwd=self.folder,
            env={"PATH": str(self.folder / "bin")},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def log(self) -> list[str]:
        """Return what was run since the last look."""
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


needs_make = pytest.mark.skipif(
    os.name != "posix" or not shutil.which("make"), reason="there is no make here"
)


@needs_make
def test_make_app_installs_once_and_then_only_starts(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.make("app").returncode == 0
    installed, *rest = checkout.log()
    assert re.fullmatch(r"-m pip install torch==\S+ torchvision==\S+ -e \.", installed)
    assert rest == [COMPILE, "ran app"]
    assert checkout.make("app").returncode == 0
    assert checkout.log() == ["ran app"]
    assert checkout.make("lab").returncode == 0
    assert checkout.log() == [installed + "[lab]", COMPILE, "ran app --lab"]
    newer = (tmp_path / ".venv" / "installed").stat().st_mtime + 10
    os.utime(tmp_path / "pyproject.toml", (newer, newer))
    assert checkout.make("app").returncode == 0
    assert checkout.log() == [installed, COMPILE, "ran app"]


@needs_make
def test_a_set_up_for_tests_does_for_the_app(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.make(".venv/installed-dev").returncode == 0
    assert checkout.log()[0].endswith(" -e .[dev]")
    assert checkout.make("app").returncode == 0
    assert checkout.make("lab").returncode == 0
    assert checkout.log() == ["ran app", "ran app --lab"]


@needs_make
def test_if_the_pinned_torch_is_not_available_the_newest_is_installed(
    tmp_path: Path,
) -> None:
    checkout = Checkout(tmp_path, missing=1)
    done = checkout.make("app")
    assert done.returncode == 0
    assert "trying again with the newest versions" in done.stdout
    installed = "-m pip install torch torchvision -e ."
    assert checkout.log()[1:] == [installed, COMPILE, "ran app"]


@needs_make
@pytest.mark.parametrize("missing", [0, 1])
def test_a_torch_that_was_chosen_is_taken_and_no_other(
    tmp_path: Path, missing: int
) -> None:
    checkout = Checkout(tmp_path, missing=missing)
    done = checkout.make("app", "TORCH=torch==2.12.0 torchvision")
    assert (done.returncode == 0) == (not missing)
    installed, *started = checkout.log()
    assert installed == "-m pip install torch==2.12.0 torchvision -e ."
    assert started == ([] if missing else [COMPILE, "ran app"])


@needs_make
def test_without_a_python_that_will_do_make_says_so(tmp_path: Path) -> None:
    done = Checkout(tmp_path, old=1).make("app")
    assert done.returncode != 0
    assert "no Python 3.11 or later" in done.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_a_failed_install_is_not_taken_for_done(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    python = tmp_path / "bin" / "python3"
    python.write_text(
        python.read_text().replace(
            "  *torch==*)", "  *install*) exit 1 ;;\n  *torch==*)"
        )
    )
    assert checkout.make("app").returncode != 0
    assert checkout.make("app").returncode != 0
    assert "ran app" not in checkout.log()


@needs_make
def test_without_npms_registry_the_check_says_what_is_missing(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    assert checkout.make(".venv/installed-dev").returncode == 0
    npm = tmp_path / ".venv" / "bin" / "npm"
    for answer, worked in (("exit 1", False), ("mkdir -p node_modules", True)):
        npm.write_text(f"#!/bin/sh\n{answer}\n")
        npm.chmod(0o755)
        done = checkout.make("node_modules/installed")
        assert (done.returncode == 0) == worked
        assert ("TypeScript and Biome" in done.stderr) != worked
        assert (tmp_path / "node_modules" / "installed").exists() == worked


def test_the_lock_file_pins_what_checks_the_browser_part_and_names_no_host() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    text = (ROOT / "package-lock.json").read_text()
    locked = json.loads(text)["packages"]
    for name, version in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    assert all("resolved" not in package for package in locked.values())


@needs_make
def test_make_alone_lists_the_targets(tmp_path: Path) -> None:
    text = Checkout(tmp_path).make().stdout
    for target in ("help", "app", "lab", "test", "check", "clean"):
        assert re.search(rf"make {target}\t\w", text), target


def test_a_download_of_chromium_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ways: list[list[str]] = []

    def hang(way: list[str], *, timeout: float | None, env: Any, check: bool) -> None:
        ways.append(way)
        assert env["DEBIAN_FRONTEND"] == "noninteractive"
        if timeout is not None:
            raise subprocess.TimeoutExpired(way, timeout)

    monkeypatch.setattr(chromium.subprocess, "run", hang)
    monkeypatch.setattr(chromium, "find_chromium", functools.cache(lambda: None))
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    monkeypatch.setattr(chromium.shutil, "which", lambda name: name)
    chromium._get()
    assert [way[0] for way in ways] == [sys.executable, "apt-get", "apt-get"]
    assert "Gave up after 120 s" in capsys.readouterr().out


def torch_pins() -> list[Requirement]:
    line = re.search(r"^TORCH \?= (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert line
    return [Requirement(word) for word in line[1].split()]


def test_the_package_admits_the_torch_that_is_tested() -> None:
    admitted = {r.name: r for r in map(Requirement, PROJECT["dependencies"])}
    for pinned in torch_pins():
        (version,) = (s.version for s in pinned.specifier)
        assert version in admitted[pinned.name].specifier
        assert not any(s.operator == "==" for s in admitted[pinned.name].specifier)


def imported() -> set[str]:
    """The other packages that the package imports, anywhere in its files."""
    found = set()
    for path in (ROOT / "workbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"workbench"}


def test_every_package_that_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"]]
    lines += [line for name, extra in extras.items() if name != "dev" for line in extra]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    homes = packages_distributions()
    for package in imported():
        known = homes.get(package, [package])  # of one that is not installed: its name
        assert declared & set(map(canonicalize_name, known)), package


def test_binder_has_every_dependency_in_a_version_that_the_package_admits() -> None:
    text = (ROOT / "binder" / "environment.yml").read_text()
    pins = dict(re.findall(r"^  - ([\w-]+)=([\d.]+)$", text, re.M))
    assert pins.pop("python") in ("3.11", "3.12", "3.13")
    pins["torch"] = pins.pop("pytorch-cpu")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert pins.get(requirement.name) in requirement.specifier, requirement.name
    for pinned in torch_pins():
        assert pins[pinned.name] in pinned.specifier


def test_repo2docker_takes_binder_for_a_conda_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("repo2docker", reason="repo2docker is not installed")
    from repo2docker.app import Repo2Docker

    monkeypatch.chdir(ROOT)
    docker = Repo2Docker()
    packs = (pack(docker.base_image) for pack in docker.buildpacks)
    pack = next(pack for pack in packs if pack.detect())
    assert type(pack).__name__ == "CondaBuildPack"
    assert pack.python_version == "3.12"
    pack.platform = "linux/amd64"
    dockerfile = pack.render(build_args={})
    assert "binder/environment.yml" in dockerfile
    assert "binder/postBuild" in dockerfile
    assert "binder/start" in dockerfile
    for script in ("postBuild", "start"):
        assert os.access(ROOT / "binder" / script, os.X_OK)


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize(
    ("limit", "threads"), [("2.5", "2"), ("0.5", "1"), (".5", "1"), (None, "1")]
)
def test_binder_starts_with_as_many_threads_as_cores(
    limit: str | None, threads: str
) -> None:
    environment = {"PATH": os.environ["PATH"]} | ({"CPU_LIMIT": limit} if limit else {})
    done = subprocess.run(
        [ROOT / "binder" / "start", "sh", "-c", "echo $OMP_NUM_THREADS"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == threads


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_binder_keeps_no_process_warm_and_finds_its_page_in_a_persistent_home(
    tmp_path: Path,
) -> None:
    def start(folder: Path, **more: str) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [ROOT / "binder" / "start", "sh", "-c", "echo $WORKBENCH_WARM_UP"],
            env={"PATH": path, "PYTHONPATH": str(ROOT), **more},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert start(ROOT) == "0"
    assert start(ROOT, WORKBENCH_WARM_UP="1") == "1"
    home = tmp_path / "home"
    home.mkdir()
    start(tmp_path, JUPYTERHUB_ROOT_DIR=str(home))
    config = json.loads((ROOT / "binder" / "jupyter_server_config.json").read_text())
    page = config["ServerApp"]["default_url"].removeprefix("/voila/render/")
    assert (home / page).read_text() == (ROOT / page).read_text()
    (home / page).write_text("mine")
    start(tmp_path, JUPYTERHUB_ROOT_DIR=str(home))
    assert (home / page).read_text() == "mine"


def test_the_wheel_holds_all_that_the_page_needs(unpacked_wheel: Path) -> None:
    shipped = {
        path.relative_to(unpacked_wheel).as_posix()
        for path in unpacked_wheel.rglob("*")
        if path.is_file()
    }
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "workbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= shipped
    assert any(name.endswith(".study") for name in shipped)
    shared = (
        f"hessian_workbench-{__version__}.data/data/share/jupyter/"
        "nbconvert/templates/workbench"
    )
    for path in (ROOT / PAGE).iterdir():
        assert f"{shared}/{path.name}" in shipped
    notebook = unpacked_wheel / "workbench" / "notebooks" / "workbench.ipynb"
    assert json.loads(notebook.read_text())["nbformat"] == 4


def test_the_package_weighs_below_15_mb_and_its_studies_below_8(
    unpacked_wheel: Path,
) -> None:
    size = {
        path: path.stat().st_size
        for path in unpacked_wheel.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sum(size.values()) < 15e6
    assert 0 < sum(n for path, n in size.items() if path.suffix == ".study") < 8e6


def test_the_installed_package_finds_its_own_notebook(
    unpacked_wheel: Path, tmp_path: Path
) -> None:
    code = "from workbench.ui import serve; print(serve.find_notebook())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(unpacked_wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = Path(done.stdout.strip())
    assert found == unpacked_wheel / "workbench" / "notebooks" / "workbench.ipynb"
    assert serve.find_notebook() == ROOT / "notebooks" / "workbench.ipynb"


def test_the_changelog_tells_this_version() -> None:
    assert re.search(
        rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
