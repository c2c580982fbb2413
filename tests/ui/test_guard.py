"""Whom the page's server answers: hosts, origins, other pages, prefixes."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.routing import Router
from tornado.web import Application

from workbench.ui.guard import Gate, Guard, make_guard

IMAGE = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
FRAME = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def request(
    host: str = "127.0.0.1:8866", path: str = "/", method: str = "GET", **headers: str
) -> HTTPServerRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPServerRequest(
        start_line=RequestStartLine(method, path, "HTTP/1.1"),
        headers=HTTPHeaders({"Host": host, **named}),
    )


def refusal(guard: Guard, *given: str, **headers: str) -> str:
    return guard.refusal(request(*given, **headers))


@pytest.mark.parametrize(
    ("bound", "given", "host", "answered"),
    [
        ("127.0.0.1", (), "127.0.0.1:8866", True),
        ("127.0.0.1", (), "localhost:9000", True),  # as through a tunnel
        ("127.0.0.1", (), "[::1]:8866", True),
        ("127.0.0.1", (), "LOCALHOST", True),
        ("127.0.0.1", (), "localhost.:8866", True),
        ("127.0.0.1", (), "[0:0:0:0:0:0:0:1]:8866", True),
        ("::1", (), "[::1]:8866", True),
        ("::1", (), "[::2]:8866", False),
        ("127.0.0.1", (), "::1", True),
        ("127.0.0.1", (), "", False),
        ("127.0.0.1", (), "[", False),
        ("127.0.0.1", (), "evil.example:8866", False),
        ("127.0.0.1", (), "127.0.0.1.evil.example", False),
        ("127.0.0.1", (), "localhost.evil.example", False),
        ("127.0.0.1", (), "10.0.0.7:8866", False),
        ("127.0.0.1", ("lab.example",), "lab.example", True),
        ("127.0.0.1", ("Lab.Example:8000",), "lab.example:8000", True),
        ("127.0.0.1", ("lab.example",), "sub.lab.example", False),
        ("127.0.0.1", ("lab.example.",), "LAB.example", True),
        ("127.0.0.1", ("[2001:DB8::7]",), "[2001:db8:0::7]:80", True),
        ("127.0.0.1", ("2001:db8::7",), "[2001:db8::7]:80", True),
        ("10.0.0.7", (), "10.0.0.7:8866", True),
        ("10.0.0.7", (), "10.0.0.8:8866", False),
        ("0.0.0.0", (), "10.0.0.8:8866", True),  # no name leads to an address
        ("0.0.0.0", (), "evil.example", False),
    ],
)
def test_only_hosts_that_were_bound_or_given_are_answered(
    bound: str, given: tuple[str, ...], host: str, answered: bool
) -> None:
    said = refusal(make_guard(bound, given), host)
    assert (said == "") == answered
    if not answered:
        assert "--allow-host" in said


@pytest.mark.parametrize(
    ("origin", "given", "answered"),
    [
        ("http://127.0.0.1:8866", (), True),
        ("http://127.0.0.1:8867", (), False),  # another port is another page
        ("http://localhost:8866", (), False),
        ("https://evil.example", (), False),
        ("null", (), False),
        ("https://lab.example", ("lab.example",), True),
        ("https://lab.example:444", ("lab.example:443",), False),
        ("https://lab.example", ("lab.example:443",), True),
        ("http://lab.example", ("lab.example:443",), False),
        ("https://[2001:db8::7]", ("2001:db8::7",), True),
        ("HTTP://127.0.0.1:8866", (), True),
        ("http://127.0.0.1.:8866", (), True),
        ("http://[::1", (), False),
        ("http://", (), False),
        ("https://evil.example", ("lab.example",), False),
    ],
)
def test_pages_of_other_origins_are_refused_unless_they_were_given(
    origin: str, given: tuple[str, ...], answered: bool
) -> None:
    guard = make_guard("127.0.0.1", given)
    for name in ("Origin", "Sec-Websocket-Origin"):
        assert (guard.refusal(request(**{name: origin})) == "") == answered


@pytest.mark.parametrize(
    ("host", "origin", "answered"),
    [
        ("lab.example:443", "https://lab.example", True),  # as nginx may pass it on
        ("lab.example", "https://lab.example:443", True),
        ("lab.example", "http://lab.example:443", False),
        ("lab.example:80", "https://lab.example", False),
    ],
)
def test_a_port_that_is_not_said_is_that_of_the_scheme(
    host: str, origin: str, answered: bool
) -> None:
    guard = Guard(frozenset(("lab.example",)), frozenset())
    assert (guard.refusal(request(host, Origin=origin)) == "") == answered


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("kind", "answered"), [(IMAGE, False), (FRAME, False), (LINK, True)]
)
def test_a_link_of_another_page_is_followed_and_its_pictures_and_frames_are_not(
    site: str, kind: dict[str, str], answered: bool
) -> None:
    guard = make_guard("127.0.0.1")
    asked = request(**{"Sec-Fetch-Site": site}, **kind)
    assert (guard.refusal(asked) == "") == answered
    posted = request(method="POST", **{"Sec-Fetch-Site": site}, **kind)
    assert guard.refusal(posted) != ""
    for own in ("same-origin", "none"):
        assert guard.refusal(request(**{"Sec-Fetch-Site": own}, **kind)) == ""


def test_what_is_refused_is_said_in_a_short_sentence() -> None:
    guard, long = make_guard("127.0.0.1"), "x" * 2000
    assert 0 < len(refusal(guard, long)) <= 300
    guard = make_guard("x" * 100)
    assert 0 < len(refusal(guard, "x" * 100, Origin=f"http://{long}")) <= 300


class Noted(Application):
    """Remembers the paths that it is asked for."""

    def find_handler(self, request: HTTPServerRequest, **kwargs: object) -> Router:  # type: ignore[override]
        self.asked = (request.path, request.uri)
        return self.wildcard_router


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/proxy/88/", "/proxy/88/"),
        ("/proxy/88/api/x?y=/z", "/proxy/88/api/x"),
        ("/api/x?y=/z", "/proxy/88/api/x"),  # of a proxy that takes the prefix away
        ("/", "/proxy/88/"),
        ("/proxy/88", "/proxy/88/"),
    ],
)
def test_paths_reach_the_page_with_their_prefix_or_without(
    path: str, seen: str
) -> None:
    app = Noted()
    Gate(app, make_guard("127.0.0.1"), "/proxy/88/").find_handler(request(path=path))
    query = path.partition("?")[2]
    assert app.asked == (seen, seen + (f"?{query}" if query else ""))
