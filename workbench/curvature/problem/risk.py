"""The empirical risk of a network on data: the only loop over the data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.curvature.problem.batches import (
    Batch,
    Inputs,
    Repeating,
    as_targets,
    move,
    split,
    take,
)
from workbench.curvature.problem.criterion import Criterion, CrossEntropy
from workbench.curvature.problem.labelled import Labelled, each_alone
from workbench.curvature.problem.network import (
    Network,
    run,
)
from workbench.curvature.problem.surroundings import evaluating, random_state
from workbench.curvature.problem.unchanged import Bound
from workbench.errors import WorkbenchError
from workbench.machine.distributed import ALONE, World
from workbench.machine.memory import device_memory
from workbench.progress.control import Control

CACHED_ACTIVATIONS = 2**24  # measured: three conv layers, blocks of ten, two cores
PIECE = 8  # examples that proofs are made on
Check = Literal["full", "once", "off"]
CHECKS = ("full", "once", "off")


@dataclass(slots=True, eq=False)
class Proven:
    """What has been proven of a network, by those who proved it; shared by copies."""

    # of each way to take products of each kind, the fault; None: it is right
    faults: dict[str, str | None] = field(default_factory=dict)
    readable: frozenset[str] | None = None  # parameters whose layers are read off
    together: bool | None = None  # whether vmap gives the gradients of single examples
    digits: torch.dtype | None = None  # the fewest that a pass computes with
    steepness: float = 0.0  # |J^T w| / |w| of some w: how large derivatives are
    seconds: float = 0.0  # that all proofs took
    bound: Bound | None = None  # the network and data that it was proven of

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Inside, something is being proven."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


@dataclass(frozen=True, slots=True, eq=False)
class EmpiricalRisk:
    r"""A loss of a network over a whole data set, by default the mean cross-entropy.

    .. math:: L(\theta) = \frac1Z \sum_{i=1}^N l(f(x_i; \theta), t_i)

    Z is N for the mean cross-entropy of one label an example: over the whole data set,
    never over a batch, so ragged last batches need no care. Built by `empirical_risk`.

    Where several processes share the examples, `batches` and all that is built on it
    pass over this process's share: end each sum over examples with ``world.sum``.
    """

    network: Network
    criterion: Criterion
    parameters: dict[str, nn.Parameter]  # those that are looked at, in order
    data: Iterable[Batch]  # re-iterable
    num_examples: int  # N
    num_classes: int  # C; where there are none, the numbers that an example puts out
    num_columns: int  # m, the largest rank of A: C - 1 for one label an example
    num_rows: int  # n, all columns of all examples: G = R^T R / Z with n rows R
    normaliser: float  # Z
    # (C,) float64 W_c, the sum of m / Z over a class: n_c / N where nothing is
    # weighted; None: no class to an example or token
    class_weights: Tensor | None
    dim: int  # P
    num_activations: int  # numbers that the layers of one example put out
    dtype: torch.dtype
    device: torch.device
    control: Control
    piece: Batch  # the examples that proofs are made on, on the device
    check: Check = "once"
    note: str = ""  # how the network is computed, where not as it came
    world: World = ALONE
    num_own: int = 0  # examples of this process's share; N where it is alone
    proven: Proven = field(default_factory=Proven)

    @property
    def model(self) -> nn.Module:
        """The module, with its weights in the dtype and on the device."""
        return self.network.module

    @property
    def digits(self) -> torch.dtype:
        """Its rounding is that of a gradient: a network may cast inside."""
        return self.proven.digits or self.dtype

    @property
    def sizes(self) -> list[int]:
        """Numbers of each parameter, in order."""
        return [p.numel() for p in self.parameters.values()]

    @property
    def num_labelled(self) -> int:
        """R, the examples, or tokens, that have a class each."""
        return self.num_rows // max(self.num_classes - 1, 1)

    @property
    def is_plain(self) -> bool:
        """Whether the loss is the mean cross-entropy, with one label an example."""
        own = self.criterion
        return (
            isinstance(own, CrossEntropy)
            and self.class_weights is not None
            and (own.plain and own.mean and own.ignore_index is None)
            and self.num_labelled == self.num_examples
        )

    def classes(self, who: str) -> Tensor:
        """The weight of each class in G, W (C,) float64, none of them zero.

        Raises:
            WorkbenchError: If an example has no class, or a class has no weight.
        """
        if self.class_weights is None:
            raise WorkbenchError(
                f"{who}: class means are those of a cross-entropy with a class number "
                "to each example or token; this loss has none: take operators or "
                "exact_spectrum."
            )
        missing = (self.class_weights == 0).nonzero().flatten().tolist()
        if missing:
            first = ", ".join(map(str, missing[:3])) + ", ..." * (len(missing) > 3)
            raise WorkbenchError(
                f"{who}: classes [{first}] have no example that counts among the "
                f"{self.num_labelled:,} given ({len(missing)} of {self.num_classes:,} "
                "classes), so they have no mean; pass a sample that holds every class, "
                "or choose classes=."
            )
        return self.class_weights

    def same_order(self, who: str) -> None:
        """Make sure that the examples come in one order on every pass.

        Raises:
            WorkbenchError: If a loader shuffles them.
        """
        if not isinstance(self.data, Repeating):
            return
        with random_state():
            for _ in range(2):
                for _ in self.data:
                    self.control.check()
        if not self.data.ordered:
            raise WorkbenchError(
                f"{who}: the data come in another order each time, and examples are "
                "told apart by theirs; pass a loader that does not shuffle."
            )

    def unchanged(self, who: str) -> None:
        """Make sure that the network and the data are what they were when bound.

        Raises:
            WorkbenchError: If weights, buffers or examples have other numbers.
        """
        before = self.proven.bound
        if before is None:
            return
        other = before.changed(self.network.named())
        if other is None and not before.changed_data(self.data):
            return
        what = "data" if other is None else f"network ({other}, for instance)"
        raise WorkbenchError(
            f"{who}: the {what} has changed since it was bound, so products now and "
            "before would not be of one matrix; bind it again, as operators() does."
        )

    def summed(self, who: str, total: Tensor) -> Tensor:
        """A sum over this process's examples as that over all processes.

        Raises:
            WorkbenchError: If it is not finite.
        """
        total = self.world.sum(total)
        # one sum is quick, and finite where all is, but for numbers that are too large
        if not total.sum().isfinite() and not total.isfinite().all():
            raise WorkbenchError(
                f"{who}: the logits or the gradients of some examples are NaN or "
                "infinite; look for a root, logarithm or quotient of zero in a layer, "
                "and for inputs or weights that are too large."
            )
        return total

    def batches(self) -> Iterator[Batch]:
        """This process's share of the data, batch by batch, on the device.

        Cancellable in between.
        """
        for inputs, targets in self.own(self.data):
            yield self.to_device(inputs), self.targets(targets)

    def own(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """This process's share of each batch, where it lies."""
        for inputs, targets in batches:
            own = self.world.share(len(targets))
            if own.start < own.stop:
                whole = own.stop - own.start == len(targets)
                yield inputs if whole else take(inputs, own), targets[own]

    def whole(self) -> Iterator[Batch]:
        """All of the data, batch by batch, on the device, in every process."""
        for inputs, targets in self.data:
            yield self.to_device(inputs), self.targets(targets)

    def to_device(self, inputs: Inputs) -> Inputs:
        """Inputs on the device; floating-point ones in the dtype. Cancellable here."""
        self.control.check()
        return move(inputs, self.device, self.dtype)

    def targets(self, targets: Tensor) -> Tensor:
        """Targets on the device; class numbers as int64."""
        return as_targets(targets).to(self.device, non_blocking=True)

    def pieces(self, num_vectors: int, least: int = 0) -> Iterator[Batch]:
        """The data in pieces whose activations, for a block of vectors, stay near.

        A block of vectors multiplies the activations; on a CPU, pieces that leave the
        cache cost two to three times as much a vector. What each piece costs at all
        weighs little where it has ``least`` activations, of which 2^27 are given.
        """
        room = CACHED_ACTIVATIONS if self.device.type == "cpu" else 2**30
        room = max(room, min(least, 2**27))
        size = max(1, room // (self.num_activations * num_vectors))
        for inputs, targets in self.batches():
            yield from zip(split(inputs, size), targets.split(size), strict=True)

    def logits(self, parameters: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """f(x; theta), shape (B, C), with parameters and buffers given by name."""
        return self.network(inputs, parameters)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of `parameters`, and of all else that the model holds."""
        rest = {n: t.detach().clone() for n, t in self.network.named().items()}
        theta = {name: rest.pop(name) for name in self.parameters}
        return theta, rest

    def predictions(self, inputs: Inputs) -> Tensor:
        """What the criterion makes of f(x), float64, without a graph."""
        with evaluating(self.model):  # with a graph there, as `run` says
            return self.criterion.predict(run(self.network, inputs))

    def labelled(self, predictions: Tensor, targets: Tensor) -> Labelled:
        """What has a class among some examples, from what the criterion predicts."""
        mass = self.mass(targets).flatten()
        labels = torch.where(mass > 0, targets.flatten(), 0)
        return Labelled(each_alone(predictions), labels, mass / self.normaliser)

    def mass(self, targets: Tensor) -> Tensor:
        """The mass of what has a class, in its loss, (B, ...)."""
        assert isinstance(self.criterion, CrossEntropy)
        return self.criterion.mass(targets, self.num_classes)

    def root(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """B with ``B B^T = A`` of each example, (B, O, m), float64.

        Raises:
            WorkbenchError: If that does not fit the memory.
        """
        predictions = self.predictions(inputs)
        numbers = predictions.numel() * self.criterion.num_columns(predictions)
        there = device_memory(self.device)
        if 16 * numbers > 0.5 * there:
            raise WorkbenchError(
                f"{len(targets):,} examples with {predictions[0].numel():,} outputs "
                f"each have roots of {16 * numbers / 2**30:.0f} GB, and "
                f"{self.device.type} has {there / 2**30:.0f}; take smaller batches, or "
                "operators, which need none."
            )
        return self.criterion.root(predictions, targets)

    def on(self, batches: list[Batch]) -> EmpiricalRisk:
        """The same network on other examples, alone, with the same normaliser."""
        num = sum(len(targets) for _, targets in batches)
        return replace(self, data=batches, world=ALONE, num_own=num)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector (P,) as named tensors of the parameters' shapes."""
        pieces = torch.split(vector, self.sizes)
        return {
            name: piece.view_as(p)
            for (name, p), piece in zip(self.parameters.items(), pieces, strict=True)
        }

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as one flat vector (P,)."""
        return torch.cat(
            [(t.to_dense() if t.is_sparse else t).reshape(-1) for t in tensors]
        )

    def gradient(self, numbers: Tensor, cotangent: Tensor) -> Tensor:
        """``J^T w`` of numbers that depend on the parameters, (P,), by reverse mode.

        The graph is kept: part of it may be the network's own.
        """
        if not numbers.requires_grad:  # no parameter moves them
            return torch.zeros(self.dim, dtype=self.dtype, device=self.device)
        found = torch.autograd.grad(
            numbers,
            list(self.parameters.values()),
            cotangent.to(numbers.dtype),
            retain_graph=True,
            materialize_grads=True,
        )
        return self.flatten(found)
