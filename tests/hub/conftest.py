"""A real JupyterHub of two users, with Binder's start script and configuration."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.conftest import ROOT
from tests.hub.tools import proxy_command, what_is_missing

PAGE = "voila/render/notebooks/workbench.ipynb"
SECRET = "let-me-in"
SOON = 10_000  # milliseconds in which a trouble is to be said

CONFIG = """
c = get_config()
c.JupyterHub.bind_url = {url!r}
c.JupyterHub.hub_port = {hub}
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.log_level = "WARN"
c.JupyterHub.services = [dict(name="test", api_token={token!r})]
c.JupyterHub.load_roles = [dict(name="test", services=["test"], scopes=[
    "admin:servers", "access:servers", "read:users"])]
c.ConfigurableHTTPProxy.command = {proxy!r}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.Authenticator.allow_all = True
c.DummyAuthenticator.password = {secret!r}
c.SimpleLocalProcessSpawner.home_dir_template = {home!r}
c.Spawner.cmd = {command!r}
c.Spawner.args = {arguments!r}
c.Spawner.notebook_dir = {home!r}
c.Spawner.http_timeout = 60
c.Spawner.environment = {environment!r}
"""


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    trials = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [trial.getsockname()[1] for trial in trials]
    for trial in trials:
        trial.close()
    return ports


@dataclass
class Hub:
    """A hub that runs."""

    browser: Browser
    url: str  # ends with a slash
    homes: Path
    token: str  # of a service that may end servers and kernels
    contexts: list[BrowserContext] = field(default_factory=list)

    def log_in(self, user: str) -> BrowserContext:
        """Return a browser of this user."""
        context = self.browser.new_context()
        self.contexts.append(context)
        page = context.new_page()
        page.goto(f"{self.url}hub/login?next=%2Fjh%2Fhub%2Fhome")
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(SECRET)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/hub/home")
        page.close()
        return context

    def delete(self, path: str) -> None:
        """Ask the hub or a user's server to end something, as an administrator may."""
        request = Request(self.url + path, method="DELETE")
        request.add_header("Authorization", f"token {self.token}")
        urlopen(request, timeout=30).close()


@pytest.fixture(scope="session")
def hub(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if lacking := what_is_missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    folder = tmp_path_factory.mktemp("hub")
    etc = folder / "etc"
    etc.mkdir()
    shutil.copy(ROOT / "workbench" / "ui" / "jupyter" / "voila.json", etc)
    shutil.copy(ROOT / "binder" / "jupyter_server_config.json", etc)
    default = json.loads((etc / "jupyter_server_config.json").read_text())
    port, inner, api = free_ports(3)
    url = f"http://127.0.0.1:{port}/jh/"
    hub = Hub(chromium, url, folder / "homes", secrets.token_hex(16))
    hub.homes.mkdir()
    config = CONFIG.format(
        url=hub.url,
        hub=inner,
        api=api,
        token=hub.token,
        secret=SECRET,
        proxy=proxy_command(),
        home=str(hub.homes / "{username}"),
        command=[
            str(ROOT / "binder" / "start"),
            *(sys.executable, "-m", "jupyterhub.singleuser"),
        ],
        arguments=[
            "--allow-root",
            f"--ServerApp.default_url={default['ServerApp']['default_url']}",
        ],
        environment={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "JUPYTER_CONFIG_PATH": str(etc),
            "JUPYTER_PATH": str(ROOT / "workbench" / "ui" / "jupyter"),
        },
    )
    (folder / "jupyterhub_config.py").write_text(config)
    log = (folder / "log.txt").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
        cwd=folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32)},
    )
    try:
        for _ in range(600):
            try:
                urlopen(f"{hub.url}hub/health").close()
                break
            except URLError:
                assert server.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.1)
        yield hub
    finally:
        for context in hub.contexts:
            context.close()
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture(scope="session")
def ann(hub: Hub) -> BrowserContext:
    """A browser of ann, whose server runs."""
    context = hub.log_in("ann")
    page = context.new_page()
    me = "%2Fjh%2Fuser%2Fann%2Fapi%2Fme"
    page.goto(f"{hub.url}hub/spawn/ann?next={me}")
    page.wait_for_url("**/user/ann/**", timeout=60_000)
    page.close()
    return context
