"""Voila, set up to serve this page: one notebook, a guard, a token."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import signal
from collections.abc import Callable
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
from voila.request_info_handler import RequestInfoSocketHandler
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.tornado.handler import TornadoVoilaHandler

from workbench.machine.malloc import give_back_memory
from workbench.ui.guard import Gate, Guard
from workbench.ui.surroundings import OwnKernel, transport

# As in binder/jupyter_server_config.json, for Jupyter's own server.
TORNADO: dict[str, Any] = {
    "compress_response": True,
    "websocket_compression_options": {},  # pictures use the websocket
    "websocket_max_message_size": 80 * 2**20,
    "disable_check_xsrf": False,
}


ENDS = (signal.SIGINT, signal.SIGTERM)


class PageHandler(TornadoVoilaHandler):
    """The page; without the token, it says how to get in."""

    async def prepare(self) -> None:
        """Check the request, and give the page the cookie it sends with later ones."""
        await super().prepare(_redirect_to_login=False)
        if any(self.path_args):
            raise HTTPError(404)
        _ = self.xsrf_token  # reading it sets the cookie

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say how to get in, or where to find the page."""
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
        """Ask for the token, and keep the rest of the link."""
        asked = [
            (name, self.get_query_argument(name))
            for name in self.request.query_arguments
            if name != "token"
        ]
        return str(self.render_template("403.html", asked=asked))


class FromThePage:
    """Accepts a browser's statement that a request is from our page, else the token.

    No page can write ``Sec-Fetch-Site`` itself.
    """

    request: Any

    def check_xsrf_cookie(self) -> None:
        """Refuse requests that another page may have caused."""
        if self.request.headers.get("Sec-Fetch-Site") != "same-origin":
            super().check_xsrf_cookie()  # type: ignore[misc]


class OneKernelHandler(FromThePage, KernelHandler):
    """A kernel of a page."""


class ShutdownHandler(FromThePage, VoilaShutdownKernelHandler):
    """Ends the kernel of a page that is closed."""


class AddressHandler(RequestInfoSocketHandler):
    """Tells a page that is drawn ahead of need by which address it is opened."""

    def open(self, kernel_id: str) -> None:
        """Note that a page asks: all of it is drawn by then."""
        self.settings["asked"].set()
        super().open(kernel_id)


OURS = {
    RequestInfoSocketHandler: AddressHandler,
    TornadoVoilaHandler: PageHandler,
    KernelHandler: OneKernelHandler,
    VoilaShutdownKernelHandler: ShutdownHandler,
}


