"""The cosine of the class means against the size of the class part, as a small SVG.

The curve is what a collapsed network shows (`workbench.theory.collapse`); the points
are what was measured, of this study, of each of its moments, and of a pinned one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from workbench.study.records import Study
from workbench.study.size import predicted_of, size_of
from workbench.theory.collapsed import collapse
from workbench.ui.views.words import number, percent

WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 10, 40  # around the axes
STEPS = 60  # of the curve
EPS = 1e-6  # any small probability gives the same curve


@dataclass(frozen=True, slots=True)
class _Point:
    cosine: float
    ratio: float
    epoch: object


def ratio_html(
    study: Study, weighting: str, moment: int = -1, pinned: Study | None = None
) -> str:
    """Draw where a study and its moments lie beside the curve; '' where nothing can.

    Args:
        study: What was measured, with its film.
        weighting: Which convention of averages.
        moment: The one that stands out, as `LinkState.moment` counts.
        pinned: Another study, drawn along where it has as many classes.
    """
    C, film = study.num_classes, study.film
    now = film[moment if 0 <= moment < len(film) else -1]
    here = _point(now, weighting)
    if here is None or C < 2:
        return ""
    path = [p for one in film if (p := _point(one, weighting)) is not None]
    other = None
    if pinned is not None and pinned.num_classes == C:
        other = _point(pinned, weighting)
    found = predicted_of(now, now.levels[weighting])
    low = -1 / (C - 1) if min(p.cosine for p in [*path, here]) < 0 else 0.0

    def at(cosine: float, ratio: float) -> str:
        x = LEFT + (cosine - low) / (1 - low) * (WIDTH - LEFT - RIGHT)
        y = TOP + (1 - min(max(ratio, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    def circle(point: _Point, kind: str, size: float) -> str:
        x, y = at(point.cosine, point.ratio).split(",")
        return (
            f'<circle class="{kind}" cx="{x}" cy="{y}" r="{size}">'
            f"<title>{_told(point)}</title></circle>"
        )

    curve = [low + (1 - low) * n / STEPS for n in range(STEPS + 1)]
    drawn = " ".join(at(r, closed_form(r, C, weighting)) for r in curve)
    marks = [f'<polyline class="wb-theory" points="{drawn}"/>']
    if len(path) > 1:
        way = " ".join(at(p.cosine, p.ratio) for p in path)
        marks.append(f'<polyline class="wb-way" points="{way}"/>')
        marks += [circle(p, "wb-moment", 2.6) for p in path]
    if other is not None:
        marks.append(circle(other, "wb-other", 5))
    if found is not None:
        x, y = at(here.cosine, found.size).split(",")
        marks.append(
            f'<path class="wb-foretold" d="M{x} {y}m0 -6l6 6l-6 6l-6 -6z">'
            f"<title>predicted: {percent(found.size)}</title></path>"
        )
    marks.append(circle(here, "wb-here", 5))
    said = f"Mean cosine of class means against size of the class part: {_told(here)}"
    entries = [
        ("wb-theory", "collapsed networks"),
        ("wb-here", "measured"),
        *([("wb-foretold", "predicted by collapse")] if found else []),
        *([("wb-moment", "other epochs")] if len(path) > 1 else []),
        *([("wb-other", "pinned")] if other else []),
    ]
    return (
        '<figure class="wb-ratio"><figcaption>How large the class part is, by the '
        f"cosine of the class means ({weighting}, {C} classes)</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f"{_axes(low, at)}{''.join(marks)}</svg>"
        f'<div class="wb-entries">{"".join(map(_entry, entries))}</div></figure>'
    )


def closed_form(cosine: float, num_classes: int, weighting: str = "icml") -> float:
    """The class part's eigenvalues over G's, sums of C - 1, in a collapsed network.

    The convention ``slide`` averages over one more label, along which nothing lies:
    its class part is (C - 1) / C as large. ``jmlr`` is as ``icml`` here, where all
    wrong labels have the same probability.
    """
    found = collapse(cosine, num_classes, EPS / num_classes)
    part, whole = (e.all[: num_classes - 1].sum() for e in (found.class_part, found.G))
    fewer = (num_classes - 1) / num_classes if weighting == "slide" else 1.0
    return float(part / whole) * fewer if whole > 0 else fewer


def _point(study: Study, weighting: str) -> _Point | None:
    layer, levels = study.last_layer, study.levels.get(weighting)
    size = None if levels is None else size_of(study, levels)
    if layer is None or size is None or math.isnan(layer.cosine):
        return None
    return _Point(layer.cosine, size.class_part, study.run.get("epochs"))


def _told(point: _Point) -> str:
    epoch = "" if point.epoch is None else f"epoch {escape(str(point.epoch))}: "
    return f"{epoch}r = {number(point.cosine)}, {percent(point.ratio)}"


def _axes(low: float, at: Callable[[float, float], str]) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    lines = [
        f'<path class="wb-axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        "mean cosine r of the class means</text>",
    ]
    for share in (0.0, 0.5, 1.0):
        _, y = at(low, share).split(",")
        lines.append(
            f'<text x="{LEFT - 5}" y="{float(y) + 4:.1f}" text-anchor="end">'
            f"{percent(share)}</text>"
        )
    for cosine in (0.0, 0.5, 1.0):
        x, _ = at(cosine, 0).split(",")
        lines.append(
            f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{cosine:g}</text>'
        )
    return "".join(lines)


def _entry(entry: tuple[str, str]) -> str:
    kind, word = entry
    shape = {
        "wb-theory": '<path class="wb-theory" d="M1 6H15"/>',
        "wb-foretold": '<path class="wb-foretold" d="M8 1l5 5l-5 5l-5 -5z"/>',
        "wb-moment": '<circle class="wb-moment" cx="8" cy="6" r="2.6"/>',
        "wb-other": '<circle class="wb-other" cx="8" cy="6" r="4.5"/>',
        "wb-here": '<circle class="wb-here" cx="8" cy="6" r="4.5"/>',
    }[kind]
    return (
        '<span><svg viewBox="0 0 16 12" width="16" height="12" aria-hidden="true">'
        f"{shape}</svg> {word}</span>"
    )
