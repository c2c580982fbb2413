"""The linked pair: embedding, spectrum, overlap table and stepper in one layout.

Everything that a person can do here happens in the browser (``browser/*.js``), so it
works while the kernel is busy and in an exported page without one. Python builds the
layout and may set or observe `LinkedView.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import EllipsisType, MappingProxyType
from typing import Any

from bokeh.events import ButtonClick, Tap
from bokeh.models import (
    Button,
    Column,
    CustomJS,
    LayoutDOM,
    Model,
    Plot,
    Slider,
    Span,
    ToggleButtonGroup,
)

from workbench.errors import WorkbenchError
from workbench.study.records import CLASS_PART, Levels, Study
from workbench.ui.theme import (
    AUTO,
    MARKERS,
    THEMES,
    Theme,
    get_theme,
    plain,
    roles,
    variables,
)
from workbench.ui.views.arrange import arrange, asset
from workbench.ui.views.axis import SCALES
from workbench.ui.views.bar import PICTURES, THEME_NAMES, TYPES, build_bar
from workbench.ui.views.compare import GHOST_TOP, MODES, build_compare
from workbench.ui.views.controls import (
    KNOCKOUTS,
    build_controls,
    describe_rule,
    hint,
)
from workbench.ui.views.embedding import build_embedding
from workbench.ui.views.film import build_film
from workbench.ui.views.frame import tip_style
from workbench.ui.views.overlap import build_overlap, overlaps
from workbench.ui.views.parts import HEIGHTS, parts_of
from workbench.ui.views.spectrum import (
    ALL,
    STICK_TOP,
    build_spectrum,
    describe_spectrum,
)
from workbench.ui.views.state import LinkState
from workbench.ui.views.stepper import SPEEDS, build_stepper
from workbench.ui.views.titles import LABELS, build_titles
from workbench.ui.views.tour import STOPS
from workbench.ui.views.words import stem, symbol

# Joined in this order; a new part's file stands before pair.js, which lists the parts.
SCRIPTS = (
    "base",
    "stepper",
    "still",
    "sheet",
    "brush",
    "marks",
    "film",
    "spectrum",
    "compare",
    "table",
    "controls",
    "look",
    "bar",
    "tour",
    "pair",
)
STATE = tuple(sorted(LinkState.properties() - Model.properties()))
LASTING = ("operator", "scale", "parts", "speed", "theme", "compare")  # of any study
KEPT = (  # of the same one, drawn anew
    *LASTING,
    "selected_class",
    "selected_outlier",
    "level",
    "num_outliers",
    "knockout",
    "moment",
)


class LinkedView:
    """The pair of views of one study, in one Bokeh layout.

    ``layout`` stays the same object for good; ``show`` replaces what is in it by one
    single change, so that no half-new picture is ever seen.

    Args:
        study: What to draw.
        theme: ``"light"``, ``"dark"`` or ``"projector"``; ``"auto"`` follows the host.
        weighting: Which convention of averages; by default the study's own.
        files: What can be asked for, the words on each button and its tooltip:
            `LinkState.wanted` becomes the words, and who observes the state answers by
            `LinkState.parcel`.
    """

    def __init__(
        self,
        study: Study,
        *,
        theme: str = AUTO,
        weighting: str | None = None,
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._files = dict(files)
        self._theme = get_theme("light" if theme == AUTO else theme)
        self._observers: list[Callable[[LinkState], None]] = []
        self.layout = Column(
            sizing_mode="stretch_width", name="linked", margin=0, syncable=False
        )
        self.study: Study | None = None
        self.pinned: Study | None = None
        self.weighting = ""
        self.state = LinkState(name="state", theme=theme)
        self.show(study, weighting=weighting)

    def show(
        self,
        study: Study,
        *,
        weighting: str | None = None,
        pinned: Study | EllipsisType | None = ...,
    ) -> None:
        """Draw another study, or the same one in another weighting.

        Operator, scale, parts, speed and theme stay as they were; the rest starts
        anew, but where it is the same measurement with more moments. What is shown
        already is not drawn again.

        Args:
            study: What to draw.
            weighting: Which convention of averages; by default the study's own.
            pinned: What to draw along, see `compare`; by default what was.

        Raises:
            WorkbenchError: If the study does not hold that weighting.
        """
        chosen = weighting or study.weighting
        if chosen not in study.levels:
            raise WorkbenchError(
                f"show: this study was not measured with weighting {chosen!r}; "
                f"it holds {', '.join(study.levels)}."
            )
        beside = self.pinned if isinstance(pinned, EllipsisType) else pinned
        is_new = study is not self.study or chosen != self.weighting
        if is_new or beside is not self.pinned:
            same = self.study is not None and _same_measurement(study, self.study)
            kept = KEPT if same and chosen == self.weighting else LASTING
            self._draw(study, chosen, beside, kept)

    def compare(self, other: Study | None, *, mode: str | None = None) -> None:
        """Pin another study, or unpin it; what is selected and shown stays.

        Args:
            other: What is drawn along, on the same axes and with the same selection;
                None for nothing. Where it has another number of classes, its spectra
                only.
            mode: ``"ghost"``, behind, or ``"beside"``; by default as it was.

        Raises:
            WorkbenchError: If there is no such mode.
        """
        mode = mode or self.state.compare
        if mode not in MODES:
            raise WorkbenchError(f"compare: {mode!r} is none of {', '.join(MODES)}.")
        assert self.study is not None
        if other is not self.pinned:
            self._draw(self.study, self.weighting, other, KEPT)
        self.state.compare = mode

    def _draw(
        self, study: Study, weighting: str, pinned: Study | None, kept: Sequence[str]
    ) -> None:
        """Replace what is in the layout; these properties of the state stay."""
        taken = {name: getattr(self.state, name) for name in kept}
        operators = [*study.spectra, ALL] if len(study.spectra) > 1 else ["G"]
        state = LinkState(name="state", **taken)
        if state.operator not in operators:
            state.operator = "G"
        before = {"id": self.state.id, "taken": taken, "operators": operators}
        levels = study.levels[weighting]
        pair = build_pair(
            study, levels, self._theme, state, self._files, pinned, before
        )
        for name in STATE:
            state.on_change(name, self._changed)
        self.study, self.weighting, self.state = study, weighting, state
        self.pinned = pinned
        self.layout.children = [pair]

    def observe(self, callback: Callable[[LinkState], None]) -> None:
        """Call back with the state after each change, made here or in the browser.

        One change may be told twice: the callback must bear that.
        """
        self._observers.append(callback)

    def _changed(self, _attr: str, _old: Any, _new: Any) -> None:
        for callback in self._observers:
            callback(self.state)


def _same_measurement(one: Study, other: Study) -> bool:
    """Whether two studies differ in their moments at most."""
    marks = [(s.created, s.class_names, s.run) for s in (one, other)]
    return one.created != "" and marks[0] == marks[1]


def build_pair(
    study: Study,
    levels: Levels,
    theme: Theme,
    state: LinkState,
    files: Mapping[str, str] = MappingProxyType({}),
    pinned: Study | None = None,
    before: Mapping[str, Any] = MappingProxyType({}),
) -> LayoutDOM:
    """Build all views of a study and tie them together in the browser.

    ``before`` says which state this one follows, and what was taken over from it: what
    a person changes there while this pair is on its way is taken over in the browser.
    """
    embedding = build_embedding(study, theme)
    spectrum = build_spectrum(study, levels, theme, pinned)
    compare = None
    if pinned is not None:
        compare = build_compare(
            study, pinned, levels.weighting, theme, embedding, spectrum
        )
    overlap = build_overlap(study, levels, theme)
    stepper = build_stepper(study, levels)
    parts = parts_of(study, levels, theme)
    controls = build_controls(study, overlap.num_rows, parts)
    film = build_film(study, levels, theme, spectrum)
    if compare is not None:
        compare.widen(film)
    bar = build_bar(files)
    layout = arrange(
        study,
        levels,
        theme,
        embedding=embedding,
        spectrum=spectrum,
        overlap=overlap,
        stepper=stepper,
        controls=controls,
        film=film,
        compare=compare,
        bar=bar,
    )
    views = {
        "embedding": embedding,
        "spectrum": spectrum,
        "overlap": overlap,
        "stepper": stepper,
        "controls": controls,
        "film": film,
        **({} if compare is None else {"compare": compare}),
        "bar": bar,
    }
    act = CustomJS(
        name="act",
        code="\n".join(asset(f"browser/{name}.js") for name in SCRIPTS),
        args={
            "state": state,
            "models": {
                **{name: _fields(view) for name, view in views.items()},
                "look": {"layout": layout},
            },
            "told": {**_told(study, levels, theme, files), "before": dict(before)},
        },
    )
    for name in STATE:
        state.js_on_change(name, act)
    _wire(layout, act)
    embedding.figure.js_on_change("inner_width", act)  # it is on the page now
    # jupyter_bokeh sends every change of a property to the kernel, each frame of an
    # animation included. Only the state is worth it.
    for model in layout.references() - {state}:
        model.syncable = False
    return layout


def _wire(layout: LayoutDOM, act: CustomJS) -> None:
    """Let each control that has a name ask the browser's half, by that name."""
    for model in layout.references():
        if model.name is None:
            continue
        if isinstance(model, Button):
            model.js_on_event(ButtonClick, act)
        elif isinstance(model, Plot):
            model.js_on_event(Tap, act)
        elif isinstance(model, ToggleButtonGroup):
            model.js_on_change("active", act)
        elif isinstance(model, Slider):
            model.js_on_change("value", act)
        elif isinstance(model, Span):
            model.js_on_change("location", act)


