"""Hess and H by finite differences of gradients, if torch has no second derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.utils.stateless import _reparametrize_module
from typing_extensions import override

from workbench.curvature.problem.batches import Inputs, move
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.way import Cotangents, Kind, Named, Way
from workbench.errors import WorkbenchError

STEP = 1e-6  # relative to the weights' length, in float64; the error is of order STEP^2


@final
@dataclass(frozen=True, slots=True, eq=False)
class Differences(Way):
    r"""Central differences of ``J^T r`` along v, in float64 if the network supports it.

    .. math:: H v \approx \frac{g(\theta + h v) - g(\theta - h v)}{2 h}, \quad
       g = \frac1Z \sum_i J_i^T r_i

    with r held fixed for H. Costs two gradients of the loss per vector, and two more
    for the error: the largest difference from a step of 2 h so far, relative to the
    product.
    """

    name: ClassVar[str] = "differences of gradients"

    risk: EmpiricalRisk  # in float64 if possible
    theta: Named
    fixed: Named
    errors: list[float] = field(default_factory=list)  # the largest so far

    @property
    def error(self) -> float:
        """The largest relative error of a product so far."""
        return max(self.errors, default=0.0)

    @override
    def on(self, risk: EmpiricalRisk) -> Way:
        return differences(risk)

    @override
    def product(self, kind: Kind, vectors: Tensor) -> Tensor:
        found = [self._one(kind, v.to(self.risk.dtype)) for v in vectors.unbind(1)]
        return torch.stack(found, dim=1).to(vectors.dtype)

    def gradient(self, w: Tensor) -> Tensor:
        """``J^T w`` at the weights themselves, (P,), before differencing."""
        theta = {n: p.clone().requires_grad_() for n, p in self.theta.items()}
        total = torch.zeros(self.risk.dim, dtype=self.risk.dtype, device=w.device)
        with evaluating(self.risk.model), torch.enable_grad():
            done = 0
            for inputs, targets in self.risk.pieces(1):
                part = w[done : done + len(targets)]
                done += len(targets)
                total += self._pulled(theta, inputs, partial(_always, part))
        return total

    def _one(self, kind: Kind, vector: Tensor) -> Tensor:
        length = float(vector.norm())
        if not length:
            return torch.zeros_like(vector)
        size = float(torch.cat([p.flatten() for p in self.theta.values()]).norm())
        small = 1.0 if self.risk.dtype == torch.float64 else 1e4
        h = STEP * small * max(size, 1e-3) / length
        near, far = (self._difference(kind, vector, h * k) for k in (1.0, 2.0))
        apart = float((near - far).norm()) / max(float(near.norm()), 1e-300)
        self.errors[:] = [max(apart, *self.errors)] if self.errors else [apart]
        return near

    def _difference(self, kind: Kind, vector: Tensor, h: float) -> Tensor:
        tangent = self.risk.split(vector)
        total = torch.zeros_like(vector)
        with evaluating(self.risk.model), torch.enable_grad():
            for inputs, targets in self.risk.pieces(1):
                of = partial(self._residual, targets)
                if kind != "Hess":
                    held = of(self._outputs(self.theta, inputs))
                    of = partial(_always, held)
                for sign in (1.0, -1.0):
                    moved = {
                        name: (p + sign * h * tangent[name]).requires_grad_()
                        for name, p in self.theta.items()
                    }
                    total += sign * self._pulled(moved, inputs, of)
        return total / (2 * h * self.risk.normaliser)

    def _outputs(self, theta: Named, inputs: Tensor) -> Tensor:
        return self.risk.logits({**self.fixed, **theta}, inputs)

    def _pulled(
        self, theta: Named, inputs: Inputs, cotangent: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """``J^T w`` at other weights, (P,), of w from the outputs.

        The weights stay in place during the backward pass, because checkpointing calls
        layers again.
        """
        weights = {**self.fixed, **theta}
        with _reparametrize_module(self.risk.model, weights, tie_weights=True):
            outputs = self.risk.network(inputs)
            grads = torch.autograd.grad(
                outputs,
                list(theta.values()),
                cotangent(outputs).to(outputs.dtype).view_as(outputs),
                retain_graph=True,
                materialize_grads=True,
            )
        return self.risk.flatten(grads)

    def _residual(self, targets: Tensor, outputs: Tensor) -> Tensor:
        predictions = self.risk.criterion.predict(outputs.detach())
        return self.risk.criterion.gradient(predictions, targets)

    @override
    def push(self, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        raise WorkbenchError("differences of gradients are taken for Hess and H alone.")

    @override
    def pull(self, cotangents: Cotangents, num: int) -> Tensor:
        raise WorkbenchError("differences of gradients are taken for Hess and H alone.")


def _always(value: Tensor, outputs: Tensor) -> Tensor:
    return value


def differences(risk: EmpiricalRisk) -> Differences:
    """Make differences on a float64 copy, if the network runs in it."""
    if risk.dtype != torch.float64:
        try:
            network = risk.network.in_dtype(risk.device, torch.float64)
            inputs = move(risk.piece[0], risk.device, torch.float64)
            with evaluating(network.module), torch.no_grad():
                network(inputs)
        except (WorkbenchError, RuntimeError):
            network = risk.network
        else:
            found = dict(network.module.named_parameters())
            named = {name: found[name] for name in risk.parameters}
            risk = replace(risk, network=network, parameters=named, dtype=torch.float64)
    return Differences(risk, *risk.snapshot())
