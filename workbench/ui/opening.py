"""Open: earlier runs, or a file or image folder of one's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w

from workbench.errors import WorkbenchError
from workbench.files.atomic import UPLOAD, kind_of
from workbench.files.container import write_whole
from workbench.files.image_folder import count_images, describe_choice
from workbench.jobs.runs import Run, make_run
from workbench.machine.paths import expect_file_or_folder, typed_path
from workbench.page.session import Session
from workbench.ui.panels import button

SAYS_UPLOAD, USUAL_UPLOAD = "WORKBENCH_UPLOAD", 9
AT_ONCE, PATIENCE = 0.3, 10.0  # seconds the page waits, and searches
VERBS = {
    "running": ("Watch", "It is running now"),
    "finished": ("Show", "Show what it found"),
    "stopped": (
        "Continue with it",
        "Its network is kept: measure it, or train on",
    ),
}


def most_upload() -> int:
    """Return the largest upload through the browser, in MB.

    A server started by us or with our configuration gives its limit in the environment.
    For any other we assume tornado's default of 10 MB per message, beyond which it
    drops the connection.
    """
    said = os.environ.get(SAYS_UPLOAD, "")
    return min(int(said) if said.isdecimal() else USUAL_UPLOAD, UPLOAD >> 20)


class _Looking:
    """Inspects a path in a thread, so that a slow disk cannot block the page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images: tuple[int, int] | None = None
        self.choice = ""  # which split of a folder is used, in words
        self._error: Exception | None = None
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        try:
            if expect_file_or_folder(self.path):
                self._images = count_images(self.path)
                self.choice = describe_choice(self.path)
            else:
                kind_of(self.path)
        except Exception as error:
            self._error = error

    def images(self) -> tuple[int, int] | None:
        """Return the numbers of classes and images of a folder; None for a file.

        Raises:
            WorkbenchError: If it is neither, or searching it takes too long.
        """
        if self.thread.is_alive():
            raise WorkbenchError(
                f"Open: {self.path} could not be searched within {PATIENCE:.0f} s; "
                "choose a smaller folder, or one on a local disk."
            )
        if self._error is not None:
            raise self._error
        return self._images


