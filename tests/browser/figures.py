"""What opening the page costs: ``python -m tests.browser.figures`` prints it.

Seconds from asking for the page to the first picture and to a Step that is answered,
megabytes over the wire at the first load, megabytes of the kernel.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from base64 import b64decode
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import serving
from tests.browser.drive import Workbench
from tests.chromium import find_chromium
from tests.conftest import QUIET


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening of the page, with nothing in the browser's cache."""

    seen_s: float  # until something is to be seen: the head of the page
    drawn_s: float  # until the pictures are drawn
    ready_s: float  # until a press on Step is answered
    wire_mb: float
    kernel_mb: float
    torch: bool  # whether the kernel has loaded it


def kernel_of(page: Page) -> psutil.Process:
    """Find the process of a page's kernel."""
    name = page.evaluate("window.jupyterapp.widgetManager.kernel.id")
    for process in psutil.process_iter(["cmdline"]):
        if any(f"kernel-{name}.json" in word for word in process.info["cmdline"] or ()):
            return process
    raise AssertionError(f"kernel {name} does not run")


def _deflated(frame: dict[str, Any]) -> int:
    """Bytes of a websocket frame as it travels; the browser tells what it unpacked."""
    told = frame["payloadData"]
    payload = b64decode(told) if frame["opcode"] == 2 else told.encode()
    return len(zlib.compress(payload))


def measure_opening(page: Page, url: str) -> Opening:
    """Open the page in an empty tab, and measure."""
    received = [0.0]
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on(
        "Network.loadingFinished",
        lambda told: received.append(told["encodedDataLength"]),
    )
    network.on(
        "Network.webSocketFrameReceived",
        lambda told: received.append(_deflated(told["response"])),
    )
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.locator("#page-loading, .wb-head h1").first.wait_for()
    seen = time.monotonic() - began
    workbench = Workbench(page).wait()
    drawn = time.monotonic() - began
    workbench.button("Step ›").click()
    workbench.until(lambda: workbench.state("level") == 1)
    ready = time.monotonic() - began
    page.wait_for_timeout(500)
    kernel = kernel_of(page)
    torch = any("torch" in Path(m.path).name for m in kernel.memory_maps())
    memory = kernel.memory_info().rss / 2**20
    return Opening(seen, drawn, ready, sum(received) / 1e6, memory, torch)


def main() -> None:
    """Open the page five times, the first to warm the server up."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(QUIET)
        )
        found = []
        for _ in range(5):
            context = browser.new_context(viewport={"width": 1440, "height": 1000})
            found.append(asdict(measure_opening(context.new_page(), url)))
            context.close()
            time.sleep(4)  # the next kernel is made ready
        browser.close()
    for name in found[0]:
        values = [opening[name] for opening in found[1:]]
        told = " ".join(f"{value:.2f}" for value in values)
        print(f"{name:10} median {median(values):.2f}   of {told}")


if __name__ == "__main__":
    main()
