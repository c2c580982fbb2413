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

from bokeh.events import ButtonClick, Event, Tap
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
from workbench.page.view_state import BY_NAME, OF_ANY_STUDY, OF_THE_SAME_STUDY
from workbench.study.records import Study
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
from workbench.ui.views.arrange import arrange, legend
from workbench.ui.views.bar import PICTURES, THEME_NAMES, TYPES, build_bar
from workbench.ui.views.compare import GHOST_TOP, MODES, build_compare
from workbench.ui.views.controls import (
    build_controls,
    describe_rule,
    hint,
)
from workbench.ui.views.embedding import build_embedding
from workbench.ui.views.film import build_film
from workbench.ui.views.frame import tip_style
from workbench.ui.views.overlap import build_overlap
from workbench.ui.views.parts import HEIGHTS
from workbench.ui.views.scene import Scene, make_scene
from workbench.ui.views.script import script
from workbench.ui.views.spectrum import (
    ALL,
    STICK_TOP,
    build_spectrum,
    describe_spectrum,
)
from workbench.ui.views.state import LinkState
from workbench.ui.views.stepper import build_stepper
from workbench.ui.views.titles import LABELS, build_titles
from workbench.ui.views.tour import STOPS
from workbench.ui.views.walk import build_walk, walk_marks
from workbench.ui.views.words import stem, symbol

# What Bokeh runs for each event. (`main.begin` makes the pair, at the first of them.)
ACT = """
const pair = globalThis.workbenchPairs?.get(state)
if (pair) pair.handle(cb_obj)
else {main}.begin(cb_obj, {{state, models, told}})
"""
STATE = tuple(sorted(LinkState.properties() - Model.properties()))


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
        self.pinned: Study | None = None
        self.state = LinkState(name="state", theme=theme)
        self.scene = make_scene(study, self._theme, weighting)
        self._draw(self.scene, None, OF_ANY_STUDY)

    @property
    def study(self) -> Study:
        """What is drawn."""
        return self.scene.study

    @property
    def weighting(self) -> str:
        """In which convention of averages."""
        return self.scene.weighting

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
        beside = self.pinned if isinstance(pinned, EllipsisType) else pinned
        scene = self.scene
        if study is not self.study or chosen != self.weighting:
            scene = make_scene(study, self._theme, chosen)
        if scene is not self.scene or beside is not self.pinned:
            again = _same_measurement(study, self.study) and chosen == self.weighting
            self._draw(scene, beside, OF_THE_SAME_STUDY if again else OF_ANY_STUDY)

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
        if other is not self.pinned:
            self._draw(self.scene, other, OF_THE_SAME_STUDY)
        self.state.compare = mode

    def _draw(self, scene: Scene, pinned: Study | None, kept: Sequence[str]) -> None:
        """Replace what is in the layout; these properties of the state stay."""
        study = scene.study
        taken = {name: getattr(self.state, name) for name in kept}
        operators = [*study.spectra, ALL] if len(study.spectra) > 1 else ["G"]
        state = LinkState(name="state", **taken)
        if state.operator not in operators:
            state.operator = "G"
        before = {"id": self.state.id, "taken": taken, "operators": operators}
        pair = build_pair(scene, state, self._files, pinned, before)
        for name in STATE:
            state.on_change(name, self._changed)
        self.scene, self.state, self.pinned = scene, state, pinned
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
    scene: Scene,
    state: LinkState,
    files: Mapping[str, str] = MappingProxyType({}),
    pinned: Study | None = None,
    before: Mapping[str, Any] = MappingProxyType({}),
) -> LayoutDOM:
    """Build all views of a scene and tie them together in the browser.

    ``before`` says which state this one follows, and what was taken over from it: what
    a person changes there while this pair is on its way is taken over in the browser.
    """
    embedding = build_embedding(scene)
    spectrum = build_spectrum(scene, pinned)
    compare = None
    if pinned is not None:
        compare = build_compare(scene, pinned, embedding, spectrum)
    overlap = build_overlap(scene)
    stepper = build_stepper(scene)
    controls = build_controls(scene)
    film = build_film(scene, spectrum, overlap)
    if compare is not None:
        compare.widen(film)
    walk = build_walk(scene, pinned, legend(walk_marks(scene.study, pinned)))
    bar = build_bar(files)
    layout = arrange(
        scene,
        embedding=embedding,
        spectrum=spectrum,
        overlap=overlap,
        stepper=stepper,
        controls=controls,
        film=film,
        compare=compare,
        walk=walk,
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
        **({} if walk is None else {"walk": walk}),
        "bar": bar,
    }
    wired = _asking(layout)
    act = CustomJS(
        name="act",
        code=ACT.format(main=script("main.js")),
        args={
            "state": state,
            "models": {
                **{name: _fields(view) for name, view in views.items()},
                "look": {"layout": layout},
            },
            "told": {
                **_told(scene, files),
                "before": dict(before),
                "wired": sorted({str(model.name).split()[0] for model, _ in wired}),
            },
        },
    )
    for name in STATE:
        state.js_on_change(name, act)
    for model, what in wired:
        if isinstance(what, str):
            model.js_on_change(what, act)
        else:
            model.js_on_event(what, act)
    embedding.figure.js_on_change("inner_width", act)  # it is on the page now
    # jupyter_bokeh sends every change of a property to the kernel, each frame of an
    # animation included. Only the state is worth it.
    for model in layout.references() - {state}:
        model.syncable = False
    return layout


_ASKS: Mapping[type[Model], str | type[Event]] = {
    Button: ButtonClick,
    Plot: Tap,
    ToggleButtonGroup: "active",
    Slider: "value",
    Span: "location",
}


def _asking(layout: LayoutDOM) -> list[tuple[Model, str | type[Event]]]:
    """The controls that ask the browser's half, by their names, and upon what."""
    return [
        (model, what)
        for model in layout.references()
        for kind, what in _ASKS.items()
        if model.name is not None and isinstance(model, kind)
    ]


def _fields(view: Any) -> dict[str, Any]:
    """The parts of a view, by name, as the browser's half sees them."""
    named = {field.name: getattr(view, field.name) for field in fields(view)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in named.items()}


def _told(scene: Scene, files: Mapping[str, str]) -> dict[str, Any]:
    """Plain values that the browser needs beside the models."""
    study = scene.study
    return {
        "initial": {name: getattr(LinkState(), name) for name in STATE},
        "classNames": [plain(name, 40) for name in study.class_names],
        "themes": {name: _look(theme) for name, theme in THEMES.items()},
        "themeNames": list(THEME_NAMES),
        "built": scene.theme.name,
        "pictures": list(PICTURES),
        "types": list(TYPES),
        "stem": stem(study),
        "overlap": scene.overlap.tolist(),
        "hint": hint(study),
        "notes": {name: describe_spectrum(study, name) for name in study.spectra},
        "automatic": study.num_outliers,
        "rule": describe_rule(study),
        "partName": symbol(scene.levels.convention.class_part),
        "parts": [part.role for part in scene.parts],
        "partTops": HEIGHTS,
        "tour": [list(stop) for stop in STOPS],
        "labels": LABELS,
        "titles": build_titles(scene, files),
        "files": list(files),
        "speeds": list(BY_NAME["speed"].choices),
        "scales": list(BY_NAME["scale"].choices),
        "knockouts": list(BY_NAME["knockout"].choices),
        "markers": dict(MARKERS),
        "stickTop": STICK_TOP,
        "ghostTop": GHOST_TOP,
        "compareModes": list(BY_NAME["compare"].choices),
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
