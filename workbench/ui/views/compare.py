"""A pinned study: drawn as a ghost behind the current study, or beside it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJSHover,
    Div,
    GlyphRenderer,
    Line,
    RadioButtonGroup,
    Row,
    Scatter,
    Segment,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from workbench.page.view_state import BY_NAME
from workbench.study.procrustes import align
from workbench.study.records import Study
from workbench.ui.theme import Theme, class_style, plain
from workbench.ui.views.axis import joined
from workbench.ui.views.embedding import TOOLTIPS, EmbeddingView, mark_sizes
from workbench.ui.views.film import FilmView, densities
from workbench.ui.views.frame import style_figure, tooltip
from workbench.ui.views.scene import Scene
from workbench.ui.views.spectrum import SpectrumView, leading
from workbench.ui.views.words import run_in_words

MODES = BY_NAME["compare"].choices
GHOST_TOP = 0.5  # height of the ghost's sticks, as a share of the plot
GHOSTS = (1, 2)  # levels outlined behind; single gradients would hide everything


@dataclass(frozen=True, slots=True, eq=False)
class CompareView:
    """The drawings of the pinned study, both from the same sources."""

    mode: RadioButtonGroup
    note: Div  # describes the pinned study
    marks: list[ColumnDataSource]  # by level; empty if the classes do not match
    sticks: ColumnDataSource  # leading eigenvalues
    curve: ColumnDataSource  # density
    ghosts: list[GlyphRenderer]  # in the figures of the study
    row: Row  # beside: embedding and spectrum
    plot: figure  # beside: the spectrum
    curves: dict[str, Any]  # "G/linear" -> its density
    eigenvalues: dict[str, Any]  # operator -> columns
    overlap: list[list[float]]  # by eigenvector of its G, share of each class mean
    frames: dict[str, Any]  # as those of `SpectrumView`

    def widen(self, film: FilmView) -> None:
        """Extend the axes of every snapshot to include the pinned spectrum."""
        for moment in film.moments:
            for key, frame in moment["frames"].items():
                frame |= joined([frame, self.frames[key]])


def build_compare(
    scene: Scene,
    pinned: Study,
    embedding: EmbeddingView,
    spectrum: SpectrumView,
) -> CompareView:
    """Draw the pinned study behind and beside, extending the axes to include both.

    Points are rotated and mirrored to bring the means as close to the study's as
    possible. If the numbers of classes differ, only spectra are compared.
    """
    study, theme = scene.study, scene.theme
    levels = pinned.levels.get(scene.weighting, pinned.levels[pinned.weighting])
    stored = {
        name: leading(pinned, levels, name).data
        for name in spectrum.eigenvalues
        if name in pinned.spectra
    }
    nothing = np.empty(0)
    values = {
        name: np.asarray(stored[name]["value"]) if name in stored else nothing
        for name in spectrum.eigenvalues
    }
    found = densities(pinned, values, nothing, spectrum)
    for key, frame in spectrum.frames.items():
        frame |= joined([frame, found["frames"][key]])
    frame = spectrum.frames["G/linear"]
    _set_ranges(spectrum, frame)
    matched = pinned.num_classes == study.num_classes
    marks = _marks(study, pinned, theme) if matched else []
    if matched:
        _hold(embedding, marks)
    drawn = ("x", "base", "top", "alpha", "name", "told")
    sticks = ColumnDataSource({column: [] for column in drawn}, name="pinned sticks")
    curve = ColumnDataSource({"x": [], "y": []}, name="pinned density")
    plot = _plot(spectrum, sticks, curve, theme)
    pictures = [_plane(pinned, embedding, marks, theme)] if matched else []
    return CompareView(
        mode=RadioButtonGroup(
            labels=["behind", "beside"],
            active=0,
            name="compare",
            css_classes=["wb-switch"],
        ),
        note=Div(
            text=describe_pinned(study, pinned),
            name="pinned",
            css_classes=["wb-caption", "wb-pinned"],
            disable_math=True,
        ),
        marks=marks,
        sticks=sticks,
        curve=curve,
        ghosts=_ghosts(pinned, embedding, spectrum, marks, sticks, curve, theme),
        row=_beside(run_in_words(pinned.run), [*pictures, plot]),
        plot=plot,
        curves=found["curves"],
        eigenvalues={
            name: {column: data[column] for column in ("value", "residual", "name")}
            for name, data in stored.items()
        },
        overlap=np.nan_to_num(levels.class_overlap).tolist() if matched else [],
        frames=found["frames"],
    )


def describe_pinned(study: Study, pinned: Study) -> str:
    """Describe the pinned study, and what cannot be compared, as HTML."""
    text = (
        '<span class="wb-mark wb-ghost"></span><b>Pinned:</b> '
        f"{escape(run_in_words(pinned.run))}."
    )
    C, other = study.num_classes, pinned.num_classes
    if other != C:
        return (
            f"{text} It has {other} classes and this study {C}: only the spectra are "
            "compared."
        )
    text += " Its map has been rotated to line up with this one."
    if pinned.class_names != study.class_names:
        text += " Classes are matched in their order."
    return text


def _set_ranges(spectrum: SpectrumView, frame: dict[str, Any]) -> None:
    plot = spectrum.figure
    for name in ("x", "y"):
        start, end = frame[name]
        getattr(plot, f"{name}_range").update(start=start, end=end)


def _marks(study: Study, pinned: Study, theme: Theme) -> list[ColumnDataSource]:
    """The marks of the pinned study, its means aligned with those of the study."""
    own, its = study.embedding, pinned.embedding
    means = align(
        _means(its.points, its.level),
        _means(own.points, own.level),
        its.points.astype(np.float64),
    ).astype(np.float32)
    styles = [class_style(c, theme) for c in range(pinned.num_classes)]
    sources = []
    for level in range(3):
        rows = its.level == level
        classes = its.true_class[rows]
        data = {
            "x": means[rows, 0],
            "y": means[rows, 1],
            "c": classes.astype(np.int32),
            "k": its.potential_class[rows].astype(np.int32),
            "example": its.example[rows].astype(np.int32),
            "class_color": [styles[c][0] for c in classes],
            "marker": [styles[c][1] for c in classes],
            "alpha": np.ones(len(classes), dtype=np.float32),
        }
        sources.append(ColumnDataSource(data, name=f"pinned marks {level}"))
    return sources


def _means(points: NDArray[np.float32], level: NDArray[np.int64]) -> Any:
    return points[level > 0].astype(np.float64)


def _hold(embedding: EmbeddingView, marks: list[ColumnDataSource]) -> None:
    """Widen the corners that the plane's ranges follow."""
    (corners,) = [r for r in embedding.figure.renderers if r.name == "corners"]
    data = corners.data_source.data
    for axis in "xy":
        held = np.concatenate([data[axis], *(source.data[axis] for source in marks)])
        held = held[np.isfinite(held)]
        data[axis] = np.array([held.min(), held.max()])


