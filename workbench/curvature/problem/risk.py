"""The empirical risk of a network on data: the only loop over the data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench.curvature.problem.batches import (
    Batch,
    Inputs,
    LabelledImages,
    Repeating,
    as_batches,
    join,
    move,
    num_of,
    shape_of,
    split,
    spread,
    take,
    tensors,
)
from workbench.curvature.problem.criterion import Criterion, CrossEntropy, as_criterion
from workbench.curvature.problem.network import (
    HALVES,
    Network,
    Outputs,
    check_function,
    first_line,
    nodes,
    run,
    same_weights,
    unwrapped,
)
from workbench.curvature.problem.surroundings import evaluating, random_state
from workbench.curvature.problem.unchanged import Bound, bound
from workbench.errors import WorkbenchError
from workbench.linalg.precision import full_precision
from workbench.machine.device import resolve_device
from workbench.machine.distributed import ALONE, World
from workbench.machine.memory import device_memory
from workbench.progress.control import Control

__all__ = ["Batch", "EmpiricalRisk", "LabelledImages", "empirical_risk", "evaluating"]

CACHED_ACTIVATIONS = 2**24  # measured: three conv layers, blocks of ten, two cores
CHECKED_ACTIVATIONS = 2**20  # of the batch that tells whether examples mix
QUICK = 2.0  # seconds of a pass over a loader up to which a second is made at once
PIECE = 8  # examples that proofs are made on
MANY = 16  # shapes of inputs up to which the network is tried on each
PULLED = 3  # whose gradients are taken together and apart: not two, each is a pair
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
    normaliser: float  # Z
    class_counts: Tensor | None  # (C,) n_c, int64; None: no class to an example
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

    def classes(self, who: str) -> Tensor:
        """How many examples each class has, (C,), all of them some.

        Raises:
            WorkbenchError: If an example has no class, or a class has no example.
        """
        if self.class_counts is None:
            raise WorkbenchError(
                f"{who}: class means are those of the plain cross-entropy of logits "
                "(B, C) with one label an example; this loss has none: take operators "
                "or exact_spectrum."
            )
        missing = (self.class_counts == 0).nonzero().flatten().tolist()
        if missing:
            first = ", ".join(map(str, missing[:3])) + ", ..." * (len(missing) > 3)
            raise WorkbenchError(
                f"{who}: classes [{first}] have no example among the "
                f"{self.num_examples:,} given ({len(missing)} of {self.num_classes:,} "
                "classes), so they have no mean; pass a sample that holds every class, "
                "or choose classes=."
            )
        return self.class_counts

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

    def probabilities(self, inputs: Inputs) -> Tensor:
        """Softmax f(x), shape (B, C), float64, without a graph."""
        return self.predictions(inputs)

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


def empirical_risk(
    model: nn.Module,
    data: Any,
    *,
    loss: Any = "cross_entropy",
    outputs: Outputs | None = None,
    parameters: str | Sequence[str] | None = None,
    check: str = "once",
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    control: Control | None = None,
    world: World = ALONE,
) -> EmpiricalRisk:
    """Check a network and its data, and bind them.

    The model, or a copy on the device, is used in eval mode: wrap each use in
    `evaluating`. Batch norm then uses its running statistics. Before anything else two
    passes over a batch must agree, and examples must not see each other, on one batch
    (``check="once"``) or on all (``"full"``); a loader must give the same examples
    again. Networks in half precision are computed in float32, a copy.

    Args:
        model: The network.
        data: A `Dataset`, a pair ``(inputs, targets)``, or a re-iterable of such pairs
            or of mappings with ``"labels"``. Inputs: a tensor, or tensors in dicts,
            lists and tuples, the examples on the first axis of each.
        loss: ``"cross_entropy"``, ``"mse"``, ``"bce"``, or one of torch's losses with
            its options, over the whole data as one batch.
        outputs: Takes the logits from what the network returns; by default that is a
            tensor, or has ``logits``.
        parameters: Globs of the names of the parameters to look at, or the names of
            modules; by default all that require a gradient.
        check: ``"once"``, ``"full"`` or ``"off"``: what is proven before use.
        dtype: Compute in this dtype, a copy, if the network can; else in its own.
        batch_size: Examples a batch, of data in memory; by default what keeps the
            inputs of a batch below 4 MB, at most 1,024.
        device: Where to compute; by default where the model is. ``"auto"``: a CUDA
            device if there is one. The CPU in place of mps, which has no float64.
        control: Cancels between batches.
        world: Processes that share the examples; each is given all the data.

    Raises:
        WorkbenchError: If there is no parameter to differentiate, a weight, input or
            logit is not finite, targets do not fit the outputs, the data do not
            repeat, or the network is random or mixes the examples of a batch.
    """
    criterion, module = as_criterion(loss), unwrapped(model)
    if check not in CHECKS:
        raise WorkbenchError(
            f"empirical_risk: check is {check!r}; expected one of {', '.join(CHECKS)}."
        )
    chosen = _chosen(module, parameters)
    own, half = _dtype(module, chosen)
    here = next(iter(chosen.values()))
    target = _with_double(resolve_device(device, near=here.device))
    proven = Proven()
    with random_state(), full_precision(), same_weights(module):
        batches = as_batches(data, batch_size)
        seen = _look(batches, criterion)
        if isinstance(batches, Repeating):
            batches.look_again(whole=seen.seconds < QUICK or check == "full")
        few = move(take(seen.first, slice(0, 2)), here.device, here.dtype)
        given = network = Network(module, outputs).settled(few)
        note = ""
        if check != "off":
            _same_when_evaluated(network, seen.first)
        if target != here.device or half or here.is_inference():
            network = network.in_dtype(target, own)
            note = "half precision is computed in float32" if half else ""
            _compare(given, network, seen.first)
        if dtype is not None and dtype != own:
            better = _converted(network, seen.first, dtype, target)
            network, own = (better, dtype) if better else (network, own)
        few = move(take(seen.first, slice(0, 2)), target, own)
        network = network.settled(few)
        copied = network.module is not module  # else they are watched already
        with same_weights(network.module) if copied else nullcontext():
            num_activations = _count_activations(network, few)
            size = max(PIECE, CHECKED_ACTIVATIONS // num_activations)
            first = move(take(seen.first, slice(0, size)), target, own)
            with proven.timed():
                logits = _logits(network, first, check)
    labels = as_targets(seen.targets[:size]).to(target)
    criterion.check(logits, labels)
    for inputs, targets in seen.others:
        with evaluating(network.module):
            found = run(network, move(inputs, target, own))
        criterion.check(found, targets.to(target))
    counts = _counts(criterion, seen, logits)
    if isinstance(criterion, CrossEntropy) and not seen.ignored:
        criterion = replace(criterion, ignore_index=None)
    weights = dict(network.module.named_parameters())
    named = {name: weights[name] for name in chosen}
    risk = EmpiricalRisk(
        network=network,
        criterion=criterion,
        parameters=named,
        data=batches,
        num_examples=sum(seen.sizes),
        num_classes=logits.shape[1],
        num_columns=criterion.num_columns(logits),
        normaliser=_normaliser(criterion, seen),
        class_counts=counts,
        dim=sum(p.numel() for p in named.values()),
        num_activations=num_activations,
        dtype=own,
        device=target,
        control=control or Control(),
        piece=(move(seen.piece[0], target, own), as_targets(seen.piece[1]).to(target)),
        check=check,  # type: ignore[arg-type]
        note=note,
        world=world,
        num_own=sum(s.stop - s.start for s in map(world.share, seen.sizes)),
        proven=proven,
    )
    proven.bound = bound(network.named(), batches)
    with proven.timed():
        if check != "off":
            check_gradients(risk)
        if check == "full":
            for inputs, targets in risk.whole():
                criterion.check(check_function(network, inputs), targets)
    return risk


def _logits(network: Network, inputs: Inputs, check: str) -> Tensor:
    """Of a batch, which is proven to be a function of each example if asked."""
    if check != "off":
        return check_function(network, inputs)
    with evaluating(network.module):
        return run(network, inputs)


def check_gradients(risk: EmpiricalRisk) -> None:
    """Make sure that what goes back through the network is linear and unmixed.

    A hook may clip gradients, or take the mean over the batch away. For some examples
    ``J^T`` of a sum must be the sum, and a batch's gradient the sum of its examples'.

    Raises:
        WorkbenchError: If they are not.
    """
    inputs = take(risk.piece[0], slice(0, PULLED))
    with evaluating(risk.model), torch.enable_grad():
        outputs = risk.network(inputs)
        if not outputs.requires_grad:
            raise WorkbenchError(
                "empirical_risk: no gradient goes from the logits to a parameter (a "
                "forward pass under no_grad or inference_mode, say), so all curvature "
                "would be zero; leave that out of the forward pass."
            )
        risk.proven.digits = _narrowest(outputs)
        if risk.digits in HALVES:
            half = str(risk.digits).removeprefix("torch.")
            raise WorkbenchError(
                f"empirical_risk: the network computes in {half} inside (autocast in "
                "its forward pass, say), so its derivatives hold two or three digits; "
                "switch that off, and pass the network in full precision."
            )
        if "CheckpointFunctionBackward" in {node.name() for node in nodes(outputs)}:
            raise WorkbenchError(
                "empirical_risk: the network checkpoints with use_reentrant=True, so "
                "torch cannot differentiate it in parts; set use_reentrant=False there."
            )
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(
            2, *outputs.shape, generator=generator, dtype=torch.float64, device="cpu"
        )
        one, other = noise.to(outputs)
        try:
            apart = risk.gradient(outputs, one)
            size = apart.norm()
            off = risk.gradient(outputs, 1e3 * other)
            most = off.norm()
            off += apart
            off -= risk.gradient(outputs, one + 1e3 * other)
            for i in range(len(outputs)):
                part = slice(i, i + 1)
                apart -= risk.gradient(risk.network(take(inputs, part)), one[part])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            raise WorkbenchError(
                "empirical_risk: torch cannot take the gradient of this network "
                f"({first_line(error)}); write the layer in operations that it can."
            ) from error
    rough = 1e3 * torch.finfo(risk.digits).eps
    if not (size.isfinite() and most.isfinite()):
        raise WorkbenchError(
            "empirical_risk: the gradients of some examples are NaN or infinite where "
            "the logits are finite; look for a root or a logarithm of zero in a layer."
        )
    if not (off.norm() <= rough * most and apart.norm() <= rough * size):
        raise WorkbenchError(
            "empirical_risk: what goes back through the network is not linear, or "
            "mixes examples (a hook that clips gradients, say), so no product with a "
            "Jacobian is defined; remove the hook."
        )


def _narrowest(outputs: Tensor) -> torch.dtype:
    """The floating-point numbers of fewest digits in the graph of some outputs."""
    found = {outputs.dtype}
    for node in nodes(outputs):
        found |= {of.dtype for of in getattr(node, "_input_metadata", ())}
    real = [dtype for dtype in found if dtype.is_floating_point]
    return max(real, key=lambda dtype: torch.finfo(dtype).eps)


def _same_when_evaluated(network: Network, inputs: Inputs) -> None:
    """Make sure that ``eval()`` itself changes no more than flags.

    Some adapters merge their weights in it: the network is then another function of
    its parameters, and which is meant is for its owner to say.

    Raises:
        WorkbenchError: If the logits or their gradients differ.
    """
    module = network.module
    custom = any(
        type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval
        for m in module.modules()
    )
    if not (custom and any(m.training for m in module.modules())):
        return
    found = []
    for merged in (False, True):
        before = [(p, p.detach().clone()) for p in module.parameters()]
        with evaluating(module), torch.enable_grad():
            if merged:
                module.eval()
            trained = [p for p in module.parameters() if p.requires_grad]
            like = trained[0]
            outputs = network(move(take(inputs, slice(0, 2)), like.device, like.dtype))
            grads = torch.autograd.grad(
                outputs.float().sum(),
                trained,
                retain_graph=True,
                materialize_grads=True,
            )
            found.append([outputs.detach(), *grads])
        for p, copy in before:
            p.data.copy_(copy)
    rough = 1e3 * max(torch.finfo(t.dtype).eps for t in found[0])
    if any(
        one.shape != other.shape or (one - other).norm() > rough * one.norm()
        for one, other in zip(*found, strict=True)
    ):
        raise WorkbenchError(
            "empirical_risk: the network's own eval() makes it another function of its "
            "parameters (an adapter that merges its weights, say); call model.eval() "
            "first if that is meant, or measure it without."
        )


def as_targets(targets: Tensor) -> Tensor:
    """Whole numbers as int64; all else as it is."""
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    return targets.detach().long() if whole else targets.detach()


def _chosen(
    module: nn.Module, patterns: str | Sequence[str] | None
) -> dict[str, nn.Parameter]:
    """The parameters to look at."""
    known = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if not known:
        raise WorkbenchError(
            "empirical_risk: the network has no parameter that requires a gradient, "
            "and the curvature is taken in the parameters; set requires_grad=True on "
            "some."
        )
    if patterns is not None:
        words = [patterns] if isinstance(patterns, str) else patterns
        listed = isinstance(words, Sequence) and all(isinstance(w, str) for w in words)
        if not (listed and words):
            raise WorkbenchError(
                f"empirical_risk: parameters is {str(patterns)[:60]!r}; expected a "
                "name or glob such as 'layer4.*', or a list of some."
            )
        for word in words:
            if not any(_matches(name, word) for name in known):
                some = ", ".join(list(known)[:4])
                raise WorkbenchError(
                    f"empirical_risk: no parameter is called {str(word)[:60]!r}; give "
                    f"names or globs such as 'layer4.*'; the first of {len(known)} are "
                    f"{some[:100]}."
                )
        known = {
            name: p
            for name, p in known.items()
            if any(_matches(name, word) for word in words)
        }
    if bad := [n for n, p in known.items() if not p.detach().isfinite().all()]:
        raise WorkbenchError(
            f"empirical_risk: {len(bad)} parameters hold NaN or infinite weights, the "
            f"first is {bad[0]}; train again with a smaller rate."
        )
    return known


def _matches(name: str, word: str) -> bool:
    """Whether a glob, or a module's name, stands for a parameter."""
    return fnmatchcase(name, word) or name.startswith(f"{word}.")


