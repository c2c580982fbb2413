"""The three averages, from the study of the first preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.figures.figure import Figure, Numbers, Run, verdict
from workbench.figures.panels import CLASS, INK, MUTED, Panel, Rows, Series
from workbench.page.presets import load_example
from workbench.sweeps.rows import numbers_of

_LEVELS = (
    "all gradients delta_i,c,c'",
    "averaged over i: delta_c,c'",
    "then over c': delta_c",
    "then over c: delta_G",
)


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    study = runs[0].study if runs else load_example("paper")
    levels, picture = study.levels["icml"], study.embedding
    C, count = study.num_classes, study.num_outliers
    row = {name: study.run[name] for name in ("data", "model", "per_class", "epochs")}
    return {
        "points": picture.points,
        "level": picture.level,
        "true_class": picture.true_class,
        "num_vectors": [picture.num_total, C * C, C, 1],
        "kept": levels.kept,
        "G": study.spectra["G"].eigenvalues[: count + 8],
        "class_part": levels.parts["G1"],
        "rows": [{**row, **numbers_of(study), "rule": study.outlier_rule}],
    }


def _panels(numbers: Numbers) -> Rows:
    points = np.array(numbers["points"])
    level, label = np.array(numbers["level"]), np.array(numbers["true_class"])
    maps = []
    for n in range(3):
        series = []
        for c in sorted(set(label[label >= 0].tolist())):
            here = (level == n) & (label == c)
            series.append(
                Series(
                    kind="dots",
                    x=points[here, 0].tolist(),
                    y=points[here, 1].tolist(),
                    colour=f"class {c}",
                    size=(3, 6, 11)[n],
                )
            )
        num, kept = numbers["num_vectors"][n], numbers["kept"][n]
        title = f"{_LEVELS[n]}: {num:,}, {kept:.0%} of tr G"
        maps.append(Panel(title=title, series=series, bare=True))
    ranks = list(range(1, len(numbers["G"]) + 1))
    kept = Panel(
        title="Share of the trace of G that is left",
        x_label="averages taken",
        y_label="share",
        y_range=(0, 1.05),
        series=[
            Series(kind="bars", x=[0, 1, 2, 3], y=numbers["kept"], width=0.7,
                   colour=MUTED)
        ],
    )  # fmt: skip
    spectrum = Panel(
        title="Eigenvalues of G, and of its class part (icml)",
        x_label="rank",
        y_label="eigenvalue",
        log_y=True,
        series=[
            Series(kind="dots", x=ranks, y=numbers["G"], label="G", colour=INK, size=7),
            Series(kind="dots", x=ranks[: len(numbers["class_part"])],
                   y=numbers["class_part"], label="class part", colour=CLASS, size=7),
        ],
    )  # fmt: skip
    return [maps, [kept, spectrum]]


def _sentences(numbers: Numbers) -> tuple[str, str]:
    kept, num = numbers["kept"], numbers["num_vectors"]
    return (
        f"Averaging {num[0]:,} gradients over i, then c', leaves {num[2]} vectors; the "
        f"{num[1]} means of the first step hold {kept[1]:.0%} of the trace of G, those "
        f"{num[2]} hold {kept[2]:.0%}, and the mean of all {kept[3]:.1%}.",
        verdict(numbers["rows"], "network"),
    )


FIGURE = Figure(
    name="averages",
    title="The three averages of the gradients",
    sweep="",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
