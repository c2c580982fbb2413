"""The speed of this machine for a network, from one timed batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from workbench.curvature.problem.batches import take
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.layerwise import is_small
from workbench.curvature.products.proof import Products
from workbench.curvature.products.way import Kind
from workbench.measurement.cost import Cost

_LEAST = 0.1  # smallest share of a product's time due to examples, as times are noisy
_TRIAL = 0.3  # approximate seconds for a timed product
_TIMES, _ENOUGH = 20, 0.1  # repetitions, and seconds for them
_VECTORS, _TOGETHER = 2, 10  # in a timed block; for a small network


@dataclass(frozen=True, slots=True)
class Speeds:
    """Seconds per operation, from one timed batch."""

    gradient: float  # per example
    g_product: float  # per example and vector, in a block
    hess_product: float  # the same
    vector: float  # per vector in a block, regardless of examples
    algebra: float  # per multiply-add of float64 matrices

    def seconds(self, cost: Cost, num_examples: float) -> float:
        """Return the predicted seconds of a counted cost."""
        passes = (
            cost.gradients * self.gradient
            + cost.g_products * self.g_product
            + cost.hess_products * self.hess_product
        )
        vectors = (cost.g_products + cost.hess_products) * self.vector
        return (
            passes * num_examples + vectors + cost.algebra * self.algebra + cost.seconds
        )


def timed(risk: EmpiricalRisk, products: Products) -> Speeds:
    """Time a gradient and blocks of products on part of a batch, after a warm-up."""
    inputs, labels = next(risk.whole())

    def gradient(num: int) -> Callable[[], object]:
        def once() -> object:
            with evaluating(risk.model), torch.enable_grad():
                logits = risk.network(take(inputs, slice(0, num)))
                loss = cross_entropy(logits, labels[:num], reduction="sum")
                return risk.gradient(loss, torch.ones_like(loss))

        return once

    num = min(len(labels), 32)
    one = _seconds(gradient(num), risk) / num

    def product(kind: Kind, size: int) -> float:
        few = risk.on([(take(inputs, slice(0, size)), labels[:size])])
        block = torch.ones(risk.dim, width, dtype=risk.dtype, device=risk.device)
        way = products.way(kind).on(few)
        way.product(kind, block[:, :1])
        return _seconds(lambda: way.product(kind, block), risk) / width

    width = _TOGETHER if is_small(risk) else _VECTORS
    most = min(len(labels), max(2, int(_TRIAL / (2 * _VECTORS * one))))
    alone = product("G", 1)
    g, hess = product("G", most), product("Hess", most)
    vector = max(most * alone - g, 0.0) / max(most - 1, 1)
    vector = min(vector, g, hess)  # times are noisy
    matrix = torch.ones(512, 512, dtype=torch.float64, device=risk.device)
    return Speeds(
        gradient=one,
        g_product=max(g - vector, _LEAST * g) / most,
        hess_product=max(hess - vector, _LEAST * hess) / most,
        vector=vector,
        algebra=_seconds(lambda: matrix @ matrix, risk) / 512**3,
    )


def _seconds(work: Callable[[], object], risk: EmpiricalRisk) -> float:
    """Return the best of a few times, after one run as a warm-up."""
    best, spent = math.inf, 0.0
    for i in range(_TIMES):
        risk.control.check()
        began = time.perf_counter()
        work()
        if risk.device.type == "cuda":
            torch.cuda.synchronize(risk.device)
        took = time.perf_counter() - began
        best, spent = (min(best, took) if i else best), spent + took
        if i and spent > _ENOUGH:
            break
    return best
