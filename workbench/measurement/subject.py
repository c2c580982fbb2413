"""The subject of a measurement: a network, its data, and the facts about both."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workbench.curvature.problem.batches import as_batches
from workbench.curvature.problem.network import network_and_data
from workbench.errors import WorkbenchError
from workbench.training.checkpoint import Checkpoint, State
from workbench.training.data import Dataset

Snapshot = tuple[int, "State | nn.Module | Checkpoint"]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network on data, with the facts that a study records about them."""

    model: nn.Module  # with its weights; never modified
    data: Any  # as accepted by `empirical_risk`
    class_names: tuple[str, ...] | None  # of all logits; None: unknown
    run: dict[str, Any]  # facts known before binding network and data
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fitted: bool = False  # whether `run` has its loss and accuracy on these data
    options: Mapping[str, Any] = field(default_factory=dict)  # of `empirical_risk`
    earlier: Mapping[int, partial[Subject]] = field(default_factory=dict)  # by epoch


def subject_of(
    subject: Checkpoint | nn.Module,
    data: Any = None,
    *,
    data_name: str | None = None,
    held_out: bool | None = None,
    snapshots: Iterable[Snapshot | Checkpoint] | None = None,
    epoch: int | None = None,
    **options: Any,
) -> Subject:
    """Assemble the subject from the arguments of `measure`.

    Raises:
        WorkbenchError: If a network has no data, or a snapshot does not fit it.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(subject, Checkpoint):
        found = _of_checkpoint(subject, data, options, data_name, held_out)
    else:
        model, data = network_and_data(subject, data)
        found = _of_network(model, data, options, data_name, held_out)
    if epoch is not None:
        found = replace(found, run={**found.run, "epochs": _epoch(epoch)})
    return found if snapshots is None else _with_snapshots(found, snapshots)


def _of_checkpoint(
    checkpoint: Checkpoint,
    data: Any,
    options: Mapping[str, Any],
    data_name: str | None,
    held_out: bool | None,
) -> Subject:
    """A checkpoint on its training data or on other, held-out data."""
    run = {**checkpoint.run, "training": plain(checkpoint.settings)}
    own = data is None
    if own:
        data = checkpoint.load_data()
        checkpoint = replace(checkpoint, data=data)  # once
    other = not own or data_name is not None or bool(held_out)
    if other:
        run |= _about(data, data_name)
        run["held_out"] = (not own) if held_out is None else bool(held_out)
    earlier = (e for e in sorted(checkpoint.snapshots) if e < run["epochs"])
    rest = (None if own else data, options, data_name, held_out)
    return Subject(
        model=checkpoint.load_model(),
        data=data,
        class_names=checkpoint.class_names,
        run=run,
        history=checkpoint.history,
        fitted=not other and not options,
        options=options,
        earlier={
            epoch: partial(_at_epoch, checkpoint, epoch, *rest) for epoch in earlier
        },
    )


def _at_epoch(checkpoint: Checkpoint, epoch: int, *rest: Any) -> Subject:
    return _of_checkpoint(checkpoint.at_epoch(epoch), *rest)


def _of_network(
    model: nn.Module,
    data: Any,
    options: Mapping[str, Any],
    data_name: str | None,
    held_out: bool | None,
) -> Subject:
    """A network trained elsewhere, about whose training nothing is known."""
    run = {"model": type(model).__name__, "given": True, **_about(data, data_name)}
    if held_out:
        run["held_out"] = True
    names = getattr(data, "class_names", None)
    return Subject(
        model=model,
        data=data,
        class_names=None if names is None else tuple(map(str, names)),
        run=run,
        options=options,
    )


def _about(data: Any, name: str | None) -> dict[str, Any]:
    """The facts a study records about data, as far as they are known."""
    if not isinstance(data, Dataset):
        return {"data": name or "your data", "per_class": None, "reloadable": False}
    return {
        "data": name or data.name,
        "per_class": data.per_class,
        "split": data.split,
        "root": data.root,
        "data_seed": data.seed,
        "reloadable": data.reloadable and name in (None, data.name),
        "num_available": data.num_available,
    }


def _with_snapshots(
    found: Subject, snapshots: Iterable[Snapshot | Checkpoint]
) -> Subject:
    """The same with these weights of earlier epochs, replacing its own."""
    states = dict(_state(snapshot) for snapshot in snapshots)
    own = found.model.state_dict()
    for epoch, state in states.items():
        _check_state(own, state, epoch)
    if not states:
        return replace(found, earlier={})
    epochs = sorted(states)
    last: int | None = found.run.get("epochs")
    if last is None:  # the network itself may be the last of them
        same = all(torch.equal(own[k], states[epochs[-1]][k]) for k in own)
        last = epochs[-1] if same else epochs[-1] + 1
    if epochs[-1] > last:
        raise WorkbenchError(
            f"measure: a snapshot has epoch {epochs[-1]} and the network has epoch "
            f"{last}; pass a later epoch=, or leave out that snapshot."
        )
    found = replace(found, run={**found.run, "epochs": last})
    earlier = {e: partial(_with_state, found, e, states[e]) for e in epochs if e < last}
    return replace(found, earlier=earlier)


def _state(snapshot: Any) -> tuple[int, State]:
    """Return epoch and weights of a snapshot."""
    if isinstance(snapshot, Checkpoint):
        return int(snapshot.run["epochs"]), snapshot.weights
    try:
        epoch, weights = snapshot
    except (TypeError, ValueError):
        raise WorkbenchError(
            f"measure: a snapshot is a {type(snapshot).__name__}; expected a pair "
            "(epoch, weights), with weights from state_dict(), or a Checkpoint."
        ) from None
    if isinstance(weights, Checkpoint):
        weights = weights.weights
    if isinstance(weights, nn.Module):
        weights = weights.state_dict()
    if not isinstance(weights, Mapping):
        raise WorkbenchError(
            f"measure: the weights of the snapshot at epoch {epoch!r} are a "
            f"{type(weights).__name__}; expected the result of state_dict()."
        )
    return _epoch(epoch), dict(weights)


def _epoch(epoch: Any) -> int:
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise WorkbenchError(
            f"measure: the epoch of a snapshot is {epoch!r}; expected a whole number, "
            "at least 0."
        )
    return epoch


def _check_state(own: State, state: State, epoch: int) -> None:
    """Raise unless these weights fit this network."""
    wrong = own.keys() ^ state.keys()
    wrong |= {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    if wrong:
        raise WorkbenchError(
            f"measure: the snapshot at epoch {epoch} belongs to another network: "
            f"{len(wrong)} of its tensors do not fit, the first is "
            f"{sorted(wrong)[0]}. Give snapshots of this network."
        )


def _with_state(found: Subject, epoch: int, state: State) -> Subject:
    """The subject with other weights; the network itself is not changed."""
    model = copy.deepcopy(found.model)
    model.load_state_dict(state)
    run = {**found.run, "epochs": epoch}
    history = {k: v[:epoch] for k, v in found.history.items()}
    return replace(
        found, model=model, run=run, history=history, fitted=False, earlier={}
    )


def all_labels(data: Any) -> Tensor:
    """Return the labels of all examples, in order."""
    return torch.cat([labels.detach().cpu() for _, labels in as_batches(data, None)])


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they are read from a file, with lists for tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
