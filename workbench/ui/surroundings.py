"""Checks everything that the page needs before it is announced.

A kernel of this environment that starts and responds, writable folders, matching
versions: if one is missing, the user gets a sentence instead of a dead page.
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

PREFIX = "wb-"  # of a server's folder
# A socket's path has at most 107 bytes, on macOS 103. The folder's is followed by
# "/wb-12345678", "/kernel-", the 36 characters of a UUID, and "-ipc-5".
LONGEST = (103 if sys.platform == "darwin" else 107) - 64
STARTS = 60.0  # seconds a kernel may take to respond
IMPORTS = "import workbench.ui.app"
JUPYTER = ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
QUIET = ["--HistoryManager.enabled=False", "--InteractiveShell.cache_size=0"]


class OwnKernel(KernelSpecManager):
    """Offers only this Python as a kernel, whatever else is installed."""

    def _kernel_dirs_default(self) -> list[str]:
        return []

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernel of this environment, whatever the name."""
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
    """Make the folder of a server, for its sockets and its kernels' files.

    Its path is short enough for sockets, if possible. Folders left by killed servers
    are removed. A folder counts as in use while its lock is held; the system frees the
    lock when the process ends.

    Raises:
        WorkbenchError: If there is no writable folder.
    """
    found = [folder for folder in _temporary() if can_write(folder)]
    if not found:
        raise WorkbenchError(
            f"app: no temporary folder is writable ({_why(_gettempdir())}); free some "
            "space, or set TMPDIR to a writable folder."
        )
    for folder in found:
        sweep(folder, PREFIX)
    short = [folder for folder in found if _length(folder) <= LONGEST]
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=(short or found)[0]))
    lock = FileLock(made / LOCK)
    lock.acquire(timeout=0)
    return made, lock


def transport(folder: Path) -> str:
    """Return how to reach kernels of this folder: by sockets in it, if possible.

    Unlike a port, these cannot be accessed by other users of the machine.
    """
    fits = _length(folder) <= LONGEST + len(f"/{PREFIX}12345678")
    return "ipc" if os.name == "posix" and fits else "tcp"


def _length(path: Path) -> int:
    return len(os.fsencode(path))


def _temporary() -> Iterator[Path]:
    names = (os.environ.get("TMPDIR"), os.environ.get("XDG_RUNTIME_DIR"), "/tmp")
    for name in (*names, "/var/tmp", "/dev/shm"):
        if name and Path(name).is_dir():
            yield Path(name)
    yield Path(_gettempdir())


def _gettempdir() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none is writable
        return os.curdir


def kernel_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables to add for kernels.

    Files of Jupyter and IPython go into the server's folder, so that the user's own
    neither affect the page nor have to be writable. Without an existing home folder,
    everything else goes there too, not into a folder named ``~``.
    """
    told = {"IPYTHONDIR": str(folder / "ipython"), STARTED_IN: os.getcwd()}
    told |= {name: str(folder / "jupyter") for name in JUPYTER}
    if home() is None:
        told["HOME"] = str(private_folder("home"))
    return told


NO_HOME = (
    "There is no home folder: results are kept in {}, which the system may empty; set "
    "XDG_DATA_HOME to a permanent folder."
)


def warnings() -> list[str]:
    """List what will not work although the page opens."""
    runs = runs_folder()
    if can_write(runs):
        temporary = runs.is_relative_to(_gettempdir()) and home() is None
        return [NO_HOME.format(runs)] if temporary else []
    return [
        f"Results cannot be saved in {runs} ({_why(runs)}): the page opens, but Train "
        "needs a writable folder; set XDG_DATA_HOME to one."
    ]


def way_through_hub(port: int, base_url: str) -> str:
    """Say how a page that is started on a JupyterHub is reached; empty elsewhere."""
    own = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    if not own.startswith("/") or base_url != "/":
        return ""
    path = f"{own.rstrip('/')}/proxy/{port}/"
    return (
        f"On this hub a browser reaches the page at {path}, if jupyter-server-proxy is "
        f"installed: start it by workbench app --port {port} --base-url {path} "
        "--allow-host with the hub's name."
    )


def _why(folder: str | Path) -> str:
    """Say why the folder is not writable."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return os.strerror(error.errno or errno.EIO)
    return "it is writable now"


def expect_versions() -> None:
    """Refuse packages that do not fit this version.

    Raises:
        WorkbenchError: For the first that is missing or does not fit.
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
                f"app: {need.name} {there} is installed but {need.specifier} is "
                "needed; run `pip install --upgrade hessian-workbench`."
            )


def expect_folder() -> None:
    """Refuse to start where there is nothing.

    Raises:
        WorkbenchError: If the current folder was removed, or cannot be read.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise WorkbenchError(
            f"app: the folder that it is started in is gone ({error.strerror}); "
            "change to another one."
        ) from error


def why_no_kernel(folder: Path) -> str:
    """Start a kernel as the pages do, and say what is wrong with it.

    Empty if it starts and can import the page. Only used after a page has failed, so
    that a normal start does not wait for it.
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
        f"no kernel of {sys.executable} can draw the page ({reason[:120]}); reinstall "
        "hessian-workbench, in its own environment."
    )


class HeldBack:
    """Holds back stderr, including that of kernels, until the start has succeeded.

    A start that fails prints one sentence instead.
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
        """Hold back further output, such as that of kernels being ended."""
        with self._lock:
            self._held = []

    def show(self) -> None:
        """Show what was held back, and everything from now on."""
        with self._lock:
            held, self._held = self._held or [], None
            os.write(self._real, b"".join(held))

    def end(self) -> None:
        """Restore stderr."""
        os.dup2(self._real, 2)

    def _pass_on(self, read: int) -> None:
        while part := os.read(read, 2**16):
            with self._lock:
                if self._held is None:
                    os.write(self._real, part)
                else:
                    self._held = [*self._held[-50:], part]
