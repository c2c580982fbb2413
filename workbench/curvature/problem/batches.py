"""Batches of examples: inputs in any nesting of tensors, with their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from workbench.curvature.problem.surroundings import RandomState, Source, random_state
from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled

Inputs = Any  # a tensor, or tensors in dicts, lists and tuples; examples on axis 0
Batch = tuple[Inputs, Tensor]
LABELS = ("labels", "label")  # of a batch that is a mapping, as Hugging Face has them
EXPECTED = (
    "pass a Dataset, a pair of tensors (inputs, labels), or a list or DataLoader of "
    "such pairs"
)


@runtime_checkable
class LabelledImages(Protocol):
    """A `Dataset`, as far as the curvature needs one."""

    images: Tensor
    labels: Tensor


def tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors of the inputs that have an axis."""
    leaves, _ = tree_flatten(inputs)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim]


def from_numpy(inputs: Inputs) -> Inputs:
    """The inputs with tensors in place of NumPy arrays, which share their memory.

    Raises:
        WorkbenchError: If an array holds no numbers that torch knows.
    """
    leaves, spec = tree_flatten(inputs)
    if not any(isinstance(leaf, np.ndarray) for leaf in leaves):
        return inputs
    return tree_unflatten(map(_tensor, leaves), spec)


def _tensor(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    wide = leaf.dtype.kind == "u" and leaf.dtype.itemsize > 1  # torch lacks most of it
    kind = np.dtype(np.int64) if wide else leaf.dtype.newbyteorder("=")
    try:
        return torch.from_numpy(np.require(leaf, kind, ("C", "W")))
    except TypeError as error:
        raise WorkbenchError(
            f"empirical_risk: an array of the data holds {leaf.dtype}; expected "
            "numbers, such as float32 for inputs and int64 for labels."
        ) from error


def each(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs with a function of every tensor that has an axis."""

    def one(leaf: Any) -> Any:
        known = isinstance(leaf, Tensor) and leaf.ndim
        return function(leaf) if known else leaf

    return tree_map(one, inputs)


def num_of(inputs: Inputs) -> int:
    """How many examples."""
    return len(tensors(inputs)[0])


def numbers_of(inputs: Inputs) -> int:
    """How many numbers the examples are made of."""
    return sum(tensor.numel() for tensor in tensors(inputs))


def spread(num: int, most: int) -> list[int]:
    """Up to so many of that many places, the first and the last among them."""
    some = min(num, most)
    return [round(i * (num - 1) / max(some - 1, 1)) for i in range(some)]


def take(inputs: Inputs, index: Tensor | slice | list[int]) -> Inputs:
    """Some of the examples."""

    def one(tensor: Tensor) -> Tensor:
        chosen = index.to(tensor.device) if isinstance(index, Tensor) else index
        return tensor[chosen]

    return each(one, inputs)


def split(inputs: Inputs, size: int) -> list[Inputs]:
    """The examples in pieces of at most that many."""
    num = num_of(inputs)
    if num <= size:
        return [inputs]
    return [take(inputs, slice(a, a + size)) for a in range(0, num, size)]


def join(parts: Sequence[Inputs]) -> Inputs:
    """Examples of one shape, one after the other."""
    if len(parts) == 1:
        return parts[0]
    flat = [tree_flatten(part)[0] for part in parts]
    spec = tree_flatten(parts[0])[1]
    joined = [
        torch.cat(same) if isinstance(same[0], Tensor) and same[0].ndim else same[0]
        for same in zip(*flat, strict=True)
    ]
    return tree_unflatten(joined, spec)


def shape_of(inputs: Inputs) -> tuple[object, ...]:
    """Of one example: nesting, shapes, dtypes, and what is no tensor of examples.

    Those of equal shape can be joined.
    """
    leaves, spec = tree_flatten(inputs)
    return (repr(spec), *map(_kind, leaves))


def _kind(leaf: Any) -> object:
    if not isinstance(leaf, Tensor):
        known = leaf is None or isinstance(leaf, (bool, int, float, str))
        return (type(leaf), leaf if known else id(leaf))
    if not leaf.ndim:
        return (leaf.dtype, leaf.item())
    return (leaf.dtype, tuple(leaf.shape[1:]))


def move(inputs: Inputs, device: torch.device, dtype: torch.dtype) -> Inputs:
    """On the device; floating-point numbers in the dtype, and no others changed.

    Tensors made in inference mode are copied, as they could not enter a graph.
    """

    def one(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        moved = tensor.detach().to(device, kind, non_blocking=True)
        return moved.clone() if moved.is_inference() else moved

    return each(one, inputs)


def clone(inputs: Inputs) -> Inputs:
    """A copy, for a network that may write to it."""
    return each(torch.clone, inputs)


def signature(inputs: Inputs, labels: Tensor) -> Tensor:
    """A 64-bit sum of the bits of each example and its label, (B,): its fingerprint."""
    parts = [*tensors(inputs), labels]
    total = torch.zeros(len(labels), dtype=torch.int64, device="cpu")
    for number, part in enumerate(parts):
        flat = part.detach().cpu().reshape(len(part), -1)
        if flat.is_complex():
            flat = torch.view_as_real(flat).flatten(1)
        if flat.is_floating_point():
            whole = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
            flat = flat.contiguous().view(whole[flat.element_size()])
        place = torch.arange(flat.shape[1], dtype=torch.int64, device="cpu")
        factor = place + (number << 40)
        total = _mixed(total + (flat.long() * _mixed(factor)).sum(1))
    return total


def _mixed(numbers: Tensor) -> Tensor:
    """64-bit numbers scattered, so that their sum tells which belong together."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        numbers = (numbers ^ (numbers >> shift)) * factor
    return numbers ^ (numbers >> 31)


@dataclass(slots=True, eq=False)
class Repeating:
    """A loader whose passes are compared: with the first in what they hold.

    The order may change from pass to pass (`ordered` tells), the examples may not. Its
    batches are copies, as a loader may fill one buffer again and again.
    """

    data: Iterable[Any]
    ordered: bool = True
    _state: list[RandomState | Source] = field(default_factory=list)  # the loader's own
    _total: int | None = None  # sum of all signatures at the first pass
    _placed: int = 0  # likewise, each multiplied by its place
    _head: list[int] = field(default_factory=list)  # signatures of the first batch

    def __iter__(self) -> Iterator[Batch]:
        """One pass.

        Raises:
            WorkbenchError: At its end, if other examples came than at the first.
        """
        total = placed = num = 0
        for raw in self._undisturbed():
            inputs, labels = clone(as_batch(raw))
            if not len(labels):
                continue
            marks = signature(inputs, labels).tolist()
            if not num and self._total is None:
                self._head = marks
            total += sum(marks)
            placed += sum((num + j + 1) * mark for j, mark in enumerate(marks))
            num += len(marks)
            yield inputs, labels
        if self._total is None:
            self._total, self._placed = total, placed
        elif total != self._total:
            raise WorkbenchError(
                "empirical_risk: the data give other examples on a second pass, so no "
                "product repeats; pass a loader without augmentation, random sampling "
                "or drop_last with shuffle, or a list of its batches."
            )
        elif placed != self._placed:
            self.ordered = False

    def _undisturbed(self) -> Iterator[Any]:
        """What the loader gives, with random numbers of its own.

        Raises:
            WorkbenchError: If the loader fails.
        """
        going: Iterator[Any] | None = None
        sources = _sources(self.data)
        while True:
            before = [Source.of(source) for source in sources]
            with random_state():
                for state in self._state:  # which goes on from here
                    state.restore()
                try:
                    going = iter(self.data) if going is None else going
                    raw = next(going)
                except StopIteration:
                    return
                except (Cancelled, WorkbenchError, MemoryError):
                    raise
                except Exception as error:  # whatever the loader's own code raises
                    said = (str(error).strip().splitlines() or [""])[0][:120]
                    raise WorkbenchError(
                        f"empirical_risk: the data cannot be read "
                        f"({type(error).__name__}: {said}); look at the loader."
                    ) from error
                finally:
                    self._state = [RandomState.now(), *map(Source.of, sources)]
                    for theirs in before:
                        theirs.restore()
            yield raw

    def look_again(self, *, whole: bool) -> None:
        """Compare a second pass with the first: its first batch, all if that differs.

        Args:
            whole: All of it in any case.

        Raises:
            WorkbenchError: If the second pass holds other examples.
        """
        going = iter(self)
        inputs, labels = next(going, (None, None))
        same = labels is not None and signature(inputs, labels).tolist() == self._head
        if whole or not same:
            for _ in going:
                pass


def _sources(data: Any) -> list[Any]:
    """The sources of random numbers that a loader, its samplers and data hold."""
    sampler, batches = getattr(data, "sampler", None), getattr(data, "batch_sampler", 0)
    owners = data, sampler, batches, getattr(batches, "sampler", None)
    found: dict[int, Any] = {}
    for owner in (*owners, getattr(data, "dataset", None)):
        held = getattr(owner, "__dict__", {})
        found |= {id(v): v for v in held.values() if Source.knows(v)}
    return list(found.values())


def as_batches(data: Any, batch_size: int | None) -> Iterable[Batch]:
    """What the caller gave, as a re-iterable of ``(inputs, targets)``.

    A list where all of the data is in memory; a `Repeating` where a loader makes it.
    """
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise WorkbenchError(
            f"empirical_risk: batch_size is {str(batch_size)[:60]}; expected at least "
            "1, a whole number."
        )
    single = hasattr(data, "__getitem__")  # a data set may do more than hold them
    if isinstance(data, LabelledImages) and not single:
        data = (data.images, data.labels)
    if isinstance(data, Mapping):
        data = as_batch(data)
    if _is_whole(data):
        return _cut(*as_batch(data), batch_size)
    if isinstance(data, Iterator) or not isinstance(data, Iterable):
        raise WorkbenchError(
            f"empirical_risk: the data are a {type(data).__name__}, which cannot be "
            f"gone through several times; {EXPECTED}."
        )
    if isinstance(data, Tensor | np.ndarray):
        raise WorkbenchError(
            f"empirical_risk: the data are one tensor, without labels; {EXPECTED}."
        )
    if isinstance(data, (list, tuple)):
        return [batch for raw in data if len((batch := as_batch(raw))[1])]
    return Repeating(data)


def _is_whole(data: Any) -> bool:
    """Whether this is a pair of all inputs and all targets, not a list of batches."""
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    known = pair and isinstance(data[1], Tensor | np.ndarray)
    return bool(known and tensors(from_numpy(data[0])))


def _cut(inputs: Inputs, targets: Tensor, batch_size: int | None) -> list[Batch]:
    if batch_size is None:
        num = max(len(targets), 1)
        floats = max(numbers_of(inputs) // num, 1)
        batch_size = max(1, min(1024, 2**20 // floats))
    pieces = split(inputs, batch_size), targets.split(batch_size)
    return list(zip(*pieces, strict=True))


def as_batch(raw: Any) -> Batch:
    """One batch as a pair.

    Raises:
        WorkbenchError: If it is neither a pair nor a mapping with labels, or not every
            tensor has the examples on its first axis.
    """
    inputs: Inputs = None
    targets: Any = None
    if isinstance(raw, Mapping):
        key = next((key for key in LABELS if key in raw), None)
        if key is None:
            raise WorkbenchError(
                f"empirical_risk: a batch is a mapping with {_names(raw)}; expected "
                "its targets under 'labels'."
            )
        inputs = {name: raw[name] for name in raw if name != key}
        targets = raw[key]
    elif isinstance(raw, (tuple, list)) and len(raw) == 2:
        inputs, targets = raw
        if isinstance(inputs, Mapping):
            inputs = dict(inputs)
    inputs, targets = from_numpy(inputs), from_numpy(targets)
    known = tensors(inputs) if not hasattr(inputs, "batch_sizes") else []
    if not (known and isinstance(targets, Tensor) and targets.ndim):
        raise WorkbenchError(
            "empirical_risk: the data do not come in pairs of tensors (inputs, "
            "labels), one pair a batch; wrap single examples in a DataLoader, and "
            "several inputs in a dict or a tuple."
        )
    for tensor in (*known, targets):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            kind = "quantised" if tensor.is_quantized else tensor.layout
            kind = "nested" if tensor.is_nested else str(kind).removeprefix("torch.")
            raise WorkbenchError(
                f"empirical_risk: a tensor of the data is {kind}; expected dense ones, "
                "with the examples on the first axis: convert it first, for instance "
                "by to_dense()."
            )
    wrong = [len(tensor) for tensor in known if len(tensor) != len(targets)]
    if wrong:
        raise WorkbenchError(
            f"empirical_risk: {wrong[0]} inputs and {len(targets)} labels in one "
            "batch; expected every tensor to have the examples on its first axis."
        )
    return inputs, targets


def _names(raw: Mapping[Any, Any]) -> str:
    names = ", ".join(map(repr, list(raw)[:4]))
    return f"the keys {names}" if names else "no keys"


def as_targets(targets: Tensor) -> Tensor:
    """Whole numbers as int64; all else as it is."""
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    return targets.detach().long() if whole else targets.detach()
