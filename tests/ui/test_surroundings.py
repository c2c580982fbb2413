"""The app where things are not as on a quiet laptop, each start in its own process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest
from filelock import FileLock
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.browser.conftest import kernels, serving
from tests.conftest import ROOT
from workbench.errors import WorkbenchError
from workbench.machine import scratch
from workbench.ui import surroundings

posix = pytest.mark.skipif(os.name != "posix", reason="sockets, and /proc")


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with a long TMPDIR, another python3, and nowhere to write."""
    folder = tmp_path_factory.mktemp("rough")
    temporary = folder / ("x" * 60)
    kernel = folder / "share" / "kernels" / "python3" / "kernel.json"
    for needed in (temporary, kernel.parent):
        needed.mkdir(parents=True)
    kernel.write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    nowhere = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), "/proc/none")
    nowhere |= {"JUPYTER_PATH": str(folder / "share"), "TMPDIR": str(temporary)}
    with serving(folder, ", token='secret'", **nowhere) as url:
        yield url, folder


@pytest.fixture
def session(rough: tuple[str, Path]) -> OpenerDirector:
    return build_opener(HTTPCookieProcessor(CookieJar()))


def status(session: OpenerDirector, url: str, method: str = "GET", **head: str) -> int:
    named = {name.replace("_", "-"): value for name, value in head.items()}
    try:
        with session.open(Request(url, headers=named, method=method)) as answer:
            answer.read()
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


async def closed(socket: WebSocketClientConnection) -> None:
    """Close it, and see it through: it would be left to a later test."""
    socket.close()
    while await socket.read_message() is not None:
        pass


@posix
def test_the_page_is_drawn_wherever_it_starts(
    rough: tuple[str, Path], session: OpenerDirector
) -> None:
    url, folder = rough  # it is announced only when it is drawn
    assert "token=secret" in url
    assert not [path for path in folder.rglob("*") if path.name == "~"]
    assert status(session, url.partition("?")[0]) == 403  # without the token
    assert status(session, url) == 200
    assert status(session, url.partition("?")[0]) == 200  # it is kept as a cookie


@posix
def test_nobody_without_the_token_nor_another_page_starts_a_kernel(
    rough: tuple[str, Path], session: OpenerDirector
) -> None:
    url = rough[0]
    place = url.partition("?")[0]
    assert status(session, url) == 200  # the next one is started now, ahead of need
    before = kernels()
    for bad in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"},
    ):
        assert status(session, url, **bad) == 403
    stranger = build_opener()
    for address in (place, f"{place}?token=guess", f"{place}?token="):
        assert status(stranger, address) == 403
    assert kernels() - before == set() or len(kernels() - before) == 1  # that next one


@posix
def test_a_kernel_takes_no_code_and_no_foreign_socket(
    rough: tuple[str, Path], session: OpenerDirector
) -> None:
    url = rough[0]
    with session.open(url) as answer:
        kernel = answer.read().decode().split('"kernelId": "')[1].split('"')[0]
        cookies = answer.headers.get_all("Set-Cookie")
    place = urlsplit(url)
    jar = "; ".join(cookie.partition(";")[0] for cookie in cookies)
    channels = f"ws://{place.netloc}/api/kernels/{kernel}/channels?session_id=x"
    api = f"http://{place.netloc}/api/kernels/{kernel}"
    assert status(session, api, "DELETE") == 403  # no token against other pages' forms

    async def reached(**headers: str) -> bool:
        try:
            socket = await websocket_connect(HTTPRequest(channels, headers=headers))
        except HTTPClientError:
            return False
        await closed(socket)
        return True

    async def answers(kind: str, content: dict[str, object]) -> set[str]:
        """The kinds of messages that come until the kernel answers a harmless one."""
        socket = await websocket_connect(HTTPRequest(channels, headers={"Cookie": jar}))
        for number, (what, said) in enumerate(
            ((kind, content), ("comm_info_request", {}))
        ):
            header = {
                "msg_id": f"{kind}{number}",
                "msg_type": what,
                "session": "x",
                "username": "",
                "version": "5.3",
                "date": "2026-01-01T00:00:00Z",
            }
            message = {"channel": "shell", "header": header, "content": said}
            await socket.write_message(
                json.dumps({**message, "parent_header": {}, "metadata": {}})
            )
        kinds: set[str] = set()
        while "comm_info_reply" not in kinds:
            told = json.loads(await socket.read_message() or "null")
            kinds.add(told["header"]["msg_type"])
        await closed(socket)
        return kinds

    async def all_of_it() -> None:
        assert await reached(Cookie=jar)
        assert not await reached()
        assert not await reached(Cookie=jar, Origin="https://evil.example")
        assert not await reached(Cookie=jar, Host="evil.example")
        code = {"code": "open('evil', 'w')", "silent": False}
        for kind in ("execute_request", "complete_request", "inspect_request"):
            assert not {f"{kind[:-7]}reply", "execute_input"} & await answers(
                kind, code
            )

    with ThreadPoolExecutor(1) as beside:  # Playwright leaves a loop in this thread
        beside.submit(lambda: asyncio.run(all_of_it())).result(60)
    assert status(session, api, "DELETE", Sec_Fetch_Site="same-origin") == 204


