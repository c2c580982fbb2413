"""The embedding: every gradient and every average of them as a mark in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJSHover,
    DataRange1d,
    GlyphRenderer,
    Label,
    Scatter,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from workbench.study.convention import CONVENTIONS
from workbench.study.records import Embedding, Study
from workbench.ui.theme import FONT, Theme, class_style, plain
from workbench.ui.views.frame import add_label, style_figure, tooltip
from workbench.ui.views.scene import Scene
from workbench.ui.views.words import METHOD_WORDS, count

# Tooltips by level; {c} and {k} become class names in the browser, as text.
TOOLTIPS = (
    "gradient of example @example, class <b>@c{custom}</b> (true), "
    "as if it were <b>@k{custom}</b>",
    "mean over the examples of class <b>@c{custom}</b> (true), "
    "as if they were <b>@k{custom}</b>",
    "mean of class <b>@c{custom}</b>, over examples and potential classes",
    "mean over everything",
)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingView:
    """The figure, and for each level its marks."""

    figure: figure
    sources: tuple[ColumnDataSource, ...]  # one a level
    renderers: tuple[GlyphRenderer, ...]  # one a level
    parents: tuple[NDArray[np.int32], ...]  # one a level: see `parents_of`
    averaged: Label  # while an average is taken: the index that it is over


def build_embedding(scene: Scene) -> EmbeddingView:
    """Draw all levels of the embedding; ``browser/marks.js`` moves and fades them."""
    study, theme = scene.study, scene.theme
    plot = style_figure(
        figure(
            x_range=DataRange1d(range_padding=0.08),
            y_range=DataRange1d(range_padding=0.08),
            match_aspect=True,
            tools="box_zoom,reset,save",
            name="embedding",
            css_classes=["wb-plane"],
        ),
        theme,
        "Gradients and their averages in the plane, by true class. Right arrow takes "
        "the next average, left arrow undoes it, space plays.",
        height=440,
    )
    plot.html_attributes = plot.html_attributes | {"tabindex": "0"}
    plot.axis.visible = False
    plot.grid.visible = False
    points = np.concatenate([moment.embedding.points for moment in study.film])
    x, y = _corners(points).T
    anchor = plot.add_glyph(
        ColumnDataSource({"x": x, "y": y}),
        Scatter(x="x", y="y", size=1, fill_alpha=0, line_alpha=0),
        name="corners",
    )
    plot.x_range.renderers = plot.y_range.renderers = [anchor]
    sizes = mark_sizes(study.num_classes)
    parents = parents_of(study.embedding)
    sources = tuple(_source(study, level, parents[level], theme) for level in range(4))
    renderers = tuple(
        _marks(plot, source, level, sizes[level], theme)
        for level, source in enumerate(sources)
    )
    names = [plain(name, 24) for name in study.class_names]
    as_name = CustomJSHover(args={"names": names}, code="return names[value] ?? ''")
    for level in (3, 2, 1, 0):
        tooltip(
            plot,
            renderers[level],
            theme,
            TOOLTIPS[level],
            formatters={"@c": as_name, "@k": as_name},
        )
    averaged = Label(
        x=8,
        y=8,
        x_units="screen",
        y_units="screen",
        text="",
        text_font=FONT,
        text_font_size="13px",
        text_font_style="bold",
        text_color=theme.accent,
        name="averaged",
    )
    plot.add_layout(averaged)
    return EmbeddingView(plot, sources, renderers, parents, averaged)


def parents_of(embedding: Embedding) -> tuple[NDArray[np.int32], ...]:
    """Row of the mark, one level on, that each mark of a level becomes part of.

    -1 where that is not drawn, and for the last level.
    """

    def keys(of: int, level: int) -> list[tuple[int, ...]]:
        """What the marks of a level have in common with those that go into it."""
        rows = np.flatnonzero(embedding.level == of)
        columns = (embedding.true_class, embedding.potential_class)[: max(2 - level, 0)]
        return [tuple(int(column[row]) for column in columns) for row in rows]

    found = []
    for level in range(4):
        place = {key: row for row, key in enumerate(keys(level + 1, level))}
        rows = [place.get(key, -1) for key in keys(level, level)]
        found.append(np.array(rows, dtype=np.int32))
    return tuple(found)


def describe_embedding(study: Study, weighting: str) -> str:
    """Say how the picture was made, and how much of all there is it shows.

    Args:
        study: Whose embedding it is.
        weighting: The convention shown beside it, which may be another one.
    """
    embedding = study.embedding
    drawn = int((embedding.level == 0).sum())
    method = METHOD_WORDS.get(embedding.method, embedding.method)
    total = count(embedding.num_total, "gradient")
    text = (
        f"{method} of {embedding.metric} distances, {embedding.weighting} averages. "
        f"{drawn:,} of {total} drawn. Colour and shape show the true class c. "
        "Only distances between nearby points are meaningful; the axes are not."
    )
    if weighting != embedding.weighting:
        text += (
            f" The points are laid out for {embedding.weighting}, until the network is "
            "measured again."
        )
    return text


def mark_sizes(num_classes: int) -> tuple[int, int, int, int]:
    """Diameter of a mark of each level, in pixels."""
    if num_classes <= 12:
        return 5, 12, 26, 24
    return (4, 8, 20, 24) if num_classes <= 30 else (3, 5, 14, 24)


def _corners(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Two opposite corners of the picture; they hold the ranges while marks move."""
    finite = points[np.isfinite(points).all(axis=1)].astype(float)
    if not len(finite):
        return np.array([[-1.0, -1.0], [1.0, 1.0]])
    low, high = finite.min(axis=0), finite.max(axis=0)
    return np.stack([low, np.where(high > low, high, low + 1.0)])


