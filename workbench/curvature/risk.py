"""The empirical risk of a network on data: the only loop over the data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.control import Control
from workbench.curvature.precision import full_precision
from workbench.curvature.softmax import probabilities
from workbench.distributed import ALONE, World
from workbench.errors import WorkbenchError

Batch = tuple[Tensor, Tensor]
CACHED_ACTIVATIONS = 2**24  # measured: three conv layers, blocks of ten, two cores


@runtime_checkable
class LabelledImages(Protocol):
    """A `Dataset`, as far as the curvature needs one."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class EmpiricalRisk:
    r"""Mean softmax cross-entropy of a network over a whole data set.

    .. math:: L(\theta) = \frac1N \sum_{i=1}^N -\log p_{y_i}(x_i; \theta)

    ``1/N`` is over the whole data set, never over a batch, so ragged last batches
    need no care. Built by `empirical_risk`.

    Where several processes share the examples, `batches` and all that is built on it
    pass over this process's share: end each sum over examples with ``world.sum``.
    """

    model: nn.Module
    parameters: dict[str, nn.Parameter]  # those that require a gradient, in order
    data: Iterable[Batch]  # re-iterable
    num_examples: int  # N
    num_classes: int  # C
    class_counts: Tensor  # (C,) n_c, int64
    dim: int  # P
    num_activations: int  # numbers that the layers of one example put out
    dtype: torch.dtype
    device: torch.device
    control: Control
    world: World = ALONE
    num_own: int = 0  # examples of this process's share; N where it is alone

    @property
    def sizes(self) -> list[int]:
        """Numbers of each parameter, in order."""
        return [p.numel() for p in self.parameters.values()]

    def batches(self) -> Iterator[Batch]:
        """This process's share of the data, batch by batch, on the device.

        Cancellable in between.
        """
        for inputs, labels in self.own(self.data):
            yield self.there(inputs), labels.to(self.device, non_blocking=True)

    def own(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """This process's share of each batch, where it lies."""
        for inputs, labels in batches:
            own = self.world.share(len(labels))
            if own.start < own.stop:
                yield inputs[own], labels[own]

    def whole(self) -> Iterator[Batch]:
        """All of the data, batch by batch, on the device, in every process."""
        for inputs, labels in self.data:
            yield self.there(inputs), labels.to(self.device, non_blocking=True)

    def there(self, inputs: Tensor) -> Tensor:
        """Inputs on the device, in the network's dtype; cancellable here."""
        self.control.check()
        return inputs.to(self.device, self.dtype, non_blocking=True)

    def pieces(self, num_vectors: int, least: int = 0) -> Iterator[Batch]:
        """The data in pieces whose activations, for a block of vectors, stay near.

        A block of vectors multiplies the activations; on a CPU, pieces that leave the
        cache cost two to three times as much a vector. What each piece costs at all
        weighs little where it has ``least`` activations, of which 2^27 are given.
        """
        room = CACHED_ACTIVATIONS if self.device.type == "cpu" else 2**30
        room = max(room, min(least, 2**27))
        size = max(1, room // (self.num_activations * num_vectors))
        for inputs, labels in self.batches():
            yield from zip(inputs.split(size), labels.split(size), strict=True)

    def logits(self, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """f(x; theta), shape (B, C)."""
        logits: Tensor = functional_call(self.model, parameters, (inputs,))
        return logits

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of `parameters`, and of all else that the model holds."""
        named = {
            **dict(self.model.named_parameters()),
            **dict(self.model.named_buffers()),
        }
        rest = {name: tensor.detach().clone() for name, tensor in named.items()}
        theta = {name: rest.pop(name) for name in self.parameters}
        return theta, rest

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Softmax f(x), shape (B, C), float64, without a graph."""
        with evaluating(self.model), torch.no_grad():
            logits: Tensor = self.model(inputs)
            return probabilities(logits)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector (P,) as named tensors of the parameters' shapes."""
        pieces = torch.split(vector, self.sizes)
        return {
            name: piece.view_as(p)
            for (name, p), piece in zip(self.parameters.items(), pieces, strict=True)
        }

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as one flat vector (P,)."""
        return torch.cat([t.reshape(-1) for t in tensors])


def empirical_risk(
    model: nn.Module,
    data: Any,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    control: Control | None = None,
    world: World = ALONE,
) -> EmpiricalRisk:
    """Check a network and its data, and bind them.

    The model, or a copy on the device, keeps its dtype and is used in eval mode: wrap
    each use in `evaluating`. Batch norm then uses its running statistics, and examples
    do not see each other, which is checked on one batch.

    Args:
        model: The network; maps (B, ...) inputs to (B, C) logits.
        data: A `Dataset`, a pair of tensors ``(inputs, labels)``, or a re-iterable of
            such pairs.
        batch_size: Examples a batch for the first two; by default what keeps the
            inputs of a batch below 4 MB, at most 1,024.
        device: Where to compute; by default where the model is. ``"auto"``: a CUDA
            device if there is one.
        control: Cancels between batches.
        world: Processes that share the examples; each is given all the data.

    Raises:
        WorkbenchError: If there is no parameter to differentiate, a weight or a logit
            is not finite, a class has no example, labels do not fit the logits, or the
            network is random or mixes the examples of a batch in eval mode.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise WorkbenchError(
            "empirical_risk: the network has no parameter that requires a gradient, "
            "and the curvature is taken in the parameters; set requires_grad=True on "
            "some."
        )
    dtypes = {p.dtype for p in parameters.values()}
    if len(dtypes) > 1 or not next(iter(dtypes)).is_floating_point:
        raise WorkbenchError(
            f"empirical_risk: the parameters have dtypes {sorted(map(str, dtypes))}; "
            "convert the model to one, for instance model.float()."
        )
    if bad := [n for n, p in parameters.items() if not p.isfinite().all()]:
        raise WorkbenchError(
            f"empirical_risk: {len(bad)} parameters hold NaN or infinite weights, the "
            f"first is {bad[0]}; train again with a smaller rate."
        )
    here = next(iter(parameters.values())).device
    target = _device(device, here)
    if target != here:
        model = copy.deepcopy(model).to(target)
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    dtype = dtypes.pop()
    batches = _batches(data, batch_size)
    all_labels, sizes = _labels(batches)
    with evaluating(model), torch.no_grad():
        first = next(iter(batches))[0].to(target, dtype)
        num_classes = _probe(model, first)
        num_activations = _count_activations(model, first[:1])
    if all_labels.max() >= num_classes:
        raise WorkbenchError(
            f"empirical_risk: a label is {all_labels.max().item()} but the network has "
            f"{num_classes} logits; labels go from 0 to {num_classes - 1}."
        )
    counts = all_labels.bincount(minlength=num_classes)
    if missing := (counts == 0).nonzero().flatten().tolist():
        raise WorkbenchError(
            f"empirical_risk: classes {missing} have no example among the "
            f"{len(all_labels)} given, so they have no mean; pass a sample that holds "
            "every class, for instance a balanced one."
        )
    return EmpiricalRisk(
        model=model,
        parameters=parameters,
        data=batches,
        num_examples=len(all_labels),
        num_classes=num_classes,
        class_counts=counts,
        dim=sum(p.numel() for p in parameters.values()),
        num_activations=num_activations,
        dtype=dtype,
        device=target,
        control=control or Control(),
        world=world,
        num_own=sum(own.stop - own.start for own in map(world.share, sizes)),
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no TF32 inside, every module's own mode again outside.

    Attention is taken by its formula: fused kernels know no forward mode and no second
    derivative.
    """
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), full_precision():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode


def _device(asked: str | torch.device | None, here: torch.device) -> torch.device:
    """Where to compute; a device of no number is the current one."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else None
    try:
        found = torch.device(asked or here)
        return torch.empty(0, device=found).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise WorkbenchError(
            f"empirical_risk: device {str(asked)!r} is not on this machine "
            f"({str(error).splitlines()[0]}); use 'cpu', or 'auto'."
        ) from error


def _batches(data: Any, batch_size: int | None) -> Iterable[Batch]:
    """What the caller gave, as a re-iterable of ``(inputs, labels)``."""
    if isinstance(data, LabelledImages):
        data = (data.images, data.labels)
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    if not (pair and isinstance(data[0], Tensor)):
        if isinstance(data, Iterator) or not isinstance(data, Iterable):
            raise WorkbenchError(
                f"empirical_risk: the data are a {type(data).__name__}, which cannot "
                "be gone through several times; pass a Dataset, a pair of tensors "
                "(inputs, labels), or a list or DataLoader of such pairs."
            )
        return data
    inputs, labels = data
    if len(inputs) != len(labels):
        raise WorkbenchError(
            f"empirical_risk: {len(inputs)} inputs and {len(labels)} labels; expected "
            "one label an input."
        )
    if batch_size is None:
        floats = max(inputs[0].numel(), 1) if len(inputs) else 1
        batch_size = max(1, min(1024, 2**20 // floats))
    if batch_size < 1:
        raise WorkbenchError(
            f"empirical_risk: batch_size is {batch_size}; expected at least 1."
        )
    return list(zip(inputs.split(batch_size), labels.split(batch_size), strict=True))


def _labels(batches: Iterable[Batch]) -> tuple[Tensor, list[int]]:
    """All labels, and how many a batch, after a look at every batch."""
    labels, examples = [], 0
    for batch in batches:
        if not (
            isinstance(batch, (tuple, list))
            and len(batch) == 2
            and all(isinstance(part, Tensor) and part.ndim for part in batch)
        ):
            raise WorkbenchError(
                "empirical_risk: the data do not come in pairs of tensors (inputs, "
                "labels), one pair a batch; wrap single examples in a DataLoader."
            )
        inputs, found = batch
        if len(inputs) != len(found):
            raise WorkbenchError(
                f"empirical_risk: a batch has {len(inputs)} inputs and {len(found)} "
                "labels; expected one label an input."
            )
        if not inputs.isfinite().all():
            raise WorkbenchError(
                f"empirical_risk: the inputs of examples {examples} to "
                f"{examples + len(inputs) - 1} hold NaN or infinity; leave such "
                "examples out."
            )
        examples += len(inputs)
        labels.append(found.detach().cpu())
    if not examples:
        raise WorkbenchError(
            "empirical_risk: the data hold no example; pass at least one a class."
        )
    whole = torch.cat(labels)
    if whole.dtype != torch.int64 or whole.ndim > 1 or whole.min() < 0:
        raise WorkbenchError(
            f"empirical_risk: the labels have dtype {whole.dtype}, shape "
            f"{tuple(whole.shape)} and minimum {whole.min().item()}; expected int64 "
            "class numbers from 0, shape (N,)."
        )
    return whole, [len(found) for found in labels]


def _probe(model: nn.Module, inputs: Tensor) -> int:
    """Number of logits; an error where the network is random or mixes examples."""
    inputs = inputs[:8]
    try:
        logits = model(inputs)
    except (RuntimeError, ValueError, TypeError) as error:
        raise WorkbenchError(
            f"empirical_risk: the network does not take inputs of shape "
            f"{tuple(inputs.shape)} ({str(error).splitlines()[0]}); pass data of the "
            "shape that it was made for."
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else ()
    if len(shape) != 2 or shape[0] != len(inputs) or shape[1] < 2:
        found = f"of shape {shape}" if shape else f"of type {type(logits).__name__}"
        raise WorkbenchError(
            f"empirical_risk: {len(inputs)} inputs give an output {found}; expected "
            "logits of shape (B, C), with at least two classes."
        )
    if not logits.isfinite().all():
        raise WorkbenchError(
            "empirical_risk: the network gives NaN or infinite logits; train again "
            "with a smaller rate, or look at the inputs."
        )
    scale = logits.abs().max().clamp(min=1e-30)
    tolerance = 1e3 * torch.finfo(logits.dtype).eps * scale
    if (model(inputs) - logits).abs().max() > tolerance:
        raise WorkbenchError(
            "empirical_risk: two passes over the same inputs give different logits in "
            "eval mode; the curvature of a random function is not defined: switch the "
            "randomness (a functional dropout, say) off in eval mode."
        )
    try:
        alone = torch.cat([model(inputs[i : i + 1]) for i in range(len(inputs))])
    except ValueError:  # batch norm over the batch refuses a single example
        alone = torch.full_like(logits, torch.inf)
    if (alone - logits).abs().max() > tolerance:
        raise WorkbenchError(
            "empirical_risk: an example's logits depend on the others in its batch "
            "even in eval mode (batch norm without running statistics, say), so the "
            "per-example gradients are not defined; set track_running_stats=True."
        )
    return int(logits.shape[1])


def _count_activations(model: nn.Module, example: Tensor) -> int:
    """Numbers that the leaf modules put out for one example."""
    total = 0

    def add(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, Tensor) else 0

    leaves = [m for m in model.modules() if not any(True for _ in m.children())]
    handles = [leaf.register_forward_hook(add) for leaf in leaves]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    return max(total, 1)