def _dtype(
    module: nn.Module, parameters: dict[str, nn.Parameter]
) -> tuple[torch.dtype, bool]:
    """What to compute in, and whether that is float32 in place of half precision."""
    dtypes = {p.dtype for p in parameters.values()}
    full = {torch.float32 if dtype in HALVES else dtype for dtype in dtypes}
    if len(full) > 1 or not full <= {torch.float32, torch.float64}:
        raise WorkbenchError(
            f"empirical_risk: the parameters have dtypes {sorted(map(str, dtypes))}; "
            "convert the model to one, for instance model.float()."
        )
    return full.pop(), any(p.dtype in HALVES for p in module.parameters())


def _with_double(device: torch.device) -> torch.device:
    """The device, with its number; the CPU for one that has no float64."""
    return torch.empty(0, device="cpu" if device.type == "mps" else device).device


@dataclass(slots=True, eq=False)
class _Seen:
    """What one look at all batches finds."""

    sizes: list[int]  # examples a batch
    first: Inputs  # of the first batch
    targets: Tensor
    piece: Batch  # some examples of one shape, at least two where there are
    counts: Tensor  # of each label
    ignored: bool  # whether a label is ignored
    num_terms: float
    others: list[Batch] = field(default_factory=list)  # a few of each further shape
    seconds: float = 0.0  # that the look took


