"""The controls: for each panel, a small controller between session and widgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets as w

from workbench.jobs.job import JobEvent
from workbench.page.session import Session
from workbench.page.settings import (
    CONVENTION_LABELS,
    DATA,
    DOWNLOADABLE,
    EMBEDDINGS,
    METRICS,
    MODELS,
    held,
)
from workbench.progress.timing import say_duration
from workbench.ui.chart import curves


class Fold:
    """What one needs for a run of one's own: hidden until it is asked for, or works."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.toggle = w.ToggleButton(
            description="Train your own",
            tooltip="Choose images, a network and a training of your own",
        )
        self.widget = w.VBox([])
        self.widget.add_class("wb-controls")
        self.toggle.observe(lambda _: self._refresh(), names=["value"])
        session.watch(self._look, "state", "trained")
        self._refresh()

    def open(self) -> None:
        """Show the settings, as a press of the button does."""
        self.toggle.value = True

    def _look(self) -> None:
        if self._session.state != "idle" or self._session.trained is not None:
            self.open()

    def _refresh(self) -> None:
        is_open = self.toggle.value
        (self.widget.add_class if is_open else self.widget.remove_class)("wb-open")
        _show(self.widget, is_open)


class SettingsPanel:
    """Data, network and training of the next run."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.data = _choice(DATA, "Dataset", "Which images the network learns")
        self.folder = w.Text(
            description="Path",
            placeholder="/home/me/images",
            tooltip="On the computer that serves this page, with one folder of images "
            "a class",
            continuous_update=False,
        )
        self.download = w.Checkbox(
            description="Download if missing",
            tooltip="Nothing is fetched from the network unless this is ticked",
            indent=False,
        )
        self.per_class = _number(
            "Per class", "Examples of each class; the fewer, the quicker"
        )
        self.model = _choice(MODELS, "Network", "Which network is trained")
        self.epochs = _number(
            "Epochs", "How many times the training goes through all examples"
        )
        self.lr = w.FloatText(
            description="Rate",
            tooltip="Learning rate; divided by ten after one and two thirds of the way",
            step=None,
        )
        self.seed = _number(
            "Seed", "Fixes the choice of examples and the first weights"
        )
        for name in ("data", "folder", "download", "per_class", "model"):
            bind(session, getattr(self, name), name)
        for name in ("epochs", "lr", "seed"):
            bind(session, getattr(self, name), name)
        self.widgets = (
            card("1 · Data", self.data, self.folder, self.download, self.per_class),
            card("2 · Network", self.model, self.seed),
        )
        self.training = (self.epochs, self.lr)
        session.watch(self._refresh, "settings")

    def _refresh(self) -> None:
        data = self._session.settings.data
        _show(self.folder, data == "folder")
        _show(self.download, data in DOWNLOADABLE)


class JobPanel:
    """Train, pause, stop, and progress."""

    def __init__(self, session: Session, *fields: w.Widget) -> None:
        self._session = session
        self.train = button(
            session,
            "Train",
            "Train this network, measure it, and draw what was found",
            session.run,
        )
        self.train.add_class("wb-primary")
        self.pause = button(
            session, "Pause", "Pause after the current batch", self._pause_or_resume
        )
        self.stop = button(
            session, "Stop", "End the work; what was trained is kept", session.stop
        )
        self.go_on = button(
            session,
            "Continue",
            "Go on with the training that was stopped",
            session.continue_training,
        )
        self.progress = w.HTML()
        self.curves = w.HTML()
        self.widget = card(
            "3 · Training",
            *fields,
            _row(self.train, self.pause, self.stop, self.go_on),
            self.progress,
            self.curves,
        )
        session.watch(self._refresh_buttons, "state", "trained", "locked")
        session.watch(self._refresh_progress, "state", "event", "notice")
        session.watch(self._refresh_curves, "history")

    def _pause_or_resume(self) -> None:
        if self._session.state == "paused":
            self._session.resume()
        else:
            self._session.pause()

    def _refresh_buttons(self) -> None:
        state, trained = self._session.state, self._session.trained
        free = state == "idle" and "training" not in self._session.locked
        self.train.disabled = self.go_on.disabled = not free
        self.pause.disabled = self.stop.disabled = state not in ("running", "paused")
        self.pause.description = "Resume" if state == "paused" else "Pause"
        _show(self.go_on, trained is not None and not trained.finished)

    def _refresh_progress(self) -> None:
        session = self._session
        if session.state == "idle":
            self.progress.value = (
                f'<div class="wb-notice" role="status">{escape(session.notice)}</div>'
            )
        else:
            self.progress.value = progress_html(session.event, session.state)

    def _refresh_curves(self) -> None:
        self.curves.value = curves(self._session.history)


class MeasuringPanel:
    """Convention of averaging, and layout of the gradients in the plane."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.weighting = _choice(
            CONVENTION_LABELS,
            "Averages",
            "How the means are taken: changes the formulas, shares and spectrum at "
            "once; the points when they are measured again",
        )
        self.embedding = _choice(
            EMBEDDINGS, "Embedding", "How gradients are laid out in the plane"
        )
        self.metric = _choice(METRICS, "Distance", "Between two gradients")
        self.again = button(
            session,
            "Measure again",
            "Measure your last network with these settings, without training",
            session.measure_again,
        )
        bind(session, self.embedding, "embedding")
        bind(session, self.metric, "metric")
        self.weighting.observe(self._chosen, names=["value"])
        self.widget = card(
            "4 · Measuring",
            self.weighting,
            self.embedding,
            self.metric,
            _row(self.again),
        )
        session.watch(self._refresh, "state", "trained", "weighting", "locked")

    def _chosen(self, change: Mapping[str, Any]) -> None:
        with self._session.guarded():
            self._session.show_weighting(change["new"])

    def _refresh(self) -> None:
        session = self._session
        self.weighting.value = session.weighting
        self.weighting.disabled = "weighting" in held(session.locked)
        idle = session.state == "idle" and "measuring" not in session.locked
        self.again.disabled = not idle or session.trained is None


