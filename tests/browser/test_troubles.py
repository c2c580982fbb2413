"""What stands between a browser and its page, and what the page says of it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import kernels, serving
from tests.browser.drive import Workbench
from tests.browser.proxy import proxied

pytestmark = pytest.mark.browser

SOON = 10_000  # milliseconds, after the page is there


@pytest.fixture
def rough_page(chromium: Browser) -> Iterator[Page]:
    """A page of which errors are expected."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("sockets", ["refuse", "swallow"])
def test_a_proxy_without_websockets_is_said(
    rough_page: Page, voila: str, sockets: str
) -> None:
    with proxied(voila, sockets=sockets) as url:
        rough_page.goto(url)
        notice = rough_page.locator("#page-notice")
        expect(notice).to_contain_text("does not let them through", timeout=SOON)
        expect(rough_page.locator("#page-loading")).to_have_count(0)


def test_a_proxy_that_changes_the_host_is_said_with_the_option_that_helps(
    rough_page: Page, voila: str
) -> None:
    with proxied(voila, keep_host=False) as url:
        rough_page.goto(url)
        notice = rough_page.locator("#page-notice")
        expect(notice).to_contain_text("changes the Host header", timeout=SOON)
        expect(notice).to_contain_text(f"known as {urlsplit(voila).netloc}")
        expect(notice).to_contain_text("--allow-host 127.0.0.1")


def test_a_prefix_that_the_server_does_not_know_is_said_with_the_option_that_helps(
    rough_page: Page, voila: str
) -> None:
    with proxied(voila, prefix="/proxy/8866/") as url:
        rough_page.goto(url)
        notice = rough_page.locator("#page-notice")
        expect(notice).to_contain_text("--base-url /proxy/8866/", timeout=SOON)


@pytest.mark.parametrize(
    ("policy", "selector", "said"),
    [
        (
            "script-src 'self'",
            "#page-forbidden",
            "The scripts of this page are not run",
        ),
        ("script-src 'unsafe-inline'", "#page-notice", "A policy (script-src-elem)"),
        ("connect-src 'none'", "#page-notice", "A policy (connect-src)"),
    ],
)
def test_scripts_that_are_forbidden_are_said(
    rough_page: Page, voila: str, policy: str, selector: str, said: str
) -> None:
    with proxied(voila, headers={"Content-Security-Policy": policy}) as url:
        rough_page.goto(url)
        place = rough_page.locator(selector)
        expect(place).to_contain_text(said, timeout=SOON)
        expect(place).to_be_visible(timeout=SOON)


def test_what_happens_to_a_page_that_is_open_is_told_apart(
    rough_page: Page, voila: str
) -> None:
    answers: dict[str, int] = {}
    with proxied(voila, answers=answers) as url:
        rough_page.goto(url)
        Workbench(rough_page).wait()
        notice = rough_page.locator("#page-notice")
        expect(notice).to_be_hidden()
        for status, said in (
            (403, "not logged in any more"),
            (424, "has been stopped"),
            (404, "answers in the place"),
        ):
            answers["/api/kernels"] = status
            if status != 403:  # the page asks by itself, and when it is looked at
                rough_page.evaluate(
                    "document.dispatchEvent(new Event('visibilitychange'))"
                )
            expect(notice).to_contain_text(said, timeout=SOON)
        answers.clear()
        rough_page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(notice).to_be_hidden(timeout=SOON)


def test_behind_a_proxy_with_a_prefix_and_another_host_the_page_works_as_told(
    rough_page: Page, tmp_path: Path
) -> None:
    more = ", base_url='/proxy/8866/', allow=['127.0.0.1'], token='let-me-in'"
    with (
        serving(tmp_path, more) as printed,
        proxied(printed, prefix="/proxy/8866/", keep_host=False) as url,
    ):
        assert urlsplit(printed).path == "/proxy/8866/"
        rough_page.goto(url)
        rough_page.get_by_label("Token").fill("let-me-in")
        rough_page.get_by_role("button", name="Open").click()
        page = Workbench(rough_page).wait()
        page.fill("Epochs", "100000")  # the kernel answers
        expect(page.problem).to_contain_text("from 1 to 500")
        expect(rough_page.locator("#page-notice")).to_be_hidden()
        assert "let-me-in" not in rough_page.url


FOREIGN = """<!DOCTYPE html><title>foreign</title><body>
<img src="URL?1"><img src="URL?2"><iframe src="URL?3"></iframe><script>
fetch("URL?4", {mode: "no-cors"}).catch(() => {});
const socket = new WebSocket("URL".replace("http", "ws") + "voila/query/a-b-c-d-e");
socket.onopen = () => document.title = "opened";
socket.onerror = () => document.title = "refused";
</script>"""


class ForeignPage(http.server.BaseHTTPRequestHandler):
    url = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(FOREIGN.replace("URL", self.url).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_of_another_port_or_host_starts_no_kernel_and_opens_no_socket(
    rough_page: Page, voila: str, name: str
) -> None:
    ForeignPage.url, before = voila, kernels()
    statuses: dict[str, int] = {}
    rough_page.on(
        "response", lambda answer: statuses.setdefault(answer.url, answer.status)
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ForeignPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rough_page.goto(f"http://{name}:{server.server_port}/")
        expect(rough_page).to_have_title("refused", timeout=SOON)
        rough_page.wait_for_load_state("load")
        server.shutdown()
    # Chromium hides the answers to the pictures from the page, and so from here.
    asked = {url: said for url, said in statuses.items() if url.startswith(voila)}
    assert len(asked) >= 2
    assert set(asked.values()) == {403}
    assert len(kernels() - before) <= 1  # that of the next page, ahead of need
