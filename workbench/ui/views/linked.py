"""The linked pair: embedding, spectrum, overlap table and stepper in one layout.

All interaction happens in the browser (``browser/*.js``), so it works while the kernel
is busy and in an exported page without one. Python builds the layout and can set or
observe `LinkedView.state`.
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
    CARRIED_TOP,
    STICK_TOP,
    build_spectrum,
    describe_spectrum,
)
from workbench.ui.views.state import LinkState
from workbench.ui.views.stepper import build_stepper
from workbench.ui.views.strip import build_strip
from workbench.ui.views.titles import LABELS, build_titles
from workbench.ui.views.tour import STOPS
from workbench.ui.views.walk import build_walk, walk_marks
from workbench.ui.views.words import stem, symbol

# Run by Bokeh for each event. (`main.begin` creates the pair at the first one.)
ACT = """
const pair = globalThis.workbenchPairs?.get(state)
if (pair) pair.handle(cb_obj)
else {main}.begin(cb_obj, {{state, models, told}})
"""
STATE = tuple(sorted(LinkState.properties() - Model.properties()))


class LinkedView:
    """The linked views of one study, in one Bokeh layout.

    ``layout`` always stays the same object; ``show`` replaces its contents in a single
    change, so that a half-updated picture is never visible.

    Args:
        study: What to draw.
        theme: ``"light"``, ``"dark"`` or ``"projector"``; ``"auto"`` follows the host.
        weighting: Which convention of averages; by default the study's own.
        files: Files on offer: label and tooltip of each button. A click sets
            `LinkState.wanted` to the label, and the observer of the state responds with
            `LinkState.download`.
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
        """The study drawn."""
        return self.scene.study

    @property
    def weighting(self) -> str:
        """The convention of averaging in use."""
        return self.scene.weighting

    def show(
        self,
        study: Study,
        *,
        weighting: str | None = None,
        pinned: Study | EllipsisType | None = ...,
    ) -> None:
        """Draw another study, or the same one in another convention.

        Operator, scale, parts, speed and theme are kept; everything else is reset,
        unless it is the same measurement with more snapshots. Does nothing if the
        picture would not change.

        Args:
            study: What to draw.
            weighting: Which convention of averages; by default the study's own.
            pinned: Study to draw for comparison, see `compare`; by default unchanged.

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
        """Pin another study, or unpin it; selection and view are kept.

        Args:
            other: Study to draw on the same axes and with the same selection, or None.
                If its number of classes differs, only its spectra are drawn.
            mode: ``"ghost"`` (behind) or ``"beside"``; by default unchanged.

        Raises:
            WorkbenchError: If there is no such mode.
        """
        mode = mode or self.state.compare
        if mode not in MODES:
            raise WorkbenchError(f"compare: {mode!r} is not one of {', '.join(MODES)}.")
        if other is not self.pinned:
            self._draw(self.scene, other, OF_THE_SAME_STUDY)
        self.state.compare = mode

    def _draw(self, scene: Scene, pinned: Study | None, kept: Sequence[str]) -> None:
        """Replace the contents of the layout; keep these properties of the state."""
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
        """Call ``callback`` with the state after each change, here or in the browser.

        A change may be reported twice; the callback must tolerate that.
        """
        self._observers.append(callback)

    def _changed(self, _attr: str, _old: Any, _new: Any) -> None:
        for callback in self._observers:
            callback(self.state)


def _same_measurement(one: Study, other: Study) -> bool:
    """Whether two studies differ at most in their snapshots."""
    marks = [(s.created, s.class_names, s.run) for s in (one, other)]
    return one.created != "" and marks[0] == marks[1]


def build_pair(
    scene: Scene,
    state: LinkState,
    files: Mapping[str, str] = MappingProxyType({}),
    pinned: Study | None = None,
    before: Mapping[str, Any] = MappingProxyType({}),
) -> LayoutDOM:
    """Build all views of a scene and link them in the browser.

    ``before`` is the state that this one replaces, and what was copied from it: changes
    the user makes there meanwhile are carried over in the browser.
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
    strip = build_strip(scene)
    walk = build_walk(scene, pinned, legend(walk_marks(scene.study, pinned)))
    bar = build_bar(files, stepper.speed)
    layout = arrange(
        scene,
        embedding=embedding,
        spectrum=spectrum,
        overlap=overlap,
        stepper=stepper,
        controls=controls,
        film=film,
        compare=compare,
        strip=strip,
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
        **({} if strip is None else {"strip": strip}),
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
                **_plain_values(scene, files),
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
    embedding.figure.js_on_change("inner_width", act)  # it is now on the page
    # jupyter_bokeh sends every property change to the kernel, including each frame of
    # an animation. Only the state's are needed.
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
    """The controls that trigger actions in the browser, with their events."""
    return [
        (model, what)
        for model in layout.references()
        for kind, what in _ASKS.items()
        if model.name is not None and isinstance(model, kind)
    ]


def _fields(view: Any) -> dict[str, Any]:
    """The parts of a view, by name, for the browser code."""
    named = {field.name: getattr(view, field.name) for field in fields(view)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in named.items()}


def _plain_values(scene: Scene, files: Mapping[str, str]) -> dict[str, Any]:
    """Plain values that the browser needs besides the models."""
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
        "span": scene.span.tolist(),
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
        "carriedTop": CARRIED_TOP,
        "ghostTop": GHOST_TOP,
        "compareModes": list(BY_NAME["compare"].choices),
    }


def _look(theme: Theme) -> dict[str, Any]:
    """A theme, for the browser code."""
    return {
        "colors": roles(theme),
        "variables": variables(theme),
        "type": theme.type,
        "marks": theme.marks,
        "tip": tip_style(theme),
    }
