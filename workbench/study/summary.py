"""A study as one plain object, which `workbench show` prints and the page uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.study.null import Null, band
from workbench.study.records import MAX_LEADING, Levels, Study
from workbench.study.spectrum import Spectrum
from workbench.study.walk import Walk

SCHEMA = 1  # of the object below; raised when older readers would break
NUM_LEADING = 20  # eigenvalues listed per operator and part

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
# Facts of a run that are included only if known: what loss and accuracy refer to, and
# how products with G, Hess and H were computed.
_KNOWN = (
    "held_out",
    "loss",
    "accuracy",
    "given",
    "trained",
    "products",
    "num_network_params",
)


def summary(study: Study) -> dict[str, Any]:
    """Summarise a study in numbers, strings, lists and dicts, ready for JSON.

    Args:
        study: The study to summarise.

    Returns:
        ``schema``; ``run``, what was trained, on what and how well, with the number of
        classes and examples that were measured; ``spectra``, of
        each operator the leading eigenvalues with their residuals, at the low end
        too where it has one (``bottom``, lowest first), and the trace with its error;
        ``levels``, the leading eigenvalues and the trace of each part of G in the
        convention that was asked for, with the errors of those that were estimated,
        what the knock-outs leave of G, and of all this the mean and spread over
        shuffled labels (``null``); ``conventions``, the same in each that was
        measured; ``last_layer``, the cosines and the variation of its features, the
        measures of neural collapse, G of its weights alone, and what that would be if
        the features had collapsed (up to 20 classes), or None where nothing was
        recorded; ``picture``, what was left out of it and how exact it is, if not all;
        ``random``, overlaps and knock-out of random combinations of the gradients;
        ``shared``, of G's first eigenvectors the share in the span of as many of Hess;
        ``walk``, the loss along each leading eigenvector, and how much that of each
        class climbs; ``layers``, of each module that owns parameters the share of each
        of G's first eigenvectors and of its trace, and the leading eigenvalues of its
        diagonal blocks; ``attribution``, what share of each leading eigenvector of G
        lies in span{delta_c}, and how many outliers there are by which rule;
        ``snapshots``, all of this for each earlier epoch. Numbers that do not exist,
        such as the loss of a network that was never trained, are None.
    """
    levels = study.levels[study.weighting]
    return {
        "schema": SCHEMA,
        "run": _run(study),
        "spectra": {
            name: _spectrum(name, study.spectra[name])
            for name in ("G", "Hess", "H")
            if name in study.spectra
        },
        "levels": _levels(study, levels),
        "conventions": {n: _levels(study, one) for n, one in study.levels.items()},
        "last_layer": _last_layer(study),
        "random": _null(study, study.random),
        "shared": _numbers(study.shared),
        "walk": _walk(study.walk),
        "layers": _layers(study),
        "picture": study.embedding.note,
        "attribution": {
            "overlap": _numbers(levels.overlap),
            "class_overlap": [_numbers(row) for row in levels.class_overlap],
            "num_outliers": study.num_outliers,
            "rule": study.outlier_rule,
        },
        "snapshots": [summary(moment) for moment in study.moments],
    }


def everything(study: Study) -> dict[str, Any]:
    """Return the `summary` and, under ``study``, the whole file as plain lists.

    Args:
        study: The study to summarise.

    Returns:
        The summary, and every eigenvalue, density node and weight, point, setting and
        version, also for earlier epochs. NaN and infinity become None.
    """
    return {**summary(study), "study": _written_out(study)}


def _written_out(value: Any) -> Any:
    """Turn records into dicts, arrays into lists, and NaN and infinity into None."""
    if is_dataclass(value):
        return {f.name: _written_out(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _written_out(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_written_out(item) for item in value]
    return _plain(value)


def _run(study: Study) -> dict[str, Any]:
    """The run, with the numbers of classes and examples that were measured."""
    C = study.num_classes
    num_examples = study.embedding.num_total // C
    run = {**study.run, "num_classes": C, "num_examples": num_examples}
    found = {name: _plain(run.get(name)) for name in _RUN}
    return found | {name: _plain(run[name]) for name in _KNOWN if name in run}


def _levels(study: Study, levels: Levels) -> dict[str, Any]:
    """One convention: parts, traces and knock-outs, with their errors."""
    parts = [*levels.convention.parts]
    if levels.convention.means_part in levels.parts:
        parts.append(levels.convention.means_part)
    return {
        "weighting": levels.weighting,
        "parts": {name: _numbers(levels.parts[name][:NUM_LEADING]) for name in parts},
        "residuals": {
            name: _numbers(values[:NUM_LEADING])
            for name, values in levels.residuals.items()
        },
        "trace": {name: _plain(levels.trace[name]) for name in (*parts, "G")},
        "trace_error": dict(levels.trace_error),
        "kept": _numbers(levels.kept),
        "subtracted": _numbers(levels.subtracted[:NUM_LEADING]),
        "projected": _numbers(levels.projected[:NUM_LEADING]),
        "overlap": _numbers(levels.overlap),
        "null": _null(study, levels.null),
    }


def _null(study: Study, null: Null | None) -> dict[str, Any] | None:
    """What each number reaches by chance; None in a study of before."""
    if null is None:
        return None
    values = study.spectra["G"].eigenvalues[: null.class_part.shape[1]]
    ratio = null.class_part[:, : len(values)] / np.where(values > 0, values, np.nan)

    def told(draws: NDArray[np.float64]) -> dict[str, Any]:
        mean, spread = band(draws[:, :NUM_LEADING])
        return {"mean": _numbers(mean), "spread": _numbers(spread)}

    return {
        "num_draws": len(null.overlap),
        "num_knocked_out": len(null.projected),
        "overlap": told(null.overlap),
        "class_part": told(null.class_part),
        "ratio": told(ratio),
        "subtracted": told(null.subtracted),
        "projected": told(null.projected),
        "error": null.error,
        "note": null.note,
    }


def _walk(walk: Walk | None) -> dict[str, Any] | None:
    """The loss along each eigenvector; None where nothing was walked."""
    if walk is None:
        return None
    columns = zip(
        walk.names, walk.eigenvalue, walk.curvature, walk.loss, walk.climb, strict=True
    )
    return {
        "distance": _numbers(walk.distance),
        "along": [
            {
                "name": name,
                "eigenvalue": _plain(float(value)),
                "curvature": _plain(float(curvature)),
                "loss": _numbers(loss),
                "climb": _numbers(climb),
            }
            for name, value, curvature, loss, climb in columns
        ],
    }


def _layers(study: Study) -> dict[str, Any] | None:
    """Layer by layer; None where nothing was recorded."""
    layers = study.layers
    if layers is None:
        return None
    weighting = study.weighting
    parts = layers.class_part.get(weighting, np.empty((len(layers.names), 0)))

    def leading(values: NDArray[np.float64], n: int) -> list[float | None]:
        return _numbers(values[n][np.isfinite(values[n])])

    return {
        "share_error": _numbers(layers.share_error),
        "layers": [
            {
                "name": name,
                "kind": layers.kinds[n],
                "parameters": list(layers.parameters[n]),
                "num_parameters": int(layers.num_parameters[n]),
                "share": _numbers(layers.share[n]),
                "trace": float(layers.trace[n]),
                "trace_share": float(layers.trace_share[n]),
                "eigenvalues": {
                    k: leading(v, n) for k, v in layers.eigenvalues.items()
                },
                "residuals": {k: leading(v, n) for k, v in layers.residuals.items()},
                "class_part": {"weighting": weighting, "top": leading(parts, n)},
            }
            for n, name in enumerate(layers.names)
        ],
        "outlier_share": _numbers(layers.outlier_share(study.num_outliers)),
        "note": layers.note,
    }


def _last_layer(study: Study) -> dict[str, Any] | None:
    """The facts about the last layer, and what collapse predicts for it."""
    layer = study.last_layer
    if layer is None:
        return None
    predicted = None
    if 1 < study.num_classes <= MAX_LEADING:
        collapsed = layer.collapsed(study.weighting)
        predicted = {
            "weighting": study.weighting,
            "G": _numbers(collapsed.G.all[:NUM_LEADING]),
            "class_part": _numbers(collapsed.class_part.all[:NUM_LEADING]),
        }
    return {
        "name": layer.name,
        "bias": layer.bias,
        "num_features": layer.class_means.shape[1],
        "cosine": _plain(layer.cosine),
        "within": _plain(layer.within),
        "between": _plain(layer.between),
        "neural_collapse": {k: _plain(v) for k, v in layer.neural_collapse.items()},
        "spectrum": _spectrum("G", layer.spectrum),
        "predicted": predicted,
    }


def _spectrum(name: str, spectrum: Spectrum) -> dict[str, Any]:
    """Both ends of a spectrum; G is positive semidefinite and has only one."""

    def pairs(rows: Iterable[int]) -> list[dict[str, Any]]:
        values, residuals = spectrum.eigenvalues, spectrum.residuals
        return [
            {"value": _plain(float(values[j])), "residual": _plain(float(residuals[j]))}
            for j in rows
        ]

    high, low = spectrum.ends
    ends = {"top": pairs(high[:NUM_LEADING])}
    if name != "G":
        ends["bottom"] = pairs(low[:NUM_LEADING])
    return {
        **ends,
        "method": spectrum.method,
        "num_matvecs": spectrum.num_matvecs,
        "trace": _plain(spectrum.trace),
        "trace_error": _plain(spectrum.trace_error),
    }


def _numbers(values: Iterable[Any]) -> list[float | None]:
    return [_plain(float(value)) for value in values]


def _plain(value: Any) -> Any:
    """Return the value, or None for a number that JSON cannot represent."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
