"""Dauphin et al. 2014: how many directions curve down, against the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.figures.figure import Figure, Numbers, Run, verdict
from workbench.figures.panels import Panel, Rows, Series

_ZERO = 1e-6  # of the largest size: smaller eigenvalues are taken as zero


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    points = []
    for run in runs:
        spectrum = run.study.spectra["Hess"]
        values = spectrum.eigenvalues
        least = _ZERO * float(np.abs(values).max())
        negative = int((values < -np.maximum(spectrum.residuals, least)).sum())
        points.append(
            {
                "epochs": run.cell.epochs,
                "seed": run.cell.seed,
                "loss": run.study.run["train_loss"],
                "index": negative / spectrum.dim,
                "lowest": float(values.min()),
                "largest": float(values.max()),
                "exact": bool(spectrum.complete),
            }
        )
    return {"points": points}


def _panels(numbers: Numbers) -> Rows:
    points = numbers["points"]
    epochs = sorted({p["epochs"] for p in points})

    def panel(title: str, label: str, value: Any) -> Panel:
        return Panel(
            title=title,
            x_label="training loss",
            y_label=label,
            log_x=True,
            series=[
                Series(
                    kind="dots",
                    x=[p["loss"] for p in points if p["epochs"] == epoch],
                    y=[value(p) for p in points if p["epochs"] == epoch],
                    colour=f"class {n}",
                    label=f"epoch {epoch}",
                    size=7,
                    told=[f"seed {p['seed']}" for p in points if p["epochs"] == epoch],
                )
                for n, epoch in enumerate(epochs)
            ],
        )

    return [
        [
            panel(
                "Index: share of the Hessian's eigenvalues below zero",
                "share",
                lambda p: p["index"],
            ),
            panel(
                "How far down the lowest one curves",
                "lowest over largest eigenvalue",
                lambda p: p["lowest"] / p["largest"],
            ),
        ]
    ]


def _sentences(numbers: Numbers) -> tuple[str, str]:
    points = numbers["points"]
    loss = np.array([p["loss"] for p in points])
    index = np.array([p["index"] for p in points])
    rank = float(np.corrcoef(_ranks(loss), _ranks(index))[0, 1])
    high, low = points[int(loss.argmax())], points[int(loss.argmin())]
    if rank > 0.5:
        grows = "grows with the loss, as they found"
    elif rank > 0.2:
        grows = "grows with the loss, but less clearly than they found"
    else:
        grows = "does not grow with the loss, unlike what they found"
    last = max(p["epochs"] for p in points)
    rows = [row for row in numbers["rows"] if row["epochs"] == last]
    ends = [p["lowest"] / p["largest"] for p in (high, low)]
    return (
        f"The share of directions that curve down {grows}: rank correlation "
        f"{rank:.2f} over {len(points)} exact Hessians; it is {high['index']:.1%} at "
        f"loss {high['loss']:.3g} and {low['index']:.1%} at loss {low['loss']:.3g}. "
        f"What does change is how far down the lowest one curves, from "
        f"{ends[0]:.2g} to {ends[1]:.2g} "
        "of the largest; these are points of training, not the critical points of the "
        "paper, which nobody here has searched for.",
        verdict(rows, f"networks trained for {last} epochs"),
    )


def _ranks(values: Any) -> Any:
    return values.argsort().argsort()


FIGURE = Figure(
    name="dauphin2014",
    title="Dauphin et al. 2014: negative directions of the Hessian along training",
    sweep="dauphin2014",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