# Its parts


@posix
def test_a_folder_of_a_server_that_was_ended_by_force_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "_temporary", lambda: iter([tmp_path]))
    left, alive, foreign = (tmp_path / f"wb-{name}" for name in ("left", "alive", "no"))
    for folder in (left, alive, foreign):
        folder.mkdir()
    (left / scratch.LOCK).touch()
    with FileLock(alive / scratch.LOCK):
        made, lock = surroundings.make_folder()
        assert sorted(tmp_path.iterdir()) == sorted((alive, foreign, made))
        lock.release()


@posix
def test_sockets_are_used_where_their_paths_are_short_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = tmp_path / "a", tmp_path / "é"  # a letter, of two bytes
    for folder in (short, long):
        folder.mkdir()
    monkeypatch.setattr(surroundings, "LONGEST", len(str(short)))
    monkeypatch.setattr(surroundings, "_temporary", lambda: iter([long, short]))
    made, lock = surroundings.make_folder()
    assert (made.parent, surroundings.transport(made)) == (short, "ipc")
    lock.release()
    monkeypatch.setattr(surroundings, "_temporary", lambda: iter([long]))
    made, lock = surroundings.make_folder()
    assert (made.parent, surroundings.transport(made)) == (long, "tcp")
    lock.release()


def test_without_any_folder_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_temporary", lambda: iter([Path("/proc/none")]))
    with pytest.raises(WorkbenchError, match="set TMPDIR to a writable") as error:
        surroundings.make_folder()
    assert len(str(error.value)) <= 300


@posix
def test_started_in_a_folder_that_was_removed_it_is_one_sentence(
    tmp_path: Path,
) -> None:
    gone = tmp_path / "gone"
    code = (
        "import os, sys; from workbench.cli.main import main; os.rmdir(os.getcwd()); "
        "sys.exit(main(['app', '--no-browser']))"
    )
    gone.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=gone,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "Error: app: the folder that it is started in is gone"
    )
    assert done.stderr.count("\n") == 1


@posix
@pytest.mark.parametrize(
    ("python", "said"),
    [("/bin/false", "no kernel of /bin/false can draw"), (sys.executable, "")],
)
def test_a_kernel_that_does_not_start_is_said(
    python: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings.sys, "executable", python)
    assert said in (found := surroundings.why_no_kernel(tmp_path))
    assert bool(said) == bool(found)
    assert len(found) <= 300


def test_on_a_hub_the_way_through_its_proxy_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    assert surroundings.way_through_hub(8866, "/") == ""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/jh/user/ann/")
    said = surroundings.way_through_hub(8866, "/")
    assert "--port 8866 --base-url /jh/user/ann/proxy/8866/ --allow-host" in said
    assert surroundings.way_through_hub(8866, "/jh/user/ann/proxy/8866/") == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy>=1", ""),
        ("numpy<1", "numpy .* is installed but <1 is needed"),
        ("no-such-package>=2", "no-such-package none is installed"),
        ("no-such-package>=2; extra == 'dev'", ""),
        ("no-such-package>=2; python_version < '3'", ""),
    ],
)
def test_versions_that_do_not_fit_are_said(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "requires", lambda _: [line])
    if not said:
        surroundings.expect_versions()
        return
    with pytest.raises(WorkbenchError, match=said):
        surroundings.expect_versions()


def test_a_kernel_that_ends_leaves_no_stream_that_was_kept_for_its_page() -> None:
    from workbench.ui.standalone import Kernels

    closed: list[str] = []

    class Stream:
        def on_recv(self, _: object) -> None:
            closed.append("silent")

        def close(self) -> None:
            closed.append("closed")

    async def end() -> None:
        kernels = Kernels()
        kernels._kernels["k"] = None
        kernels._kernel_buffers["k"] = {"channels": {"shell": Stream()}}
        kernels.remove_kernel("k")
        assert "k" not in kernels._kernel_buffers

    with ThreadPoolExecutor(1) as beside:
        beside.submit(lambda: asyncio.run(end())).result(30)
    assert closed == ["silent", "closed"]
