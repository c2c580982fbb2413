"""The page: `Workbench().show()` in a notebook, in Voila or in JupyterLab."""

from __future__ import annotations

import os

import ipywidgets as w
from IPython.display import display

from workbench.errors import WorkbenchError
from workbench.jobs.remote import WorkerProcess
from workbench.page.link import read_link
from workbench.page.session import Session
from workbench.page.settings import Limits
from workbench.page.view_state import DEFAULTS
from workbench.ui.bridge import refresh, widget
from workbench.ui.drawer import Drawer, Menu
from workbench.ui.head import HeadPanel
from workbench.ui.opening import FoundPanel, OpenPanel
from workbench.ui.panels import (
    Fold,
    JobPanel,
    MeasuringPanel,
    ProblemPanel,
    SettingsPanel,
    button,
)
from workbench.ui.query import has_address, query_string
from workbench.ui.share import CodePanel, SharePanel
from workbench.ui.takeaway import FILES, answer
from workbench.ui.theme import page_style
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.seen import seen_html
from workbench.ui.views.state import LinkState


class Workbench:
    """The whole page over one session.

    Args:
        session: The state to show; by default a new one with the shipped example. With
            ``WORKBENCH_WARM_UP=0`` a new one does not load torch in advance.
    """

    def __init__(self, session: Session | None = None) -> None:
        if session is None:
            keep = os.environ.get("WORKBENCH_WARM_UP", "1") != "0"
            session = Session(worker=WorkerProcess(keep=keep))
        self.session = session
        if session.study is None:
            with session.guarded():
                session.open_preset()
        self.opening = OpenPanel(session, lambda: self.drawer.open(""))
        self.share, self.code = SharePanel(session), CodePanel(session)
        self.drawer = Drawer(
            session,
            Menu(
                "open",
                "Open",
                "Your last runs, or a file or image folder of your own",
                self.opening.widget,
                self.opening.refresh,
            ),
            Menu("share", "Share", "A link to this page", self.share.widget),
            Menu("code", "Code", "The Python that makes this", self.code.widget),
        )
        self.study = StudyPanel(session)
        self.fold = Fold(session)
        self.head = HeadPanel(
            session,
            self.drawer.buttons,
            lambda: self.drawer.open("open"),
            self.study.pin,
            self.fold.toggle,
        )
        self.found = FoundPanel(session)
        self.problem = ProblemPanel(session)
        self.settings = SettingsPanel(session)
        self.job = JobPanel(session, *self.settings.training)
        self.measuring = MeasuringPanel(session)
        self.fold.widget.children = (
            *self.settings.widgets,
            self.job.widget,
            self.measuring.widget,
        )
        self.study.widget.add_class("wb-main")
        body = w.Box([self.fold.widget, self.study.widget])
        body.add_class("wb-body")
        parts = [
            w.HTML(f"<style>{page_style()}</style>"),
            self.head.widget,
            self.drawer.widget,
            self.found.widget,
            self.problem.widget,
            self.study.said,
            body,
        ]
        self.widget = w.VBox(parts)
        self.widget.add_class("workbench")
        session.watch(self._hide, "hidden")

    def show(self) -> None:
        """Display the page as the output of this cell, as its address asks for."""
        if not has_address():  # a link would lead to a notebook and restore nothing
            self.drawer.toggles["share"].layout.display = "none"
        query = query_string()
        with self.session.guarded():
            self.session.look_for_runs()
            if query:
                link = read_link(query)
                link.open(self.session)
                self.study.refresh()
                if link.run or link.locked or link.limits != Limits():
                    self.fold.open()
        display(self.widget)

    def controls(self) -> dict[str, tuple[w.DOMWidget, ...]]:
        """The controls that a teacher's link can hide, by name."""
        settings, measuring, toggles = (
            self.settings,
            self.measuring,
            self.drawer.toggles,
        )
        data, network = settings.widgets
        return {
            "presets": (self.head.choosing,),
            "open": (toggles["open"], self.found.widget),
            "share": (toggles["share"],),
            "code": (toggles["code"],),
            "data": (data,),
            "network": (network,),
            "training": (self.job.widget, self.head.live),
            "measuring": (measuring.widget,),
            "dataset": (settings.data, settings.folder, settings.download),
            "per_class": (settings.per_class,),
            "model": (settings.model,),
            "epochs": (settings.epochs,),
            "lr": (settings.lr,),
            "weight_decay": (settings.weight_decay,),
            "batch_size": (settings.batch_size,),
            "seed": (settings.seed,),
            "weighting": (measuring.weighting,),
            "embedding": (measuring.embedding,),
            "metric": (measuring.metric,),
        }

    def _hide(self) -> None:
        for name, widgets in self.controls().items():
            hidden = name in self.session.hidden
            for part in widgets:
                (part.add_class if hidden else part.remove_class)("wb-hidden")
        empty = self.session.hidden >= {"data", "network", "training", "measuring"}
        fold = self.fold.toggle
        (fold.add_class if empty else fold.remove_class)("wb-hidden")


PINNED = "This study is pinned: open or train another to see both."


class StudyPanel:
    """The linked pictures of the study, with an explanation in words."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.view: LinkedView | None = None
        self._picture: w.DOMWidget | None = None
        self.words = w.HTML()
        self.widget = w.VBox([self.words])
        self.pin = button(
            session,
            "Pin this study",
            "See another study, or another epoch of this one, against what is shown",
            self._pin,
        )
        self.said = w.HTML()
        session.watch(self._refresh, "study", "weighting", "pinned")
        session.watch(self._look, "view")

    def refresh(self) -> None:
        """Redraw before anyone has seen the page, as if nothing had been drawn."""
        if self.view is not None and self._picture is not None:
            refresh(self._picture, self.view.layout)

    def _pin(self) -> None:
        if self._session.pinned is None:
            self._session.pin()
        else:
            self._session.unpin()

    def _looked(self, state: LinkState) -> None:
        """Store in the session what is selected and shown in the pictures."""
        with self._session.guarded():
            # Not a file being downloaded: Bokeh ties a dict to every state that ever
            # held it, and so those to each other.
            self._session.view = {name: getattr(state, name) for name in DEFAULTS}

    def _look(self) -> None:
        """Select and show what the session holds."""
        if self.view is not None:
            state, view = self.view.state, self._session.view
            state.update(**{k: v for k, v in view.items() if getattr(state, k) != v})

    def _answer(self, _: LinkState) -> None:
        with self._session.guarded():
            if self.view is not None:
                answer(self.view)

    def _refresh(self) -> None:
        study, weighting = self._session.study, self._session.weighting
        if study is None:
            self.words.value = "<p>Nothing is measured yet: press Train.</p>"
            return
        if weighting not in study.levels:
            raise WorkbenchError(
                f"Averages: this study contains {', '.join(study.levels)} but not "
                f"{weighting}. For a network of your own, press Measure again."
            )
        pinned = self._session.pinned
        beside = None if pinned is study else pinned
        if self.view is None:
            self.view = LinkedView(study, weighting=weighting, files=FILES)
            self.view.observe(self._answer)
            self.view.observe(self._looked)
            self._picture = widget(self.view.layout)
            self.widget.children = (self._picture, self.words)
        else:
            self.view.show(study, weighting=weighting, pinned=beside)
        self.pin.description = "Pin this study" if pinned is None else "Unpin"
        self.said.value = "" if pinned is not study else PINNED
        self._looked(self.view.state)
        moment = self.view.state.moment
        self.words.value = seen_html(study, weighting, moment, beside)
