"""A study in the last line of a cell draws itself, where something can draw it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from tests.conftest import ROOT
from tests.studies import make_study

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(3, 40).save(tmp_path_factory.mktemp("notebook") / "one.study")


@pytest.fixture(scope="module")
def kernel() -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel(startup_timeout=120, cwd=str(ROOT))
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def run(kernel: BlockingKernelClient, code: str) -> list[dict[str, Any]]:
    """What a cell publishes, in order."""
    said: list[dict[str, Any]] = []
    reply = kernel.execute_interactive(code, timeout=120, output_hook=said.append)
    assert reply["content"]["status"] == "ok", reply["content"]
    return said


def shown(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is displayed in the cell, as MIME bundles."""
    kinds = ("display_data", "execute_result")
    return [m["content"]["data"] for m in said if m["msg_type"] in kinds]


def test_a_study_draws_itself_with_words_for_who_cannot(
    kernel: BlockingKernelClient, file: Path
) -> None:
    loaded = "import sys; 'bokeh' in sys.modules"
    run(kernel, f"import workbench as wb; study = wb.load_study({str(file)!r})")
    assert shown(run(kernel, loaded)) == [{"text/plain": "False"}]
    said = run(kernel, "study")
    script, study = shown(said)
    assert "Bokeh" in script["application/javascript"]
    assert set(study) == {WIDGET, "text/html", "text/plain"}
    assert study["text/plain"].startswith("Study of linear on synthetic, epoch 30\n")
    assert "<th" in study["text/html"]
    opened = {
        message["content"]["comm_id"]: message["content"]["data"]["state"]
        for message in said
        if message["msg_type"] == "comm_open"
    }
    drawn = opened[study[WIDGET]["model_id"]]
    assert drawn["_view_name"] == "BokehView"
    assert {"spectrum", "embedding"} <= set(re.findall(r"\w+", str(drawn)))


def test_a_study_within_a_line_draws_nothing(
    kernel: BlockingKernelClient, file: Path
) -> None:
    run(kernel, f"import workbench as wb; study = wb.load_study({str(file)!r})")
    assert shown(run(kernel, "study;")) == []
    (found,) = shown(run(kernel, "[study.num_classes]"))
    assert found == {"text/plain": "[3]"}


def test_in_a_terminal_a_study_is_text(file: Path) -> None:
    lines = (
        f"import sys, workbench as wb; study = wb.load_study({str(file)!r})",
        "study",
        "print('bokeh is there:', 'bokeh' in sys.modules)",
        "exit",
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert "Study of linear on synthetic, epoch 30" in done.stdout
    assert "bokeh is there: False" in done.stdout