def _look(batches: Iterable[Batch], criterion: Criterion) -> _Seen:
    """One pass over the data, all of it checked."""
    began = time.perf_counter()
    seen: _Seen | None = None
    alike: dict[object, list[Batch]] = {}
    kinds: dict[object, tuple[int, ...]] = {}  # of the targets, by shape of the inputs
    for inputs, raw in batches:
        targets = as_targets(raw)
        if not len(targets):
            continue
        done = sum(seen.sizes) if seen else 0
        for tensor in tensors(inputs):
            if not tensor.isfinite().all():
                raise WorkbenchError(
                    f"empirical_risk: the inputs of examples {done} to "
                    f"{done + len(targets) - 1} hold NaN or infinity; leave such "
                    "examples out."
                )
        _check_targets(targets, done, criterion)
        counts, ignored = _labels(targets, criterion)
        kind = kinds.setdefault(shape_of(inputs), tuple(targets.shape[1:]))
        first = targets if seen is None else seen.targets
        if seen is not None and len(kinds) > len(seen.others) + 1 <= MANY:
            seen.others.append((take(inputs, slice(0, 2)), targets[:2]))
        soft = targets.is_floating_point() == first.is_floating_point()
        if kind != targets.shape[1:] or targets.ndim != first.ndim or not soft:
            raise WorkbenchError(
                f"empirical_risk: the targets of examples {done} to "
                f"{done + len(targets) - 1} have shape {tuple(targets.shape)} and "
                f"dtype {targets.dtype}, earlier ones {tuple(first.shape)} and "
                f"{first.dtype}; expected one kind."
            )
        if seen is None:
            seen = _Seen(
                sizes=[],
                first=inputs,
                targets=targets,
                piece=(inputs, targets),
                counts=counts,
                ignored=False,
                num_terms=0.0,
            )
        else:
            size = max(len(counts), len(seen.counts))
            pad = nn.functional.pad
            both = [pad(c, (0, size - len(c))) for c in (seen.counts, counts)]
            seen.counts = both[0] + both[1]
        seen.sizes.append(len(targets))
        seen.ignored |= ignored
        seen.num_terms += criterion.num_terms(targets)
        same = alike.setdefault(shape_of(inputs), [])
        if len(alike) <= 4 and sum(len(t) for _, t in same) < 2:
            chosen = spread(len(targets), PIECE)
            same.append((take(inputs, chosen), targets[chosen]))
    if seen is None:
        raise WorkbenchError(
            "empirical_risk: the data hold no example; pass at least one per class."
        )
    most = max(alike.values(), key=lambda parts: sum(len(t) for _, t in parts))
    parts, labels = zip(*most, strict=True)
    seen.piece = join(parts), torch.cat(labels)
    seen.seconds = time.perf_counter() - began
    return seen


