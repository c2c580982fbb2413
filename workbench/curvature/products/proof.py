"""Products by the fastest way that passes checks on some examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from workbench.curvature.problem.batches import Inputs, take
from workbench.curvature.problem.risk import PIECE, EmpiricalRisk
from workbench.curvature.products.differences import Differences, differences
from workbench.curvature.products.forward_mode import General
from workbench.curvature.products.layerwise import read_layers
from workbench.curvature.products.reverse_mode import Reverse
from workbench.curvature.products.truth import NUM, ROUNDING, Truth, truth_of
from workbench.curvature.products.way import (
    ALIKE,
    KINDS,
    Cotangents,
    Kind,
    ModesDifferError,
    Way,
    Weights,
)
from workbench.errors import WorkbenchError
from workbench.linalg.columns import dots, lengths
from workbench.progress.control import Cancelled

SECOND: tuple[Kind, ...] = ("Hess", "H")  # tried together: they share their truth
FEW = 3  # examples that a large network is tried on: two would each be a pair
ACTIVATIONS = 2**22  # of those of a smaller one
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Products with G, Hess and H, each by the first of four ways that passes checks.

    Layer by layer, by forward mode, by reverse mode, by differences of gradients.
    Before the first product of a kind each way is tried on up to eight examples:
    ``J v`` against ``J^T w`` of plain autograd, ``<w, J v> = <J^T w, v>``; products
    against reverse mode twice, and for symmetry; Hess and H together, as one double
    backward a vector is the truth of both. The cost is that of some gradients of these.
    """

    risk: EmpiricalRisk
    made: dict[int, Way | None] = field(default_factory=dict)  # ways, by their number
    used: set[int] = field(default_factory=set)  # ways whose products were given out
    weights: list[Weights] = field(default_factory=list)  # one copy, for all ways

    def way(self, kind: Kind) -> Way:
        """Return the way of computing products of this kind.

        Raises:
            WorkbenchError: If no way passes the checks.
        """
        return self._chosen(kind)[0]

    def how(self, kind: Kind) -> str:
        """The same in words, with the reason if it is not the fastest way."""
        way, reason = self._chosen(kind)
        error = getattr(way, "error", 0.0)
        said = f"{way.name}, relative error {error:.0e}" if error else way.name
        return f"{said} ({reason})" if reason else said

    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        """``A V``, summed over this process's examples: (P, m) to (P, m).

        Raises:
            WorkbenchError: As `taken`.
        """
        return self.taken(kind, lambda way: way.product(kind, vectors))

    def taken(self, kind: Kind, take: Callable[[Way], Tensor]) -> Tensor:
        """What is taken by a way; by the next one where it proves wrong on the data.

        Raises:
            WorkbenchError: If numbers by that way were given out before.
        """
        way = self.way(kind)
        number = next(n for n, made in self.made.items() if made is way)
        try:
            found = take(way)
        except ModesDifferError as error:
            known = self.risk.proven.faults
            known |= dict.fromkeys((f"{number} {k}" for k in KINDS), str(error))
            if number not in self.used:
                return self.taken(kind, take)
            raise WorkbenchError(
                f"{kind}: {error}, and earlier products used {way.name}; start again, "
                "and another way will be used."
            ) from error
        self.used.add(number)
        return found

    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Targets, predictions and ``J_i v``, (B, O, m), piece by piece."""
        return self.way("G").push(vectors)

    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        """``sum_i J_i^T w_i``, (P, num), of w from targets and predictions."""
        return self.way("G").pull(cotangents, num)

    def _chosen(self, kind: Kind) -> tuple[Way, str]:
        """The first way that passes the checks, and why no faster one does."""
        reason, truths = "", Truths(self.risk)
        for number, make in enumerate(MAKERS):
            fault = self._fault(number, make, kind, truths)
            way = self.made.get(number)
            if fault is None and way is not None:
                return way, reason
            reason = reason or fault or ""
        raise WorkbenchError(
            f"{kind}: torch's derivatives of this network disagree or do not exist "
            f"({reason}); write the layer with operations that torch can "
            "differentiate."
        )

    def _fault(
        self, number: int, make: Maker, kind: Kind, truths: Truths
    ) -> str | None:
        """Why a way is not taken: None where it is right, "" where it is not there."""
        known, key = self.risk.proven.faults, f"{number} {kind}"
        if known.get(key):
            return known[key]
        if number not in self.made:
            made = _tried(lambda: self._make(make))
            if made.fault is not None:
                known[key] = made.fault
                return made.fault
            self.made[number] = made.value
        way = self.made[number]
        if way is None:
            return ""
        if key not in known:
            together = SECOND if kind in SECOND else (kind,)  # they share their truth
            kinds = [k for k in together if f"{number} {k}" not in known]
            with self.risk.proven.timed():
                faults = _faults(way, kinds, truths)
            known |= {f"{number} {k}": fault for k, fault in faults.items()}
        return known[key]

    def _make(self, make: Maker) -> Way | None:
        self.weights[:] = self.weights or [self.risk.snapshot()]
        return make(self.risk, self.weights[0])


Maker = Callable[[EmpiricalRisk, Weights], Way | None]


def _forward_mode(together: bool, written_out: bool = False) -> Maker:
    def make(risk: EmpiricalRisk, weights: Weights) -> Way | None:
        if isinstance(risk.model, torch.jit.ScriptModule):
            return None
        return General(risk, *weights, together, written_out)

    return make


MAKERS: tuple[Maker, ...] = (  # the fastest first
    read_layers,
    _forward_mode(together=True),
    _forward_mode(together=True, written_out=True),
    _forward_mode(together=False),
    lambda risk, _: Reverse(risk),
    lambda risk, _: Reverse(risk, written_out=True),
    lambda risk, _: Reverse(risk, rows=True),
    lambda risk, _: differences(risk),
)


@final
@dataclass(slots=True, eq=False)
class Truths:
    """Of what ways are tried on: a piece, with ``check="full"`` some of each batch.

    That of the piece serves all ways.
    """

    risk: EmpiricalRisk
    first: Truth | None = None

    def __iter__(self) -> Iterator[Truth]:
        if self.first is None:
            inputs, targets = self.risk.piece
            some = slice(0, max(FEW, ACTIVATIONS // self.risk.num_activations))
            self.first = self._of(take(inputs, some), targets[some])
        yield self.first
        if self.risk.check == "full":
            for inputs, targets in self.risk.whole():
                if len(targets) > 1:
                    yield self._of(take(inputs, slice(0, PIECE)), targets[:PIECE])

    def _of(self, inputs: Inputs, targets: Tensor) -> Truth:
        return truth_of(self.risk.on([(inputs, targets)]))


def _faults(way: Way, kinds: Sequence[Kind], truths: Truths) -> dict[Kind, str | None]:
    """What is wrong with products of these kinds; None if nothing."""
    faults: dict[Kind, str | None] = dict.fromkeys(kinds)
    if truths.risk.check == "off":
        return faults
    for truth in truths:
        trial = _tried(partial(way.on, truth.few))
        for kind in kinds:
            if faults[kind] is None and trial.value is not None:
                prove = _prove_g if kind == "G" else partial(_prove_second, kind=kind)
                faults[kind] = _tried(partial(prove, trial.value, truth)).fault
            faults[kind] = faults[kind] or trial.fault
        if all(faults.values()):
            break
    return faults


@dataclass(frozen=True, slots=True, eq=False)
class _Tried(Generic[Found]):
    value: Found | None
    fault: str | None  # what is said where it failed


def _tried(attempt: Callable[[], Found]) -> _Tried[Found]:
    """The outcome of an attempt that may raise anything a layer can raise."""
    try:
        return _Tried(attempt(), None)
    except (Cancelled, torch.OutOfMemoryError):
        raise
    except Exception as error:
        return _Tried(None, _said(error))


def _prove_g(trial: Way, truth: Truth) -> None:
    """Pull, push and product, each against plain autograd."""
    few, vectors = truth.few, truth.vectors
    inputs, targets = next(few.whole())
    predictions = few.predictions(inputs)
    w = torch.randn(
        *predictions.flatten(1).shape,
        NUM,
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
        device="cpu",
    ).to(few.device)
    right = truth.pulled(w)
    _compare("gradients", few, trial.pull(_given(w), NUM), right)
    few.proven.steepness = float((lengths(right) / lengths(w.flatten(0, 1))).max())
    pushed = torch.cat([p.double() for _, _, p in trial.push(vectors)])
    one, other = torch.einsum("bom,bon->mn", w, pushed), dots(right, vectors)
    scale = lengths(right)[:, None] * lengths(vectors)
    if not ((one - other).abs() <= ALIKE[few.digits] * scale).all():
        raise WorkbenchError("forward and reverse mode differ")
    curved = [
        few.criterion.product(predictions, targets, column.view_as(predictions))
        for column in pushed.unbind(2)
    ]
    right = truth.pulled(torch.stack([c.flatten(1) for c in curved], dim=2))
    right = right / few.normaliser
    for block in (vectors, vectors[:, :1]):
        product = trial.product("G", block)
        _compare("products with G", few, product, right[:, : block.shape[1]])


def _given(w: Tensor) -> Cotangents:
    """Fixed cotangents, however the examples are split into pieces."""
    done = 0

    def cotangents(targets: Tensor, predictions: Tensor) -> Tensor:
        nonlocal done
        done += len(targets)
        return w[done - len(targets) : done]

    return cotangents


def _prove_second(trial: Way, truth: Truth, kind: Kind) -> None:
    """For symmetry, and against another way.

    That is reverse mode twice, or where it is not there or not symmetric (torch's
    second derivative of weight norm is wrong), differences of gradients, if these are
    sure. Reverse mode itself is what is meant by the network's derivatives.
    """
    few, vectors = truth.few, truth.vectors
    found = trial.product(kind, vectors)
    if not truth.symmetric(found):
        raise WorkbenchError(f"products with {kind} are not symmetric")
    if isinstance(trial, Differences):
        w = torch.ones_like(few.predictions(next(few.whole())[0]))
        right = truth.pulled(w.flatten(1)[..., None])
        _compare("gradients", few, trial.gradient(w)[:, None].to(right), right)
        return
    moved = "the gradients' differences"
    if truth.has_own_backward and truth.is_honest:
        other = truth.by_differences(kind)
        if other is not None:
            what = f"second derivatives ({kind})"
            _compare(what, few, found, other, truth.floor, 1e-2, moved)
    if isinstance(trial, Reverse):
        return
    rough, twice = None, truth.second(kind)
    if twice is None:
        rough, twice = 1e-2, truth.by_differences(kind)
    if twice is None:
        return
    _compare(f"products with {kind}", few, found, twice, truth.floor, rough)
    alone = trial.product(kind, vectors[:, :1])
    first = twice[:, :1]
    _compare(f"products with {kind}", few, alone, first, truth.floor, rough)


def _compare(
    what: str,
    few: EmpiricalRisk,
    found: Tensor,
    right: Tensor,
    floor: float = 0.0,
    rough: float | None = None,
    truth: str = "plain autograd",
) -> None:
    """Raise unless the columns agree in every parameter."""
    rough = rough or ROUNDING[few.digits]
    sizes = torch.stack([lengths(part) for part in right.split(few.sizes)])
    apart = torch.stack([lengths(part) for part in (found - right).split(few.sizes)])
    least = 1e3 * torch.finfo(few.digits).eps * sizes.norm(dim=0) + floor
    for name, fine in zip(
        few.parameters, (apart <= rough * sizes + least).all(1).tolist(), strict=True
    ):
        if not fine:
            raise WorkbenchError(f"{what} differ from {truth} in {name}")


def _said(error: Exception) -> str:
    """Why a way was rejected, in a few words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 110 else f"{lines[0][:107]}..."
