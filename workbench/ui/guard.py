"""Whom the page's server answers: by which names, and which other pages may ask.

A name that an attacker makes lead to this machine (DNS rebinding) is not answered, nor
is what another page asks for in somebody's browser: neither a picture of our address
nor a socket. A link that a person follows is.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlsplit

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest, split_host_and_port
from tornado.routing import Router
from tornado.web import Application, RequestHandler

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ALL = ("", "0.0.0.0", "::")
FETCHES = ("same-origin", "none", "")  # of Sec-Fetch-Site; "": an old browser, a script


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides by the headers of a request."""

    names: frozenset[str]  # what this server is called, as in the Host header
    given: frozenset[str]  # of them, those that a person has vouched for
    addresses: bool = False  # whether any address will do, as of one bound to all

    def refusal(self, request: HTTPServerRequest) -> str:
        """Say why this request is not answered; empty where it is."""
        headers, host = request.headers, request.host.lower()
        if not self._is_ours(_name(host)):
            return (
                f"This workbench does not answer by the name {_name(host)[:60]!r}. "
                "Whoever runs it can allow that: workbench app --allow-host "
                f"{_name(host)[:60]}"
            )
        origin = headers.get("Origin") or headers.get("Sec-Websocket-Origin")
        if origin and not self._may_ask(origin.lower(), host):
            return (
                f"A page of {origin[:60]} asks this workbench, which takes itself for "
                f"{host[:60]}. If both are the same, a proxy in between changes the "
                "Host header: let it pass that on, or start the workbench with "
                f"--allow-host {(urlsplit(origin).hostname or 'NAME')[:60]}."
            )
        followed = (
            headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
            and request.method == "GET"
        )
        asked = headers.get("Sec-Fetch-Site", "")
        if asked not in FETCHES and not followed and not (origin and self.given):
            return "This workbench is not shown inside pages of others; open its link."
        return ""

    def _is_ours(self, name: str) -> bool:
        return name in self.names or (self.addresses and _is_address(name))

    def _may_ask(self, origin: str, host: str) -> bool:
        there = urlsplit(origin)
        return there.netloc == host or bool(
            self.given.intersection((there.netloc, there.hostname or ""))
        )


def make_guard(host: str, given: Iterable[str] = ()) -> Guard:
    """Return the guard of a server that listens on ``host``.

    Args:
        host: The address, or a name of it; "0.0.0.0" for all of this machine.
        given: Further names, as of a proxy in front.
    """
    vouched = frozenset(name.lower() for name in given)
    own = {host.lower(), *map(_name, vouched)}
    if host in ALL:
        own |= {socket.gethostname().lower(), socket.getfqdn().lower(), *LOOPBACK}
    elif host in LOOPBACK:
        own |= set(LOOPBACK)
    return Guard(frozenset(own), vouched, addresses=host in ALL)


class Gate(Router):
    """In front of an application: refuses, and takes paths with or without prefix.

    A proxy may pass on ``/proxy/8866/x`` as it is or as ``/x``: both reach the same
    page when ``base_url`` is ``/proxy/8866/``.
    """

    def __init__(self, app: Application, guard: Guard, base_url: str) -> None:
        self._app, self._guard, self._base = app, guard, base_url

    def find_handler(
        self, request: HTTPServerRequest, **kwargs: Any
    ) -> HTTPMessageDelegate:
        """Return what answers this request."""
        if said := self._guard.refusal(request):
            return self._app.get_handler_delegate(request, Refused, {"said": said})
        if not request.path.startswith(self._base):
            rest = request.path.lstrip("/")
            if f"{request.path}/" == self._base:
                rest = ""
            request.path = self._base + rest
            request.uri = request.path + (f"?{request.query}" if request.query else "")
        return self._app.find_handler(request, **kwargs)


class Refused(RequestHandler):
    """Answers with the sentence why."""

    def initialize(self, said: str) -> None:
        """Take the sentence."""
        self._said = said

    def prepare(self) -> None:
        """Answer any method."""
        self.set_status(403)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(
            "<!DOCTYPE html><html lang=en><meta charset=utf-8>"
            "<title>Hessian workbench</title>"
            f"<p>{escape(self._said)}</p></html>"
        )


def _name(host: str) -> str:
    name, _ = split_host_and_port(host)
    return name.strip("[]")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
