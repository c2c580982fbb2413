"""The numbers of one study, as one row of a sweep's table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workbench.study.outliers import NOT_COUNTED
from workbench.study.records import Levels, Study
from workbench.study.size import num_told, predicted_of, size_of

NAN = math.nan


def numbers_of(study: Study) -> dict[str, Any]:
    r"""Return the numbers of a study by name, those of a convention with its name.

    ``gap`` is the ratio of the last outlier to the next eigenvalue. For a convention,
    over the leading eigenvalues (the outliers, and at least C - 1): ``ratio``, the sum
    of the class part's over that of G's, with ``ratio_min``, the smallest of the single
    ratios; ``cross`` and ``within``, the shares of what is missing (`workbench.study
    .size`); ``predicted``, the ratio that collapse predicts from the last layer;
    ``overlap``, the mean share of G's eigenvectors in span{delta_c}, with its smallest
    (``overlap_min``) and what shuffled labels reach (``overlap_null``); ``share_...``,
    the shares of the parts of the trace of G. ``cosine`` is r of the last layer,
    ``variation`` its within-class share of all variation, and ``NC1`` a measure of it.
    What was not measured is NaN. Costs nothing.
    """
    run, layer = study.run, study.last_layer
    values = study.spectra["G"].eigenvalues
    count = study.num_outliers
    counted = not study.outlier_rule.startswith(NOT_COUNTED)
    found: dict[str, Any] = {
        "num_params": run.get("num_params"),
        "num_examples": run.get("num_examples"),
        "loss": _number(run.get("train_loss")),
        "accuracy": _number(run.get("train_accuracy")),
        "num_outliers": count if counted else None,
        "gap": _ratio(values, count - 1, count) if count else NAN,
    }
    for name in ("G", "Hess"):
        spectrum = study.spectra.get(name)
        top = NAN if spectrum is None else spectrum.eigenvalues.max(initial=-math.inf)
        found[f"lam_1_{name}"] = float(top)
        found[f"trace_{name}"] = NAN if spectrum is None else float(spectrum.trace)
    found["cosine"] = NAN if layer is None else layer.cosine
    total = 0.0 if layer is None else layer.within + layer.between
    found["variation"] = NAN if layer is None or not total else layer.within / total
    found["NC1"] = NAN if layer is None else layer.neural_collapse.get("NC1", NAN)
    for name, levels in study.levels.items():
        found |= {
            f"{key}_{name}": v for key, v in _of_convention(study, levels).items()
        }
    return found


def _of_convention(study: Study, levels: Levels) -> dict[str, float]:
    """The numbers of one convention."""
    size, predicted = size_of(study, levels), predicted_of(study, levels)
    num = num_told(study, levels)
    convention = levels.convention
    values = study.spectra["G"].eigenvalues[:num]
    part = levels.parts[convention.class_part][:num]
    overlap, null = levels.overlap[:num], levels.null
    shuffled = None if null is None else null.overlap[:, :num]
    whole = levels.trace.get("G") or NAN
    single = part / np.where(values > 0, values, NAN) if len(part) == num else part[:0]
    return {
        "ratio": NAN if size is None else size.class_part,
        "ratio_min": float(single.min()) if len(single) else NAN,
        "cross": NAN if size is None else size.cross,
        "within": NAN if size is None else size.within,
        "predicted": NAN if predicted is None else predicted.size,
        "overlap": float(overlap.mean()) if num else NAN,
        "overlap_min": float(overlap.min()) if num else NAN,
        "overlap_null": NAN
        if shuffled is None or not shuffled.size
        else float(shuffled.mean()),
        **{f"share_{p}": levels.trace.get(p, NAN) / whole for p in convention.parts},
    }


def _ratio(values: Any, above: int, below: int) -> float:
    """One eigenvalue over another; NaN if there is no other."""
    if below >= len(values) or not values[below] > 0:
        return NAN
    return float(values[above] / values[below])


def _number(value: Any) -> float:
    return NAN if value is None else float(value)