def _check_targets(targets: Tensor, done: int, criterion: Criterion) -> None:
    """Raise where numbers among the targets of some examples cannot be."""
    if not targets.isfinite().all():
        raise WorkbenchError(
            f"empirical_risk: the targets of examples {done} to "
            f"{done + len(targets) - 1} hold NaN or infinity; leave such examples out."
        )
    criterion.check_targets(targets)


def _labels(targets: Tensor, criterion: Criterion) -> tuple[Tensor, bool]:
    """How often each label comes, and whether one is ignored."""
    none = torch.zeros(0, dtype=torch.int64, device="cpu")
    if not isinstance(criterion, CrossEntropy):
        return none, False
    if targets.is_floating_point() and targets.ndim > 1:
        if not (targets.isfinite().all() and targets.min() >= 0):
            raise WorkbenchError(
                "empirical_risk: the soft labels hold negative numbers or NaN; "
                "expected probabilities."
            )
        return none, False
    ignored = torch.zeros_like(targets, dtype=torch.bool)
    if criterion.ignore_index is not None:
        ignored = targets == criterion.ignore_index
    kept = targets[~ignored]
    if targets.dtype != torch.int64 or (len(kept) and kept.min() < 0):
        least = kept.min().item() if len(kept) else 0
        raise WorkbenchError(
            f"empirical_risk: the labels have dtype {targets.dtype}, shape "
            f"{tuple(targets.shape)} and minimum {least}; expected whole class numbers "
            "from 0, shape (N,)."
        )
    if len(kept) and kept.max() > 10**7:
        raise WorkbenchError(
            f"empirical_risk: a label is {int(kept.max())}; labels are class numbers "
            "from 0, below the number of logits."
        )
    return kept.flatten().cpu().bincount(), bool(ignored.any())


