"""The linked pair: embedding, spectrum, overlap table and stepper in one layout.

Everything that a person can do here happens in the browser (``linked.js``), so it works
while the kernel is busy and in an exported page without one. Python builds the layout
and may set or observe `LinkedView.state`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from bokeh.events import ButtonClick, Tap
from bokeh.models import (
    Button,
    CheckboxButtonGroup,
    Column,
    CustomJS,
    Div,
    InlineStyleSheet,
    LayoutDOM,
    Model,
    RadioButtonGroup,
    Row,
    UIElement,
)

from workbench.errors import WorkbenchError
from workbench.study import CLASS_PART, Levels, Study
from workbench.ui.theme import FONT, MARKERS, Theme, class_style, get_theme, plain
from workbench.ui.views.embedding import (
    EmbeddingView,
    build_embedding,
    describe_embedding,
)
from workbench.ui.views.overlap import OverlapView, build_overlap, overlaps
from workbench.ui.views.spectrum import (
    SpectrumView,
    build_spectrum,
    describe_spectrum,
)
from workbench.ui.views.state import LinkState
from workbench.ui.views.stepper import SPEEDS, StepperView, build_stepper

KNOCKOUTS = ("none", "subtracted", "projected")
SCALES = ("linear", "log")


class LinkedView:
    """The pair of views of one study, in one Bokeh layout.

    ``layout`` stays the same object for good; ``show`` replaces what is in it by one
    single change, so that no half-new picture is ever seen.
    """

    def __init__(
        self, study: Study, *, theme: str = "light", weighting: str | None = None
    ) -> None:
        self._theme = get_theme(theme)
        self._observers: list[Callable[[LinkState], None]] = []
        self.layout = Column(
            sizing_mode="stretch_width", name="linked", css_classes=["wb-page"]
        )
        self.show(study, weighting=weighting)

    def show(self, study: Study, *, weighting: str | None = None) -> None:
        """Draw another study, or the same one in another weighting.

        The switches (operator, scale) stay; selection and stepper start anew.

        Raises:
            WorkbenchError: If the study does not hold that weighting.
        """
        chosen = weighting or study.weighting
        if chosen not in study.levels:
            raise WorkbenchError(
                f"show: this study was not measured with weighting {chosen!r}; it holds "
                f"{', '.join(study.levels)}."
            )
        old = getattr(self, "state", None)
        self.study = study
        self.weighting = chosen
        self.state = LinkState(name="state")
        pair = build_pair(study, study.levels[chosen], self._theme, self.state)
        for name in LinkState.properties() & {
            "selected_class", "selected_outlier", "level", "playing", "operator",
            "scale", "knockout",
        }:  # fmt: skip
            self.state.on_change(name, self._changed)
        self.layout.children = [pair]
        if old is not None and old.scale != "linear":
            self.state.scale = old.scale
        if old is not None and old.operator in study.spectra:
            self.state.operator = old.operator

    def observe(self, callback: Callable[[LinkState], None]) -> None:
        """Call back with the state after each change, made here or in the browser.

        One change may be told twice: the callback must bear that.
        """
        self._observers.append(callback)

    def _changed(self, _attr: str, _old: Any, _new: Any) -> None:
        for callback in self._observers:
            callback(self.state)


def build_pair(
    study: Study, levels: Levels, theme: Theme, state: LinkState
) -> LayoutDOM:
    """Lay out all views of a study and tie them together in the browser."""
    embedding = build_embedding(study, theme)
    spectrum = build_spectrum(study, levels, theme)
    overlap = build_overlap(study, levels, theme)
    stepper = build_stepper(study, levels)
    controls = _controls(study, spectrum, overlap)
    act = CustomJS(
        name="act",
        code=_asset("linked.js"),
        args={
            "state": state,
            "marks": list(embedding.sources),
            "markViews": list(embedding.renderers),
            "spectrum": _spectrum_models(spectrum),
            "overlap": overlap.cells,
            "stepper": _stepper_models(stepper),
            "controls": controls,
            "figures": {"embedding": embedding.figure, "spectrum": spectrum.figure},
            "told": _told(study, levels, stepper, theme),
        },
    )
    for name in LinkState.properties() - Model.properties():
        state.js_on_change(name, act)
    for button in (*stepper.stations, stepper.back, stepper.play, stepper.step):
        button.js_on_event(ButtonClick, act)
    controls["clear"].js_on_event(ButtonClick, act)
    for plot in (embedding.figure, spectrum.figure, overlap.figure):
        plot.js_on_event(Tap, act)
    stepper.position.js_on_change("value", act)
    for name in ("classes", "outliers", "operator", "scale", "knockout"):
        controls[name].js_on_change("active", act)
    stepper.speed.js_on_change("active", act)
    layout = _lay_out(
        study, levels, theme, embedding, spectrum, overlap, stepper, controls
    )
    # jupyter_bokeh sends every change of a property to the kernel, frames of an
    # animation included. Only the state is worth it.
    for model in layout.references() - {state}:
        model.syncable = False
    return layout


@cache
def _asset(name: str) -> str:
    return (files("workbench.ui.views") / name).read_text(encoding="utf-8")


def _controls(
    study: Study, spectrum: SpectrumView, overlap: OverlapView
) -> dict[str, Any]:
    operators = list(spectrum.eigenvalues)
    return {
        "classes": CheckboxButtonGroup(
            labels=[plain(name, 20) for name in study.class_names],
            name="classes",
            css_classes=["wb-chips", "wb-classes"],
        ),
        "outliers": CheckboxButtonGroup(
            labels=[str(j + 1) for j in range(overlap.num_rows)],
            name="outliers",
            css_classes=["wb-chips"],
        ),
        "clear": Button(label="Clear", name="clear", css_classes=["wb-button"]),
        "operator": RadioButtonGroup(
            labels=operators, active=0, name="operator", css_classes=["wb-switch"]
        ),
        "scale": RadioButtonGroup(
            labels=["linear", "log"], active=0, name="scale", css_classes=["wb-switch"]
        ),
        "knockout": RadioButtonGroup(
            labels=["G", "− class part", "− its directions"],
            active=0,
            name="knockout",
            css_classes=["wb-switch", "wb-knockout"],
        ),
        "message": Div(
            text="",
            name="message",
            css_classes=["wb-message"],
            disable_math=True,
            sizing_mode="stretch_width",
        ),
        "note": Div(
            text="",
            name="note",
            css_classes=["wb-caption"],
            disable_math=True,
            sizing_mode="stretch_width",
        ),
    }


def _spectrum_models(spectrum: SpectrumView) -> dict[str, Any]:
    return {
        "curve": spectrum.curve,
        "sticks": spectrum.sticks,
        "classPart": spectrum.class_part,
        "curves": spectrum.curves,
        "eigenvalues": spectrum.eigenvalues,
        "axes": spectrum.axes,
        "frames": spectrum.frames,
        "floor": spectrum.floor,
        "xRange": spectrum.figure.x_range,
        "yRange": spectrum.figure.y_range,
        "xAxis": spectrum.figure.xaxis[0],
    }


def _stepper_models(stepper: StepperView) -> dict[str, Any]:
    return {
        "stations": list(stepper.stations),
        "play": stepper.play,
        "back": stepper.back,
        "step": stepper.step,
        "position": stepper.position,
        "speed": stepper.speed,
        "now": stepper.now,
    }


def _told(
    study: Study, levels: Levels, stepper: StepperView, theme: Theme
) -> dict[str, Any]:
    """Plain values that the browser needs beside the models."""
    return {
        "classNames": [plain(name, 40) for name in study.class_names],
        "classColors": [class_style(c, theme)[0] for c in range(study.num_classes)],
        "overlap": overlaps(study, levels).tolist(),
        "numOutliers": study.num_outliers,
        "speeds": list(SPEEDS),
        "sentences": list(stepper.sentences),
        "notes": {name: describe_spectrum(study, name) for name in study.spectra},
        "colors": {
            "ink": theme.ink,
            "accent": theme.accent,
            "classPart": theme.class_part,
            "muted": theme.muted,
            "line": theme.line,
        },
        "partName": CLASS_PART[levels.weighting],
        "stickTop": 0.66,
        "classPartTop": 0.34,
    }


def _lay_out(
    study: Study,
    levels: Levels,
    theme: Theme,
    embedding: EmbeddingView,
    spectrum: SpectrumView,
    overlap: OverlapView,
    stepper: StepperView,
    controls: dict[str, Any],
) -> LayoutDOM:
    def text(html: str, *classes: str, **options: Any) -> Div:
        return Div(text=html, css_classes=list(classes), disable_math=True, **options)

    def row(*children: UIElement, classes: str) -> Row:
        return Row(
            children=list(children),
            css_classes=[classes],
            sizing_mode="stretch_width",
        )

    def column(*children: UIElement, classes: str) -> Column:
        return Column(
            children=list(children),
            css_classes=[classes],
            sizing_mode="stretch_width",
        )

    controls["note"].text = describe_spectrum(study, "G")
    wide = {"sizing_mode": "stretch_width"}
    page = column(
        row(*stepper.stations, classes="wb-stations"),
        row(
            row(stepper.back, stepper.play, stepper.step, classes="wb-buttons"),
            stepper.position,
            text("speed", "wb-label"),
            stepper.speed,
            classes="wb-stepper",
        ),
        stepper.now,
        row(
            column(
                text("Gradients and their averages", "wb-heading"),
                text(_level_legend(study), "wb-legend", **wide),
                embedding.figure,
                text(describe_embedding(study), "wb-caption", **wide),
                classes="wb-card",
            ),
            column(
                text("Spectrum", "wb-heading"),
                row(
                    controls["operator"],
                    controls["scale"],
                    text("knock out", "wb-label"),
                    controls["knockout"],
                    classes="wb-switches",
                ),
                text(_spectrum_legend(levels), "wb-legend", **wide),
                spectrum.figure,
                controls["note"],
                classes="wb-card",
            ),
            classes="wb-pair",
        ),
        row(
            column(
                text("Classes", "wb-heading"),
                controls["classes"],
                text("Outliers" if study.num_outliers else "Leading", "wb-heading"),
                row(controls["outliers"], controls["clear"], classes="wb-buttons"),
                controls["message"],
                classes="wb-card",
            ),
            column(
                text("Which class leans on which outlier, in percent", "wb-heading"),
                overlap.figure,
                classes="wb-card",
            ),
            classes="wb-pair",
        ),
        classes="wb-linked",
    )
    sheet = InlineStyleSheet(css=_asset("linked.css"))
    for model in page.references():
        if isinstance(model, UIElement) and hasattr(model, "sizing_mode"):
            model.stylesheets = [*model.stylesheets, sheet]
    controls["classes"].stylesheets.append(
        InlineStyleSheet(css=_swatches(study.num_classes, theme))
    )
    page.styles = _variables(theme)
    return page


def _variables(theme: Theme) -> dict[str, str]:
    """The theme as CSS variables; they reach into every shadow tree below."""
    return {
        "--wb-font": FONT,
        "--wb-background": theme.background,
        "--wb-surface": theme.surface,
        "--wb-ink": theme.ink,
        "--wb-muted": theme.muted,
        "--wb-line": theme.line,
        "--wb-accent": theme.accent,
        "--wb-on-accent": theme.on_accent,
        "--wb-class-part": theme.class_part,
        "--wb-curve": theme.curve,
    }


def _swatches(num_classes: int, theme: Theme) -> str:
    """Colour and marker of each class upon its button: the legend is the control."""
    rules = []
    for c in range(num_classes):
        color, marker = class_style(c, theme)
        rules.append(
            f".bk-btn:nth-child({c + 1})::before"
            f"{{background:{color};clip-path:{MARKERS[marker]}}}"
        )
    return "".join(rules)


def _level_legend(study: Study) -> str:
    drawn = bool((study.embedding.level == 0).any())
    dot = '<span class="wb-mark wb-dot"></span>one gradient' if drawn else ""
    return (
        f"{dot}<span class='wb-mark wb-small'></span>mean of a pair c, c′"
        "<span class='wb-mark wb-large'></span>mean of a class"
        "<span class='wb-cross'>×</span>mean of all · colour and shape: true class"
    )


def _spectrum_legend(levels: Levels) -> str:
    part = CLASS_PART[levels.weighting]
    part = f"{part[0]}<sub>{part[1:].lstrip('_')}</sub>"
    return (
        "<span class='wb-mark wb-curve'></span>density"
        "<span class='wb-mark wb-stick'></span>outlier, ± its residual"
        f"<span class='wb-mark wb-part'></span>class part {part} of G"
    )
