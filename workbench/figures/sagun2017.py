"""Sagun et al. 2017: outliers follow the number of classes, the bulk the width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.figures.figure import Figure, Numbers, Run, verdict
from workbench.figures.panels import MUTED, Panel, Rows, Series
from workbench.study.outliers import count_in_window

_SMALL = 0.01  # of the largest eigenvalue: what is below counts as the bulk


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    points = []
    for run in runs:
        study, spectrum = run.study, run.study.spectra["Hess"]
        values = spectrum.eigenvalues
        C = study.num_classes
        count, _ = count_in_window(values[values > 0], C, spectrum.dim)
        points.append(
            {
                "num_classes": C,
                "width": run.cell.width,
                "num_params": spectrum.dim,
                "outliers_hess": count,
                "outliers_G": study.num_outliers,
                "large": int((values > _SMALL * values.max()).sum()),
            }
        )
    return {"points": points}


def _panels(numbers: Numbers) -> Rows:
    points = numbers["points"]
    classes = sorted({p["num_classes"] for p in points})
    widths = sorted({p["width"] for p in points})

    def counts(title: str, name: str) -> Panel:
        return Panel(
            title=title,
            x_label="number of classes C",
            y_label="outliers",
            series=[
                Series(kind="line", x=classes, y=classes, colour=MUTED, label="C"),
                Series(kind="line", x=classes, y=[c - 1 for c in classes],
                       colour=MUTED, dashed=True, label="C - 1"),
                *[
                    Series(
                        kind="dots",
                        x=[p["num_classes"] + 0.12 * n - 0.18
                           for p in points if p["width"] == width],
                        y=[p[name] for p in points if p["width"] == width],
                        colour=f"class {n}", size=7, label=f"width {width}",
                    )
                    for n, width in enumerate(widths)
                ],
            ],
        )  # fmt: skip

    bulk = Panel(
        title="Share of the Hessian's eigenvalues in the bulk",
        x_label="number of parameters",
        y_label="below 1 % of the largest",
        log_x=True,
        series=[
            Series(
                kind="dots",
                x=[p["num_params"] for p in points if p["num_classes"] == c],
                y=[1 - p["large"] / p["num_params"]
                   for p in points if p["num_classes"] == c],
                colour=f"class {n}", size=7, label=f"{c} classes",
            )
            for n, c in enumerate(classes)
        ],
    )  # fmt: skip
    return [
        [
            counts("Outliers of the Hessian, by the rule", "outliers_hess"),
            counts("Outliers of G, by the rule", "outliers_G"),
            bulk,
        ]
    ]


def _sentences(numbers: Numbers) -> tuple[str, str]:
    points = numbers["points"]
    near = sum(
        p["outliers_G"] in (p["num_classes"], p["num_classes"] - 1) for p in points
    )
    near_hess = sum(
        p["outliers_hess"] in (p["num_classes"], p["num_classes"] - 1) for p in points
    )
    width = [p["width"] for p in points]
    large = np.array([p["large"] for p in points], float)
    wide, slim = (
        np.mean(large[[w == end for w in width]]) for end in (max(width), min(width))
    )
    return (
        f"The rule counts C or C - 1 outliers of G in {near} of {len(points)} networks "
        f"and of the Hessian in {near_hess}; {_judged(near, len(points))}. From width "
        f"{min(width)} to {max(width)}, with up to "
        f"{max(p['num_params'] for p in points):,} parameters, the number of "
        "eigenvalues above 1 % of the largest changes from "
        f"{slim:.0f} to {wide:.0f} on average: what more parameters add is "
        "mostly bulk.",
        verdict(numbers["rows"], "networks"),
    )


def _judged(near: int, num: int) -> str:
    if near > 0.8 * num:
        return "as they found, the number of classes decides"
    if near > 0.4 * num:
        return "the number of classes decides often, not always"
    return "unlike what they found, the number of classes rarely decides"


FIGURE = Figure(
    name="sagun2017",
    title="Sagun et al. 2017: outliers by classes, bulk by width",
    sweep="sagun2017",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
