"""A page as a link: what it shows, and what a teacher hides, locks and limits.

The query string of the page's address, such as ``v=1&preset=few&level=2&class=3``. All
values are untrusted and checked before any is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from workbench.errors import WorkbenchError
from workbench.page.presets import find_preset
from workbench.page.session import Session
from workbench.page.settings import CONTROLS, Limits, RunSettings
from workbench.page.view_state import BY_LINK, DEFAULTS, Property
from workbench.study.convention import CONVENTIONS

VERSION = 1
LONGEST = 4096  # characters
RUN = (
    "data", "per_class", "model", "epochs", "lr", "weight_decay", "seed", "embedding",
    "metric",
)  # fmt: skip
CAPS = {"max_epochs": "epochs", "max_per_class": "per_class"}
FOREIGN = ("token", "theme")  # read by the server and in the browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The contents of a link."""

    preset: str = ""
    weighting: str = ""
    pin: str = ""  # the pinned preset
    view: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    locked: frozenset[str] = frozenset()
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen

    def open(self, session: Session) -> None:
        """Show this link's contents on the page.

        Raises:
            WorkbenchError: If its study does not contain what it selects.
        """
        with session.lock:
            session.limits = self.limits
            session.settings = session.settings.within(self.limits)
            session.locked = frozenset()
            try:
                self._show(session)
            finally:
                session.hidden, session.locked = self.hidden, self.hidden | self.locked

    def _show(self, session: Session) -> None:
        if self.preset:
            session.open_preset(self.preset)
        if self.run:
            session.settings = session.settings.changed(self.limits, **self.run)
        if self.weighting:
            session.show_weighting(self.weighting)
        if self.pin:
            session.pin(self.pin)
        self._check(session)
        session.view = {**session.view, **self.view}

    def _check(self, session: Session) -> None:
        study = session.study
        if study is None:
            return
        bounds = {
            "level": 4,
            "moment": len(study.film),
            "class": study.num_classes,
            "outlier": min(
                study.num_leading, len(study.levels[session.weighting].overlap)
            ),
            "count": max(2, study.num_outliers + 1, study.num_leading),
        }
        for name, bound in bounds.items():
            asked = self.view.get(BY_LINK[name].name, 0)
            if asked >= bound:
                raise WorkbenchError(
                    f"Link: {name} {asked} is not in this study; the last one is "
                    f"{bound - 1}."
                )
        operator = self.view.get("operator", DEFAULTS["operator"])
        if operator not in (*study.spectra, "all"):
            raise WorkbenchError(f"Link: this study has no spectrum of {operator}.")


def read_link(query: str) -> Link:
    """Parse a query string; an empty one gives an empty link.

    Raises:
        WorkbenchError: If anything in it is unknown or out of range.
    """
    if len(query) > LONGEST:
        raise WorkbenchError(
            f"Link: it has {len(query)} characters and the limit is {LONGEST}; copy "
            "the link again from the page."
        )
    given = dict(parse_qsl(query.lstrip("?"), keep_blank_values=True))
    for name in FOREIGN:
        given.pop(name, None)
    version = given.pop("v", str(VERSION))
    if version != str(VERSION):
        raise WorkbenchError(
            f"Link: it has version {version} and this page reads version {VERSION}; "
            "copy it again from the page."
        )
    named = ("preset", "weighting", "pin")
    words = {name: given.pop(name) for name in named if name in given}
    for name in {"preset", "pin"} & set(words):
        find_preset(words[name])
    if words.get("weighting", "icml") not in CONVENTIONS:
        raise WorkbenchError(
            f"Link: weighting is {words['weighting']!r}; choose one of "
            f"{', '.join(CONVENTIONS)}."
        )
    hidden, locked = (_controls(given.pop(name, "")) for name in ("hide", "lock"))
    limits = _limits(
        {name: given.pop(cap) for cap, name in CAPS.items() if cap in given}
    )
    view = {
        held.name: _viewed(held, given.pop(name))
        for name, held in BY_LINK.items()
        if name in given
    }
    run = {name: given.pop(name) for name in RUN if name in given}
    if given:
        raise WorkbenchError(
            f"Link: {', '.join(sorted(given))[:80]} is unknown to this page; copy the "
            "link again from a page, or see the README for what it can contain."
        )
    RunSettings().changed(limits, **run)
    return Link(
        **words, view=view, run=run, hidden=hidden, locked=locked, limits=limits
    )


def write_link(session: Session) -> str:
    """Return the query string that reproduces this page."""
    settings, view = session.settings, session.view
    told: dict[str, Any] = {"v": VERSION}
    if session.preset:
        told["preset"] = session.preset
        usual = find_preset(session.preset).settings.within(session.limits)
    else:
        usual = RunSettings(data="")
    told["weighting"] = session.weighting
    if session.pinned_preset:
        told["pin"] = session.pinned_preset
    for name, held in BY_LINK.items():
        if not session.preset and held.stays != "any study":
            continue
        if view.get(held.name, held.default) != held.default:
            told[name] = view[held.name]
    if view.get("theme", DEFAULTS["theme"]) != DEFAULTS["theme"]:
        told["theme"] = view["theme"]
    for name in RUN:
        value = getattr(settings, name)
        if value != getattr(usual, name) and value != "folder":
            told[name] = value
    for name, names in (("hide", session.hidden), ("lock", session.locked)):
        if names:
            told[name] = ",".join(sorted(names))
    for cap, name in CAPS.items():
        if getattr(session.limits, name) != getattr(Limits(), name):
            told[cap] = getattr(session.limits, name)[1]
    return urlencode(told, safe=",")


def _controls(text: str) -> frozenset[str]:
    names = frozenset(name for name in text.split(",") if name)
    if unknown := sorted(names - set(CONTROLS)):
        raise WorkbenchError(
            f"Link: there is no control {unknown[0][:40]!r} to hide or lock; choose "
            f"one of {', '.join(CONTROLS)}."
        )
    return names


def _limits(caps: Mapping[str, str]) -> Limits:
    limits = Limits()
    for name, text in caps.items():
        low, high = getattr(limits, name)
        number = int(text) if text.isdecimal() and len(text) < 10 else -1
        if not low <= number <= high:
            raise WorkbenchError(
                f"Link: max_{name} is {text[:40]!r}; give a whole number from {low} "
                f"to {high}."
            )
        limits = replace(limits, **{name: (low, number)})
    return limits


def _viewed(held: Property, text: str) -> int | float | str:
    words = {str(value): value for value in held.choices}
    if held.several:
        if set(filter(None, text.split(","))) <= set(words):
            return text
        wanted = f"some of {','.join(sorted(words))}"
    elif words:
        if text in words:
            return words[text]
        wanted = f"one of {', '.join(words)}"
    else:
        if text.isdecimal() and len(text) < 6:
            return int(text)
        wanted = "a whole number, at least 0"
    raise WorkbenchError(f"Link: {held.link} is {text[:40]!r}; it can be {wanted}.")
