"""Training as in the papers: SGD with momentum and a rate that falls twice."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

import workbench
from workbench.errors import WorkbenchError
from workbench.machine.device import resolve_device
from workbench.machine.distributed import ALONE, World
from workbench.progress.control import Control, ProgressCallback
from workbench.training.checkpoint import Checkpoint, check_data
from workbench.training.data import Dataset
from workbench.training.loop import run_epochs, state_of
from workbench.training.models import name_of
from workbench.training.settings import TrainConfig

__all__ = ["TrainConfig", "train"]

# Below both, a second thread gains nothing on a free machine, and on a busy one costs
# up to a hundred times as much, because threads wait for each other at each small step.
_FEW_PARAMETERS = 100_000
_FEW_PIXELS = 32_768  # in a batch, over all channels


def train(
    model: nn.Module | Checkpoint,
    data: Dataset | None = None,
    config: TrainConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
    keep: Callable[[Checkpoint], object] | None = None,
    world: World = ALONE,
) -> Checkpoint:
    """Train a network, or go on training one.

    Minimises the mean cross-entropy by SGD on whole epochs in shuffled batches, without
    augmentation. The rate falls to a tenth at 1/3 and again at 2/3 of the epochs
    (Papyan, 2019). The same seed gives the same weights on a CPU, bit by bit, however
    often the training was cancelled and taken up again; the caller's random numbers are
    not disturbed.

    A cancel is obeyed between batches and returns what was learnt. A run that diverges
    keeps nothing.

    Args:
        model: A network, which is copied and stays as it is; or a checkpoint, which
            goes on where it stopped.
        data: What to train on. A checkpoint has its own by default.
        config: How. A checkpoint has its own by default; more epochs than it has
            trained stretch the schedule from there on.
        progress: Told ``loss``, ``accuracy`` (means over the batches of this epoch so
            far, in train mode) and ``epoch`` (done, with its fraction), every half
            second where a batch is that quick, and at the end of each epoch.
        control: Can pause and cancel between batches.
        keep: Given what was learnt so far, at the end of an epoch if the last time is
            long enough ago: to save it, should the process be killed.
        world: Processes that share each batch; each is given all the data and returns
            the same checkpoint. Batch norm sees the batch of all of them, so that they
            find the weights that one would, up to rounding; dropout differs.

    Returns:
        The trained network, ``status`` ``"finished"`` or ``"cancelled"``. After a
        cancel its loss and accuracy are of one batch drawn from all examples, so that
        the answer comes soon; else of all.

    Raises:
        WorkbenchError: If the loss diverges, the data do not fit the network, there is
            no such device, or nothing is left to train.

    Reference:
        Papyan (2019), arXiv:1901.08244, section 2.
    """
    if isinstance(model, Checkpoint):
        start, data, config = _resume(model, data, config)
    elif data is None:
        raise WorkbenchError(
            "train: no data are given; give train(model, data), data from load_data."
        )
    else:
        config = config or TrainConfig()
        start = _untrained(model, data, config)
    device = resolve_device(config.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _fitting_threads(start, config):
        try:
            return run_epochs(
                start, data, config, device, progress, control, keep, world
            )
        except torch.OutOfMemoryError as error:
            raise WorkbenchError(
                f"train: the memory of {device} is full; choose a smaller network. In "
                f"Python, not on the page, TrainConfig takes a batch_size below "
                f"{config.batch_size}, or device='cpu'."
            ) from error


@contextmanager
def _fitting_threads(start: Checkpoint, config: TrainConfig) -> Iterator[None]:
    """Compute small networks in one thread; then give the threads back."""
    before = torch.get_num_threads()
    num_pixels = config.batch_size * math.prod(start.image_shape)
    if start.run["num_params"] <= _FEW_PARAMETERS and num_pixels <= _FEW_PIXELS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _untrained(model: nn.Module, data: Dataset, config: TrainConfig) -> Checkpoint:
    """Make the checkpoint that training starts from."""
    double = all(p.dtype == torch.float64 for p in model.parameters())
    model = copy.deepcopy(model).to("cpu", torch.float64 if double else torch.float32)
    _check_fit(model, data)
    name = name_of(model, (*data.image_shape, data.num_classes))
    run: dict[str, Any] = {
        "data": data.name,
        "per_class": data.per_class,
        "split": data.split,
        "root": data.root,
        "data_seed": data.seed,
        "reloadable": data.reloadable,
        "model": name or type(model).__name__,
        "num_params": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "num_classes": data.num_classes,
        "num_examples": data.num_examples,
        "num_available": data.num_available,
        "epochs": 0,
        "epochs_planned": config.epochs,
        "seed": config.seed,
    }
    return Checkpoint(
        weights=state_of(model),
        run=run,
        settings=asdict(config),
        class_names=data.class_names,
        image_shape=data.image_shape,
        history={"epoch": [], "loss": [], "accuracy": []},
        status="cancelled",
        versions={"workbench": workbench.__version__, "torch": str(torch.__version__)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        module=None if name else model,
        data=data,
    )


def _resume(
    checkpoint: Checkpoint, data: Dataset | None, config: TrainConfig | None
) -> tuple[Checkpoint, Dataset, TrainConfig]:
    """Check that a training can go on, and say with what."""
    if data is None:
        data = checkpoint.load_data()
    check_data(checkpoint, data)
    before = checkpoint.settings
    if config is None:
        try:
            config = TrainConfig(**before)
        except TypeError as error:
            raise WorkbenchError(
                f"train: the settings of this checkpoint do not do here ({error}); "
                "give a TrainConfig."
            ) from error
    trained = checkpoint.run["epochs"]
    if trained >= config.epochs:
        raise WorkbenchError(
            f"train: this checkpoint has trained {trained} epochs and {config.epochs} "
            f"are asked for; give more than {trained} to go on."
        )
    if checkpoint.batch:
        for name in ("batch_size", "seed"):
            if getattr(config, name) != before[name]:
                raise WorkbenchError(
                    f"train: this checkpoint stopped within epoch {trained + 1} of a "
                    f"run with {name}={before[name]}; go on with the same, "
                    f"not {getattr(config, name)}."
                )
    run = {**checkpoint.run, "epochs_planned": config.epochs, "seed": config.seed}
    return (
        replace(checkpoint, run=run, settings=asdict(config), data=data),
        data,
        config,
    )


def _check_fit(model: nn.Module, data: Dataset) -> None:
    """Raise unless the network gives one logit a class for these images."""
    if data.num_examples < 2:
        raise WorkbenchError("train: the data hold 1 example; at least 2 are needed.")
    shape = tuple(data.images[:2].shape)
    model.eval()
    try:
        with torch.no_grad():
            dtype = next((p.dtype for p in model.parameters()), torch.float32)
            found = tuple(model(data.images[:2].to(dtype, copy=True)).shape)
    except (RuntimeError, ValueError, IndexError) as error:
        raise WorkbenchError(
            f"train: the network does not take images of shape {shape} ({error}); "
            "build it for these data, or resize them."
        ) from error
    if found != (2, data.num_classes):
        raise WorkbenchError(
            f"train: the network gives {found} for images of shape {shape}; expected "
            f"(2, {data.num_classes}), one logit for each class."
        )
