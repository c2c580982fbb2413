"""Papyan 2020: what is left of G's log-spectrum when the class means are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.figures.figure import Figure, Numbers, Run, counted, verdict
from workbench.figures.panels import CLASS, CROSS, INK, MUTED, Panel, Rows, Series


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    panels = []
    for run in runs:
        if run.study.moments:  # the same network as one of the others
            continue
        study, levels = run.study, run.study.levels["jmlr"]
        values = study.spectra["G"].eigenvalues
        sizes = np.log10(values[values > 1e-10 * values[0]])
        counts, edges = np.histogram(sizes, bins=40)
        random = study.random
        off = np.empty((0, 1)) if random is None else random.projected
        panels.append(
            {
                "per_class": run.cell.per_class,
                "counts": counts,
                "edges": edges,
                "G": values[:20],
                "subtracted": levels.subtracted,
                "projected": levels.projected,
                "random": off.mean(0) if len(off) else [],
                "num_outliers": study.num_outliers,
            }
        )
    return {"panels": panels}


def _left(found: Numbers, name: str) -> int | None:
    """How many of what a knock-out leaves are above the middle of the gap."""
    count, values = found["num_outliers"], found["G"]
    if not 0 < count < len(values) or not found[name]:
        return None
    middle = (values[count - 1] * values[count]) ** 0.5
    return sum(value > middle for value in found[name])


def _panels(numbers: Numbers) -> Rows:
    row = []
    for found in numbers["panels"]:
        edges = np.array(found["edges"])
        most = 2.0 * max(found["counts"])
        sticks = [("G", INK, "outliers of G", 1.0)]
        sticks += [("subtracted", CLASS, "G less its class part", 0.4)]
        sticks += [("projected", CROSS, "G off span{delta_c}", 0.15)]
        series = [
            Series(
                kind="bars",
                x=((edges[:-1] + edges[1:]) / 2).tolist(),
                y=[max(count, 0.5) for count in found["counts"]],
                width=float(edges[1] - edges[0]) * 0.95,
                colour=MUTED,
            )
        ]
        for name, colour, label, part in sticks:
            values = [v for v in found[name] if v > 0][: found["num_outliers"] + 2]
            series.append(
                Series(
                    kind="sticks",
                    x=np.log10(values).tolist(),
                    y=[most * part] * len(values),
                    colour=colour,
                    label=label,
                    size=3,
                )
            )
        row.append(
            Panel(
                title=f"{found['per_class']} per class",
                x_label="log10 of the eigenvalue",
                y_label="how many",
                log_y=True,
                y_range=(0.5, 60 * most),
                series=series,
            )
        )
    half = (len(row) + 1) // 2
    return [row[:half], row[half:]] if len(row) > 3 else [row]


def _sentences(numbers: Numbers) -> tuple[str, str]:
    told = []
    for found in numbers["panels"]:
        subtracted, projected = (_left(found, n) for n in ("subtracted", "projected"))
        chance = _left(found, "random")
        beside = "" if chance is None else f" (random vectors leave {chance})"
        told.append(
            f"with {found['per_class']} per class, of "
            f"{counted(found['num_outliers'], 'outlier')} {subtracted} stay above the "
            f"middle of the gap without the class part, and {projected} without all of "
            f"span{{delta_c}}{beside}"
        )
    return (
        f"Knock-outs: {'; '.join(told)}.",
        verdict(numbers["rows"], "networks"),
    )


FIGURE = Figure(
    name="papyan2020-knockouts",
    title="Papyan 2020: the log-spectrum of G without its class means (jmlr)",
    sweep="papyan2020",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
