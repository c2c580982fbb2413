"""Real Voila, real Chromium: nothing leaves the host, and no error goes unseen."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route

from tests.browser.drive import Workbench

START = (
    "from workbench.ui.serve import serve; "
    "serve(**({{'token': ''}} | dict(port={port}, browser=False{more})))"
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextmanager
def serving(
    folder: Path, more: str = "", *, port: int = 0, **environment: str
) -> Iterator[str]:
    """Start the page's server in its own process; yield the URL that it says."""
    port = port or free_port()
    env = os.environ | {"XDG_DATA_HOME": str(folder / "data"), "BROWSER": ""}
    env |= {"JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    env |= {"JUPYTER_CONFIG_DIR": str(folder / "config")} | environment
    (folder / "config").mkdir(exist_ok=True)
    root = {"ServerApp": {"allow_root": True}}  # in a container one may be root
    config = folder / "config" / "jupyter_server_config.json"
    config.write_text(json.dumps(root))
    server = subprocess.Popen(
        [sys.executable, "-c", START.format(port=port, more=more)],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []

    def listen() -> None:
        assert server.stdout is not None
        said.extend(iter(server.stdout.readline, ""))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"is at (\S+)", "".join(said))):
            assert server.poll() is None, "".join(said)
            assert time.monotonic() < end, "".join(said)
            time.sleep(0.05)
        yield found[1]
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        listener.join(5)
        assert server.stdout is not None
        server.stdout.close()


def kernels() -> set[int]:
    """The kernels of all servers that this process has started."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "ipykernel_launcher" in process.cmdline():
                found.add(process.pid)
    return found


@pytest.fixture(scope="session")
def voila(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("voila")) as url:
        yield url


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages that are watched; what went wrong in one fails the test at its end."""
    wrong: list[str] = []
    contexts = []

    def opened(
        url: str, *, width: int = 1440, height: int = 1000, host: str = "", **more: Any
    ) -> Page:
        host = urlsplit(host or url).netloc
        size = {"width": width, "height": height}
        context = chromium.new_context(viewport=size, **more)
        contexts.append(context)

        def guard(route: Route) -> None:
            there = urlsplit(route.request.url)
            if there.netloc == host or there.scheme in ("data", "blob"):
                route.continue_()
            else:
                wrong.append(f"request off the host: {route.request.url}")
                route.abort()

        context.route("**/*", guard)
        page = context.new_page()
        page.on(
            "websocket",
            lambda ws: urlsplit(ws.url).netloc == host or wrong.append(ws.url),
        )
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on(
            "console",
            lambda said: (
                said.type != "error"
                or wrong.append(f"console error: {said.text} at {said.location}")
            ),
        )
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def workbench(open_page: Callable[..., Page], voila: str) -> Workbench:
    """The page in Voila, with the example drawn."""
    return Workbench(open_page(voila)).wait()
