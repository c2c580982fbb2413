"""Voila as this page is served by it: one notebook, a guard, a token."""

from __future__ import annotations

import contextlib
import gc
import re
from pathlib import Path
from socket import socket
from typing import Any

from jupyter_core.utils import run_sync
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application, HTTPError, RequestHandler
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.tornado.handler import TornadoVoilaHandler

from workbench.machine.malloc import give_back_memory
from workbench.ui.guard import Gate, Guard
from workbench.ui.surroundings import OwnKernel, transport

# As in binder/jupyter_server_config.json, where the server is Jupyter's.
TORNADO: dict[str, Any] = {
    "compress_response": True,
    "websocket_compression_options": {},  # the pictures go by websocket
    "websocket_max_message_size": 80 * 2**20,
    "disable_check_xsrf": False,
}


class PageHandler(TornadoVoilaHandler):
    """The page; without the token it says how to get in."""

    async def prepare(self) -> None:
        """Look who asks, and give the page the cookie that it shows with requests."""
        await super().prepare(_redirect_to_login=False)
        if any(self.path_args):
            raise HTTPError(404)
        _ = self.xsrf_token  # reading it sets the cookie

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say how to get in, or where the page is."""
        if status_code == 403:
            page = self._ask_for_token()
        elif status_code == 404:
            path = f"/{self.request.path.removeprefix(self.base_url)}"
            page = self.render_template("elsewhere.html", path=path, page=self.base_url)
        else:
            super().write_error(status_code, **kwargs)
            return
        self.set_header("Content-Type", "text/html")
        self.finish(page)

    def _ask_for_token(self) -> str:
        """Ask for it, and keep what the link asks for beside it."""
        asked = [
            (name, self.get_query_argument(name))
            for name in self.request.query_arguments
            if name != "token"
        ]
        return str(self.render_template("403.html", asked=asked))


class FromThePage:
    """Takes a browser's word that a request comes from our own page, else the token.

    No page can write ``Sec-Fetch-Site`` itself.
    """

    request: Any

    def check_xsrf_cookie(self) -> None:
        """Refuse what another page may have had sent."""
        if self.request.headers.get("Sec-Fetch-Site") != "same-origin":
            super().check_xsrf_cookie()  # type: ignore[misc]


class OneKernelHandler(FromThePage, KernelHandler):
    """A kernel of a page."""


class ShutdownHandler(FromThePage, VoilaShutdownKernelHandler):
    """Ends the kernel of a page that is closed."""


OURS = {
    TornadoVoilaHandler: PageHandler,
    KernelHandler: OneKernelHandler,
    VoilaShutdownKernelHandler: ShutdownHandler,
}


class Kernels(AsyncMappingKernelManager):
    """The kernels of all pages; nothing is kept of one that has ended.

    A page that closes ends its kernel, and its socket closes meanwhile: Jupyter then
    keeps what the kernel still says for a page that comes back, and its four streams,
    for good.
    """

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel, and close what was kept for it."""
        kept = self._kernel_buffers.pop(kernel_id, {})
        for stream in kept.get("channels", {}).values():
            stream.on_recv(None)
            stream.close()
        IOLoop.current().call_later(1.0, self._tidy)
        return super().remove_kernel(kernel_id)

    def _tidy(self) -> None:
        """Let go of what a page has left: megabytes in few objects, in circles."""
        gc.collect()
        give_back_memory()


class SeenHandler(RequestHandler):
    """Tells a page by which name it is seen here, and nothing else.

    A page that cannot open its socket compares that with its own address.
    """

    def get(self) -> None:
        """Answer."""
        self.set_header("Cache-Control", "no-store")
        self.write({"host": self.request.host})


class Server(Voila):
    """Voila that answers whom it should, on a socket that it is given."""

    listening: socket
    guard: Guard
    folder: Path

    def init_settings(self) -> dict[str, Any]:
        """Add what Voila leaves to configuration."""
        settings = super().init_settings()
        self.identity_provider.cookie_options = {"samesite": "Lax"}
        # A name of our own: behind a Jupyter server's proxy, that server's cookie has
        # the name that ours would have, and each would end the other's session.
        self.identity_provider.cookie_name = re.sub(
            r"\W", "-", f"workbench-{self.port}{self.base_url}"
        )
        return {
            **settings,
            **TORNADO,
            "xsrf_cookie_kwargs": {"samesite": "Lax", "path": self.base_url},
        }

    def init_handlers(self) -> list[Any]:
        """Put our own handlers in the place of Voila's, and no form to log in by."""
        found = [
            h for h in super().init_handlers() if h[0] not in ("/login", "/logout")
        ]
        ours = [(path, OURS.get(kind, kind), *more) for path, kind, *more in found]
        return [(f"{self.base_url}workbench/seen", SeenHandler), *ours]

    def start(self) -> None:
        """Serve until it is to stop."""
        self.connection_dir = str(self.folder)
        self.app = Application(**self.init_settings())
        self.app.settings.update(self.tornado_settings)
        self.app.add_handlers(".*$", self.init_handlers())
        self.listen()

    def listen(self) -> None:
        """Answer on the socket that is bound already."""
        server = HTTPServer(Gate(self.app, self.guard, self.base_url))
        server.add_socket(self.listening)
        self.ioloop = IOLoop.current()
        with contextlib.suppress(KeyboardInterrupt):
            self.ioloop.start()

    def stop(self) -> None:
        """End the kernels; the folder is removed by who has made it."""
        with contextlib.suppress(HTTPError):  # of one that was only being started
            run_sync(self.kernel_manager.shutdown_all)()


def make_server(
    notebook: Path,
    config: Path,
    listening: socket,
    guard: Guard,
    folder: Path,
    *,
    base_url: str,
    token: str,
) -> Server:
    """Return the server, ready to start.

    Args:
        notebook: What it shows.
        config: The folder of ``voila.json``; no other is read.
        listening: Where it listens.
        guard: Whom it answers.
        folder: Where its kernels have their sockets; removed at its end.
        base_url: The path below which it is reached.
        token: What one must know to get in; empty: nothing.
    """
    Server.listening, Server.guard, Server.folder = listening, guard, folder
    server = Server.instance()
    arguments = [
        str(notebook),
        f"--Voila.port={listening.getsockname()[1]}",
        f"--Voila.base_url={base_url}",
        f"--Voila.config_file_paths={config}",
        "--Voila.log_level=ERROR",
        # The next page's kernel is started, and its page drawn, ahead of need. A page
        # that wants its query string asks voila.utils.get_query_string(): it waits.
        "--VoilaConfiguration.preheat_kernel=True",
        f"--KernelManager.transport={transport(folder)}",
        "--no-browser",
    ]
    server.token = token
    server.initialize(arguments)
    server.voila_configuration.kernel_spec_manager_class = OwnKernel
    server.voila_configuration.multi_kernel_manager_class = Kernels
    return server
