"""The start of the page: its port, its URL when it answers, JupyterLab."""

from __future__ import annotations

import asyncio
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.errors import WorkbenchError
from workbench.ui import serve, standalone


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_avoided_unless_it_was_asked_for(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PORT", taken)
    for choose in (serve.choose_port, port_of_listening):
        free = choose(None)
        assert free not in (0, taken)
        assert choose(free) == free
        with pytest.raises(WorkbenchError, match=rf"port {taken} .* is not available"):
            choose(taken)


def port_of_listening(port: int | None) -> int:
    with serve.listen(port) as listening:
        number: int = listening.getsockname()[1]
        return number


def test_two_starts_at_once_take_two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "PORT", port_of_listening(None))
    with serve.listen(None) as one, serve.listen(None) as other:
        assert one.getsockname()[1] == serve.PORT
        assert other.getsockname()[1] != serve.PORT


def test_a_port_for_jupyterlab_is_kept_before_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "PORT", port_of_listening(None))
    mine = serve.choose_port(None)
    code = f"from workbench.ui import serve; serve.PORT = {mine}; "
    other = subprocess.run(
        [sys.executable, "-c", f"{code}print(serve.choose_port(None))"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert int(other.stdout) != mine


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(WorkbenchError, match="1 to 65535"):
        serve.listen(port)


def test_an_address_that_this_machine_has_not_is_one_sentence() -> None:
    with pytest.raises(WorkbenchError, match=r"192\.0\.2\.1 is not available"):
        serve.listen(None, "192.0.2.1")


@pytest.mark.parametrize(
    ("given", "path"),
    [("/", "/"), ("", "/"), ("proxy/88", "/proxy/88/"), ("/a/b-c@d", "/a/b-c@d/")],
)
def test_a_prefix_begins_and_ends_with_a_slash(given: str, path: str) -> None:
    assert serve._path(given) == path
    with pytest.raises(WorkbenchError, match="is not a path"):
        serve._path(f"{given}?x=<b>")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("hub.example", "hub.example"),
        (" https://hub.example:8000/hub/ ", "hub.example:8000"),
        ("[2001:db8::7]:80", "[2001:db8::7]:80"),
        ("2001:db8::7", "2001:db8::7"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("*", None),
        ("", None),
        ("a b", None),
        ("a@b", None),
    ],
)
def test_names_of_hosts_are_taken_as_they_are_pasted(
    given: str, name: str | None
) -> None:
    if name is not None:
        assert serve._name(given) == name
        return
    with pytest.raises(WorkbenchError, match="is not a host name"):
        serve._name(given)


@pytest.mark.skipif(os.name != "posix", reason="there is no root")
@pytest.mark.parametrize("user", [0, 1000])
def test_jupyterlab_starts_in_containers_and_asks_for_no_news(
    user: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labapp = pytest.importorskip("jupyterlab.labapp")
    from jupyter_server.services.config.manager import ConfigManager

    given: list[str] = []
    monkeypatch.setattr(labapp.LabApp, "launch_instance", given.extend)
    monkeypatch.setattr(serve, "_in_background", lambda *_: None)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_TOKEN", "WORKBENCH_STARTED_IN"):
        monkeypatch.setenv(name, "")  # so that what is set here is unset after
    serve._start_lab(serve.find_notebook(), serve.Address(None, token="t"), False)
    assert ("--allow-root" in given) == (user == 0)
    assert "--LabApp.news_url=None" in given
    defaults = ConfigManager(config_dir_name="labconfig").get(
        "default_setting_overrides"
    )
    news = defaults["@jupyterlab/apputils-extension:notification"]["fetchNews"]
    assert news == "false"


class SlowPage(http.server.BaseHTTPRequestHandler):
    """Answers a page."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("screen", "opened"), [(True, 1), (False, 0)])
def test_the_url_is_said_when_the_page_answers_and_not_before(
    screen: bool,
    opened: int,
    taken: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = serve.choose_port(None)
    url = f"http://127.0.0.1:{port}/"
    browsers: list[str] = []
    monkeypatch.setattr(serve, "has_screen", lambda: screen)
    monkeypatch.setattr(serve.webbrowser, "open", browsers.append)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{taken}")  # not to be asked
    announcing = threading.Thread(target=serve._announced, args=(url, True))
    announcing.start()
    announcing.join(0.5)  # nothing listens yet
    assert announcing.is_alive()
    assert capsys.readouterr().out == ""
    with http.server.HTTPServer(("127.0.0.1", port), SlowPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        announcing.join(10)
        server.shutdown()
    assert f"is at {url} " in capsys.readouterr().out
    assert browsers == [url] * opened


def test_a_page_that_fails_is_not_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SlowPage, "status", 500)
    with http.server.HTTPServer(("127.0.0.1", 0), SlowPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wrong = serve._announced(f"http://127.0.0.1:{server.server_port}/", True)
        server.shutdown()
    assert "responds with an error" in wrong
    assert capsys.readouterr().out == ""


async def heated(page: Awaitable[tuple[list[str], object]]) -> dict[str, object]:
    """A kernel that was started ahead of need, and the page that it draws."""
    return {"task": asyncio.ensure_future(page)}


async def whole(*pieces: str) -> tuple[list[str], object]:
    return [*pieces], None


async def dead() -> tuple[list[str], object]:
    raise RuntimeError("Kernel died before replying to kernel_info")


async def slow() -> tuple[list[str], object]:
    await asyncio.sleep(60)
    return [], None


@pytest.mark.parametrize(
    ("page", "asks", "said"),
    [
        (slow, True, ""),
        (partial(whole, "<p>", standalone.DRAWN), False, ""),
        (partial(whole, "<p>An error</p>"), False, "drawn with an error in it"),
        (dead, False, "cannot be drawn (Kernel died before replying"),
        (slow, False, "was not drawn within"),
    ],
)
def test_the_first_page_is_ready_when_it_asks_for_its_address_or_is_whole(
    page: Callable[[], Awaitable[tuple[list[str], object]]],
    asks: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standalone, "PATIENCE", 0.5)

    async def found() -> str:
        asked = asyncio.Event()
        drawing = asyncio.ensure_future(heated(page()))
        server = SimpleNamespace(
            app=SimpleNamespace(settings={"asked": asked}),
            kernel_manager=SimpleNamespace(_pools={"workbench.ipynb": [drawing]}),
        )
        if asks:
            asyncio.get_running_loop().call_later(0.1, asked.set)
        return await standalone.Server.first_page(server)  # type: ignore[arg-type]

    with ThreadPoolExecutor(1) as beside:  # Playwright leaves a loop in this thread
        wrong = beside.submit(lambda: asyncio.run(found())).result(30)
    assert said in wrong
    assert bool(said) == bool(wrong)


def test_without_a_screen_no_browser_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not serve.has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert serve.has_screen()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert serve.has_screen()
