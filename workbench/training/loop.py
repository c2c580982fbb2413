"""The training loop over epochs and batches, from one checkpoint to the next.

The order of the examples and dropout depend only on seed, epoch and batch. So no
generator state is kept, and a run cancelled at any point resumes as if it had not been
interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.sgd import sgd

from workbench.errors import WorkbenchError
from workbench.machine.distributed import ALONE, World
from workbench.progress.control import Cancelled, Control, Progress, ProgressCallback
from workbench.training.checkpoint import Checkpoint, State
from workbench.training.data import Dataset
from workbench.training.joint import in_step
from workbench.training.settings import TrainConfig

DIVERGED = 100.0  # times the initial loss, or the loss of guessing if that is larger
_EVERY = 0.5  # seconds between events within an epoch
KEEP_EVERY = 10.0  # seconds between checkpoints during training
_EVAL_BATCH = 256  # examples per batch for evaluation
_CANCELLED_BATCH = 64  # examples evaluated after a cancel


def run_epochs(
    start: Checkpoint,
    data: Dataset,
    config: TrainConfig,
    device: torch.device,
    progress: ProgressCallback | None,
    control: Control | None,
    keep: Callable[[Checkpoint], object] | None = None,
    world: World = ALONE,
) -> Checkpoint:
    """Train from a checkpoint until all epochs are done or the run is cancelled."""
    model = start.load_model().to(device)
    learner = in_step(model, world, device)
    momentum = {k: v.to(device, copy=True) for k, v in start.momentum.items()}
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
    status, kept = "finished", time.monotonic()

    def so_far(found: dict[str, Any]) -> Checkpoint:
        return replace(
            start,
            weights=state_of(model),
            run={**start.run, **found, "epochs": epoch, "device": device.type},
            history={key: list(values) for key, values in history.items()},
            status=status,
            momentum={k: v.cpu().clone() for k, v in momentum.items()},
            batch=asdict(tally) if tally.num_batches else {},
            snapshots=dict(snapshots),
            snapshot_runs=dict(snapshot_runs),
        )

    try:
        while True:
            if epoch in to_keep and not tally.num_batches:
                snapshots[epoch] = state_of(model)
                found = _evaluate(model, data, config, device, teller, control, world)
                snapshot_runs[epoch] = found
            if epoch == config.epochs:
                break
            rate = config.lr * _falling(epoch, config.epochs)
            detail = f"epoch {epoch + 1} of {config.epochs}"
            batches = _batches(data, config, epoch)
            for n in range(tally.num_batches, len(batches)):
                _check(control, world)
                step = (epoch * len(batches) + n) * world.size + world.rank
                _seed(config.seed, step, device)
                model.zero_grad()
                loss, correct = _backward(
                    learner, data, batches[n], config, device, world
                )
                _descend(model, momentum, rate, config)
                if first_loss is None:
                    first_loss = max(loss, math.log(data.num_classes))
                if not loss <= DIVERGED * first_loss:  # NaN is not
                    where = f"epoch {epoch + 1}, batch {n + 1}"
                    raise _diverged(loss, where, first_loss, config)
                tally.add(loss, correct, len(batches[n]))
                done = epoch + tally.num_batches / len(batches)
                teller.tell(_TRAIN * len(batches[n]), detail, tally.values(done))
            epoch += 1
            values = tally.values(epoch)
            for key, column in history.items():
                column.append(values[key])
            tally = Tally()
            teller.tell(0, detail, values, now=True)
            if keep and epoch < config.epochs and time.monotonic() > kept + KEEP_EVERY:
                status = "cancelled"  # the right status, should the process die
                few = _evaluate(model, data, config, device, None, control)
                try:
                    keep(so_far(few))
                    teller.warning = ""
                except WorkbenchError as error:  # a full disk does not end training
                    teller.warn(error)
                status, kept = "finished", time.monotonic()
    except Cancelled:
        status = "cancelled"
    found = _evaluate(model, data, config, device, teller, control, world)
    if not found["train_loss"] <= DIVERGED * (first_loss or math.inf):
        where = f"eval mode after epoch {epoch}"
        raise _diverged(found["train_loss"], where, first_loss or math.nan, config)
    return so_far(found)


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
        """Return the means, and the number of epochs done."""
        return {
            "epoch": float(epoch),
            "loss": self.loss / self.num_examples,
            "accuracy": self.correct / self.num_examples,
        }


# Units of work: evaluating an example is one, learning from it about three.
_TRAIN = 3


@dataclass(slots=True)
class _Teller:
    """Turns units of work into progress events, at a limited rate."""

    progress: ProgressCallback | None
    total: int  # units of this call
    done: int = 0
    last: float = -math.inf  # when the last event was sent
    values: Mapping[str, float] = field(default_factory=dict)
    warning: str = ""  # a lasting problem, repeated with every event

    def warn(self, error: WorkbenchError) -> None:
        """Report, once in a full sentence, that no checkpoint could be saved."""
        reason = getattr(error.__cause__, "strerror", None) or "cannot be written"
        if self.progress and not self.warning:
            note = f"{error} Training continues; nothing is saved until it ends."
            fraction = min(self.done / self.total, 1.0)
            self.progress(Progress("Training", fraction, values=self.values, note=note))
        self.warning = f", not saved yet ({reason})"

    def tell(
        self,
        units: int,
        detail: str,
        values: Mapping[str, float] | None = None,
        *,
        now: bool = False,
    ) -> None:
        """Count work done, and send an event if one is due."""
        self.done += units
        self.values = values or self.values
        if self.progress and (now or time.monotonic() > self.last + _EVERY):
            self.last = time.monotonic()
            fraction = min(self.done / self.total, 1.0)
            detail += self.warning
            self.progress(Progress("Training", fraction, detail, self.values))


def _descend(
    model: nn.Module, momentum: dict[str, Tensor], rate: float, config: TrainConfig
) -> None:
    """One step of SGD with momentum; the momentum is changed in place.

    Calls the function behind `torch.optim.SGD`. The class would load torch's compiler,
    which takes 70 MB and a few seconds and is not needed here.
    """
    moved = {n: p for n, p in model.named_parameters() if p.grad is not None}
    gradients = [p.grad for p in moved.values() if p.grad is not None]
    buffers = [momentum.get(name) for name in moved]
    with torch.no_grad():
        sgd(
            list(moved.values()),
            gradients,
            buffers,
            has_sparse_grad=any(gradient.is_sparse for gradient in gradients),
            lr=rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
    found = zip(moved, buffers, strict=True)
    momentum.update({name: kept for name, kept in found if kept is not None})


def _backward(
    model: nn.Module,
    data: Dataset,
    batch: Tensor,
    config: TrainConfig,
    device: torch.device,
    world: World,
) -> tuple[float, int]:
    """Compute the gradients of a batch; return its mean loss and number correct."""
    model.train()
    own = batch[world.share(len(batch))]
    dtype = next(model.parameters()).dtype
    images, labels = data.images[own].to(device, dtype), data.labels[own].to(device)
    half = (
        config.mixed_precision
        and images.is_cuda
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        logits = model(images)
    if half:
        logits = logits.float()
    loss = cross_entropy(logits, labels, reduction="sum") / len(batch)
    (world.size * loss).backward()  # the processes' gradients are averaged
    correct = (logits.argmax(1) == labels).sum()
    found = world.sum(torch.stack([loss.detach().double(), correct.double()]))
    return float(found[0]), int(found[1])


def _check(control: Control | None, world: World) -> None:
    """Pause, or raise `Cancelled`, in all processes at the same batch."""
    if world.size == 1:
        if control:
            control.check()
        return
    wanted = torch.tensor(float(control is not None and control.cancelled))
    if float(world.sum(wanted)):
        raise Cancelled


def _evaluate(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    device: torch.device,
    teller: _Teller | None,
    control: Control | None,
    world: World = ALONE,
) -> dict[str, Any]:
    """Measure loss and accuracy in eval mode; after a cancel, on one batch only.

    Also on one batch without a teller, for checkpoints during training.
    """
    model.eval()
    tally = Tally()
    few = teller is None or (control and control.cancelled)
    size = _CANCELLED_BATCH if few else _EVAL_BATCH
    dtype = next(model.parameters()).dtype
    order = torch.split(_shuffled(data.num_examples, config.seed), size)
    with torch.no_grad():
        for chosen in order:
            own = chosen[world.share(len(chosen))]
            if len(own):
                labels = data.labels[own].to(device)
                # a copy: the network may modify its input
                logits = model(data.images[own].to(device, dtype, copy=True))
                loss = cross_entropy(logits, labels).item()
                tally.add(loss, int((logits.argmax(1) == labels).sum()), len(own))
            if teller is None:
                break
            teller.tell(len(chosen), "loss and accuracy of the network")
            try:
                if control:
                    control.check()
            except Cancelled:
                break
    if teller is not None:
        teller.tell(0, "loss and accuracy of the network", now=True)
    sums = torch.tensor([tally.loss, tally.correct, tally.num_examples]).double()
    loss_sum, correct, num_examples = world.sum(sums).tolist()
    tally = Tally(1, int(num_examples), loss_sum, int(correct))
    values = tally.values(0)
    return {
        "train_loss": values["loss"],
        "train_accuracy": values["accuracy"],
        "num_evaluated": tally.num_examples,
    }


def _batches(data: Dataset, config: TrainConfig, epoch: int) -> list[Tensor]:
    """Shuffle the examples of an epoch and split them into batches of similar size."""
    order = _shuffled(data.num_examples, _mix(config.seed, epoch))
    count = math.ceil(data.num_examples / config.batch_size)
    count = min(count, data.num_examples // 2)  # batch norm needs two examples
    return list(torch.tensor_split(order, count))


def _falling(epoch: int, num_epochs: int) -> float:
    """Return the factor of the learning rate: 1, then 1/10, then 1/100."""
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
        f"train: the loss went from {before:.3g} to {loss:.3g} in {where}: training "
        f"diverges at learning rate {config.lr:g}; try lr={config.lr / 10:g}."
    )
