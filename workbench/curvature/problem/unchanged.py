"""Whether a network and its data are what they were when they were bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.curvature.problem.batches import Batch, tensors

Mark = tuple[int, int]  # where the numbers lie, and how often they were written to
_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Tensors as they were: where they lay, and of weights a sum of their bits."""

    named: Mapping[str, tuple[Mark | None, int]]
    data: Iterable[Batch]
    marks: tuple[Mark | None, ...]  # of its tensors, where they are in memory

    def changed(self, named: Mapping[str, Tensor]) -> str | None:
        """The name of a tensor of the network that has other numbers; None: of none.

        The bits are looked at only of those that were written to, or lie elsewhere.
        """
        for name, tensor in named.items():
            mark, bits = self.named.get(name, (None, -1))
            moved = mark is None or _mark(tensor) != mark
            if moved and _bits(tensor) != bits:
                return name
        return None

    def changed_data(self, data: Iterable[Batch]) -> bool:
        """Whether these are the data, in memory, and were written to."""
        return data is self.data and _marks(data) != self.marks


def bound(named: Mapping[str, Tensor], data: Iterable[Batch]) -> Bound:
    """As they are now."""
    return Bound(
        {name: (_mark(tensor), _bits(tensor)) for name, tensor in named.items()},
        data,
        _marks(data),
    )


def _marks(data: Iterable[Batch]) -> tuple[Mark | None, ...]:
    if not isinstance(data, list):
        return ()
    return tuple(_mark(t) for batch in data for t in tensors(batch))


def _mark(tensor: Tensor) -> Mark | None:
    """None where torch does not count what is written."""
    if tensor.is_inference() or tensor.layout != torch.strided:
        return None
    return tensor.data_ptr(), tensor._version


def _bits(tensor: Tensor) -> int:
    """A sum of the numbers' bits as whole numbers."""
    flat = tensor.detach()
    if flat.layout != torch.strided or flat.is_quantized:
        return 0
    flat = torch.view_as_real(flat.resolve_conj()) if flat.is_complex() else flat
    if flat.is_floating_point():
        flat = flat.resolve_neg().view(_WHOLE[flat.element_size()])
    return int(flat.sum(dtype=torch.int64))
