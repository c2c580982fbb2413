"""The page: `Workbench().show()` in a notebook, in Voila or in JupyterLab."""

from __future__ import annotations

import os
from html import escape

import ipywidgets as w
from IPython.display import display

from workbench.errors import WorkbenchError
from workbench.session import Session
from workbench.ui.bridge import widget
from workbench.ui.panels import (
    JobPanel,
    MeasuringPanel,
    ProblemPanel,
    SettingsPanel,
)
from workbench.ui.takeaway import FILES, answer
from workbench.ui.theme import page_style
from workbench.ui.views.explain import explain
from workbench.ui.views.glossary import explained
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.overlap import overlap_html
from workbench.ui.views.state import LinkState
from workbench.ui.views.words import run_in_words

LEAD = (
    "Each dot is a gradient: how one image, under one possible label, pulls on the "
    "network's weights. Press <b>Play</b> to average them over images, then labels: a "
    "few directions remain; below you see how far the outliers of the spectrum point "
    "along them."
)


class Workbench:
    """The whole page over one session.

    Args:
        session: The state to show; by default a new one with the shipped example.
            ``WORKBENCH_WARM_UP=0`` keeps a new one from loading torch ahead of need.
    """

    def __init__(self, session: Session | None = None) -> None:
        if session is None:
            warm_up = os.environ.get("WORKBENCH_WARM_UP", "1") != "0"
            session = Session(warm_up=warm_up)
        self.session = session
        if session.study is None:
            session.open_example()
        self.head = HeadPanel(session)
        self.problem = ProblemPanel(session)
        self.settings = SettingsPanel(session)
        self.job = JobPanel(session, *self.settings.training)
        self.measuring = MeasuringPanel(session)
        self.study = StudyPanel(session)
        controls = w.VBox(
            [*self.settings.widgets, self.job.widget, self.measuring.widget]
        )
        controls.add_class("wb-controls")
        self.study.widget.add_class("wb-main")
        body = w.Box([controls, self.study.widget])
        body.add_class("wb-body")
        parts = [
            w.HTML(f"<style>{page_style()}</style>"),
            self.head.widget,
            self.problem.widget,
            body,
        ]
        self.widget = w.VBox(parts)
        self.widget.add_class("workbench")

    def show(self) -> None:
        """Display the page as the output of this cell."""
        display(self.widget)


class HeadPanel:
    """Title, what is shown, and what computes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.widget = w.HTML()
        session.watch(self._refresh, "study", "is_example", "device")

    def _refresh(self) -> None:
        session = self._session
        badge, about = "", ""
        if session.study is not None:
            kind, words = ("own", "your run")
            if session.is_example:
                kind, words = ("example", "example")
            badge = f'<span class="wb-badge wb-badge-{kind}">{words}</span>'
            about = run_in_words(session.study.run)
        self.widget.value = (
            '<div class="wb-head"><h1>Three-level structure of the Hessian</h1>'
            f'{badge}<span class="wb-badge" title="What this page computes on">'
            f"{escape(session.device)}</span>"
            f'<span class="wb-about">{escape(about)}</span></div>'
            f'<p class="wb-lead">{LEAD}</p>'
        )


class StudyPanel:
    """The linked pictures of the study, and what they show in words."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._view: LinkedView | None = None
        self.words = w.HTML()
        self.widget = w.VBox([self.words])
        session.watch(self._refresh, "study", "weighting")

    def _answer(self, _: LinkState) -> None:
        with self._session.guarded():
            if self._view is not None:
                answer(self._view)

    def _refresh(self) -> None:
        study, weighting = self._session.study, self._session.weighting
        if study is None:
            self.words.value = "<p>Nothing is measured yet: press Train.</p>"
            return
        if weighting not in study.levels:
            raise WorkbenchError(
                f"Averages: this study holds {', '.join(study.levels)} and not "
                f"{weighting}; Measure again gives it, on a network of your own."
            )
        if self._view is None:
            self._view = LinkedView(study, weighting=weighting, files=tuple(FILES))
            self._view.observe(self._answer)
            self.widget.children = (widget(self._view.layout), self.words)
        else:
            self._view.show(study, weighting=weighting)
        self.words.value = (
            '<section class="wb-words"><h2>What am I seeing?</h2>'
            f"{explained(explain(study, weighting))}"
            "<details><summary>The overlaps as a table</summary>"
            f'<div class="wb-scroll">{overlap_html(study, weighting)}</div></details>'
            "</section>"
        )
