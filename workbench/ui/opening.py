"""Open: runs of before, a file or an image folder of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w

from workbench.container import write_whole
from workbench.errors import WorkbenchError, readable
from workbench.files import UPLOAD
from workbench.imagefolder import count_images, describe_choice
from workbench.runs import Run, make_run
from workbench.session import Session
from workbench.ui.panels import button

VERBS = {
    "running": ("Watch", "It is at work now"),
    "finished": ("Show", "Show what it found"),
    "stopped": (
        "Continue with it",
        "Its network is kept: measure it, or train on",
    ),
}


class OpenPanel:
    """What one can open, beside the presets.

    Args:
        session: Where it is shown.
        done: Called when something was opened.
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
            tooltip=f"A study or checkpoint of this machine, up to {UPLOAD >> 20} MB",
        )
        self.upload.add_class("wb-upload")
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
            ]
        )
        self.widget.add_class("wb-menu")
        session.watch(self._refresh, "runs")

    def refresh(self) -> None:
        """Look for runs again."""
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
        text = self.path.value.strip()
        if not text:
            raise WorkbenchError("Open: no path is given; type one.")
        with readable("Open", text):
            path = Path(text).expanduser()
            is_folder = path.is_dir()
        if is_folder:
            num_classes, num_images = count_images(path)
            self._session.change(data="folder", folder=text)
            self._session.notice = (
                f"{num_classes} classes, {num_images:,} images: they are the dataset "
                f"now, press Train. {describe_choice(path)}".rstrip()
            )
        else:
            self._session.open_file(text)
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
        if len(content) > UPLOAD:
            raise WorkbenchError(
                f"Upload: {name} has {len(content) / 2**20:,.0f} MB and at most "
                f"{UPLOAD >> 20} MB are taken; give the path of the file instead."
            )
        folder = make_run(self._session.folder).path
        suffix = ".ckpt" if name.endswith((".ckpt", ".safetensors")) else ".study"
        path = folder / f"upload{suffix}"
        try:
            write_whole(path, bytes(content), "Upload")
            self._session.open_file(path, name=name)
        except WorkbenchError as error:
            path.unlink(missing_ok=True)
            folder.rmdir()
            said = str(error).replace(str(path), name).replace(path.name, name)
            raise WorkbenchError(said) from error


RECENT = 3600.0  # seconds for which a run is offered by itself; one at work always is
SAID = {
    "running": "is at work",
    "finished": "is finished",
    "stopped": "was cut off; its network is kept",
}


class FoundPanel:
    """Offers the last run to a page that knows of none: one that was reloaded."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run: Run | None = None
        self.text = w.HTML()
        self.open = button(session, "Show", "Show it on this page", self._open)
        self.close = button(session, "Not now", "The menu Open keeps it", self._close)
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