class OpenPanel:
    """The menu for everything that can be opened besides the presets.

    Args:
        session: The page on which it is shown.
        done: Called after something was opened.
    """

    def __init__(self, session: Session, done: Callable[[], None]) -> None:
        self._session, self._done = session, done
        self.runs = w.VBox([])
        self.runs.add_class("wb-runs")
        self.path = w.Text(
            description="File or folder",
            placeholder="run.study, run.ckpt, or a folder of images",
            tooltip="On the computer that serves this page",
        )
        self.open = button(
            session,
            "Show",
            "Show the study, measure the network, or take the images as the dataset",
            self._open_path,
        )
        self.upload = w.FileUpload(
            description="Upload",
            accept=".study,.ckpt,.safetensors",
            tooltip=f"A study or checkpoint of this machine, up to {most_upload()} MB",
        )
        self.upload.add_class("wb-upload")
        self.upload.add_class(f"wb-most-{most_upload()}")  # for upload.js
        said = w.HTML('<span role="status" class="wb-upload-said"></span>')
        self.upload.observe(self._uploaded, names=["value"])
        from_path = w.Box([self.path, self.open])
        from_path.add_class("wb-line")
        self.widget = w.VBox(
            [
                w.HTML("<h2>Your last runs</h2>"),
                self.runs,
                w.HTML("<h2>A study, a checkpoint or a folder of images</h2>"),
                from_path,
                self.upload,
                said,
            ]
        )
        self.widget.add_class("wb-menu")
        session.watch(self._refresh, "runs")

    def refresh(self) -> None:
        """Look up runs again."""
        self._session.look_for_runs()

    def _refresh(self) -> None:
        lines = [self._line(run) for run in self._session.runs]
        none = w.HTML('<p class="wb-muted">None yet: what you train is kept here.</p>')
        self.runs.children = lines or [none]

    def _line(self, run: Run) -> w.Box:
        verb, tooltip = VERBS[run.state]
        pressed = button(self._session, verb, tooltip, partial(self._open_run, run))
        line = w.Box([pressed, w.HTML(f"<span>{escape(run.words)}</span>")])
        line.add_class("wb-line")
        return line

    def _open_run(self, run: Run) -> None:
        self._session.open_run(run.name)
        self._done()

    def _open_path(self) -> None:
        path = typed_path(self.path.value)
        looking = _Looking(path)
        looking.thread.join(AT_ONCE)
        if not looking.thread.is_alive():
            self._open_found(looking)
            return
        self.open.disabled, self.open.description = True, "Looking…"
        threading.Thread(target=self._wait, args=(looking,), daemon=True).start()

    def _wait(self, looking: _Looking) -> None:
        """Wait for a slow disk in the background, without blocking the page."""
        looking.thread.join(PATIENCE)
        with self._session.guarded():
            self.open.disabled, self.open.description = False, "Show"
            self._open_found(looking)

    def _open_found(self, looking: _Looking) -> None:
        images = looking.images()
        if images is None:
            self._session.open_file(looking.path)
        else:
            self._session.change(data="folder", folder=str(looking.path))
            self._session.notice = (
                f"{images[0]} classes, {images[1]:,} images: they are the dataset now, "
                f"press Train. {looking.choice}".rstrip()
            )
        self._done()

    def _uploaded(self, change: Mapping[str, Any]) -> None:
        with self._session.guarded():
            if not change["new"]:
                return
            sent = change["new"][0]
            self.upload.value = ()
            self._open_upload(str(sent["name"]), sent["content"])
            self._done()

    def _open_upload(self, name: str, content: memoryview) -> None:
        if len(content) > most_upload() << 20:
            raise WorkbenchError(
                f"Upload: {name} is {len(content) / 2**20:,.0f} MB and the limit is "
                f"{most_upload()} MB; give the path of the file instead."
            )
        folder = make_run(self._session.folder).path
        suffix = ".ckpt" if name.endswith((".ckpt", ".safetensors")) else ".study"
        path = folder / f"upload{suffix}"
        try:
            write_whole(path, [content], "Upload")
            self._session.open_file(path, name=name)
        except WorkbenchError as error:
            path.unlink(missing_ok=True)
            folder.rmdir()
            said = str(error).replace(str(path), name).replace(path.name, name)
            raise WorkbenchError(said) from error


RECENT = 3600.0  # seconds for which a run is offered unasked; a running one always is
SAID = {
    "running": "is running",
    "finished": "is finished",
    "stopped": "was interrupted; its network is kept",
}


class FoundPanel:
    """Offers the last run to a page without one, such as a reloaded page."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run: Run | None = None
        self.text = w.HTML()
        self.open = button(session, "Show", "Show it on this page", self._open)
        self.close = button(
            session, "Not now", "You can find it later under Open", self._close
        )
        self.widget = w.Box([self.text, self.open, self.close])
        self.widget.add_class("wb-found")
        self._closed = False
        session.watch(self._refresh, "runs", "state", "trained", "source", "locked")

    def _open(self) -> None:
        if self._run is not None:
            self._session.open_run(self._run.name)

    def _close(self) -> None:
        self._closed = True
        self._refresh()

    def _refresh(self) -> None:
        session = self._session
        locked = "open" in session.locked
        self.open.disabled = self.close.disabled = locked
        known = session.state != "idle" or session.trained or session.source
        runs = [
            run
            for run in session.runs
            if run.state == "running" or run.since < RECENT  # since it began
        ]
        self._run = None
        if runs and not (known or locked or self._closed):
            self._run = runs[0]
        self.widget.layout.display = None if self._run else "none"
        if self._run is not None:
            self.text.value = (
                f'<p role="status">Your last run {SAID[self._run.state]}: '
                f"{escape(self._run.words)}.</p>"
            )
            self.open.description = VERBS[self._run.state][0]