class ProblemPanel:
    """The red box, which stays until it is closed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.text = w.HTML()
        self.close = button(session, "Close", "Close this message", self._close)
        self.widget = w.Box([self.text, self.close])
        self.widget.add_class("wb-problem")
        session.watch(self._refresh, "problem")

    def _close(self) -> None:
        self._session.problem = None

    def _refresh(self) -> None:
        problem = self._session.problem
        _show(self.widget, problem is not None)
        if problem is None:
            self.text.value = ""
            return
        details = problem.details and (
            f"<details><summary>Details</summary><pre>{escape(problem.details)}</pre>"
            "</details>"
        )
        self.text.value = (
            f'<div role="alert"><p>{escape(problem.sentence)}</p></div>{details}'
        )


def progress_html(event: JobEvent | None, state: str) -> str:
    """Draw a bar for each step of the job, with the stage and the time left."""
    if event is None:  # the worker process is starting
        return _bars([0.0], "Starting…")
    done = event.progress.fraction
    shares = [float(n < event.step) for n in range(event.num_steps)]
    shares[event.step] = done
    stage, detail = event.progress.stage, event.progress.detail
    said = f"<b>{escape(stage)}</b>" + (f": {escape(detail)}" if detail else "")
    if state == "paused":
        after = "paused"
    elif state == "stopping":
        after = "stopping…"
    elif event.seconds_left is not None:
        after = f"{say_duration(event.seconds_left)} left"
        if left := event.num_steps - event.step - 1:
            after += f", then {'measuring' if left > 1 else 'earlier epochs'}"
    else:
        after = f"{say_duration(event.elapsed)} so far"
    return _bars(shares, f'{said} · <span class="wb-muted">{after}</span>')


def _bars(shares: list[float], said: str) -> str:
    bars = "".join(
        f'<div class="wb-step"><div style="width:{share:.1%}"></div></div>'
        for share in shares
    )
    whole = sum(shares) / len(shares)
    return (
        f'<div class="wb-steps" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{100 * whole:.0f}" '
        f'aria-label="Progress">{bars}</div><div class="wb-stage">{said}</div>'
    )


def bind(session: Session, widget: w.Widget, name: str) -> None:
    """Bind a control to a setting; an invalid value is reverted.

    The control is disabled while the setting is locked.
    """

    def chosen(change: Mapping[str, Any]) -> None:
        with session.guarded():
            try:
                session.change(**{name: change["new"]})
            finally:
                widget.value = getattr(session.settings, name)

    def refresh() -> None:
        widget.value = getattr(session.settings, name)
        widget.disabled = name in held(session.locked)

    session.watch(refresh, "settings", "locked")
    widget.observe(chosen, names=["value"])


def button(
    session: Session, label: str, tooltip: str, action: Callable[[], None]
) -> w.Button:
    """Make a button with a guarded action."""

    def clicked(_: w.Button) -> None:
        with session.guarded():
            action()

    made = w.Button(description=label, tooltip=tooltip)
    made.on_click(clicked)
    return made


def card(title: str, *children: w.Widget) -> w.VBox:
    """Group controls under a small heading."""
    box = w.VBox([w.HTML(f"<h2>{escape(title)}</h2>"), *children])
    box.add_class("wb-card")
    return box


def _choice(names: Mapping[str, str], label: str, tooltip: str) -> w.Dropdown:
    options = [(words, name) for name, words in names.items()]
    return w.Dropdown(options=options, description=label, tooltip=tooltip)


def _number(label: str, tooltip: str) -> w.IntText:
    return w.IntText(description=label, tooltip=tooltip)


def _row(*children: w.Widget) -> w.Box:
    row = w.Box(children)
    row.add_class("wb-buttons")
    return row


def _show(widget: w.DOMWidget, visible: bool) -> None:
    widget.layout.display = None if visible else "none"