def _name_marks(
    plot: figure, marks: GlyphRenderer, level: int, pinned: Study, theme: Theme
) -> None:
    """Say of the pinned study's marks what is said of the study's own."""
    names = [plain(name, 24) for name in pinned.class_names]
    as_name = CustomJSHover(args={"names": names}, code="return names[value] ?? ''")
    formatters = {"@c": as_name, "@k": as_name}
    text = f"pinned: {TOOLTIPS[level]}"
    tooltip(plot, marks, theme, text, formatters=formatters)


def _ghosts(
    pinned: Study,
    embedding: EmbeddingView,
    spectrum: SpectrumView,
    marks: list[ColumnDataSource],
    sticks: ColumnDataSource,
    curve: ColumnDataSource,
    theme: Theme,
) -> list[GlyphRenderer]:
    """Outlines behind the study's own marks, and a dashed spectrum behind its own."""
    sizes = mark_sizes(pinned.num_classes)
    outlines = {
        level: embedding.figure.add_glyph(
            marks[level],
            Scatter(
                x="x",
                y="y",
                size=sizes[level],
                marker={"field": "marker"},
                fill_alpha=0,
                line_color=theme.muted,
                line_alpha={"field": "alpha"},
                line_dash=[4, 3],
                line_width=(0, 1.0, 1.8)[level],
            ),
            level="underlay",
        )
        for level in (GHOSTS if marks else ())
    }
    for level, outline in outlines.items():
        _name_marks(embedding.figure, outline, level, pinned, theme)
    glyphs = _spectrum_glyphs(spectrum.figure, sticks, curve, theme, theme.muted)
    return [*outlines.values(), *glyphs]