def _counts(criterion: Criterion, seen: _Seen, logits: Tensor) -> Tensor | None:
    """How many examples each class has, where each example has one."""
    if not isinstance(criterion, CrossEntropy) or seen.targets.is_floating_point():
        return None
    C = logits.shape[1]
    if len(seen.counts) > C:
        raise WorkbenchError(
            f"empirical_risk: a label is {len(seen.counts) - 1} but the network has "
            f"{C} logits; labels go from 0 to {C - 1}."
        )
    if logits.ndim > 2 or not criterion.plain or seen.ignored:
        return None
    return nn.functional.pad(seen.counts, (0, C - len(seen.counts)))


def _normaliser(criterion: Criterion, seen: _Seen) -> float:
    """Z.

    Raises:
        WorkbenchError: If it is zero, for then the loss is not defined.
    """
    if not criterion.mean:
        return 1.0
    if not seen.num_terms > 0:
        raise WorkbenchError(
            "empirical_risk: no label counts (all are ignored, or have the weight 0), "
            "so the mean loss is not defined; pass labels that count."
        )
    return seen.num_terms


def _converted(
    network: Network, first: Inputs, dtype: torch.dtype, device: torch.device
) -> Network | None:
    """The network in another dtype; None where it cannot be run in that."""
    few = take(first, slice(0, PIECE))
    try:
        better = network.in_dtype(device, dtype)
        with evaluating(better.module):
            run(better, move(few, device, dtype))
            with torch.enable_grad():
                narrowest = _narrowest(better(move(few, device, dtype)))
        _compare(network, better, few)
    except (WorkbenchError, RuntimeError):
        return None
    return better if narrowest == dtype else None  # it casts inside


