"""The page's frame: while it opens, when its kernel or server goes, below Jupyter."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.browser.figures import kernel_of
from tests.conftest import ROOT

pytestmark = pytest.mark.browser

ENDED = "This session has ended; reload the page to start a new one."
KERNEL = "window.jupyterapp.widgetManager.kernel"


@pytest.fixture
def rough_page(chromium: Browser) -> Iterator[Page]:
    """A page of which errors are expected."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def test_while_it_opens_the_page_says_what_it_waits_for(
    open_page: Callable[..., Page], voila: str
) -> None:
    with urlopen(voila) as answer:
        html = answer.read().decode()
    assert html.index("<title>Hessian workbench</title>") < html.index("<style>")
    before = html[: html.index('id="rendered_cells"')]
    assert "Starting the workbench kernel" in before
    page = open_page(voila)
    expect(page).to_have_title("Hessian workbench")
    Workbench(page).wait()
    expect(page.locator("#page-loading")).to_have_count(0)
    expect(page.locator("#page-notice")).to_be_hidden()


def test_a_kernel_that_dies_is_told_and_a_reload_gives_a_new_one(
    rough_page: Page, voila: str
) -> None:
    rough_page.goto(voila)
    Workbench(rough_page).wait()
    before = rough_page.evaluate(f"{KERNEL}.id")
    kernel_of(rough_page).kill()
    notice = rough_page.locator("#page-notice")
    expect(notice).to_contain_text(ENDED, timeout=20_000)
    notice.get_by_role("button", name="Reload").click()
    Workbench(rough_page).wait()
    expect(notice).to_be_hidden()
    assert rough_page.evaluate(f"{KERNEL}.id") != before


def test_a_kernel_that_was_culled_is_told_when_one_comes_back_to_the_page(
    rough_page: Page, voila: str
) -> None:
    rough_page.goto(voila)
    Workbench(rough_page).wait()
    rough_page.evaluate(
        f"fetch('/api/kernels/' + {KERNEL}.id, {{method: 'DELETE'}}).then(a => a.ok)"
    )
    rough_page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(rough_page.locator("#page-notice")).to_contain_text(ENDED, timeout=20_000)


def test_a_page_that_closes_ends_its_kernel(
    open_page: Callable[..., Page], voila: str
) -> None:
    page = open_page(voila)
    Workbench(page).wait()
    kernel = kernel_of(page)
    page.close(run_before_unload=True)
    kernel.wait(20)


def test_a_connection_that_is_lost_is_told_and_one_that_is_back_is_used_again(
    rough_page: Page, voila: str
) -> None:
    channels: list[WebSocketRoute] = []

    def pass_on(channel: WebSocketRoute) -> None:
        channel.connect_to_server()
        channels.append(channel)

    rough_page.route_web_socket("**/channels*", pass_on)
    rough_page.goto(voila)
    workbench = Workbench(rough_page).wait()
    rough_page.context.set_offline(True)
    for channel in channels:
        channel.close()
    notice = rough_page.locator("#page-notice")
    expect(notice).to_contain_text("connection to the server is lost", timeout=20_000)
    rough_page.wait_for_timeout(10_000)  # by then JupyterLab waits long to try again
    rough_page.context.set_offline(False)
    expect(notice).to_be_hidden(timeout=8_000)
    workbench.fill("Epochs", "100000")  # the kernel answers, as before
    expect(workbench.problem).to_contain_text("from 1 to 500")


def test_the_installed_package_serves_the_page_from_an_empty_folder(
    open_page: Callable[..., Page], unpacked_wheel: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, PYTHONPATH=str(unpacked_wheel)) as url:
        page = open_page(url)
        Workbench(page).wait()
        kernel = kernel_of(page)
        assert Path(kernel.cwd()) == unpacked_wheel / "workbench" / "notebooks"
        page.close()


@contextmanager
def jupyter_server(folder: Path) -> Iterator[str]:
    """Start a Jupyter server with Binder's configuration; yield the URL of its root."""
    etc = folder / "etc"
    etc.mkdir()
    shutil.copy(ROOT / "workbench" / "ui" / "jupyter" / "voila.json", etc)
    shutil.copy(ROOT / "binder" / "jupyter_server_config.json", etc)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser"),
            f"--ServerApp.port={port}",
            f"--ServerApp.root_dir={ROOT}",
        ],
        cwd=folder,
        env=os.environ
        | {
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_CONFIG_PATH": str(etc),
            "JUPYTER_PATH": str(ROOT / "workbench" / "ui" / "jupyter"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTER_TOKEN": "secret",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(600):
            try:
                urlopen(f"{url}api").close()
                break
            except URLError:
                assert server.poll() is None
                time.sleep(0.1)
        yield f"{url}?token=secret"
    finally:
        server.terminate()
        server.wait(30)


def test_a_jupyter_server_as_on_binder_opens_the_app_and_nothing_off_the_host(
    open_page: Callable[..., Page], tmp_path: Path
) -> None:
    with jupyter_server(tmp_path) as url:
        page = open_page(url)
        Workbench(page).wait()
        assert "/voila/render/notebooks/workbench.ipynb" in page.url
        expect(page.locator("#page-loading")).to_have_count(0)
        page.wait_for_function("document.cookie.includes('_xsrf=')")
        kernel = kernel_of(page)
        page.close(run_before_unload=True)
        kernel.wait(20)
