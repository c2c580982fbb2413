"""The layout: one column of bands, whose contents sit side by side if there is room."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from bokeh.models import Column, Div, InlineStyleSheet, LayoutDOM, Row, UIElement

from workbench.study.records import Study
from workbench.ui.theme import FONT, MARKERS, Theme, class_style, variables
from workbench.ui.views.bar import BarView
from workbench.ui.views.compare import CompareView
from workbench.ui.views.controls import Controls
from workbench.ui.views.embedding import EmbeddingView, describe_embedding
from workbench.ui.views.film import FilmView
from workbench.ui.views.overlap import OverlapView, darkest
from workbench.ui.views.parts import MARKERS as PART_MARKERS
from workbench.ui.views.parts import Part
from workbench.ui.views.scene import Scene
from workbench.ui.views.spectrum import SpectrumView
from workbench.ui.views.stepper import StepperView
from workbench.ui.views.strip import StripView
from workbench.ui.views.walk import WalkView
from workbench.ui.views.words import DOT, NEEDLE, percent


def arrange(
    scene: Scene,
    *,
    embedding: EmbeddingView,
    spectrum: SpectrumView,
    overlap: OverlapView,
    stepper: StepperView,
    controls: Controls,
    film: FilmView,
    compare: CompareView | None,
    strip: StripView | None,
    walk: WalkView | None,
    bar: BarView,
) -> LayoutDOM:
    """Lay out the views, styled by ``linked.css``."""
    study, theme = scene.study, scene.theme
    page = _column(
        "wb-linked",
        _row("wb-stations", *stepper.stations),
        stepper.left,
        stepper.position,
        _row(
            "wb-stepper",
            _row("wb-buttons", stepper.back, stepper.play, stepper.step),
            stepper.now,
            _row("wb-buttons", stepper.maths, bar.tour, bar.more),
        ),
        bar.menu,
        *([_pinned(compare)] if compare else []),
        _row(
            "wb-pair",
            _column(
                "wb-card",
                _text("wb-heading", "Gradients and their averages"),
                _text("wb-caption", DOT),
                _text("wb-legend", _level_legend(study)),
                embedding.figure,
                _text("wb-caption", escape(describe_embedding(study, scene.weighting))),
                *([_film(film)] if study.moments else []),
            ),
            _column(
                "wb-card",
                _row(
                    "wb-heads",
                    _text("wb-heading", "Spectrum"),
                    _row("wb-buttons", controls.operator, controls.scale),
                ),
                _text("wb-caption", NEEDLE),
                _text("wb-legend", _spectrum_legend(study)),
                spectrum.figure,
                *([strip.panel, strip.sentence] if strip else []),
                *([walk.panel, walk.sentence] if walk else []),
                _row("wb-buttons", _text("wb-label", "take away:"), controls.knockout),
                _row("wb-buttons", _text("wb-label", "parts of G:"), controls.parts),
                _row(
                    "wb-buttons",
                    _text("wb-label", "count outliers:"),
                    controls.count,
                    controls.automatic,
                ),
                controls.rule,
                controls.note,
            ),
        ),
        *([compare.row] if compare else []),
        _row(
            "wb-pair",
            _column(
                "wb-card",
                _row("wb-heads", _text("wb-heading", "Classes"), controls.clear),
                controls.classes,
                _text("wb-heading", "Leading eigenvectors of G"),
                controls.outliers,
                controls.message,
            ),
            _column(
                "wb-card",
                _text("wb-heading", "Which class mean points along which outlier"),
                _text("wb-caption", _table_caption(scene)),
                _text("wb-legend", _bar_legend(scene)),
                overlap.figure,
            ),
        ),
    )
    sheet = InlineStyleSheet(css=asset("linked.css"))
    for model in page.references():
        if isinstance(model, LayoutDOM):
            model.stylesheets = [*model.stylesheets, sheet]
            model.margin = 0
    controls.classes.stylesheets = [
        *controls.classes.stylesheets,
        InlineStyleSheet(css=_swatches(study.num_classes, theme)),
    ]
    controls.parts.stylesheets = [
        *controls.parts.stylesheets,
        InlineStyleSheet(css=_part_swatches(scene.parts)),
    ]
    page.styles = {"font-family": FONT} | variables(theme)  # inherited by its contents
    return page


def _film(film: FilmView) -> LayoutDOM:
    """The training rail: epochs as stops, with the loss and accuracy of each."""
    return _row(
        "wb-film",
        film.roll,
        _column("wb-track", film.rail, film.stops),
        film.when,
    )


def _pinned(compare: CompareView) -> LayoutDOM:
    """The pinned study, and where it is drawn."""
    return _row(
        "wb-heads",
        compare.note,
        _row("wb-buttons", _text("wb-label", "pinned:"), compare.mode),
    )


@cache
def asset(name: str) -> str:
    """Read a file next to this one."""
    return (files("workbench.ui.views") / name).read_text(encoding="utf-8")


def _row(css_class: str, *children: UIElement) -> Row:
    wide = css_class not in ("wb-buttons",)
    return Row(
        children=list(children),
        css_classes=[css_class],
        sizing_mode="stretch_width" if wide else None,
    )


def _column(css_class: str, *children: UIElement) -> Column:
    return Column(
        children=list(children), css_classes=[css_class], sizing_mode="stretch_width"
    )


def _text(css_class: str, html: str) -> Div:
    """Our own HTML; must not contain user input."""
    wide: dict[str, Any] = {}
    if css_class in ("wb-caption", "wb-legend"):
        wide = {"sizing_mode": "stretch_width"}
    return Div(text=html, css_classes=[css_class], disable_math=True, **wide)


def _swatches(num_classes: int, theme: Theme) -> str:
    """Colour and marker of each class on its button, which serves as the legend."""
    rules = []
    for c in range(num_classes):
        _, marker = class_style(c, theme)
        color = f"var(--wb-class-{c % len(theme.classes)})"
        rules.append(
            f".bk-btn:nth-child({c + 1})::before"
            f"{{background:{color};clip-path:{MARKERS[marker]}}}"
        )
    return "".join(rules)


def _table_caption(scene: Scene) -> str:
    most = darkest(scene)
    shades = (
        "" if most == 1 else f" Darker means larger; the darkest is {percent(most)}."
    )
    return (
        f"Percent of each δ<sub>c</sub> along each eigenvector of G.{shades} "
        "Bars: how much of that eigenvector all δ<sub>c</sub> together span. "
        "Below the line: not counted as outliers."
    )


def _bar_legend(scene: Scene) -> str:
    """What a bar is, and the band behind it."""
    marks = [("wb-share", "share in the span")]
    if np.isfinite(scene.chance[0]).any():
        marks.append(("wb-chance", "the same with shuffled labels, ± spread"))
    return legend(marks)


def _level_legend(study: Study) -> str:
    drawn = bool((study.embedding.level == 0).any())
    marks = [("wb-dot", "one gradient")] if drawn else []
    marks += [
        ("wb-small", "mean of a pair"),
        ("wb-large", "mean of a class"),
        ("wb-cross", "mean of all"),
    ]
    return legend(marks)


def _spectrum_legend(study: Study) -> str:
    G = study.spectra["G"]
    density = "density, exact" if G.complete else "density, 95 % band"
    marks = [
        ("wb-curve", density),
        ("wb-stick", "outlier" if G.complete else "outlier ± residual"),
        ("wb-stick wb-faint", "next eigenvalues"),
        ("wb-stick wb-orange", "class part"),
        ("wb-border", "outliers begin here"),
        ("wb-ring", "what the averages keep"),
    ]
    return legend(marks)


def _part_swatches(parts: tuple[Part, ...]) -> str:
    """Colour and marker of each part on its switch."""
    hollow = "radial-gradient(circle,var(--wb-background) 32%,var(--wb-class-part) 36%)"
    return "".join(
        f".bk-btn:nth-child({n})::before{{background:"
        f"{hollow if part.role == 'collapse' else f'var(--wb-{part.role}-part)'};"
        f"clip-path:{MARKERS[PART_MARKERS[part.role]]}}}"
        for n, part in enumerate(parts, 1)
    )


def legend(marks: list[tuple[str, str]]) -> str:
    """Marks, each with the word for it."""
    return "".join(
        f'<span class="wb-entry"><span class="wb-mark {mark}"></span>{word}</span>'
        for mark, word in marks
    )
