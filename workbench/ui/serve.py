"""Starts the page in Voila or JupyterLab, and a browser once it responds.

Both run in this process and listen on 127.0.0.1 unless another address is given.
Nothing here accesses the network.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

from filelock import FileLock, Timeout

from workbench.errors import WorkbenchError
from workbench.jobs.worker import SERVER
from workbench.machine.paths import STARTED_IN
from workbench.machine.scratch import private_folder
from workbench.ui import surroundings
from workbench.ui.guard import ALL, LOOPBACK, make_guard

HOST = "127.0.0.1"
PORT = 8866
UPLOAD = "WORKBENCH_UPLOAD"  # largest upload in MB; see `opening`
_HERE = Path(__file__).parent
# voila.json, labconfig/, and below nbconvert/ the template of the page
_JUPYTER = _HERE / "jupyter"
_NAME = re.compile(r"([A-Za-z0-9._-]+|\[[A-Fa-f0-9:.]+\])(:[0-9]+)?|[A-Fa-f0-9:.]+")
_PATH = re.compile(r"(/[\w.~@%+-]+)*/")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is served, and to whom."""

    port: int | None
    host: str = HOST
    allow: tuple[str, ...] = ()  # further host names
    base_url: str = "/"
    token: str = ""

    def url(self, port: int, page: str = "") -> str:
        """Return the page's URL for a browser on this machine."""
        host = HOST if self.host in ALL else self.host
        name = f"[{host}]" if ":" in host else host
        token = f"?token={self.token}" if self.token else ""
        return f"http://{name}:{port}{self.base_url}{page}{token}"


def find_notebook() -> Path:
    """Return the app's notebook: the checkout's, else the one in the package."""
    package = _HERE.parent
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if (notebook := folder / "workbench.ipynb").is_file():
            return notebook
    raise WorkbenchError(
        f"app: there is no workbench.ipynb in {package.parent / 'notebooks'} nor in "
        f"{package / 'notebooks'}; install hessian-workbench again."
    )


