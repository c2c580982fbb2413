"""What a start depends on, looked at before the page is announced.

A kernel of this very environment that starts and answers, folders that can be written,
versions that fit: what is missing is one sentence, and no page that is dead.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from filelock import FileLock
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from workbench.errors import WorkbenchError
from workbench.jobs.runs import runs_folder
from workbench.machine.paths import STARTED_IN
from workbench.machine.scratch import LOCK, can_write, home, private_folder, sweep

PREFIX = "wb-"  # of the folder of one server
# A socket's path has at most 107 letters, on macOS 103. Below the folder come
# "/wb-12345678", "/kernel-", 36 letters of a number, and "-ipc-5".
LONGEST = (103 if sys.platform == "darwin" else 107) - 64
STARTS = 60.0  # seconds that a kernel may take to answer
IMPORTS = "import workbench.ui.app"
JUPYTER = ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
QUIET = ["--HistoryManager.enabled=False", "--InteractiveShell.cache_size=0"]


class OwnKernel(KernelSpecManager):
    """Knows one kernel: this Python, whatever others are installed on the machine."""

    def _kernel_dirs_default(self) -> list[str]:
        return []

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernel of this environment, by whatever name it is asked for."""
        return KernelSpec(
            argv=[
                *(sys.executable, "-m", "ipykernel_launcher"),
                *("-f", "{connection_file}"),
                *QUIET,
            ],
            display_name="Python 3 (ipykernel)",
            language="python",
        )


def make_folder() -> tuple[Path, FileLock]:
    """Make the folder of one server: its sockets, and what its kernels write.

    Its path is short enough for sockets where there is such a folder. What servers have
    left that were ended by force is removed. It counts as in use as long as the lock is
    held, which the system frees.

    Raises:
        WorkbenchError: If there is no folder that can be written.
    """
    found = [folder for folder in _temporary() if can_write(folder)]
    if not found:
        raise WorkbenchError(
            f"app: no temporary folder can be written ({_why(_gettempdir())}); "
            "free some space, or set TMPDIR to a folder you may write to."
        )
    for folder in found:
        sweep(folder, PREFIX)
    short = [folder for folder in found if len(str(folder)) <= LONGEST]
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=(short or found)[0]))
    lock = FileLock(made / LOCK)
    lock.acquire(timeout=0)
    return made, lock


def transport(folder: Path) -> str:
    """How kernels of this folder are reached: by sockets in it, where they have room.

    Those cannot be listened to by other users of the machine, as a port can.
    """
    fits = len(str(folder)) <= LONGEST + len(f"/{PREFIX}12345678")
    return "ipc" if os.name == "posix" and fits else "tcp"


def _temporary() -> Iterator[Path]:
    names = (os.environ.get("TMPDIR"), os.environ.get("XDG_RUNTIME_DIR"), "/tmp")
    for name in (*names, "/var/tmp", "/dev/shm"):
        if name and Path(name).is_dir():
            yield Path(name)
    yield Path(_gettempdir())


def _gettempdir() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none can be written
        return os.curdir


def kernel_environment(folder: Path) -> dict[str, str]:
    """What kernels find in their environment, beside what is there.

    What Jupyter and IPython write goes into the folder of the server, so that no file
    of the user's changes the page and none has to be written. Without a home that there
    is, everything else goes there too, and not into a folder named ``~``.
    """
    told = {"IPYTHONDIR": str(folder / "ipython"), STARTED_IN: os.getcwd()}
    told |= {name: str(folder / "jupyter") for name in JUPYTER}
    if home() is None:
        told["HOME"] = str(private_folder("home"))
    return told


NO_HOME = (
    "There is no home folder: results are kept in {}, which this machine may empty; "
    "set XDG_DATA_HOME to a folder that lasts."
)


def warnings() -> list[str]:
    """Say what will not work, although the page opens."""
    runs = runs_folder()
    if can_write(runs):
        temporary = runs.is_relative_to(_gettempdir()) and home() is None
        return [NO_HOME.format(runs)] if temporary else []
    return [
        f"Results cannot be kept in {runs} ({_why(runs)}): the page opens, but Train "
        "needs a folder that can be written; set XDG_DATA_HOME to one."
    ]


def _why(folder: str | Path) -> str:
    """Why nothing can be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return os.strerror(error.errno or errno.EIO)
    return "it can be written now"


def expect_versions() -> None:
    """Refuse packages that this version is not made for.

    Raises:
        WorkbenchError: With the first that is missing or does not fit.
    """
    from packaging.requirements import Requirement

    try:
        wanted = requires("hessian-workbench") or []
    except PackageNotFoundError:  # run from a checkout
        return
    for line in wanted:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(need.name)
        except PackageNotFoundError:
            there = "none"
        if there == "none" or not need.specifier.contains(there, prereleases=True):
            raise WorkbenchError(
                f"app: {need.name} {there} is installed and {need.specifier} is "
                "needed; `pip install --upgrade hessian-workbench` mends it."
            )


def why_no_kernel(folder: Path) -> str:
    """Start a kernel as those of the pages are, and say what is wrong with it.

    Empty where it starts and can import the page. For when a page has failed: a start
    that goes well does not wait for it.
    """
    from jupyter_client.manager import KernelManager

    said = folder / "trial.txt"
    manager: Any = KernelManager(
        kernel_spec_manager=OwnKernel(),
        transport=transport(folder),
        connection_file=str(folder / f"kernel-{'0' * 36}.json"),
    )
    try:
        with said.open("wb") as file:
            manager.start_kernel(stdout=file, stderr=file, cwd=str(folder))
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=STARTS)
            answer = client.execute(IMPORTS, reply=True, timeout=STARTS)["content"]
        finally:
            client.stop_channels()
    except Exception as error:
        lines = said.read_text(errors="replace").strip().splitlines()
        return _dead(lines[-1] if lines else str(error))
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    ok = answer["status"] == "ok"
    return "" if ok else _dead(f"{answer['ename']}: {answer['evalue']}")


def _dead(reason: str) -> str:
    return (
        f"no kernel of {sys.executable} can draw the page ({reason[:120]}); "
        "install hessian-workbench again, in an environment of its own."
    )


class HeldBack:
    """What is written to stderr, by kernels too, is shown only after a good start.

    A start that fails says one sentence instead.
    """

    def __init__(self) -> None:
        self._real = os.dup(2)
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._held: list[bytes] | None = []
        self._lock = threading.Lock()
        threading.Thread(target=self._pass_on, args=(read,), daemon=True).start()

    def hush(self) -> None:
        """Hold back what comes from now on, such as of kernels that are ended."""
        with self._lock:
            self._held = []

    def show(self) -> None:
        """Show what was written, and from now on all."""
        with self._lock:
            held, self._held = self._held or [], None
            os.write(self._real, b"".join(held))

    def end(self) -> None:
        """Write to stderr itself again."""
        os.dup2(self._real, 2)

    def _pass_on(self, read: int) -> None:
        while part := os.read(read, 2**16):
            with self._lock:
                if self._held is None:
                    os.write(self._real, part)
                else:
                    self._held = [*self._held[-50:], part]