def _fields(view: Any) -> dict[str, Any]:
    """The parts of a view, by name, as the browser's half sees them."""
    named = {field.name: getattr(view, field.name) for field in fields(view)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in named.items()}


def _told(
    study: Study, levels: Levels, theme: Theme, files: Mapping[str, str]
) -> dict[str, Any]:
    """Plain values that the browser needs beside the models."""
    share = overlaps(study, levels)
    return {
        "initial": {name: getattr(LinkState(), name) for name in STATE},
        "classNames": [plain(name, 40) for name in study.class_names],
        "themes": {name: _look(theme) for name, theme in THEMES.items()},
        "themeNames": list(THEME_NAMES),
        "built": theme.name,
        "pictures": list(PICTURES),
        "types": list(TYPES),
        "stem": stem(study),
        "overlap": share.tolist(),
        "hint": hint(study),
        "notes": {name: describe_spectrum(study, name) for name in study.spectra},
        "automatic": study.num_outliers,
        "rule": describe_rule(study),
        "partName": symbol(CLASS_PART[levels.weighting]),
        "parts": [part.role for part in parts_of(study, levels, theme)],
        "partTops": HEIGHTS,
        "tour": [list(stop) for stop in STOPS],
        "labels": LABELS,
        "titles": build_titles(study, parts_of(study, levels, theme), files),
        "files": list(files),
        "speeds": list(SPEEDS),
        "scales": list(SCALES),
        "knockouts": list(KNOCKOUTS),
        "markers": dict(MARKERS),
        "stickTop": STICK_TOP,
        "ghostTop": GHOST_TOP,
        "compareModes": list(MODES),
    }


def _look(theme: Theme) -> dict[str, Any]:
    """A theme as the browser's half sees it."""
    return {
        "colors": roles(theme),
        "variables": variables(theme),
        "type": theme.type,
        "marks": theme.marks,
        "tip": tip_style(theme),
    }
