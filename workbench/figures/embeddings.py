"""The means delta_c and delta_{c,c'} in one plane: data sets by sample sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.figures.figure import Figure, Numbers, Run, data_name, span, verdict
from workbench.figures.panels import Panel, Rows, Series, in_rows


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    panels = []
    for run in runs:
        picture = run.study.embedding
        kept = (picture.level == 1) | (picture.level == 2)
        panels.append(
            {
                "data": data_name(run.cell),
                "per_class": run.cell.per_class,
                "method": f"{picture.method}, {picture.metric} distance",
                "points": picture.points[kept].astype(float),
                "level": picture.level[kept],
                "true_class": picture.true_class[kept],
                "potential_class": picture.potential_class[kept],
            }
        )
    return {"panels": panels}


def _near(found: Numbers) -> tuple[float, float]:
    """How many delta_{c,c'} have their own delta_c, or a like c', nearest to them.

    Distances in the picture, which is all that one sees. The second share is of those
    delta_{c,c'} whose nearest other one has the same c'.
    """
    points, level = np.array(found["points"]), np.array(found["level"])
    label, other = np.array(found["true_class"]), np.array(found["potential_class"])
    pairs = np.flatnonzero((level == 1) & (label != other))
    means = np.flatnonzero(level == 2)
    apart = np.linalg.norm(points[pairs, None] - points[None, means], axis=2)
    own = label[means][apart.argmin(1)] == label[pairs]
    among = np.linalg.norm(points[pairs, None] - points[None, pairs], axis=2)
    np.fill_diagonal(among, np.inf)
    like = other[pairs][among.argmin(1)] == other[pairs]
    return float(own.mean()), float(like.mean())


def _panels(numbers: Numbers) -> Rows:
    rows: dict[str, list[Panel]] = {}
    for found in numbers["panels"]:
        points, level = np.array(found["points"]), np.array(found["level"])
        label = np.array(found["true_class"])
        series = [
            Series(
                kind="dots",
                x=points[(level == n) & (label == c), 0].tolist(),
                y=points[(level == n) & (label == c), 1].tolist(),
                colour=f"class {c}",
                size=size,
            )
            for n, size in ((1, 5), (2, 12))
            for c in sorted(set(label.tolist()))
        ]
        own, _ = _near(found)
        rows.setdefault(found["data"], []).append(
            Panel(
                title=f"{found['data']}, {found['per_class']} per class: {own:.0%} "
                "beside their delta_c",
                series=series,
                bare=True,
            )
        )
    return in_rows(rows)


def _sentences(numbers: Numbers) -> tuple[str, str]:
    near = [_near(found) for found in numbers["panels"]]
    own, like = [o for o, _ in near], [k for _, k in near]
    methods = sorted({found["method"] for found in numbers["panels"]})
    gathers = "gather" if min(own) > 0.8 else "do not always gather"
    return (
        f"The delta_c,c' {gathers} around their delta_c: of those with c' other than "
        f"c, {span(own)} have their own class mean nearest in the picture "
        f"({'; '.join(methods)}), by chance one in ten; {span(like)} have one of the "
        "same c' as their nearest neighbour.",
        verdict(numbers["rows"], "panels"),
    )


FIGURE = Figure(
    name="embeddings",
    title="The means delta_c (large) and delta_c,c' (small), coloured by c",
    sweep="talk",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