def _spectrum_glyphs(
    plot: figure,
    sticks: ColumnDataSource,
    curve: ColumnDataSource,
    theme: Theme,
    color: str,
) -> list[GlyphRenderer]:
    look = {"line_color": color, "line_alpha": {"field": "alpha"}}
    glyphs = [
        plot.add_glyph(
            curve,
            Line(x="x", y="y", line_color=color, line_width=1.8, line_dash=[6, 3]),
            level="underlay",
        ),
        plot.add_glyph(
            sticks,
            Segment(
                x0="x",
                y0="base",
                x1="x",
                y1="top",
                line_dash=[6, 3],
                line_width=2,
                **look,
            ),
            level="underlay",
        ),
        plot.add_glyph(
            sticks,
            Scatter(x="x", y="top", size=9, fill_alpha=0, line_width=1.6, **look),
            level="underlay",
        ),
    ]
    tooltip(plot, glyphs[-1], theme, "pinned: @name: @told")
    return glyphs


def _beside(words: str, pictures: list[figure]) -> Row:
    """The pinned pair below the other; not seen while it is a ghost."""
    cards = [
        Column(
            children=[
                Div(
                    text=f"Pinned: {escape(words)}",
                    css_classes=["wb-heading"],
                    disable_math=True,
                ),
                picture,
            ],
            css_classes=["wb-card"],
            sizing_mode="stretch_width",
        )
        for picture in pictures
    ]
    return Row(
        children=cards,
        css_classes=["wb-pair"],
        sizing_mode="stretch_width",
        visible=False,
    )


def _plane(
    pinned: Study,
    embedding: EmbeddingView,
    marks: list[ColumnDataSource],
    theme: Theme,
) -> figure:
    """The pinned points in a plane of their own, with the axes of the first."""
    beside = embedding.figure
    plot = style_figure(
        figure(x_range=beside.x_range, y_range=beside.y_range, tools="", name="plane"),
        theme,
        "Gradients of the pinned study and their averages, by true class",
        height=beside.height,
    )
    plot.css_classes = ["wb-plane"]
    plot.axis.visible = plot.grid.visible = False
    sizes = mark_sizes(pinned.num_classes)
    for level, source in enumerate(marks):
        renderer = plot.add_glyph(
            source,
            Scatter(
                x="x",
                y="y",
                size=sizes[level],
                marker={"field": "marker"},
                fill_color={"field": "class_color"},
                fill_alpha=0.0 if level else {"field": "alpha"},
                line_color={"field": "class_color"},
                line_alpha={"field": "alpha"} if level else 0.0,
                line_width=(0.0, 1.2, 2.2)[level],
            ),
        )
        _name_marks(plot, renderer, level, pinned, theme)
    return plot


def _plot(
    spectrum: SpectrumView,
    sticks: ColumnDataSource,
    curve: ColumnDataSource,
    theme: Theme,
) -> figure:
    """The pinned spectrum in a figure of its own, with the axes of the first."""
    beside = spectrum.figure
    plot = style_figure(
        figure(x_range=beside.x_range, y_range=beside.y_range, tools="", name="plot"),
        theme,
        "Density and leading eigenvalues of the pinned study",
    )
    plot.min_border_right = 20
    plot.xgrid.visible = False
    for mine, its in zip(plot.axis, beside.axis, strict=True):
        mine.update(
            ticker=its.ticker, formatter=its.formatter, axis_label=its.axis_label
        )
    _spectrum_glyphs(plot, sticks, curve, theme, theme.ink)
    return plot
