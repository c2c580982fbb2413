"""The code that makes a study: it runs as pasted and gives the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.study import Study

# What `load_data`, `TrainConfig` and `MeasureSettings` take by themselves is not said;
# a test compares.
DATA = {"per_class": None, "split": "train", "seed": 0}
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
    "num_drawn": 1500,
    "num_eigenvalues": None,
    "tol": 1e-3,
    "num_steps": 16,
    "num_probes": 3,
    "exact_limit": 5_000,
    "exact_hessian": True,
    "moments": True,
    "max_minutes": None,
    "seed": 0,
    "device": "auto",
}


def recipe(study: Study) -> str:
    """Return the code that trains, measures and saves this study again.

    What cannot be told by its name, data or a network given in Python, is said to be
    filled in. The numbers are the same on the same device and versions.
    """
    run = study.run
    source = {name: run.get(name) for name in ("per_class", "split")}
    source["seed"] = run.get("data_seed", 0)
    seed = run.get("seed", 0)
    training = run.get("training", {"epochs": run.get("epochs", 30), "seed": seed})
    lines = ["import workbench as wb", ""]
    if not run.get("reloadable", True):
        lines.append("# These data were tensors given in Python: give them here again.")
    lines += [
        _call("data", "load_data", source, DATA, repr(run.get("data", "digits"))),
        f"model = wb.build_model({run.get('model', 'mlp')!r}, data, seed={seed})",
        _call("config", "TrainConfig", training, TRAIN),
        "checkpoint = wb.train(model, data, config)",
        _call("settings", "MeasureSettings", study.settings, MEASURE),
        "study = wb.measure(checkpoint, settings)",
        'study.save("run.study")',
        "",
    ]
    return "\n".join(lines)


def _call(
    name: str,
    function: str,
    given: Mapping[str, Any],
    usual: Mapping[str, Any],
    *first: str,
) -> str:
    """Write an assignment; arguments that are as usual are left out."""
    named = [
        f"{key}={value!r}"
        for key, value in given.items()
        if key not in usual or value != usual[key]
    ]
    return f"{name} = wb.{function}({', '.join([*first, *named])})"
