"""Papyan 2020: the parts of G over epochs, and over the number of examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.figures.figure import Figure, Numbers, Run, span, verdict
from workbench.figures.panels import CLASS, CROSS, DIAGONAL, WITHIN, Panel, Rows, Series
from workbench.study.records import Levels, Study

_COLOURS = {"G_class": CLASS, "G_cross": CROSS, "G_within": WITHIN, "G_diag": DIAGONAL}


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    film = next((run for run in runs if run.study.moments), None)
    return {
        "epochs": [_point(s, s.run["epochs"]) for s in film.study.film] if film else [],
        "sizes": [_point(r.study, r.cell.per_class) for r in runs if r is not film],
    }


def _point(study: Study, at: Any) -> dict[str, Any]:
    levels: Levels = study.levels["jmlr"]
    whole = levels.trace["G"]
    return {
        "at": at,
        "share": {name: levels.trace[name] / whole for name in levels.convention.parts},
        "trace": whole,
        "lam_G": float(study.spectra["G"].eigenvalues[0]),
        "lam": {n: float(levels.parts[n][0]) for n in levels.convention.parts},
    }


def _panels(numbers: Numbers) -> Rows:
    rows = []
    for name, label in (("epochs", "epoch + 1"), ("sizes", "examples per class")):
        points = numbers[name]
        x = [p["at"] + (name == "epochs") for p in points]
        shares = [
            Series(kind=kind, x=x, y=[p["share"][part] for p in points], colour=colour,
                   label=part if kind == "line" else "", size=6)
            for part, colour in _COLOURS.items()
            for kind in ("line", "dots")
        ]  # fmt: skip
        largest = [
            Series(kind="line", x=x, y=[p["lam_G"] for p in points], label="G", size=6),
            *[
                Series(kind="line", x=x, y=[p["lam"][part] for p in points],
                       colour=colour, label=part, size=6)
                for part, colour in _COLOURS.items()
            ],
        ]  # fmt: skip
        rows.append(
            [
                Panel(
                    title="Shares of the trace of G (jmlr)",
                    x_label=label,
                    y_label="share",
                    log_x=True,
                    y_range=(0, 1),
                    series=shares,
                ),
                Panel(
                    title="Largest eigenvalue of G and of each part",
                    x_label=label,
                    y_label="eigenvalue",
                    log_x=True,
                    log_y=True,
                    series=largest,
                ),
            ]
        )
    return rows


def _sentences(numbers: Numbers) -> tuple[str, str]:
    film, sizes = numbers["epochs"], numbers["sizes"]
    first, last = film[0], film[-1]
    share = [p["share"]["G_class"] for p in film]
    top = share.index(max(share))
    few, many = sizes[0], sizes[-1]
    return (
        f"The class part has {first['share']['G_class']:.1%} of the trace before "
        f"training, at most {share[top]:.0%} (epoch {film[top]['at']}) and "
        f"{last['share']['G_class']:.0%} at the end, where variation within the "
        f"classes has {last['share']['G_within']:.0%}; with {few['at']} to "
        f"{many['at']} examples per class its share is "
        f"{span([p['share']['G_class'] for p in sizes])}.",
        verdict(numbers["rows"], "trained networks"),
    )


FIGURE = Figure(
    name="papyan2020-parts",
    title="Papyan 2020: the parts of G over epochs and sample size",
    sweep="papyan2020",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
