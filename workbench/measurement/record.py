"""A study's record of the run: which data, and how well the network fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from workbench.curvature.problem.criterion import CrossEntropy
from workbench.curvature.problem.network import run
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.measurement.subject import Subject


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """The head of a study."""

    run: dict[str, Any]
    class_names: tuple[str, ...]
    history: dict[str, NDArray[np.float64]]


def record(
    subject: Subject, risk: EmpiricalRisk, classes: tuple[int, ...] | None
) -> Record:
    """Record what was measured; if classes were chosen, the fit is that of those.

    If parameters were chosen, ``num_params`` counts those, and ``num_network_params``
    all that are trained.

    The loss of training on ten classes differs from the network's loss on two of them.
    So the history is then left out, and the original numbers are kept as
    ``run["trained"]``.

    Args:
        subject: The subject as given.
        risk: The same, as measured.
        classes: Indices of the measured classes; None for all.
    """
    names = subject.class_names
    if names is not None and classes is not None:
        names = tuple(names[c] for c in classes)
    if names is None or len(names) != risk.num_classes:
        names = tuple(map(str, classes or range(risk.num_classes)))
    run = subject.run
    history: Mapping[str, Any] = subject.history if classes is None else {}
    if classes is not None and "train_loss" in run:
        kept = ("train_loss", "train_accuracy", "num_classes", "num_examples")
        run = {**run, "trained": {name: run[name] for name in kept if name in run}}
    if not subject.fitted or classes is not None:
        run = {**run, **_measured(risk, bool(run.get("held_out")))}
    num_all = sum(p.numel() for p in risk.model.parameters() if p.requires_grad)
    if risk.dim != num_all:  # only some were chosen
        run = {**run, "num_params": risk.dim, "num_network_params": num_all}
    return Record(
        run, names, {name: np.asarray(v, float) for name, v in history.items()}
    )


def _measured(risk: EmpiricalRisk, held_out: bool) -> dict[str, Any]:
    """Sizes and fit of what was measured; on held-out data not a training loss."""
    loss, accuracy = fit(risk)
    found = {
        "num_params": risk.dim,
        "num_classes": risk.num_classes,
        "num_examples": risk.num_labelled,
        "num_evaluated": risk.num_labelled,
        "device": str(risk.device),
        "loss": loss,
        "accuracy": accuracy,
    }
    if not held_out:
        found |= {"train_loss": loss, "train_accuracy": accuracy}
    return found


def fit(risk: EmpiricalRisk) -> tuple[float, float]:
    """Return the loss, and the accuracy on everything with a label that counts."""
    assert isinstance(risk.criterion, CrossEntropy)
    summed = partial(
        cross_entropy,
        weight=risk.criterion.weight,
        ignore_index=-100 if (own := risk.criterion.ignore_index) is None else own,
        label_smoothing=risk.criterion.label_smoothing,
        reduction="sum",
    )
    total = torch.zeros(3, dtype=torch.float64, device=risk.device)
    with evaluating(risk.model):
        for inputs, targets in risk.batches():
            logits = run(risk.network, inputs).double()
            counted = risk.criterion.counted(targets)
            total[0] += summed(logits, targets)
            total[1] += (logits.argmax(1) == targets)[counted].sum()
            total[2] += counted.sum()
    loss, right, num = risk.world.sum(total).tolist()
    return loss / risk.normaliser, right / num
