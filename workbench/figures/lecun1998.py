"""LeCun, Bottou, Orr and Mueller 1998: the eigenvalues of a small network's Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.figures.figure import Figure, Numbers, Run, verdict
from workbench.figures.panels import CLASS, INK, MUTED, Panel, Rows, Series

_SMALL = 0.01  # of the largest eigenvalue: what is below counts as the bulk


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    study = runs[0].study
    G = study.spectra["G"].eigenvalues
    return {
        "hess": study.spectra["Hess"].eigenvalues,
        "G": G[:20],
        "class_part": study.levels["icml"].parts["G1"],
        "num_outliers": study.num_outliers,
    }


def _panels(numbers: Numbers) -> Rows:
    values = np.array(numbers["hess"])
    top = float(values.max())
    counts, edges = np.histogram(values, bins=60)
    width = float(edges[1] - edges[0])
    middles = (edges[:-1] + edges[1:]) / 2
    full = counts > 0
    linear = Panel(
        title=f"Eigenvalues of the Hessian, all {len(values):,}",
        x_label="eigenvalue",
        y_label="how many",
        log_y=True,
        y_range=(0.5, 2.0 * float(counts.max())),
        series=[
            Series(
                kind="bars",
                x=middles[full].tolist(),
                y=counts[full].tolist(),
                width=width * 0.9,
                colour=INK,
            )
        ],
    )
    series = []
    for sign, colour, label in ((1, INK, "above zero"), (-1, MUTED, "below zero")):
        sizes = np.log10(np.abs(values[values * sign > 1e-9 * top]))
        found, places = np.histogram(sizes, bins=np.arange(-9, 1 + np.log10(top), 0.25))
        series.append(
            Series(
                kind="line",
                x=((places[:-1] + places[1:]) / 2).tolist(),
                y=found.tolist(),
                colour=colour,
                label=label,
                size=6,
            )
        )
    logarithmic = Panel(
        title="The same by size",
        x_label="log10 of the eigenvalue's size",
        y_label="how many",
        series=series,
    )
    ranks = list(range(1, len(numbers["G"]) + 1))
    part = numbers["class_part"]
    leading = Panel(
        title="The largest: Hessian, G, and G's class part",
        x_label="rank",
        y_label="eigenvalue",
        log_y=True,
        series=[
            Series(kind="dots", x=ranks, y=values[: len(ranks)].tolist(),
                   colour=MUTED, label="Hessian", hollow=True, size=8),
            Series(kind="dots", x=ranks, y=numbers["G"], label="G"),
            Series(kind="dots", x=ranks[: len(part)], y=part[: len(ranks)],
                   colour=CLASS, label="class part (icml)"),
        ],
    )  # fmt: skip
    return [[linear, logarithmic, leading]]


def _sentences(numbers: Numbers) -> tuple[str, str]:
    values = np.array(numbers["hess"])
    top, num = float(values.max()), len(values)
    small = int((np.abs(values) < _SMALL * top).sum())
    below = int((values < -1e-6 * top).sum())
    same = "as they found" if small > 0.8 * num else "unlike what they found"
    return (
        f"A few large eigenvalues and many small ones, {same}: the largest is "
        f"{top:.3g}, {small:,} of {num:,} ({small / num:.0%}) are smaller than 1 % of "
        f"it, and {below:,} are negative.",
        verdict(numbers["rows"], "networks"),
    )


FIGURE = Figure(
    name="lecun1998",
    title="LeCun et al. 1998: eigenvalues of the Hessian of a small network",
    sweep="lecun1998",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