def _source(
    study: Study, level: int, parents: NDArray[np.int32], theme: Theme
) -> ColumnDataSource:
    """Marks of one level: where they are, and where their average is."""
    embedding = study.embedding
    rows = np.flatnonzero(embedding.level == level)
    points = embedding.points[rows]
    above = embedding.points[embedding.level == level + 1]
    target = points.copy()  # its own place, if its average is not drawn
    target[parents >= 0] = above[parents[parents >= 0]]
    classes = embedding.true_class[rows]
    potential = embedding.potential_class[rows]
    styles = [class_style(c, theme) for c in range(study.num_classes)]
    styles.append((theme.ink, "x"))  # delta_G, whose class is -1
    every = CONVENTIONS[embedding.weighting].includes_true
    left_out = (classes == potential) & (level == 1) & (not every)
    solid = {0: 0.8, 1: 0.1, 2: 0.1, 3: 1.0}[level]
    data = {
        "x": points[:, 0].copy(),
        "y": points[:, 1].copy(),
        "home_x": points[:, 0],
        "home_y": points[:, 1],
        "target_x": target[:, 0],
        "target_y": target[:, 1],
        "c": classes.astype(np.int32),
        "k": potential.astype(np.int32),
        "example": embedding.example[rows].astype(np.int32),
        "stays": left_out.astype(np.uint8),  # not part of the next average
        "color": [styles[c][0] for c in classes],
        "marker": [styles[c][1] for c in classes],
        "fill_alpha": np.full(len(rows), solid, dtype=np.float32),
        "line_alpha": np.full(len(rows), 0.9 if level else 0.0, dtype=np.float32),
    }
    if level == 2:
        short = 12 if study.num_classes <= 12 else 4
        data["label"] = [
            plain(study.class_names[c], short) if study.num_classes <= 30 else ""
            for c in classes
        ]
    return ColumnDataSource(data, name=f"marks {level}")


def _marks(
    plot: figure, source: ColumnDataSource, level: int, size: int, theme: Theme
) -> GlyphRenderer:
    glyph = Scatter(
        x="x",
        y="y",
        size=size,
        marker={"field": "marker"},
        fill_color={"field": "color"},
        fill_alpha={"field": "fill_alpha"},
        line_color={"field": "color"},
        line_alpha={"field": "line_alpha"},
        line_width=(0.0, 1.2, 2.2, 4.0)[level],
    )
    renderer = plot.add_glyph(source, glyph, name=f"level {level}")
    if level == 2:
        add_label(
            plot,
            source,
            theme,
            y="y",
            y_offset=-size * 0.62,
            text_alpha="line_alpha",
        )
    return renderer
