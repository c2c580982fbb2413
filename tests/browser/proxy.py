"""A proxy between the browser and the page's server, behaving as it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketHandler,
    websocket_connect,
)

GONE = ("content-length", "transfer-encoding", "content-encoding", "connection")


@contextmanager
def proxied(
    url: str,
    *,
    prefix: str = "/",
    strip: bool = True,
    keep_host: bool = True,
    sockets: str = "pass",
    answers: Mapping[str, int] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yield the URL of a proxy to the server at ``url``.

    Args:
        url: What is behind it.
        prefix: The path below which it is seen.
        strip: Whether the server sees paths without the prefix.
        keep_host: Whether it passes on the Host header.
        sockets: "pass" them on, "refuse" them, or "swallow" them without an answer.
        answers: Statuses with which it answers itself, for parts of paths; may change.
        headers: What it adds to every answer.
    """
    there = urlsplit(url).netloc
    answers = {} if answers is None else answers

    def place(path: str) -> str:
        return "/" + path.removeprefix(prefix) if strip else path

    def sent(handler: RequestHandler) -> dict[str, str]:
        passed = {
            name: value
            for name, value in handler.request.headers.get_all()
            if name.lower() not in ("connection", "upgrade")
            and not name.lower().startswith("sec-websocket")
        }
        if not keep_host:
            passed["Host"] = there
        return passed

    class Passing(RequestHandler):
        async def prepare(self) -> None:
            path = self.request.path
            status = next((s for part, s in answers.items() if part in path), 0)
            if status or not path.startswith(prefix):
                self.set_status(status or 404)
                self.finish("not here")
                return
            query = f"?{self.request.query}" if self.request.query else ""
            answer = await AsyncHTTPClient().fetch(
                HTTPRequest(
                    f"http://{there}{place(path)}{query}",
                    method=self.request.method or "GET",
                    headers=sent(self),
                    body=self.request.body or None,
                    follow_redirects=False,
                    allow_nonstandard_methods=True,
                    request_timeout=120,
                ),
                raise_error=False,
            )
            self.set_status(answer.code)
            for name, value in answer.headers.get_all():
                if name.lower() not in GONE:
                    self.add_header(name, value)
            for name, value in (headers or {}).items():
                self.set_header(name, value)
            self.finish(answer.body if answer.code not in (204, 304) else b"")

    class Socket(WebSocketHandler):
        def check_origin(self, origin: str) -> bool:
            return True

        async def get(self, *args: str) -> None:
            if sockets == "refuse":
                self.set_status(400)
                self.finish("no websockets")
            elif sockets == "swallow":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
            elif await self.reach():
                await super().get(*args)
            else:
                self.set_status(403)
                self.finish("refused there")

        def select_subprotocol(self, subprotocols: list[str]) -> str | None:
            return subprotocols[0] if subprotocols else None

        async def reach(self) -> bool:
            wanted = self.request.headers.get("Sec-Websocket-Protocol", "")
            query = f"?{self.request.query}" if self.request.query else ""
            try:
                self.other = await websocket_connect(
                    HTTPRequest(
                        f"ws://{there}{place(self.request.path)}{query}",
                        headers=sent(self),
                    ),
                    subprotocols=[p.strip() for p in wanted.split(",") if p],
                    max_message_size=80 * 2**20,
                )
            except HTTPError:
                return False
            return True

        def open(self, *args: str) -> None:
            self.pump = asyncio.ensure_future(self.back())

        async def back(self) -> None:
            while (message := await self.other.read_message()) is not None:
                with contextlib.suppress(WebSocketClosedError):
                    await self.write_message(message, isinstance(message, bytes))
            self.close()

        async def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
            with contextlib.suppress(WebSocketClosedError):
                await self.other.write_message(message, isinstance(message, bytes))

        def on_close(self) -> None:
            self.other.close()

    ready, ends = threading.Event(), []

    async def run() -> None:
        bound = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(
            Application(
                [(r".*/channels", Socket), (r".*", Passing)],
                websocket_max_message_size=80 * 2**20,
            )
        )
        server.add_sockets(bound)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        ends.extend(
            (bound[0].getsockname()[1], lambda: loop.call_soon_threadsafe(stop.set))
        )
        ready.set()
        await stop.wait()
        server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    port, stop = ends
    try:
        yield f"http://127.0.0.1:{port}{prefix}"
    finally:
        stop()
        thread.join(10)
