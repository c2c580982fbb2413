"""A checkpoint: weights and everything needed to continue training, in one file.

The file is a safetensors file: flat named tensors, and a JSON header in its metadata.
Opening one never runs code.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.files.container import BROKEN, Format, read_container, write_container
from workbench.files.image_folder import class_label
from workbench.study.card import Card, Described, fit_in_words, listed
from workbench.study.schema import check_checkpoint
from workbench.training.data import Dataset, load_data
from workbench.training.models import MODELS

SCHEMA = 1  # raised when older files can no longer be read unchanged
_FORM = Format(
    "checkpoint", SCHEMA, "load_checkpoint", "workbench train", "train again"
)

State = dict[str, Tensor]  # as nn.Module.state_dict() names them


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Checkpoint(Described):
    """One network before, during or after training.

    ``run`` describes the training in plain values: ``data, per_class, split, root,
    data_seed, model, num_params, num_classes, num_examples, num_available`` (examples
    to choose from; None or missing if unknown), ``epochs`` (trained), ``epochs_planned,
    seed, device``, and ``train_loss, train_accuracy`` of these weights in eval mode,
    over ``num_evaluated`` examples.
    """

    weights: State
    run: dict[str, Any]
    settings: dict[str, Any]  # TrainConfig as plain values
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]  # channels, height, width
    history: dict[str, list[float]]  # epoch, loss, accuracy of the epochs trained
    status: str  # "finished", or "cancelled" before the last planned epoch
    momentum: State = field(default_factory=dict)  # by parameter
    batch: dict[str, Any] = field(default_factory=dict)  # sums, if within an epoch
    snapshots: dict[int, State] = field(default_factory=dict)  # epoch -> weights
    snapshot_runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""  # ISO 8601, UTC
    module: nn.Module | None = None  # if it is not one of `MODELS`; not saved
    data: Dataset | None = None  # the training data, if in memory; not saved

    def card(self) -> Card:
        """What it is, in a few lines."""
        run = self.run
        kept = sorted(self.snapshots)
        return Card(
            f"Checkpoint of {run['model']} on {run['data']}",
            {
                "trained": f"{run['epochs']} of {run['epochs_planned']} epochs, "
                f"{self.status}",
                "fit": fit_in_words(run),
                "network": f"{run['num_params']:,} parameters",
                "data": f"{run['num_examples']:,} examples of "
                f"{' x '.join(map(str, self.image_shape))}",
                "classes": f"{len(self.class_names):,}: {listed(self.class_names)}",
                "snapshots": f"of epochs {listed(kept)}" if kept else "",
                "made": self.created,
            },
        )

    def load_model(self) -> nn.Module:
        """Return the network with these weights, on the CPU and in eval mode.

        Raises:
            WorkbenchError: If it is the user's own network and was not given to
                `load_checkpoint`, or the weights do not fit the network.
        """
        name = self.run["model"]
        if self.module is not None:
            model = copy.deepcopy(self.module)
        elif name in MODELS:
            try:
                with torch.device("meta"):  # without memory: the weights are here
                    model = MODELS[name](*self.image_shape, len(self.class_names))
            except BROKEN as error:
                raise WorkbenchError(
                    f"load_model: network {name} cannot be built for images of shape "
                    f"{self.image_shape} ({error}); train again."
                ) from error
        else:
            raise WorkbenchError(
                f"load_model: the network {name} is your own, and a checkpoint "
                "contains no code, so the page cannot measure it. In Python, build it "
                "again and call load_checkpoint(path, model=...)."
            )
        _check_weights(model, self.weights, name)
        copies = {key: tensor.clone() for key, tensor in self.weights.items()}
        # A user's network may share a weight between layers, so fill it in place.
        model.load_state_dict(copies, assign=self.module is None)
        double = any(t.dtype == torch.float64 for t in self.weights.values())
        return model.to("cpu", torch.float64 if double else torch.float32).eval()

    def load_data(self) -> Dataset:
        """Return the data it was trained on, from memory or loaded by name.

        Raises:
            WorkbenchError: If they were tensors given in Python, are no longer
                available, or have changed.
        """
        if self.data is not None:
            return self.data
        name = self.run["data"]
        if not self.run["reloadable"]:
            raise WorkbenchError(
                f"load_data: this network was trained on {name!r}, tensors given in "
                "Python. A checkpoint does not contain them, so the page cannot "
                "measure it. In Python, pass them again: load_checkpoint(path, "
                "data=...)."
            )
        data = load_data(
            name,
            per_class=self.run["per_class"],
            split=self.run["split"],
            root=self.run["root"],
            seed=self.run["data_seed"],
        )
        check_data(self, data)
        return data

    def at_epoch(self, epoch: int) -> Checkpoint:
        """Return the network after an epoch whose weights were kept.

        Raises:
            WorkbenchError: If the weights of that epoch were not kept.
        """
        if epoch not in self.snapshots:
            kept = ", ".join(map(str, sorted(self.snapshots))) or "none"
            raise WorkbenchError(
                f"at_epoch: the weights of epoch {epoch} were not kept (kept: {kept}); "
                "name the epochs to keep in TrainConfig(snapshots=...)."
            )
        planned = self.run["epochs_planned"]
        return replace(
            self,
            weights={k: v.clone() for k, v in self.snapshots[epoch].items()},
            run={**self.run, "epochs": epoch, **self.snapshot_runs[epoch]},
            history={k: v[:epoch] for k, v in self.history.items()},
            status="finished" if epoch == planned else "cancelled",
            momentum={},
            batch={},
            snapshots={e: w for e, w in self.snapshots.items() if e <= epoch},
            snapshot_runs={e: r for e, r in self.snapshot_runs.items() if e <= epoch},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to one file; an old file stays until the new one is complete.

        Raises:
            WorkbenchError: If the folder does not exist or cannot be written.
        """
        tensors = {f"weights/{k}": v for k, v in self.weights.items()}
        tensors |= {f"momentum/{k}": v for k, v in self.momentum.items()}
        for epoch, state in self.snapshots.items():
            tensors |= {f"epoch/{epoch}/{k}": v for k, v in state.items()}
        tensors = {k: v.contiguous() for k, v in tensors.items()}
        header = {"schema": SCHEMA, **{name: getattr(self, name) for name in _PLAIN}}
        return write_container(path, _FORM.kind, header, tensors)


