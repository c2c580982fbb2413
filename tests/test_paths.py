"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.machine.paths import STARTED_IN, expect_file_or_folder, typed_path
from workbench.page.settings import RunSettings


@pytest.mark.parametrize(
    "form", ["{}", " {} ", "'{}'", '"{}"', "' {} '", "file://{}", "FILE://{}"]
)
def test_quotes_and_file_urls_are_understood(form: str, tmp_path: Path) -> None:
    assert typed_path(form.format(tmp_path / "a")) == tmp_path / "a"
    assert typed_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"


def test_a_relative_path_begins_where_the_app_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, kernel = tmp_path / "started", tmp_path / "kernel"
    for folder in (started, kernel):
        folder.mkdir()
        (folder / "both.study").touch()
    (kernel / "only.study").touch()
    monkeypatch.chdir(kernel)
    monkeypatch.setenv(STARTED_IN, str(started))
    assert typed_path("both.study") == started / "both.study"
    assert typed_path("none.study") == started / "none.study"  # as the sentence says
    assert typed_path("only.study") == kernel / "only.study"
    assert typed_path("'both.study'") == started / "both.study"
    folder = RunSettings(data="folder", folder="both.study").to_work("icml")["data"]
    assert folder == f"folder:{started / 'both.study'}"
    monkeypatch.delenv(STARTED_IN)
    assert typed_path("both.study") == kernel / "both.study"


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
def test_what_never_ends_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(WorkbenchError, match="is a pipe, a socket or a device"):
            expect_file_or_folder(path)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        expect_file_or_folder(tmp_path / "loop")
    assert expect_file_or_folder(tmp_path)
