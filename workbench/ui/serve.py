"""Starts the page on this machine: Voila or JupyterLab, and a browser when it answers.

Both run in this process and listen on 127.0.0.1 only. Nothing here goes to the network.
"""

from __future__ import annotations

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
from http.cookiejar import CookieJar
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPCookieProcessor,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from workbench.errors import WorkbenchError
from workbench.worker import SERVER

HOST = "127.0.0.1"
PORT = 8866
_HERE = Path(__file__).parent
# As in binder/jupyter_server_config.json, where the server is Jupyter's.
TORNADO = {
    "compress_response": True,
    "websocket_compression_options": {},  # the pictures go by websocket
    "websocket_max_message_size": 80 * 2**20,
}
# voila.json, labconfig/, and below nbconvert/ the template of the page
_JUPYTER = _HERE / "jupyter"


def find_notebook() -> Path:
    """Return the notebook of the app: the checkout's, else the one in the package."""
    package = _HERE.parent
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if (notebook := folder / "workbench.ipynb").is_file():
            return notebook
    raise WorkbenchError(
        f"app: there is no workbench.ipynb in {package.parent / 'notebooks'} nor in "
        f"{package / 'notebooks'}; install hessian-workbench again."
    )


def choose_port(port: int | None) -> int:
    """Return the port asked for, or 8866, or where that is taken another free one.

    Raises:
        WorkbenchError: If a port was asked for and something else listens on it.
    """
    if port is not None and not 1 <= port <= 65535:
        raise WorkbenchError(f"app: port {port}; choose one from 1 to 65535.")
    for candidate in (port or PORT, 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, candidate))
            except OSError as error:
                if port is not None:
                    raise WorkbenchError(
                        f"app: port {port} is not to be had ({error.strerror}); choose "
                        "another, or leave --port out to take any free one."
                    ) from error
                continue
            free: int = trial.getsockname()[1]
            return free
    raise WorkbenchError("app: no port is free on 127.0.0.1; close other programs.")


def serve(*, port: int | None = None, browser: bool = True, lab: bool = False) -> None:
    """Run the app until Ctrl-C.

    Args:
        port: Where to listen; by default 8866, or any free port if that is taken.
        browser: Whether to open a browser, on a machine that has one.
        lab: Open the notebook in JupyterLab instead of the page in Voila.

    Raises:
        WorkbenchError: If the port is taken, or JupyterLab is wanted and not installed.
    """
    notebook = find_notebook()
    free = choose_port(port)
    os.environ["JUPYTER_PATH"] = _first(_JUPYTER, os.environ.get("JUPYTER_PATH"))
    start = _start_lab if lab else _start_voila
    start(notebook, free, browser)


def _first(folder: Path, others: str | None) -> str:
    return os.pathsep.join([str(folder), *([others] if others else [])])


def _start_voila(notebook: Path, port: int, browser: bool) -> None:
    from voila.app import Voila as Server

    class Voila(Server):
        """Voila that compresses what it sends, and takes files of some size."""

        def init_settings(self) -> dict[str, Any]:
            return {**super().init_settings(), **TORNADO}

    # The processes that do jobs outlive their kernels, but not this server.
    os.environ[SERVER] = str(os.getpid())
    url = f"http://{HOST}:{port}/"
    arguments = [
        str(notebook),
        f"--Voila.ip={HOST}",
        f"--Voila.port={port}",
        "--Voila.port_retries=0",
        f"--Voila.config_file_paths={_JUPYTER}",
        "--Voila.log_level=ERROR",
        # The next page's kernel is started, and its page drawn, ahead of need. A page
        # that wants its query string asks voila.utils.get_query_string(): it waits.
        "--VoilaConfiguration.preheat_kernel=True",
        "--no-browser",
    ]
    if os.name == "posix":
        # No port on which another user of this machine could listen in.
        arguments.append("--KernelManager.transport=ipc")
    # Jupyter counts the pause between two pings in milliseconds; tornado takes them for
    # seconds, and warns of it with every page.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    print("Starting the workbench...", flush=True)
    _in_background(_announce, url, browser)
    Voila.launch_instance(arguments)
    print("The workbench has ended.", flush=True)


def _start_lab(notebook: Path, port: int, browser: bool) -> None:
    if find_spec("jupyterlab") is None:
        raise WorkbenchError(
            "app: JupyterLab is not installed here; "
            "`pip install 'hessian-workbench[lab]'` adds it."
        )
    from jupyterlab.labapp import LabApp

    if notebook.parent.parent == _HERE.parent:  # inside the package: leave it as it is
        notebook = _copy_of(notebook)
    folder = notebook.parent.parent if notebook.parent.name == "notebooks" else Path()
    # There, labconfig/ answers for the user that JupyterLab is to fetch no news.
    os.environ["JUPYTER_CONFIG_PATH"] = _first(
        _JUPYTER, os.environ.get("JUPYTER_CONFIG_PATH")
    )
    token = secrets.token_hex(16)
    os.environ["JUPYTER_TOKEN"] = token
    path = notebook.resolve().relative_to(folder.resolve()).as_posix()
    url = f"http://{HOST}:{port}/lab/tree/{path}?token={token}"
    arguments = [
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder.resolve()}",
        "--ServerApp.open_browser=False",
        "--ServerApp.answer_yes=True",
        "--ServerApp.log_level=ERROR",
        # JupyterLab would ask the package index for news of itself.
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in most containers
        arguments.append("--allow-root")
    print("Starting JupyterLab...", flush=True)
    _in_background(_announce, url, browser)
    LabApp.launch_instance(arguments)


def _copy_of(notebook: Path) -> Path:
    """Copy the shipped notebook to the current folder, unless one is there."""
    copy = Path.cwd() / notebook.name
    if not copy.exists():
        shutil.copyfile(notebook, copy)
        print(f"Copied the notebook to {copy}", flush=True)
    return copy


def _in_background(target: object, *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]


def _announce(url: str, browser: bool) -> None:
    """Say where the page is once it really answers, and open a browser there."""
    began = time.monotonic()
    # Without a proxy: this machine reaches itself.
    session = build_opener(HTTPCookieProcessor(jar := CookieJar()), ProxyHandler({}))
    while time.monotonic() - began < 120:
        try:
            with session.open(url, timeout=120) as answer:
                page = answer.read().decode(errors="replace")
        except HTTPError as error:
            print(f"The page answers with an error: {error}.", file=sys.stderr)
            return
        except (URLError, OSError):
            time.sleep(0.1)
            continue
        _end_kernel(session, jar, url, page)
        print(f"The workbench is at {url}", "(Ctrl-C ends it)", flush=True)
        if browser and has_screen():
            webbrowser.open(url)
        return
    print("The page did not answer within two minutes.", file=sys.stderr, flush=True)


def _end_kernel(session: OpenerDirector, jar: CookieJar, url: str, page: str) -> None:
    """End the kernel that rendering a page for nobody has started."""
    if found := re.search(r'"kernelId": ?"([\w-]+)"', page):
        token = next((c.value for c in jar if c.name == "_xsrf"), "")
        request = Request(f"{url}api/kernels/{found[1]}", method="DELETE")
        request.add_header("X-XSRFToken", token or "")
        try:
            session.open(request, timeout=10).close()
        except OSError as error:
            print(f"Could not end the first kernel: {error}.", file=sys.stderr)


def has_screen() -> bool:
    """Return whether a browser can show itself here; without a screen none is tried."""
    if os.environ.get("BROWSER") or sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