# Plain values, which go into the header.
_PLAIN = (
    "run",
    "settings",
    "class_names",
    "image_shape",
    "history",
    "status",
    "batch",
    "snapshot_runs",
    "versions",
    "created",
)


def load_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module | None = None,
    data: Dataset | None = None,
) -> Checkpoint:
    """Read a checkpoint written by `Checkpoint.save`. Never runs code from the file.

    Args:
        path: The file.
        model: The network, if it is your own; its weights are ignored.
        data: The training data, if they were your own tensors.

    Raises:
        WorkbenchError: If the file is missing, damaged, not a checkpoint, written by a
            later version, or does not match this network or data.
    """
    found = read_container(path, _FORM, "pt", _unflatten)
    if model is not None:
        _check_weights(model, found.weights, found.run["model"])
    if data is not None:
        check_data(found, data)
    return replace(found, module=copy.deepcopy(model), data=data)


def _unflatten(header: Mapping[str, Any], tensors: State) -> Checkpoint:
    """Assemble a checkpoint; raise ValueError if its parts do not fit together."""
    states: dict[str, State] = {"weights": {}, "momentum": {}}
    snapshots: dict[int, State] = {}
    for name, tensor in tensors.items():
        kind, _, key = name.partition("/")
        if kind == "epoch":
            epoch, _, key = key.partition("/")
            snapshots.setdefault(int(epoch), {})[key] = tensor
        else:
            states[kind][key] = tensor
    names = [class_label(str(name)) for name in header["class_names"]]
    plain = {name: header[name] for name in _PLAIN} | {"class_names": names}
    check_checkpoint({"schema": SCHEMA, **plain})
    plain["class_names"] = tuple(names)
    plain["image_shape"] = tuple(plain["image_shape"])
    plain["snapshot_runs"] = {int(k): v for k, v in plain["snapshot_runs"].items()}
    found = Checkpoint(
        weights=states["weights"],
        momentum=states["momentum"],
        snapshots=snapshots,
        **plain,
    )
    if not found.weights or set(snapshots) != set(found.snapshot_runs):
        raise ValueError("weights are missing")
    for state in snapshots.values():
        if _shapes(state) != _shapes(found.weights):
            raise ValueError("weights of a snapshot")
    wanted = _shapes(found.weights)
    for key, shape in _shapes(found.momentum).items():
        if shape != wanted[key]:
            raise ValueError(f"momentum of {key}")
    return found


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int | str, ...]]:
    """Shapes, with the dtype where it is not a real floating-point type."""
    return {
        key: (*t.shape, *([] if t.is_floating_point() else [str(t.dtype)]))
        for key, t in state.items()
    }


def _check_weights(model: nn.Module, weights: State, name: str) -> None:
    """Raise unless these are the weights of this network."""
    wanted, found = _shapes(model.state_dict()), _shapes(weights)
    if wanted == found:
        return
    key = sorted(k for k in wanted | found if wanted.get(k) != found.get(k))[0]
    raise WorkbenchError(
        f"load_checkpoint: the weights do not fit this network: {key} has shape "
        f"{found.get(key, 'none')} in the checkpoint of {name!r} and "
        f"{wanted.get(key, 'none')} in the network; pass the network that was trained."
    )


def check_data(checkpoint: Checkpoint, data: Dataset) -> None:
    """Raise unless a checkpoint was trained on these data."""
    was = (
        checkpoint.run["num_examples"],
        checkpoint.image_shape,
        checkpoint.class_names,
    )
    now = (data.num_examples, data.image_shape, data.class_names)
    if was != now:
        raise WorkbenchError(
            f"load_data: {data.name} has {now[0]} examples of shape {now[1]} in "
            f"{len(now[2])} classes, but the checkpoint was trained on {was[0]} of "
            f"shape {was[1]} in {len(was[2])} (or classes with other names); restore "
            "the original data, or train again."
        )
