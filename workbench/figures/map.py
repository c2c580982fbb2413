"""When does the hierarchy explain the outliers? Measured against predicted sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS, Div, TapTool
from numpy.typing import NDArray

from workbench.figures.figure import (
    CLAIM_OVERLAP,
    CLAIM_RATIO,
    Figure,
    Numbers,
    Run,
    span,
)
from workbench.figures.page import colour_of, plot
from workbench.figures.panels import CLASS, INK, MUTED, Panel, Rows, Series
from workbench.sweeps.cells import network_name
from workbench.ui.views.ratio import closed_form

Array = NDArray[np.float64]
_FITTED = 0.95  # accuracy from which on a network counts as trained
_SHOWN = 12  # leading eigenvalues of each run
_HALVES = 100  # random halves that a fit is tested on
_BINS = (0.1, 0.3, 0.6, 1.01)  # upper ends of within-class shares of variation
_CHOSEN = ("per_class", "epochs", "weight_decay", "seed")


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "points": [
            {
                "told": network_name(run.cell)
                + "".join(f", {k} {getattr(run.cell, k):g}" for k in _CHOSEN),
                "G": run.study.spectra["G"].eigenvalues[:_SHOWN],
                "class_part": run.study.levels["icml"].parts["G1"][:_SHOWN],
            }
            for run in runs
        ],
    }


def _used(numbers: Numbers) -> tuple[list[int], dict[str, Array]]:
    """The trained runs with a prediction, and their numbers as columns."""
    rows = numbers["rows"]
    names = ("cosine", "variation", "ratio_icml", "predicted_icml", "ratio_jmlr",
             "predicted_jmlr")  # fmt: skip
    chosen = [
        n
        for n, one in enumerate(rows)
        if all(one[name] is not None for name in names) and one["accuracy"] >= _FITTED
    ]
    return chosen, {k: np.array([rows[n][k] for n in chosen], float) for k in names}


def explained(measured: Array, predicted: Array) -> float:
    """The share of the variance that a prediction explains, R^2; below 0: none."""
    rest = ((measured - predicted) ** 2).sum()
    return float(1 - rest / ((measured - measured.mean()) ** 2).sum())


def held_out(measured: Array, causes: Sequence[Array]) -> float:
    """Fit a plane on half of the runs, and return R^2 on the other half.

    The median over a hundred random halves, drawn by a fixed seed.
    """
    draw = np.random.default_rng(0)
    design = np.stack([np.ones_like(measured), *causes], axis=1)
    found = []
    for _ in range(_HALVES):
        order = draw.permutation(len(measured))
        fit, test = order[::2], order[1::2]
        weights = np.linalg.lstsq(design[fit], measured[fit], rcond=None)[0]
        found.append(explained(measured[test], design[test] @ weights))
    return float(np.median(found))


def _curve(low: float) -> tuple[list[float], list[float]]:
    grid = np.linspace(min(low, 0.0), 1.0, 61).clip(min=-1 / 9)
    return grid.tolist(), [closed_form(float(r), 10) for r in grid]


def _panels(numbers: Numbers) -> Rows:
    chosen, found = _used(numbers)
    told = [numbers["points"][n]["told"] for n in chosen]
    return [
        [
            _map_panel(found, told),
            *(
                _against(found, name, told)
                for name in ("icml", "jmlr")
            ),
        ]
    ]  # fmt: skip


def _map_panel(found: dict[str, Array], told: list[str]) -> Panel:
    """The cosine against the measured ratio, with the closed-form curve."""
    x, y = _curve(float(found["cosine"].min(initial=0.0)))
    series = [Series(kind="line", x=x, y=y, colour=CLASS, label="if collapsed", size=6)]
    for n, (low, high) in enumerate(itertools.pairwise((0.0, *_BINS))):
        here = (found["variation"] >= low) & (found["variation"] < high)
        if not here.any():
            continue
        label = f"{low:.0%} to {min(high, 1.0):.0%} within classes"
        series.append(
            Series(
                kind="dots",
                x=found["cosine"][here].tolist(),
                y=found["ratio_icml"][here].tolist(),
                colour=f"class {(0, 7, 5, 4)[n]}",
                label=label,
                size=6,
                told=[t for t, inside in zip(told, here, strict=True) if inside],
            )
        )
    return Panel(
        title="Measured: cosine and class part (icml)",
        x_label="mean cosine r of the class means",
        y_label="class part over G",
        y_range=(0, 1.05),
        series=series,
    )


def _against(found: dict[str, Array], name: str, told: list[str]) -> Panel:
    return Panel(
        title=f"Predicted and measured ({name})",
        x_label="predicted from the last layer",
        y_label="measured",
        x_range=(0, 1.05),
        y_range=(0, 1.05),
        series=[
            Series(kind="line", x=[0, 1], y=[0, 1], colour=MUTED, dashed=True),
            Series(
                kind="dots",
                x=found[f"predicted_{name}"].tolist(),
                y=found[f"ratio_{name}"].tolist(),
                colour=INK,
                told=told,
            ),
        ],
    )


def _sentences(numbers: Numbers) -> tuple[str, str]:
    chosen, found = _used(numbers)
    measured, predicted = found["ratio_icml"], found["predicted_icml"]
    curve = [closed_form(float(max(r, -1 / 9)), 10) for r in found["cosine"]]
    overlap = [numbers["rows"][n]["overlap_icml"] for n in chosen]
    large = float((measured >= CLAIM_RATIO).mean())
    directions = float((np.array(overlap) >= CLAIM_OVERLAP).mean())
    by_curve = _share(explained(measured, np.array(curve)))
    by_means = _share(explained(measured, predicted))
    above = float((predicted > measured).mean())
    return (
        f"Over {len(chosen)} trained networks of {len(numbers['rows'])}, the "
        f"closed-form curve at r explains {by_curve} of the variance of the measured "
        f"ratio, and the collapse prediction from the class means, as it is, "
        f"{by_means}: it is too large in {above:.0%} of them. In a linear fit "
        f"to half of the networks, tested on the other half, {_fits(found, 'icml')} "
        f"(in jmlr {_fits(found, 'jmlr')}).",
        f"The talk's claim depends on the network: of the leading eigenvectors of G "
        f"{span(overlap)} lies in the span of the class means, at least 90 % in "
        f"{directions:.0%} of these networks; the class part has "
        f"{span(measured.tolist())} of their size, at least 70 % in {large:.0%}.",
    )


def _fits(found: dict[str, Array], name: str) -> str:
    """What a fit explains of networks that it has not seen, by its causes."""
    measured, predicted = found[f"ratio_{name}"], found[f"predicted_{name}"]
    variation = found["variation"]
    told = (
        ("the prediction", [predicted]),
        ("the variation within classes", [variation]),
        ("both", [predicted, variation]),
    )
    words = [f"{who} explains {_share(held_out(measured, xs))}" for who, xs in told]
    return f"{words[0]}, {words[1]} and {words[2].replace('explains', 'explain')}"


def _share(value: float) -> str:
    return f"nothing (R² {value:.1f})" if value < 0 else f"{value:.0%}"


def _page(numbers: Numbers) -> Any:
    """The map again; a click on a point draws its study beside it."""
    chosen, found = _used(numbers)
    points = [numbers["points"][n] for n in chosen]
    source = ColumnDataSource(
        {
            "x": found["cosine"],
            "y": found["ratio_icml"],
            "told": [p["told"] for p in points],
            "G": [p["G"] for p in points],
            "part": [p["class_part"] for p in points],
        }
    )
    empty = Panel(
        title="Eigenvalues of G, and of its class part", series=[], x_label="rank",
        y_label="eigenvalue", log_y=True,
    )  # fmt: skip
    x, y = _curve(float(found["cosine"].min(initial=0.0)))
    base = Panel(
        title="Click a point to see its study",
        x_label="mean cosine r of the class means",
        y_label="class part over G (icml)",
        y_range=(0, 1.05),
        series=[Series(kind="line", x=x, y=y, colour=CLASS, size=6)],
    )
    left, right = plot(base, 480, 360), plot(empty, 480, 360)
    left.scatter("x", "y", source=source, size=8, color=colour_of(INK), alpha=0.7)
    left.add_tools(TapTool())
    shown = {}
    for name, colour in (("G", INK), ("part", CLASS)):
        values = source.data[name][0]
        shown[name] = ColumnDataSource(
            {"x": list(range(1, len(values) + 1)), "y": values}
        )
        right.scatter("x", "y", source=shown[name], size=7, color=colour_of(colour))
    about = Div(text=points[0]["told"], width=960)
    source.selected.js_on_change(
        "indices",
        CustomJS(
            args={"source": source, "about": about, **shown},
            code="""
            const [at] = source.selected.indices;
            if (at === undefined) return;
            about.text = source.data.told[at];
            for (const [shown, name] of [[G, "G"], [part, "part"]]) {
              const y = Array.from(source.data[name][at]);
              shown.data = { x: y.map((_, n) => n + 1), y };
            }""",
        ),
    )
    return column(row(left, right), about)


FIGURE = Figure(
    name="map",
    title="When does the hierarchy explain the outliers?",
    sweep="map",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
    more=_page,
)