class Kernels(AsyncMappingKernelManager):
    """The kernels of all pages; forgets a kernel completely when it ends.

    A page that closes ends its kernel while its socket closes. Jupyter would then keep
    the kernel's remaining messages, for a page that might come back, and its four
    streams forever.
    """

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel and close what was kept for it."""
        kept = self._kernel_buffers.pop(kernel_id, {})
        for stream in kept.get("channels", {}).values():
            stream.on_recv(None)
            stream.close()
        RequestInfoSocketHandler._cache.pop(kernel_id, None)
        IOLoop.current().call_later(1.0, self._tidy)
        return super().remove_kernel(kernel_id)

    def _tidy(self) -> None:
        """Free what a closed page leaves: megabytes in a few objects, in cycles."""
        gc.collect()
        give_back_memory()


class SeenHandler(RequestHandler):
    """Tells a page under which host name the server sees it, and nothing else.

    A page that cannot open its socket compares it with its own address.
    """

    def get(self) -> None:
        """Answer."""
        self.set_header("Cache-Control", "no-store")
        self.write({"host": self.request.host})


DRAWN = "application/vnd.jupyter.widget-view+json"  # in a page with its widgets
PATIENCE = 120.0  # seconds for the first page


class Server(Voila):
    """Voila behind a guard, on a given socket."""

    listening: socket
    guard: Guard
    folder: Path

    def init_settings(self) -> dict[str, Any]:
        """Add settings that Voila leaves to configuration."""
        settings = super().init_settings()
        self.identity_provider.cookie_options = {"samesite": "Lax"}
        # Our own name: behind a Jupyter server's proxy, both cookies would otherwise
        # have the same name, and each would end the other's session.
        self.identity_provider.cookie_name = re.sub(
            r"\W", "-", f"workbench-{self.port}{self.base_url}"
        )
        return {
            **settings,
            **TORNADO,
            "asked": asyncio.Event(),
            "xsrf_cookie_kwargs": {"samesite": "Lax", "path": self.base_url},
        }

    def init_handlers(self) -> list[Any]:
        """Replace Voila's handlers by our own, and drop its login form."""
        found = [
            h for h in super().init_handlers() if h[0] not in ("/login", "/logout")
        ]
        ours = [(path, OURS.get(kind, kind), *more) for path, kind, *more in found]
        return [(f"{self.base_url}workbench/seen", SeenHandler), *ours]

    def start(self, ready: Callable[[str], None]) -> None:
        """Serve until stopped.

        Args:
            ready: Told, once, what is wrong with the first page; "" when it is drawn.
        """
        self.connection_dir = str(self.folder)
        self.app = Application(**self.init_settings())
        self.app.settings.update(self.tornado_settings)
        self.app.add_handlers(".*$", self.init_handlers())
        server = HTTPServer(Gate(self.app, self.guard, self.base_url))
        server.add_socket(self.listening)
        self.ioloop = IOLoop.current()

        async def tell() -> None:
            ready(await self.first_page())

        self.ioloop.add_callback(tell)
        loop = self.ioloop.asyncio_loop  # type: ignore[attr-defined]
        # An exception, as Python makes of Ctrl-C, is lost if it comes at a bad moment.
        with contextlib.suppress(NotImplementedError):  # Windows
            for number in ENDS:
                loop.add_signal_handler(number, self.ioloop.stop)
        with contextlib.suppress(KeyboardInterrupt):
            self.ioloop.start()
        with contextlib.suppress(NotImplementedError):  # another ends the end too
            for number in ENDS:
                loop.remove_signal_handler(number)

    async def first_page(self) -> str:
        """Wait for the page that is drawn ahead of need, and say what is wrong with it.

        Drawn, it asks this server for its address: so it is neither drawn for nobody,
        nor begun again for the first person.
        """
        asked = asyncio.ensure_future(self.app.settings["asked"].wait())
        ((drawing, *_),) = self.kernel_manager._pools.values()
        try:
            page = (await drawing)["task"]
            await asyncio.wait(
                (asked, page), timeout=PATIENCE, return_when="FIRST_COMPLETED"
            )
            if asked.done():
                return ""
            if not page.done():
                return "the page was not drawn within two minutes."
            whole = DRAWN in "".join(page.result()[0])
        except Exception as error:
            return f"the page cannot be drawn ({error}); its log says more."
        finally:
            asked.cancel()
        return (
            "" if whole else "the page is drawn with an error in it; its log says more."
        )

    def stop(self) -> None:
        """End the kernels; whoever made the folder removes it."""
        with contextlib.suppress(HTTPError):  # of a kernel that was still starting
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
        notebook: The notebook to serve.
        config: The folder of ``voila.json``; no other is read.
        listening: The bound socket.
        guard: Accepts or refuses requests.
        folder: Folder for its kernels' sockets; removed when it ends.
        base_url: The path under which it is reached.
        token: The secret that opens the page; empty for none.
    """
    Server.listening, Server.guard, Server.folder = listening, guard, folder
    server = Server.instance()
    arguments = [
        str(notebook),
        f"--Voila.port={listening.getsockname()[1]}",
        f"--Voila.base_url={base_url}",
        f"--Voila.config_file_paths={config}",
        "--Voila.log_level=ERROR",
        # The next page's kernel is started, and its page drawn, in advance. A page that
        # needs its query string waits for it: see `query`.
        "--VoilaConfiguration.preheat_kernel=True",
        f"--KernelManager.transport={transport(folder)}",
        "--no-browser",
    ]
    server.token = token
    server.initialize(arguments)
    server.voila_configuration.kernel_spec_manager_class = OwnKernel
    server.voila_configuration.multi_kernel_manager_class = Kernels
    return server
