"""Which requests the page's server answers: by host name and by origin.

It refuses host names that an attacker has pointed at this machine (DNS rebinding), and
anything that another page requests from a user's browser, be it an image or a socket. A
link that a person follows is answered.
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
FETCHES = ("same-origin", "none", "")  # Sec-Fetch-Site; "": an old browser or a script


@dataclass(frozen=True, slots=True)
class Place:
    """The address of a server for a browser: a normalised name and a port."""

    name: str
    port: int | None = None

    @staticmethod
    def of(host: str, scheme: str = "") -> Place:
        """Parse a host; without a port, it has that of the scheme.

        Args:
            host: As in a Host header, in an Origin after its scheme, or as typed.
            scheme: Scheme of the Origin; without scheme and port there is no port.
        """
        name, port = host.strip().lower(), None
        if _address(name) is None:  # "::1" has no port
            name, port = split_host_and_port(name)
        name = name.strip("[]").rstrip(".")
        return Place(_address(name) or name, port or PORTS.get(scheme))


@dataclass(frozen=True, slots=True)
class Guard:
    """Accepts or refuses requests by their headers."""

    names: frozenset[str]  # names of this server, as in the Host header
    given: frozenset[Place]  # those that the user has explicitly allowed
    addresses: bool = False  # whether any IP address is accepted, if bound to all

    def refusal(self, request: HTTPServerRequest) -> str:
        """Say why this request is refused; empty if it is answered."""
        headers, host = request.headers, request.host
        here = Place.of(host)
        if not (here.name in self.names or (self.addresses and _address(here.name))):
            return (
                f"This workbench does not answer to the name {here.name[:90]!r}. "
                "Whoever runs it can allow it: workbench app --allow-host "
                f"{here.name[:90]}"
            )
        origin = headers.get("Origin") or headers.get("Sec-Websocket-Origin")
        if origin:
            scheme, _, netloc = origin.lower().partition("://")
            there = Place.of(netloc, scheme)
            if there != Place.of(host, scheme) and not self._is_given(there):
                return (
                    f"A page of {origin[:70]} sent a request to this workbench, known "
                    f"as {host[:60]}. If they are the same site, a proxy changes the "
                    "Host header: let it pass that on, or name it with --allow-host."
                )
        followed = (
            headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
            and request.method == "GET"
        )
        asked = headers.get("Sec-Fetch-Site", "")
        if asked not in FETCHES and not followed and not (origin and self.given):
            return (
                "This workbench cannot be shown inside other sites' pages; open its "
                "link directly."
            )
        return ""

    def _is_given(self, there: Place) -> bool:
        return bool(self.given & {there, Place(there.name)})


def make_guard(host: str, given: Iterable[str] = ()) -> Guard:
    """Return the guard for a server that listens on ``host``.

    Args:
        host: The address or its name; "0.0.0.0" for all addresses of this machine.
        given: Further names, such as a proxy's; with a port, only that port.
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
    """Wraps an application: refuses requests, and accepts paths with or without prefix.

    A proxy may forward ``/proxy/8866/x`` unchanged or as ``/x``: both reach the same
    page if ``base_url`` is ``/proxy/8866/``.
    """

    def __init__(self, app: Application, guard: Guard, base_url: str) -> None:
        self._app, self._guard, self._base = app, guard, base_url

    def find_handler(
        self, request: HTTPServerRequest, **kwargs: Any
    ) -> HTTPMessageDelegate:
        """Return the handler of this request."""
        if said := self._guard.refusal(request):
            return self._app.get_handler_delegate(request, Refused, {"said": said})
        # Later handlers would compare them literally with the Host header.
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
    """Responds with the reason for the refusal."""

    def initialize(self, said: str) -> None:
        """Store the sentence."""
        self._said = said

    def prepare(self) -> None:
        """Respond to any method."""
        self.set_status(403)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(
            "<!DOCTYPE html><html lang=en><meta charset=utf-8>"
            "<title>Hessian workbench</title>"
            f"<p>{escape(self._said)}</p></html>"
        )


def _address(name: str) -> str | None:
    """Normalise an IP address; None for a name, which could lead anywhere."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None