def listen(port: int | None, host: str = HOST) -> socket.socket:
    """Listen on the given port; by default on 8866 or, if that is taken, a free one.

    Raises:
        WorkbenchError: If the given port is taken, or this machine does not have this
            address.
    """
    if port is not None and not 1 <= port <= 65535:
        raise WorkbenchError(f"app: --port is {port}; choose one from 1 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port or PORT), family=family)
    except OSError as error:
        if port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            made = socket.create_server((host, 0), family=family)
        else:
            raise WorkbenchError(
                f"app: port {port or PORT} of {host} is not available "
                f"({error.strerror}); choose another, or leave out --port to use any "
                "free one."
            ) from error
    made.setblocking(False)
    return made


def choose_port(port: int | None, host: str = HOST) -> int:
    """Return the port that `listen` would use, for a server that binds it itself.

    It is reserved for as long as this process lives, against other starts by this user.
    """
    with suppress(OSError, Timeout):
        _held.append(FileLock(private_folder("ports") / f"{port or PORT}", timeout=0))
        _held[-1].acquire()
        return _tried(port, host)
    return _tried(port if port is not None else 0, host)


_held: list[FileLock] = []


def _tried(port: int | None, host: str) -> int:
    with socket.create_server((host, 0)) if port == 0 else listen(port, host) as bound:
        number: int = bound.getsockname()[1]
        return number


def serve(
    *,
    port: int | None = None,
    browser: bool = True,
    lab: bool = False,
    host: str = HOST,
    allow: Sequence[str] = (),
    base_url: str = "/",
    token: str | None = None,
) -> None:
    """Run the app until Ctrl-C.

    Args:
        port: Port to listen on; by default 8866, or any free port if that is taken.
        browser: Whether to open a browser, if the machine has one.
        lab: Open the notebook in JupyterLab instead of the page in Voila.
        host: The address to listen on; "0.0.0.0" for all addresses of this machine.
        allow: Further host names by which it may be reached, such as a proxy's.
        base_url: The path under which a proxy forwards requests.
        token: The secret that opens the page; by default a new one, printed with the
            address. Empty for none, if a proxy controls access.

    Raises:
        WorkbenchError: If the port is taken, JupyterLab is requested but not installed,
            or no kernel of this environment can draw the page.
    """
    token = secrets.token_hex(16) if token is None else token
    at = Address(port, host, tuple(map(_name, allow)), _path(base_url), token)
    notebook = find_notebook()
    surroundings.expect_versions()
    surroundings.expect_folder()
    os.environ["JUPYTER_PATH"] = _first(_JUPYTER, os.environ.get("JUPYTER_PATH"))
    os.environ[UPLOAD] = "64"
    # jsonschema takes it, if it is there, to check addresses in any alphabet, which
    # nothing here does: two seconds of a start.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    for sentence in surroundings.warnings():
        print(f"Note: {sentence}", file=sys.stderr, flush=True)
    if lab:
        _start_lab(notebook, at, browser)
    else:
        _start_voila(notebook, at, browser)


def _path(base_url: str) -> str:
    """Normalise a prefix: ``/proxy/8866/``."""
    path = f"/{base_url.strip('/')}/" if base_url.strip("/") else "/"
    if not _PATH.fullmatch(path):
        raise WorkbenchError(
            f"app: --base-url {base_url[:80]!r} is not a path; give one such as "
            "/proxy/8866/."
        )
    return path


def _name(given: str) -> str:
    """Normalise a host name of the page: ``hub.example:8000``."""
    name = re.sub(r"^\w+://", "", given.strip()).partition("/")[0]
    with suppress(UnicodeError):
        name = name if name.isascii() else name.encode("idna").decode()
    if not _NAME.fullmatch(name):
        raise WorkbenchError(
            f"app: --allow-host {given[:80]!r} is not a host name; give one such as "
            "hub.example, as in the browser's address bar."
        )
    return name


def _first(folder: Path, others: str | None) -> str:
    return os.pathsep.join([str(folder), *([others] if others else [])])


def _start_voila(notebook: Path, at: Address, browser: bool) -> None:
    listening = listen(at.port, at.host)
    folder, lock = surroundings.make_folder()
    noise = surroundings.HeldBack()
    try:
        os.environ.update(surroundings.kernel_environment(folder))
        from workbench.ui.standalone import make_server

        # Worker processes outlive their kernels, but not this server.
        os.environ[SERVER] = str(os.getpid())
        url = at.url(number := listening.getsockname()[1])
        if sentence := surroundings.way_through_hub(number, at.base_url):
            print(f"Note: {sentence}", file=sys.stderr, flush=True)
        os.environ["VOILA_APP_IP"] = urlsplit(url).netloc.rpartition(":")[0]
        # Jupyter gives the ping interval in milliseconds; tornado reads it as seconds,
        # and warns about it with every page.
        for name in ("tornado.general", "tornado.access"):
            logging.getLogger(name).setLevel(logging.ERROR)
        print("Starting the workbench...", flush=True)
        server = make_server(
            notebook,
            _JUPYTER,
            listening,
            make_guard(at.host, at.allow),
            folder,
            base_url=at.base_url,
            token=at.token,
        )
        wrong: list[str] = []

        def ready(sentence: str) -> None:
            if sentence:
                wrong.append(sentence)
                server.ioloop.stop()
                return
            noise.show()
            _in_background(lambda: _announce(url, browser))

        try:
            server.start(ready)
        finally:
            noise.hush()
            server.stop()
        if wrong:
            wrong.insert(0, surroundings.why_no_kernel(folder))
            raise WorkbenchError("app: " + next(filter(None, wrong)))
        print("The workbench has ended.", flush=True)
    finally:
        noise.end()
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _start_lab(notebook: Path, at: Address, browser: bool) -> None:
    if find_spec("jupyterlab") is None:
        raise WorkbenchError(
            "app: JupyterLab is not installed here; "
            "`pip install 'hessian-workbench[lab]'` adds it."
        )
    from jupyterlab.labapp import LabApp

    free = choose_port(at.port, at.host)
    os.environ[STARTED_IN] = os.getcwd()
    if notebook.parent.parent == _HERE.parent:  # inside the package: do not modify it
        notebook = _copy_of(notebook)
    folder = notebook.parent.parent if notebook.parent.name == "notebooks" else Path()
    # There, labconfig/ answers for the user that JupyterLab must not fetch news.
    os.environ["JUPYTER_CONFIG_PATH"] = _first(
        _JUPYTER, os.environ.get("JUPYTER_CONFIG_PATH")
    )
    os.environ["JUPYTER_TOKEN"] = at.token
    path = notebook.resolve().relative_to(folder.resolve()).as_posix()
    url = at.url(free, f"lab/tree/{path}")
    arguments = [
        f"--ServerApp.ip={at.host}",
        f"--ServerApp.port={free}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.base_url={at.base_url}",
        f"--IdentityProvider.token={at.token}",
        f"--ServerApp.root_dir={folder.resolve()}",
        "--ServerApp.open_browser=False",
        "--ServerApp.answer_yes=True",
        "--ServerApp.log_level=ERROR",
        f"--ServerApp.tornado_settings={{'websocket_max_message_size': {80 * 2**20}}}",
        "--ServerApp.kernel_spec_manager_class=workbench.ui.surroundings.OwnKernel",
        # JupyterLab would check the package index for updates.
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]
    arguments += [f"--ServerApp.local_hostnames={n}" for n in ("localhost", *at.allow)]
    if at.host not in LOOPBACK:
        arguments.append("--ServerApp.allow_remote_access=True")
    if at.allow:
        names = "|".join(map(re.escape, at.allow))
        arguments.append(f"--ServerApp.allow_origin_pat=https?://({names})(:[0-9]+)?")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in most containers
        arguments.append("--allow-root")
    print("Starting JupyterLab...", flush=True)
    _in_background(lambda: _say(_announced(url, browser)))
    LabApp.launch_instance(arguments)


def _say(sentence: str) -> None:
    if sentence:
        print(f"Error: {sentence}", file=sys.stderr, flush=True)


def _copy_of(notebook: Path) -> Path:
    """Copy the shipped notebook to the current folder, unless one is there."""
    copy = Path.cwd() / notebook.name
    if not copy.exists():
        shutil.copyfile(notebook, copy)
        print(f"Copied the notebook to {copy}", flush=True)
    return copy


def _in_background(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True).start()


def _announced(url: str, browser: bool) -> str:
    """Say where the page is once it really answers.

    Returns:
        What is wrong with it; empty if it responds.
    """
    began = time.monotonic()
    # Without a proxy: this machine reaches itself.
    session = build_opener(HTTPCookieProcessor(CookieJar()), ProxyHandler({}))
    while time.monotonic() - began < 120:
        try:
            session.open(url, timeout=120).close()
        except HTTPError as error:
            return (
                f"the page responds with an error ({error}); see its log for details."
            )
        except (URLError, OSError):
            time.sleep(0.1)
            continue
        _announce(url, browser)
        return ""
    return "the page did not respond within two minutes."


def _announce(url: str, browser: bool) -> None:
    """Say where the page is, and open a browser there."""
    print(f"The workbench is at {url}", "(Ctrl-C ends it)", flush=True)
    if browser and has_screen():
        webbrowser.open(url)


def has_screen() -> bool:
    """Return whether this machine has a screen on which a browser can open."""
    if os.environ.get("BROWSER") or sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
