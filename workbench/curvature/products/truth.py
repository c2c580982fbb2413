"""What plain autograd makes of some examples: what every way is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from workbench.curvature.problem.network import nodes
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.differences import differences
from workbench.curvature.products.reverse_mode import Reverse
from workbench.curvature.products.way import Kind
from workbench.linalg.columns import dots, lengths

NUM = 2  # vectors that a way is tried on, alone and in a block
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}  # of a product's length
SURE = 1e-3  # relative error of differences: no kink nearby, and digits enough
Found = TypeVar("Found")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Products with some examples by plain autograd, each made once when asked for.

    One double backward a vector gives those with Hess and with H: all ways are held
    against the same.
    """

    few: EmpiricalRisk  # of one batch
    vectors: Tensor  # (P, NUM), of the same length in every parameter
    _known: dict[str, Any] = field(default_factory=dict)

    def pulled(self, w: Tensor) -> Tensor:
        """``J^T w``: (B, O, m) to (P, m)."""
        inputs, _ = next(self.few.whole())
        with evaluating(self.few.model), torch.enable_grad():
            outputs = self.few.network(inputs)
            found = [
                self.few.gradient(outputs, column.view_as(outputs))
                for column in w.unbind(2)
            ]
        return torch.stack(found, dim=1)

    def second(self, kind: Kind) -> Tensor | None:
        """``A V`` of Hess or H; None where reverse mode has none that is symmetric.

        Torch's second derivative of weight norm is wrong, but not in steps.
        """
        for written_out in (False, True):
            make = partial(self._second, written_out)
            found = self._once(f"second {written_out}", make)
            if found is None:
                continue
            g, h = found
            product = h if kind == "H" else g + h
            if self.symmetric(product):
                return product
        return None

    def by_differences(self, kind: Kind) -> Tensor | None:
        """The same by differences of gradients; None where these are not sure."""
        found, error = self._once(
            f"differences {kind}", lambda: self._differences(kind)
        )
        return found if error <= SURE else None

    def symmetric(self, found: Tensor) -> bool:
        """Whether ``u^T A v = v^T A u`` for all of the vectors."""
        inner = dots(self.vectors, found)
        scale = self._once("lengths", partial(lengths, self.vectors))[:, None]
        scale = scale * lengths(found)
        least = 10 * ROUNDING[self.few.digits] * scale.maximum(scale.T) + self.floor
        return bool(((inner - inner.T).abs() <= least).all())

    @property
    def floor(self) -> float:
        """What is rounding beside the curvature of these examples, however small H."""
        return self._once("first", self._first)[0]

    @property
    def has_own_backward(self) -> bool:
        """Whether a backward pass of the network's own is on the way to the parameters.

        It may have no derivative, and not say so: one that leaves torch, for instance.
        """
        return self._once("first", self._first)[1]

    @property
    def is_honest(self) -> bool:
        """Whether gradients are those of the logits as they change, to some digits.

        They are not where factors are detached, or rounding is passed straight through:
        the second derivative is then what torch makes of it, and no difference of
        gradients.
        """
        return self._once("honest", self._is_honest)

    def _once(self, name: str, make: Callable[[], Found]) -> Found:
        if name not in self._known:
            self._known[name] = make()
        found: Found = self._known[name]
        return found

    def _second(self, written_out: bool) -> tuple[Tensor, Tensor] | None:
        """``G V`` and ``H V`` by reverse mode."""
        try:
            return Reverse(self.few, written_out=written_out).both(self.vectors)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError):
            return None

    def _differences(self, kind: Kind) -> tuple[Tensor, float]:
        way = differences(self.few)
        return way.product(kind, self.vectors), way.error

    def _first(self) -> tuple[float, bool]:
        """What one graph of first derivatives tells: `floor` and `has_own_backward`."""
        few = self.few
        inputs, targets = next(few.whole())
        with evaluating(few.model), torch.enable_grad():
            outputs = few.network(inputs)
            predictions = few.criterion.predict(outputs.detach())
            r = few.criterion.gradient(predictions, targets) / few.normaliser
            sizes = [few.gradient(outputs, w).norm() for w in (r, r.abs())]
            graph: list[Any] = list(nodes(outputs))
            own = [
                type(node).__name__
                for node in graph
                if isinstance(node, torch.autograd.function.BackwardCFunction)
            ]
        floor = 1e4 * torch.finfo(few.digits).eps
        floor *= float(sum(sizes) * lengths(self.vectors).max())
        hooks = "BackwardHookFunctionBackward"  # torch's own
        return floor, any(name != hooks for name in own)

    def _is_honest(self) -> bool:
        inputs, _ = next(self.few.whole())
        trial = differences(self.few)
        double = trial.risk.dtype == torch.float64
        h, rough = (1e-5, 1e-6) if double else (1e-2, 1e-2)
        along = trial.risk.split(self.vectors[:, 0].to(trial.risk.dtype))
        moved = []
        with evaluating(trial.risk.model), torch.no_grad():
            given = trial.risk.to_device(inputs)
            for sign in (1.0, -1.0):
                weights = {n: p + sign * h * along[n] for n, p in trial.theta.items()}
                found = trial.risk.logits({**trial.fixed, **weights}, given)
                moved.append(found.double())
        slope = ((moved[0] - moved[1]) / (2 * h)).flatten(1)
        pulled = self.pulled(torch.ones_like(slope)[..., None])[:, 0]
        found_slope = float(pulled.double() @ self.vectors[:, 0].double())
        return abs(found_slope - float(slope.sum())) <= rough * float(slope.abs().sum())


def truth_of(few: EmpiricalRisk) -> Truth:
    """Of one batch, with vectors that are always the same."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.empty(few.dim, NUM, dtype=few.dtype, device="cpu")
    for own in vectors.split(few.sizes):
        own.normal_(generator=generator)
        own /= lengths(own).clamp(min=1e-30).to(own.dtype)
    return Truth(few, vectors.to(few.device))
