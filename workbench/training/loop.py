"""The loop over epochs and batches: from one checkpoint to the next.

Order of the examples and dropout are functions of seed, epoch and batch alone: there is
no state of a generator to keep, and a run that was cancelled anywhere goes on as if it
had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.control import Cancelled, Control, Progress, ProgressCallback
from workbench.errors import WorkbenchError
from workbench.training.checkpoint import Checkpoint, State
from workbench.training.config import TrainConfig
from workbench.training.data import Dataset

DIVERGED = 100.0  # times the loss at the start, or that of guessing if that is more
_EVERY = 0.5  # seconds between two events within an epoch
_EVAL_BATCH = 256  # examples at once where nothing is learnt
_CANCELLED_BATCH = 64  # examples that are looked at once there is no time


def run_epochs(
    start: Checkpoint,
    data: Dataset,
    config: TrainConfig,
    device: torch.device,
    progress: ProgressCallback | None,
    control: Control | None,
) -> Checkpoint:
    """Train from a checkpoint on, until all epochs are done or a cancel comes."""
    model = start.load_model().to(device)
    optimizer = _optimizer(model, start.momentum, config)
    epoch, tally = start.run["epochs"], Tally(**start.batch)
    history = {key: list(values) for key, values in start.history.items()}
    snapshots, snapshot_runs = dict(start.snapshots), dict(start.snapshot_runs)
    to_keep = [e for e in config.snapshots if e >= epoch and e not in snapshots]
    teller = _Teller(
        progress,
        total=_TRAIN * (config.epochs - epoch) * data.num_examples
        - _TRAIN * tally.num_examples
        + (1 + len(to_keep)) * data.num_examples,
    )
    teller.tell(0, f"epoch {epoch + 1} of {config.epochs}")
    first_loss: float | None = None
    status = "finished"
    try:
        while True:
            if epoch in to_keep and not tally.num_batches:
                snapshots[epoch] = state_of(model)
                found = _evaluate(model, data, config, device, teller, control)
                snapshot_runs[epoch] = found
            if epoch == config.epochs:
                break
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _falling(epoch, config.epochs)
            detail = f"epoch {epoch + 1} of {config.epochs}"
            batches = _batches(data, config, epoch)
            for n in range(tally.num_batches, len(batches)):
                if control:
                    control.check()
                _seed(config.seed, epoch * len(batches) + n, device)
                images = data.images[batches[n]].to(device)
                labels = data.labels[batches[n]].to(device)
                loss, correct = _step(model, optimizer, images, labels, config)
                if first_loss is None:
                    first_loss = max(loss, math.log(data.num_classes))
                if not loss <= DIVERGED * first_loss:  # NaN is not
                    where = f"epoch {epoch + 1}, batch {n + 1}"
                    raise _diverged(loss, where, first_loss, config)
                tally.add(loss, correct, len(labels))
                done = epoch + tally.num_batches / len(batches)
                teller.tell(_TRAIN * len(labels), detail, tally.values(done))
            epoch += 1
            values = tally.values(epoch)
            for key, column in history.items():
                column.append(values[key])
            tally = Tally()
            teller.tell(0, detail, values, now=True)
    except Cancelled:
        status = "cancelled"
    found = _evaluate(model, data, config, device, teller, control)
    if not found["train_loss"] <= DIVERGED * (first_loss or math.inf):
        where = f"eval mode after epoch {epoch}"
        raise _diverged(found["train_loss"], where, first_loss or math.nan, config)
    return replace(
        start,
        weights=state_of(model),
        run={**start.run, **found, "epochs": epoch, "device": device.type},
        history=history,
        status=status,
        momentum=_momentum(model, optimizer),
        batch=asdict(tally) if tally.num_batches else {},
        snapshots=snapshots,
        snapshot_runs=snapshot_runs,
    )


def state_of(model: nn.Module) -> State:
    """Copy the weights of a network to the CPU."""
    return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


@dataclass(slots=True)
class Tally:
    """Sums over the batches of one epoch so far."""

    num_batches: int = 0
    num_examples: int = 0
    loss: float = 0.0
    correct: int = 0

    def add(self, loss: float, correct: int, num_examples: int) -> None:
        """Add one batch, ``loss`` its mean."""
        self.num_batches += 1
        self.num_examples += num_examples
        self.loss += loss * num_examples
        self.correct += correct

    def values(self, epoch: float) -> dict[str, float]:
        """Return the means, and how many epochs are done."""
        return {
            "epoch": float(epoch),
            "loss": self.loss / self.num_examples,
            "accuracy": self.correct / self.num_examples,
        }


# Units of work: to look at one example is one, to learn from it about three.
_TRAIN = 3


@dataclass(slots=True)
class _Teller:
    """Turns units of work into progress events, not too many."""

    progress: ProgressCallback | None
    total: int  # units of this call
    done: int = 0
    last: float = -math.inf  # when the last event was sent
    values: Mapping[str, float] = field(default_factory=dict)

    def tell(
        self,
        units: int,
        detail: str,
        values: Mapping[str, float] | None = None,
        *,
        now: bool = False,
    ) -> None:
        """Count work done, and send an event if it is time."""
        self.done += units
        self.values = values or self.values
        if self.progress and (now or time.monotonic() > self.last + _EVERY):
            self.last = time.monotonic()
            fraction = min(self.done / self.total, 1.0)
            self.progress(Progress("Training", fraction, detail, self.values))


def _optimizer(
    model: nn.Module, momentum: State, config: TrainConfig
) -> torch.optim.SGD:
    """Make the optimiser, with the momentum of before."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    for name, parameter in model.named_parameters():
        if name in momentum:
            buffer = momentum[name].to(parameter.device, copy=True)
            optimizer.state[parameter]["momentum_buffer"] = buffer
    return optimizer


