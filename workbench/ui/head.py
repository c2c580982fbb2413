"""The top of the page: title, presets and menus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets as w

from workbench.page.presets import (
    CONTRASTS,
    PRESETS,
    Contrast,
    contrasts_of,
    find_preset,
    find_shipped,
)
from workbench.page.session import Session
from workbench.ui.panels import button
from workbench.ui.views.words import QUESTION, run_in_words

OWN = "Your own…"
SHOWN = "No preset"  # if opening one's own is locked


def _choices(own: str) -> list[tuple[str, str]]:
    presets = [(preset.title, preset.name) for preset in PRESETS]
    return [*presets, (own, "")] if own else presets


class HeadPanel:
    """Title, presets, menus, and a sentence on what is shown.

    Args:
        session: The state of the page.
        menus: Buttons on the right.
        own: Called when the user wants to open something of their own.
        pin: The button that pins the study shown.
        fold: The button that shows and hides the settings of a run.
    """

    def __init__(
        self,
        session: Session,
        menus: w.Widget,
        own: Callable[[], None],
        pin: w.Widget,
        fold: w.Widget,
    ) -> None:
        self._session, self._own = session, own
        self.title, self.words = w.HTML(), w.HTML()
        self.presets = w.Dropdown(
            options=_choices(OWN),
            description="Show",
            tooltip="Networks that were measured before: each opens at once",
        )
        self.live = button(
            session,
            "Run this live",
            "Train and measure this network here and now, with the same settings",
            session.run,
        )
        self.presets.observe(self._chosen, names=["value"])
        self.choosing = w.Box([self.presets, self.live])
        right = w.Box([pin, menus])
        self._beside = w.HTML("Compare with:")
        self._contrasts = {one.name: self._contrast(one) for one in CONTRASTS}
        self.told = w.Box([self.words])
        lines = [w.Box([self.title, right]), w.Box([self.choosing, fold, self.told])]
        for box, name in (
            (self.choosing, "wb-choosing"),
            (self.told, "wb-told"),
            (self._beside, "wb-muted"),
            (right, "wb-menus"),
            *((line, "wb-bar") for line in lines),
        ):
            box.add_class(name)
        lines[1].add_class("wb-shown")
        self.widget = w.VBox(lines)
        session.watch(self._refresh_choices, "preset", "locked")
        session.watch(self._refresh, "study", "preset", "source", "device")
        session.watch(self._refresh_buttons, "state", "preset", "locked")
        session.watch(self._refresh_contrasts, "preset", "pinned_preset")

    def _chosen(self, change: Mapping[str, Any]) -> None:
        session = self._session
        with session.guarded():
            try:
                if change["new"] == "":
                    self._own()
                elif change["new"] != session.preset:
                    session.open_preset(change["new"])
            finally:
                self.presets.value = session.preset

    def _refresh_choices(self) -> None:
        """Offer nothing that is locked; the study shown is always among the choices."""
        session = self._session
        own = OWN
        if "open" in session.locked:
            own = "" if session.preset else SHOWN
        self.presets.unobserve(self._chosen, names=["value"])
        self.presets.options = _choices(own)
        self.presets.value = session.preset
        self.presets.observe(self._chosen, names=["value"])

    def _refresh_buttons(self) -> None:
        session = self._session
        self.presets.disabled = "presets" in session.locked
        locked = not session.locked.isdisjoint(("presets", "training"))
        self.live.disabled = locked or session.state != "idle"
        self.live.layout.display = None if session.preset else "none"

    def _refresh_contrasts(self) -> None:
        """Offer what differs in one thing; its sentence stands while it is compared."""
        session = self._session
        offered = contrasts_of(session.preset)
        buttons = [self._contrasts[one.name] for one in offered]
        self.told.children = [
            self.words,
            *([self._beside, *buttons] if offered else []),
        ]
        for name, made in self._contrasts.items():
            shown = name == session.contrasted
            (made.add_class if shown else made.remove_class)("mod-active")
        told = find_preset(session.preset).sentence if session.preset else ""
        if session.contrasted:
            told = find_shipped(session.contrasted).sentence
        self.words.value = escape(told)

    def _contrast(self, one: Contrast) -> w.Button:
        return button(
            self._session,
            one.title,
            f"Show this beside, on the same axes. {one.sentence}",
            lambda: self._session.contrast(one.name),
        )

    def _refresh(self) -> None:
        session = self._session
        badge, about = "", ""
        if session.study is not None:
            kind, words = ("own", session.source or "your run")
            if session.is_example:
                kind, words = ("example", "example")
            badge = f'<span class="wb-badge wb-badge-{kind}">{escape(words)}</span>'
            about = run_in_words(session.study.run)
        self.title.value = (
            f'<div class="wb-head"><h1>{QUESTION}</h1>'
            f'{badge}<span class="wb-about">{escape(about)}<span class="wb-device">'
            f" · on {escape(session.device)}</span></span></div>"
        )
