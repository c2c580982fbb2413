"""Python code that reproduces a study with the same numbers.

A study may come from anyone, and this code gets pasted. So argument names are ours, and
every value is a plain one, written by ``repr``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.page.settings import DOWNLOADABLE, MODELS
from workbench.study.records import Study

# Defaults of `load_data`, `TrainConfig` and `MeasureSettings`, which are left out; a
# test compares them.
DATA = {
    "per_class": None,
    "split": "train",
    "root": None,
    "seed": 0,
    "download": False,
}
TRAIN = {
    "epochs": 30,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "seed": 0,
    "device": "auto",
    "mixed_precision": True,
    "snapshots": [],
}
MEASURE = {
    "weighting": "icml",
    "embedding": "umap",
    "metric": "cosine",
    "classes": None,
    "parameters": None,
    "num_drawn": 1500,
    "num_eigenvalues": None,
    "method": None,
    "tol": 1e-3,
    "num_steps": 16,
    "num_probes": 3,
    "exact_limit": 5_000,
    "exact_hessian": True,
    "moments": True,
    "walk": True,
    "layers": True,
    "max_minutes": None,
    "seed": 0,
    "device": "auto",
}


def recipe(study: Study) -> str:
    """Return code that trains, measures and saves this study again.

    Data or a network given in Python have no name to load them by; a comment says where
    to fill them in. The numbers are the same on the same device and with the same
    versions; if training was stopped, they are those of its last full epoch. Settings
    that are unknown or not plain values are left out.
    """
    run = study.run
    if run.get("given"):
        return _of_a_network(study)
    name, network = str(run.get("data", "digits")), str(run.get("model", "mlp"))
    source = {key: run.get(key) for key in ("per_class", "split", "root")}
    source |= {"seed": run.get("data_seed", 0), "download": name in DOWNLOADABLE}
    seed, epochs = _whole(run.get("seed"), 0), _whole(run.get("epochs"), 30)
    known = run.get("training")
    training: dict[str, Any] = {"epochs": epochs, "seed": seed}
    if isinstance(known, Mapping):
        training = {key: value for key, value in known.items() if _is_plain(value)}
    planned = _whole(training.get("epochs"), epochs)
    train = "wb.train(model, data, config)"
    lines = ["import workbench as wb", ""]
    if not run.get("reloadable", True):
        lines.append("# These data were tensors given in Python: insert them here.")
    lines.append(_call("data", "load_data", source, DATA, repr(name)))
    model = f"wb.build_model({network!r}, data, seed={seed})"
    if network not in MODELS:
        lines.append(
            "# This network was given in Python: build it here, with its initial "
            "weights."
        )
        model = f"...  # {network!r}"
    lines.append(f"model = {model}")
    if epochs < planned:
        lines.append(
            f"# This training was stopped after {epochs} full epochs of {planned}; "
            "what it learnt after those is not reproduced."
        )
        named = training.get("snapshots")
        named = named if isinstance(named, (list, tuple)) else ()
        kept = {_whole(epoch, epochs) for epoch in named}
        training["snapshots"] = sorted({*kept, epochs})
        train += f".at_epoch({epochs})"
    lines += [
        _call("config", "TrainConfig", training, TRAIN),
        f"checkpoint = {train}",
        _call("settings", "MeasureSettings", study.settings, MEASURE),
        "study = wb.measure(checkpoint, settings)",
        'study.save("run.study")',
        "",
    ]
    return "\n".join(lines)


def _of_a_network(study: Study) -> str:
    """Return the code for a study whose network and data were given in Python."""
    run = study.run
    given = {key: run[key] for key in ("held_out",) if run.get(key)}
    named = "".join(f", {key}={value!r}" for key, value in given.items())
    lines = [
        "import workbench as wb",
        "",
        "# Network and data were given in Python: insert them here.",
        f"model = ...  # {run.get('model')!r}, with its weights",
        f"data = ...  # {run.get('data')!r}",
        _call("settings", "MeasureSettings", study.settings, MEASURE),
        f"study = wb.measure(model, data, settings{named})",
        'study.save("run.study")',
        "",
    ]
    if study.moments:
        epochs = ", ".join(str(moment.run["epochs"]) for moment in study.moments)
        lines.insert(
            5, f"# snapshots=[(epoch, weights), ...] were from epochs {epochs}."
        )
    return "\n".join(lines)


def _call(
    name: str,
    function: str,
    given: Mapping[str, Any],
    usual: Mapping[str, Any],
    *first: str,
) -> str:
    """Write an assignment, leaving out arguments with default values."""
    named = [
        f"{key}={_written(value)}"
        for key, value in given.items()
        if key in usual and _is_plain(value) and value != usual[key]
    ]
    return f"{name} = wb.{function}({', '.join([*first, *named])})"


def _whole(value: Any, otherwise: int) -> int:
    """Return the value if it is an integer of reasonable size."""
    return value if type(value) is int and 0 <= value < 2**63 else otherwise


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if type(value) is int:
        return abs(value) < 2**63
    return value is None or type(value) in (bool, float, str)


def _written(value: Any) -> str:
    """Write a plain value as code."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)
