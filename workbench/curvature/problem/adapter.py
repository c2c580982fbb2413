"""The one way in: a network and its data, as every public function takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.problem.class_subset import choose_classes, inside
from workbench.curvature.problem.network import (
    Outputs,
    Trained,
    network_and_data,
)
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.machine.distributed import ALONE, World
from workbench.progress.control import Control


def as_problem(
    model: nn.Module | Trained,
    data: Any = None,
    *,
    classes: Sequence[int] | None = None,
    loss: Any = "cross_entropy",
    outputs: Outputs | None = None,
    parameters: str | Sequence[str] | None = None,
    check: str = "once",
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = "auto",
    control: Control | None = None,
    world: World = ALONE,
) -> EmpiricalRisk:
    """Bind a network, or a checkpoint, to data: `empirical_risk` of what was given.

    All that takes ``(model, data, ...)`` takes it through here, so that what is
    accepted, and the sentence in which all else is refused, are the same.

    Args:
        model: The network; or a `Checkpoint`, which has its own data.
        data: As `operators` takes them; None: those of the checkpoint.
        classes: Look only at these classes and their logits, as `choose_classes`.
        loss: As in `operators`.
        outputs: As in `operators`.
        parameters: As in `operators`, under the names of the network that was given.
        check: As in `operators`.
        dtype: As in `empirical_risk`.
        batch_size: As in `operators`.
        device: As in `operators`.
        control: Cancels between batches.
        world: Processes that share the examples.

    Raises:
        WorkbenchError: As `empirical_risk`, or if there are no data.
    """
    network, data = network_and_data(model, data)
    if classes is not None:
        network, data = choose_classes(network, data, classes, outputs=outputs)
        outputs, parameters = None, inside(parameters)
    return empirical_risk(
        network,
        data,
        loss=loss,
        outputs=outputs,
        parameters=parameters,
        check=check,
        dtype=dtype,
        batch_size=batch_size,
        device=device,
        control=control,
        world=world,
    )