def _momentum(model: nn.Module, optimizer: torch.optim.SGD) -> State:
    """Copy the momentum to the CPU."""
    buffers = {
        name: optimizer.state[parameter].get("momentum_buffer")
        for name, parameter in model.named_parameters()
    }
    return {k: v.cpu().clone() for k, v in buffers.items() if v is not None}


def _step(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
) -> tuple[float, int]:
    """Learn from one batch; return its mean loss before, and how many were right."""
    model.train()
    half = (
        config.mixed_precision
        and images.is_cuda
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        logits = model(images)
    logits = logits.float()
    loss = cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), int((logits.argmax(1) == labels).sum())


def _evaluate(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    device: torch.device,
    teller: _Teller,
    control: Control | None,
) -> dict[str, Any]:
    """Measure loss and accuracy in eval mode; once cancelled, on one batch only."""
    model.eval()
    tally = Tally()
    size = _CANCELLED_BATCH if control and control.cancelled else _EVAL_BATCH
    order = torch.split(_shuffled(data.num_examples, config.seed), size)
    with torch.no_grad():
        for chosen in order:
            labels = data.labels[chosen].to(device)
            logits = model(data.images[chosen].to(device)).float()
            loss = cross_entropy(logits, labels).item()
            tally.add(loss, int((logits.argmax(1) == labels).sum()), len(chosen))
            teller.tell(len(chosen), "loss and accuracy of the network")
            try:
                if control:
                    control.check()
            except Cancelled:
                break
    teller.tell(0, "loss and accuracy of the network", now=True)
    values = tally.values(0)
    return {
        "train_loss": values["loss"],
        "train_accuracy": values["accuracy"],
        "num_evaluated": tally.num_examples,
    }


def _batches(data: Dataset, config: TrainConfig, epoch: int) -> list[Tensor]:
    """Shuffle the examples of one epoch and split them into batches of like size."""
    order = _shuffled(data.num_examples, _mix(config.seed, epoch))
    count = math.ceil(data.num_examples / config.batch_size)
    count = min(count, data.num_examples // 2)  # batch norm needs two examples
    return list(torch.tensor_split(order, count))


def _falling(epoch: int, num_epochs: int) -> float:
    """Return the factor of the rate: 1, then 1/10, then 1/100."""
    if 3 * epoch < num_epochs:
        return 1.0
    return 0.1 if 3 * epoch < 2 * num_epochs else 0.01


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _mix(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**63


def _seed(seed: int, step: int, device: torch.device) -> None:
    """Seed dropout for one step."""
    torch.default_generator.manual_seed(_mix(seed, step))
    if device.type == "cuda":
        torch.cuda.manual_seed(_mix(seed, step))


def _diverged(
    loss: float, where: str, before: float, config: TrainConfig
) -> WorkbenchError:
    return WorkbenchError(
        f"train: the loss is {loss:.3g} in {where}, and was {before:.3g} at the start: "
        f"the training diverges at rate {config.lr:g}; try lr={config.lr / 10:g}."
    )