def _compare(one: Network, copy: Network, inputs: Inputs) -> None:
    """Make sure that a copy computes what the network does, and from its own weights.

    Raises:
        WorkbenchError: If it does not: a function that was put into the network still
            uses the weights of the original.
    """
    few = take(inputs, slice(0, PIECE))
    found = []
    for network in (one, copy):
        trained = [p for p in network.module.parameters() if p.requires_grad]
        like = trained[0]
        with evaluating(network.module), torch.enable_grad():
            try:
                logits = network(move(few, like.device, like.dtype))
                grads = torch.autograd.grad(
                    logits.sum(), trained, retain_graph=True, allow_unused=True
                )
            except RuntimeError:  # an operation that half precision does not have
                return
        found.append([logits.detach(), *grads])
    rough = [t is not None and bool(t.any()) for t in found[0]]
    other = [t is not None and bool(t.any()) for t in found[1]]
    logits, copied = (tensors[0].double().cpu() for tensors in found)
    if rough != other or (logits - copied).norm() > 0.2 * logits.norm():
        raise WorkbenchError(
            "empirical_risk: a copy of the network in another dtype or on another "
            "device computes something else (a forward replaced on an instance keeps "
            "the old weights, say); convert the network yourself."
        )


def _count_activations(network: Network, inputs: Inputs) -> int:
    """Numbers that the leaf modules put out for one example."""
    total = 0

    def add(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += sum(t.numel() for t in tensors(output))

    model = network.module
    leaves = [m for m in model.modules() if not any(True for _ in m.children())]
    hooked = [m for m in leaves if not isinstance(m, torch.jit.ScriptModule)]
    with evaluating(model):
        handles = [leaf.register_forward_hook(add) for leaf in hooked]
        try:
            run(network, inputs)
        finally:
            for handle in handles:
                handle.remove()
    return max(total // max(num_of(inputs), 2), 1)
