"""A study in one plain object: what `workbench show` prints, and the page tells."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from workbench.spectrum import Spectrum
from workbench.study import MEANS_PART, PARTS, Study

SCHEMA = 1  # of the object below; raised when a reader of before would stumble
NUM_LEADING = 20  # eigenvalues given of each operator and part

_RUN = (
    "data",
    "per_class",
    "model",
    "num_params",
    "num_classes",
    "num_examples",
    "epochs",
    "seed",
    "device",
    "train_loss",
    "train_accuracy",
)


def summary(study: Study) -> dict[str, Any]:
    """Sum a study up in numbers, strings, lists and dicts, ready for JSON.

    Args:
        study: What was measured.

    Returns:
        ``schema``; ``run``, what was trained, on what and how well, with the number of
        classes and examples that were measured; ``spectra``, of
        each operator the leading eigenvalues with their residuals, at the negative end
        too where it has one (``bottom``, most negative first); ``levels``, the leading
        eigenvalues and the trace of each part of G in the weighting that was asked
        for, with the standard errors of those that were estimated; ``picture``, what
        was left out of it and how exact it is, if not all; ``attribution``, what share
        of each leading eigenvector of G lies in span{delta_c}, and how many outliers
        there are by which rule. Numbers that do not exist, such as the loss of a
        network that was never trained, are None.
    """
    levels = study.levels[study.weighting]
    parts = (*PARTS[study.weighting], MEANS_PART[study.weighting])
    return {
        "schema": SCHEMA,
        "run": {name: _plain(_measured(study).get(name)) for name in _RUN},
        "spectra": {
            name: _spectrum(name, study.spectra[name])
            for name in ("G", "Hess", "H")
            if name in study.spectra
        },
        "levels": {
            "weighting": levels.weighting,
            "parts": {
                name: _numbers(levels.parts[name][:NUM_LEADING]) for name in parts
            },
            "trace": {name: _plain(levels.trace[name]) for name in (*parts, "G")},
            "trace_error": dict(levels.trace_error),
        },
        "picture": study.embedding.note,
        "attribution": {
            "overlap": _numbers(levels.overlap),
            "num_outliers": study.num_outliers,
            "rule": study.outlier_rule,
        },
    }


def _measured(study: Study) -> dict[str, Any]:
    """The run; of some classes alone, with the classes and examples measured."""
    C = study.num_classes
    num_examples = study.embedding.num_total // C
    return {**study.run, "num_classes": C, "num_examples": num_examples}


def _spectrum(name: str, spectrum: Spectrum) -> dict[str, Any]:
    """Both ends of one spectrum; G is positive semidefinite and has but one."""
    pairs = [
        {"value": value, "residual": residual}
        for value, residual in zip(
            _numbers(spectrum.eigenvalues), _numbers(spectrum.residuals), strict=True
        )
    ]
    ends = {"top": [p for p in pairs if (p["value"] or 0) > 0][:NUM_LEADING]}
    if name != "G":
        bottom = [p for p in pairs if (p["value"] or 0) < 0]
        ends["bottom"] = bottom[::-1][:NUM_LEADING]
    return {
        **ends,
        "method": spectrum.method,
        "num_matvecs": spectrum.num_matvecs,
        "trace": _plain(spectrum.trace),
    }


def _numbers(values: Iterable[Any]) -> list[float | None]:
    return [_plain(float(value)) for value in values]


def _plain(value: Any) -> Any:
    """Return the value, or None for a number that JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
