"""The spectrum of G with its class part in orange: data sets by sample sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.figures.figure import Figure, Numbers, Run, data_name, span, verdict
from workbench.figures.panels import CLASS, INK, MUTED, Panel, Rows, Series, in_rows
from workbench.study.spectrum import density_curve

_FLOOR, _TOP = 1e-7, 10.0  # of the density's axis


def _numbers(runs: Sequence[Run]) -> dict[str, Any]:
    panels = []
    for run in runs:
        study = run.study
        curve = density_curve(study.spectra["G"], num_points=150)
        count = max(study.num_outliers, study.num_classes)
        panels.append(
            {
                "data": data_name(run.cell),
                "per_class": run.cell.per_class,
                "grid": curve.grid,
                "density": curve.density * curve.width,
                "G": study.spectra["G"].eigenvalues[:count],
                "class_part": study.levels["icml"].parts["G1"],
                "num_outliers": study.num_outliers,
            }
        )
    return {"panels": panels}


def _panels(numbers: Numbers) -> Rows:
    rows: dict[str, list[Panel]] = {}
    for found in numbers["panels"]:
        top, part = found["G"], found["class_part"]
        rows.setdefault(found["data"], []).append(
            Panel(
                title=f"{found['data']}, {found['per_class']} per class: "
                f"{found['num_outliers']} outliers",
                x_label="eigenvalue of G",
                y_label="density (log)",
                log_y=True,
                y_range=(_FLOOR, _TOP),
                series=[
                    Series(kind="line", x=found["grid"],
                           y=[max(y, _FLOOR / 10) for y in found["density"]],
                           colour=MUTED, size=4),
                    Series(kind="sticks", x=top, y=[1e-2] * len(top), colour=INK,
                           size=4),
                    Series(kind="sticks", x=part, y=[1e-4] * len(part),
                           colour=CLASS, size=6),
                ],
            )
        )  # fmt: skip
    return in_rows(rows)


def _sentences(numbers: Numbers) -> tuple[str, str]:
    rows = numbers["rows"]
    C = [r["num_classes"] or 10 for r in rows]
    counts = [r["num_outliers"] for r in rows]
    near = sum(
        n is not None and n in (c, c - 1) for n, c in zip(counts, C, strict=True)
    )
    share = [r["share_G1_icml"] for r in rows]
    return (
        f"The rule counts as many outliers as classes, or one fewer, in {near} of "
        f"{len(rows)} panels; the class part (orange) is {span(share)} of the trace.",
        verdict(rows, "panels"),
    )


FIGURE = Figure(
    name="spectra",
    title="The spectrum of G, and its class part in orange",
    sweep="talk",
    numbers=_numbers,
    panels=_panels,
    sentences=_sentences,
)
