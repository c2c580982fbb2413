"""One look at all of the data: what they hold, and that a loss can be taken of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from workbench.curvature.problem.batches import (
    Batch,
    Inputs,
    as_targets,
    join,
    shape_of,
    spread,
    take,
    tensors,
)
from workbench.curvature.problem.criterion import Criterion, CrossEntropy
from workbench.curvature.problem.risk import PIECE
from workbench.errors import WorkbenchError

MANY = 16  # shapes of inputs up to which the network is tried on each


@dataclass(slots=True, eq=False)
class Survey:
    """What one look at all batches finds."""

    sizes: list[int]  # examples a batch
    first: Inputs  # of the first batch
    targets: Tensor
    piece: Batch  # some examples of one shape, at least two where there are
    counts: Tensor  # of each label
    ignored: bool  # whether a label is ignored
    num_terms: float
    num_targets: int = 0  # numbers that the targets are
    others: list[Batch] = field(default_factory=list)  # a few of each further shape
    seconds: float = 0.0  # that the look took


def look_at(batches: Iterable[Batch], criterion: Criterion) -> Survey:
    """One pass over the data, all of it checked."""
    began = time.perf_counter()
    seen: Survey | None = None
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
            seen = Survey(
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
        seen.num_targets += targets.numel()
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


def class_weights(
    criterion: Criterion, seen: Survey, logits: Tensor, Z: float
) -> Tensor | None:
    """W of each class, (C,): the sum of ``m / Z`` over its examples or tokens."""
    if not isinstance(criterion, CrossEntropy) or seen.targets.is_floating_point():
        return None
    C = logits.shape[1]
    if len(seen.counts) > C:
        raise WorkbenchError(
            f"empirical_risk: a label is {len(seen.counts) - 1} but the network has "
            f"{C} logits; labels go from 0 to {C - 1}."
        )
    counts = nn.functional.pad(seen.counts, (0, C - len(seen.counts)))
    each = replace(criterion, ignore_index=None).mass(
        torch.arange(C, device=counts.device), C
    )
    return counts.to(each) * each / Z


def normaliser(criterion: Criterion, seen: Survey) -> float:
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
