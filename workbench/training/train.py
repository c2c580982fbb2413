"""Training as in the papers: SGD with momentum and two learning-rate drops."""

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

# Below both, a second thread gains nothing on an idle machine, and on a busy one takes
# up to a hundred times as long, because threads wait for each other at each small step.
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
    """Train a network, or continue training one.

    Minimises the mean cross-entropy by SGD on whole epochs in shuffled batches, without
    augmentation. The learning rate drops to a tenth at 1/3 and again at 2/3 of the
    epochs (Papyan, 2019). On a CPU the same seed gives the same weights, bit for bit,
    however often training was cancelled and resumed. The global random state is not
    changed.

    A cancelled run stops after the current batch and returns what was learnt. A run
    that diverges raises and returns nothing.

    Args:
        model: A network, which is copied and not changed; or a checkpoint, to continue
            from where it stopped.
        data: The training data; by default those of the checkpoint.
        config: The settings; by default those of the checkpoint. More epochs than it
            has trained stretch the schedule from there on.
        progress: Called with ``loss``, ``accuracy`` (means over this epoch's batches so
            far, in train mode) and ``epoch`` (epochs done, fractional), every half
            second if batches are that fast, and at the end of each epoch.
        control: Pauses and cancels between batches.
        keep: Called with the checkpoint so far, at the end of epochs but at most every
            10 s, to save it in case the process is killed.
        world: Processes that share each batch; each needs all the data and returns the
            same checkpoint. Batch norm uses the whole batch, so they reach the weights
            of a single process, up to rounding; only dropout differs.

    Returns:
        The trained network, with ``status`` ``"finished"`` or ``"cancelled"``. Its loss
        and accuracy are over all examples or, after a cancel, over one random batch, to
        return quickly.

    Raises:
        WorkbenchError: If the loss diverges, the data do not fit the network, the
            device is not available, or no epochs remain to train.

    Reference:
        Papyan (2019), arXiv:1901.08244, section 2.
    """
    if isinstance(model, Checkpoint):
        start, data, config = _resume(model, data, config)
    elif data is None:
        raise WorkbenchError(
            "train: no data given; call train(model, data) with data from load_data."
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
                f"train: {device} is out of memory; choose a smaller network. In "
                f"Python you can also use a batch_size below {config.batch_size}, or "
                "device='cpu', in TrainConfig."
            ) from error


@contextmanager
def _fitting_threads(start: Checkpoint, config: TrainConfig) -> Iterator[None]:
    """Train small networks in one thread, then restore the number of threads."""
    before = torch.get_num_threads()
    num_pixels = config.batch_size * math.prod(start.image_shape)
    if start.run["num_params"] <= _FEW_PARAMETERS and num_pixels <= _FEW_PIXELS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _untrained(model: nn.Module, data: Dataset, config: TrainConfig) -> Checkpoint:
    """Make the checkpoint from which training starts."""
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
    """Check that training can continue; return its checkpoint and settings."""
    if data is None:
        data = checkpoint.load_data()
    check_data(checkpoint, data)
    before = checkpoint.settings
    if config is None:
        try:
            config = TrainConfig(**before)
        except TypeError as error:
            raise WorkbenchError(
                "train: the settings of this checkpoint are not valid here "
                f"({error}); pass a TrainConfig."
            ) from error
    trained = checkpoint.run["epochs"]
    if trained >= config.epochs:
        raise WorkbenchError(
            f"train: this checkpoint has already trained {trained} epochs and epochs "
            f"is {config.epochs}; to continue, set it above {trained}."
        )
    if checkpoint.batch:
        for name in ("batch_size", "seed"):
            if getattr(config, name) != before[name]:
                raise WorkbenchError(
                    f"train: this checkpoint stopped during epoch {trained + 1} of a "
                    f"run with {name}={before[name]}; continue with that, not "
                    f"{getattr(config, name)}."
                )
    run = {**checkpoint.run, "epochs_planned": config.epochs, "seed": config.seed}
    return (
        replace(checkpoint, run=run, settings=asdict(config), data=data),
        data,
        config,
    )


def _check_fit(model: nn.Module, data: Dataset) -> None:
    """Raise unless the network gives one logit per class for these images."""
    if data.num_examples < 2:
        raise WorkbenchError(
            "train: the data contain 1 example; at least 2 are needed."
        )
    shape = tuple(data.images[:2].shape)
    model.eval()
    try:
        with torch.no_grad():
            dtype = next((p.dtype for p in model.parameters()), torch.float32)
            found = tuple(model(data.images[:2].to(dtype, copy=True)).shape)
    except (RuntimeError, ValueError, IndexError) as error:
        raise WorkbenchError(
            f"train: the network does not accept images of shape {shape} ({error}); "
            "build it for these data, or resize them."
        ) from error
    if found != (2, data.num_classes):
        raise WorkbenchError(
            f"train: the network returns {found} for images of shape {shape}; "
            f"expected (2, {data.num_classes}), one logit per class."
        )
