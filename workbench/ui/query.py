"""The query string of the page's address.

A preheated kernel draws the page before anyone has opened it, and waits until Voila's
websocket tells it the address. The same as ``voila.utils.get_query_string``, except
that that module loads all of Voila's server (40 MB).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading

_log = logging.getLogger(__name__)


def has_address() -> bool:
    """Whether the page has its own address that a link can lead to, as in Voila."""
    return "VOILA_PREHEAT" in os.environ


def query_string() -> str:
    """Return the query string; ``""`` if there is none, as in JupyterLab."""
    if os.environ.get("VOILA_PREHEAT", "False") != "False":
        thread = threading.Thread(target=_wait, daemon=True)
        thread.start()
        thread.join()
    return os.environ.get("QUERY_STRING", "")


def _wait() -> None:
    try:
        os.environ.update(asyncio.run(_request()))
    except Exception:  # the page opens without its query string
        _log.exception("the page's address was not received")


async def _request() -> dict[str, str]:
    from tornado.websocket import websocket_connect

    env = os.environ
    base = env.get("VOILA_WS_BASE_URL", env.get("VOILA_SERVER_URL", "/"))
    url = (
        f"{env.get('VOILA_WS_PROTOCOL', 'ws')}://{env.get('VOILA_APP_IP', '127.0.0.1')}"
        f":{env.get('VOILA_APP_PORT', '8866')}{base}voila/query/"
        f"{env.get('VOILA_KERNEL_ID', '')}"
    )
    connection = await websocket_connect(url)
    try:
        told = json.loads(await connection.read_message() or "{}")
    finally:
        connection.close()
    return {str(name): str(value) for name, value in told.items()}
