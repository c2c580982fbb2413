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

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest, split_host_and_port
from tornado.routing import Router
from tornado.web import Application, RequestHandler

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ALL = ("", "0.0.0.0", "::")
PORTS = {"http": 80, "https": 443}
FETCHES = ("same-origin", "none", "")  # of Sec-Fetch-Site; "": an old browser, a script


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is for a browser: a name in its usual form, and a port."""

    name: str
    port: int | None = None

    @staticmethod
    def of(host: str, scheme: str = "") -> Place:
        """Read a host; without a port it has that of the scheme.

        Args:
            host: As in the Host header, behind the scheme of an Origin, or as typed.
            scheme: Of the Origin; without one and without a port there is no port.
        """
        name, port = host.strip().lower(), None
        if _address(name) is None:  # "::1" has no port
            name, port = split_host_and_port(name)
        name = name.strip("[]").rstrip(".")
        return Place(_address(name) or name, port or PORTS.get(scheme))


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides by the headers of a request."""

    names: frozenset[str]  # what this server is called, as in the Host header
    given: frozenset[Place]  # of them, those that a person has vouched for
    addresses: bool = False  # whether any address will do, as of one bound to all

    def refusal(self, request: HTTPServerRequest) -> str:
        """Say why this request is not answered; empty where it is."""
        headers, host = request.headers, request.host
        here = Place.of(host)
        if not (here.name in self.names or (self.addresses and _address(here.name))):
            return (
                f"This workbench does not answer by the name {here.name[:90]!r}. "
                "Whoever runs it can allow that: workbench app --allow-host "
                f"{here.name[:90]}"
            )
        origin = headers.get("Origin") or headers.get("Sec-Websocket-Origin")
        if origin:
            scheme, _, netloc = origin.lower().partition("://")
            there = Place.of(netloc, scheme)
            if there != Place.of(host, scheme) and not self._is_given(there):
                return (
                    f"A page of {origin[:70]} asks this workbench, which takes itself "
                    f"for {host[:60]}. If both are one, a proxy changes the Host "
                    "header: let it pass that on, or give its name to --allow-host."
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

    def _is_given(self, there: Place) -> bool:
        return bool(self.given & {there, Place(there.name)})


def make_guard(host: str, given: Iterable[str] = ()) -> Guard:
    """Return the guard of a server that listens on ``host``.

    Args:
        host: The address, or a name of it; "0.0.0.0" for all of this machine.
        given: Further names, as of a proxy in front; with a port, only that port.
    """
    vouched = frozenset(map(Place.of, given))
    own = {Place.of(host).name, *(place.name for place in vouched)}
    if host in ALL:
        names = (socket.gethostname(), socket.getfqdn(), *LOOPBACK)
        own |= {Place.of(name).name for name in names}
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
        # What comes behind would compare them with the Host header, letter by letter.
        for name in {"Origin", "Sec-Websocket-Origin"} & set(request.headers):
            del request.headers[name]
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


def _address(name: str) -> str | None:
    """An address in its usual form; None for a name, which could lead anywhere."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None
