"""Products by the fastest way that is proven right on some examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workbench.curvature.problem.batches import Batch, take
from workbench.curvature.problem.network import nodes
from workbench.curvature.problem.risk import PIECE, EmpiricalRisk, evaluating
from workbench.curvature.products.differences import Differences, differences
from workbench.curvature.products.forward_mode import General
from workbench.curvature.products.layerwise import read_layers
from workbench.curvature.products.reverse_mode import Reverse
from workbench.curvature.products.way import (
    Cotangents,
    Kind,
    ModesDifferError,
    Way,
    Weights,
)
from workbench.errors import WorkbenchError
from workbench.linalg.columns import dots, lengths
from workbench.progress.control import Cancelled

KINDS: tuple[Kind, ...] = ("G", "Hess", "H")
NUM = 2  # vectors that a way is tried on, alone and in a block
FEW = 4  # examples that a large network is tried on
ACTIVATIONS = 2**22  # of those of a smaller one
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}  # of a product's length
ALIKE = {torch.float32: 2e-5, torch.float64: 1e-11}  # of two lengths: inner products


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Products with G, Hess and H, each by the first of four ways that proves right.

    Layer by layer, by forward mode, by reverse mode, by differences of gradients.
    Before the first product of a kind each way is tried on up to eight examples:
    ``J v`` against ``J^T w`` of plain autograd, ``<w, J v> = <J^T w, v>``; products
    against reverse mode twice, and for symmetry. The cost is that of a few gradients
    of these.
    """

    risk: EmpiricalRisk
    made: dict[int, Way | None] = field(default_factory=dict)  # ways, by their number
    used: set[int] = field(default_factory=set)  # ways whose products were given out
    weights: list[Weights] = field(default_factory=list)  # one copy, for all ways

    def way(self, kind: Kind) -> Way:
        """How products of this kind are taken.

        Raises:
            WorkbenchError: If none of the ways is right.
        """
        return self._chosen(kind)[0]

    def how(self, kind: Kind) -> str:
        """The same in words, with the reason where it is not the fastest way."""
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
                f"{kind}: {error}, and products before were by {way.name}; begin "
                "again: other ways are taken from now on."
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
        """The first way that is right, and why none of the faster ones."""
        reason = ""
        for number, make in enumerate(MAKERS):
            fault = self._fault(number, make, kind)
            way = self.made.get(number)
            if fault is None and way is not None:
                return way, reason
            reason = reason or fault or ""
        raise WorkbenchError(
            f"{kind}: torch's derivatives of this network do not agree, or it has none "
            f"({reason}); write the layer in operations that torch can differentiate."
        )

    def _fault(self, number: int, make: Maker, kind: Kind) -> str | None:
        """Why a way is not taken: None where it is right, "" where it is not there."""
        known, key = self.risk.proven.faults, f"{number} {kind}"
        if known.get(key):
            return known[key]
        try:
            if number not in self.made:
                self.weights[:] = self.weights or [self.risk.snapshot()]
                self.made[number] = make(self.risk, self.weights[0])
            way = self.made[number]
            if way is None:
                return ""
            if self.risk.check != "off" and key not in known:
                for batch in _examples(self.risk):
                    _prove(way.on(self.risk.on([batch])), kind)
        except (Cancelled, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a layer raises when it is differentiated
            known[key] = _said(error)
            return known[key]
        known[key] = None
        return None


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


def _examples(risk: EmpiricalRisk) -> Iterator[Batch]:
    """What a way is tried on: a piece, with ``check="full"`` some of each batch."""
    inputs, targets = risk.piece
    some = slice(0, max(FEW, ACTIVATIONS // risk.num_activations))
    yield take(inputs, some), targets[some]
    if risk.check == "full":
        for inputs, targets in risk.whole():
            if len(targets) > 1:
                yield take(inputs, slice(0, PIECE)), targets[:PIECE]


def _prove(trial: Way, kind: Kind) -> None:
    """Raise a `WorkbenchError` unless the way is right on its examples."""
    few = trial.risk
    generator = torch.Generator().manual_seed(0)
    vectors = _noise(few, generator)
    if kind == "G":
        _prove_g(trial, few, vectors, generator)
    else:
        _prove_second(trial, kind, few, vectors)


def _noise(few: EmpiricalRisk, generator: torch.Generator) -> Tensor:
    """Vectors, (P, 2), of the same length in every parameter."""
    found = []
    for size in few.sizes:
        noise = torch.randn(
            size, NUM, generator=generator, dtype=torch.float64, device="cpu"
        )
        found.append(noise / noise.norm(dim=0).clamp(min=1e-30))
    return torch.cat(found).to(few.device, few.dtype)


def _prove_g(
    trial: Way, few: EmpiricalRisk, vectors: Tensor, generator: torch.Generator
) -> None:
    """Pull, push and product, each against plain autograd."""
    inputs, targets = next(few.whole())
    predictions = few.predictions(inputs)
    w = torch.randn(
        *predictions.flatten(1).shape,
        NUM,
        generator=generator,
        dtype=torch.float64,
        device="cpu",
    ).to(few.device)
    right = _pulled(few, w)
    _compare("gradients", few, trial.pull(_given(w), NUM), right)
    pushed = torch.cat([p.double() for _, _, p in trial.push(vectors)])
    one, other = torch.einsum("bom,bon->mn", w, pushed), dots(right, vectors)
    scale = lengths(right)[:, None] * lengths(vectors)
    if not ((one - other).abs() <= ALIKE[few.digits] * scale).all():
        raise WorkbenchError("forward and reverse mode differ")
    curved = [
        few.criterion.product(predictions, targets, column.view_as(predictions))
        for column in pushed.unbind(2)
    ]
    right = _pulled(few, torch.stack([c.flatten(1) for c in curved], dim=2))
    right = right / few.normaliser
    for block in (vectors, vectors[:, :1]):
        product = trial.product("G", block)
        _compare("products with G", few, product, right[:, : block.shape[1]])


def _pulled(few: EmpiricalRisk, w: Tensor) -> Tensor:
    """``J^T w`` by plain autograd: (B, O, m) to (P, m)."""
    inputs, _ = next(few.whole())
    with evaluating(few.model), torch.enable_grad():
        outputs = few.network(inputs)
        found = [
            few.gradient(outputs, column.view_as(outputs)) for column in w.unbind(2)
        ]
    return torch.stack(found, dim=1)


def _given(w: Tensor) -> Cotangents:
    """Fixed cotangents, whatever pieces the examples come in."""
    done = 0

    def cotangents(targets: Tensor, predictions: Tensor) -> Tensor:
        nonlocal done
        done += len(targets)
        return w[done - len(targets) : done]

    return cotangents


def _prove_second(trial: Way, kind: Kind, few: EmpiricalRisk, vectors: Tensor) -> None:
    """For symmetry, and against another way.

    That is reverse mode twice, or where it is not there or not symmetric (torch's
    second derivative of weight norm is wrong), differences of gradients, if these are
    sure. Reverse mode itself is what is meant by the network's derivatives.
    """
    found = trial.product(kind, vectors)
    floor = _natural(few, vectors)
    if not _symmetric(found, vectors, few, floor):
        raise WorkbenchError(f"products with {kind} are not symmetric")
    if isinstance(trial, Differences):
        w = torch.ones_like(few.predictions(next(few.whole())[0]))
        right = _pulled(few, w.flatten(1)[..., None])
        _compare("gradients", few, trial.gradient(w)[:, None].to(right), right)
    if isinstance(trial, Differences):
        return
    if _has_own_backward(few) and _is_honest(few, vectors):
        other = differences(few)
        right = other.product(kind, vectors)
        if other.error <= 1e-3:  # no kink nearby, and digits enough
            what = f"second derivatives ({kind})"
            _compare(what, few, found, right, floor, 1e-2, "the gradients' differences")
    if isinstance(trial, Reverse):
        return
    rough, twice = None, _reverse(kind, few, vectors, floor)
    if twice is not None:
        right = twice
    else:
        other = differences(few)
        right, rough = other.product(kind, vectors), 1e-2
        if other.error > 1e-3:  # a kink nearby, or too few digits
            return
    _compare(f"products with {kind}", few, found, right, floor, rough)
    alone = trial.product(kind, vectors[:, :1])
    _compare(f"products with {kind}", few, alone, right[:, :1], floor, rough)


def _has_own_backward(few: EmpiricalRisk) -> bool:
    """Whether a backward pass of the network's own is on the way to the parameters.

    It may have no derivative, and not say so: one that leaves torch, for instance.
    """
    inputs, _ = next(few.whole())
    with evaluating(few.model), torch.enable_grad():
        found: list[Any] = list(nodes(few.network(inputs)))
    own = [n for n in found if isinstance(n, torch.autograd.function.BackwardCFunction)]
    hooks = "BackwardHookFunctionBackward"  # torch's own
    return any(type(node).__name__ != hooks for node in own)


def _is_honest(few: EmpiricalRisk, vectors: Tensor) -> bool:
    """Whether gradients are those of the logits as they change, to some digits.

    They are not where factors are detached, or rounding is passed straight through: the
    second derivative is then what torch makes of it, and no difference of gradients.
    """
    inputs, _ = next(few.whole())
    trial = differences(few)
    double = trial.risk.dtype == torch.float64
    h, rough = (1e-5, 1e-6) if double else (1e-2, 1e-2)
    theta, along = trial.theta, trial.risk.split(vectors[:, 0].to(trial.risk.dtype))
    moved = []
    with evaluating(trial.risk.model), torch.no_grad():
        given = trial.risk.to_device(inputs)
        for sign in (1.0, -1.0):
            weights = {n: p + sign * h * along[n] for n, p in theta.items()}
            moved.append(trial.risk.logits({**trial.fixed, **weights}, given).double())
    slope = ((moved[0] - moved[1]) / (2 * h)).flatten(1)
    w = torch.ones_like(slope)
    true = float(slope.sum())
    found = float(_pulled(few, w[..., None])[:, 0].double() @ vectors[:, 0].double())
    return abs(found - true) <= rough * float(slope.abs().sum())


def _reverse(
    kind: Kind, few: EmpiricalRisk, vectors: Tensor, floor: float
) -> Tensor | None:
    """Products by reverse mode; None where they are not there, or not symmetric."""
    for written_out in (False, True):
        try:
            found = Reverse(few, written_out=written_out).product(kind, vectors)
        except (RuntimeError, NotImplementedError):
            continue
        if _symmetric(found, vectors, few, floor):
            return found
    return None


def _symmetric(
    found: Tensor, vectors: Tensor, few: EmpiricalRisk, floor: float
) -> bool:
    """Whether ``u^T A v = v^T A u`` for all of the vectors."""
    inner = dots(vectors, found)
    scale = lengths(vectors)[:, None] * lengths(found)
    least = 10 * ROUNDING[few.digits] * scale.maximum(scale.T) + floor
    return bool(((inner - inner.T).abs() <= least).all())


def _natural(few: EmpiricalRisk, vectors: Tensor) -> float:
    """What is rounding beside the curvature of these examples, however small H is."""
    inputs, targets = next(few.whole())
    with evaluating(few.model), torch.enable_grad():
        outputs = few.network(inputs)
        predictions = few.criterion.predict(outputs.detach())
        r = few.criterion.gradient(predictions, targets) / few.normaliser
        sizes = [few.gradient(outputs, w).norm() for w in (r, r.abs())]
    eps = torch.finfo(few.digits).eps
    return 1e4 * eps * float(sum(sizes) * lengths(vectors).max())


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
    eps = torch.finfo(few.digits).eps
    least = 1e3 * eps * lengths(right) + floor
    start = 0
    for name, size in zip(few.parameters, few.sizes, strict=True):
        own, other = found[start : start + size], right[start : start + size]
        start += size
        apart = lengths(own.double() - other.double())
        if not (apart <= rough * lengths(other) + least).all():
            raise WorkbenchError(f"{what} differ from {truth} in {name}")


def _said(error: Exception) -> str:
    """Why a way was not taken, in a few words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 110 else f"{lines[0][:107]}..."
