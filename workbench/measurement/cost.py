"""What each way to measure costs, counted: passes over the data, algebra, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench.curvature.gram.assembly import TILE
from workbench.curvature.gram.coordinates import DENSE, DUAL, KRYLOV, STREAMED
from workbench.curvature.gram.last_layer import find_last_layer, smaller_order
from workbench.curvature.gram.layer_gradients import layer_gradients
from workbench.curvature.means.class_gram import SLICE
from workbench.curvature.problem.batches import numbers_of, take
from workbench.curvature.problem.risk import EmpiricalRisk, evaluating
from workbench.curvature.products.layerwise import BLOCK_NUMBERS, SMALL
from workbench.linalg.density import BASIS_BYTES
from workbench.linalg.lanczos import FREE, IN_WORK, LOOK, subspace_vectors
from workbench.measurement.settings import MAX_PAIRS, MeasureSettings
from workbench.measurement.solver import (
    NUM_LOW,
    NUM_SIGNS,
    NUM_STREAMED,
    RICHER,
    SPARE,
    most_products,
    step_of,
)
from workbench.study.outliers import num_seen
from workbench.study.records import MAX_LEADING, WEIGHTINGS

METHODS = (DENSE, DUAL, KRYLOV, STREAMED)
# Stages in their order, by the names of their parts, with the words that people read.
STAGES: Mapping[str, str] = {
    "means": "Averaging the gradients",
    "G": "Eigenvalues of G",
    "Hess": "Eigenvalues of Hess",
    "H": "Eigenvalues of H",
    **dict.fromkeys(WEIGHTINGS, "Splitting G into its parts"),
    "picture": "Placing the gradients in the plane",
    "last_layer": "Looking at the last layer",
}
# Matvecs a wanted eigenpair until the residuals are at 1e-3: seen on three networks.
_PER_PAIR = {"G": 4.0, "Hess": 7.0, "H": 8.0}
_WIDEST = 10  # vectors that share a forward pass, where they do
_KNOCK_OUT = 24  # products that the subspace of G's own pairs does not give
_STREAMED = 9  # products of five parts that none gives, each like one with G
_EIGEN = 1.7  # all eigenvalues of a matrix of order n, in n^3 multiply-adds
PROCESS = 800_000_000  # bytes that Python and torch take before anything is measured
UMAP_ITSELF = 300_000_000  # that UMAP takes with its compiler
_SPLIT = 0.2  # seconds that splitting takes in all its small steps
_UMAP, _IMPORT = 1e-3, 3.0  # seconds a point, and once a process
_CALIBRATION = 0.5  # a pass over data costs twice what its operations say


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """All that the cost of a measurement depends on, but for the machine."""

    num_params: int  # P
    num_examples: int  # N
    num_classes: int  # C
    num_activations: int  # of one example
    num_bytes: int  # of a number in the network's dtype
    forward: float  # multiply-adds of one example's forward pass
    layers: tuple[tuple[int, int, int, int], ...]  # P, positions, inputs, outputs
    num_weights: int  # of all the network
    num_inputs: int  # numbers of one example
    num_features: int  # that the last layer takes, with its bias; 0: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one stage, in what it is made of."""

    gradients: float = 0.0  # of the loss over all examples
    g_products: float = 0.0  # vectors that G is applied to, in blocks
    hess_products: float = 0.0  # likewise for Hess or H
    algebra: float = 0.0  # multiply-adds of float64 matrices
    seconds: float = 0.0  # that no count explains

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            **{
                f.name: getattr(self, f.name) + getattr(other, f.name)
                for f in fields(self)
            }
        )

    def work(self, sizes: Sizes) -> float:
        """All of it in multiply-adds: the same on every machine and in every run.

        A gradient is three forward passes, G times a vector five, Hess seven.
        """
        passes = 3 * self.gradients + 5 * self.g_products + 7 * self.hess_products
        data = passes * sizes.forward * sizes.num_examples
        return data + _CALIBRATION * self.algebra


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """One way to measure, counted."""

    method: str
    stages: dict[str, Cost]
    memory: int  # bytes at its peak

    @property
    def exact(self) -> bool:
        """Whether it finds every eigenvalue of G."""
        return self.method in (DENSE, DUAL)

    def work(self, sizes: Sizes) -> float:
        """Of all stages, in multiply-adds."""
        return sum(cost.work(sizes) for cost in self.stages.values())


def sizes_of(risk: EmpiricalRisk) -> Sizes:
    """Look at one example."""
    example = take(risk.piece[0], slice(0, 1))
    with (
        evaluating(risk.model),
        torch.no_grad(),
        FlopCounterMode(display=False) as seen,
    ):
        numbers = risk.network(example, paired=False).numel()
    cotangents = torch.zeros(1, numbers, 1, device=risk.device)
    layers = []
    for layer in layer_gradients(risk, example, cotangents):
        q = 0 if layer.inputs is None else layer.inputs.shape[-1]
        positions, r = layer.outputs.shape[2:]
        layers.append((layer.num_parameters, positions, q, r))
    weights = sum(p.numel() for p in risk.model.parameters())
    number = torch.finfo(risk.dtype).bits // 8
    last = find_last_layer(risk)
    return Sizes(
        num_params=risk.dim,
        num_examples=risk.num_examples,
        num_classes=risk.num_classes,
        num_activations=risk.num_activations,
        num_bytes=number,
        forward=max(seen.get_total_flops() / 2, weights),
        layers=tuple(layers),
        num_weights=weights,
        num_inputs=numbers_of(example),
        num_features=0 if last is None else last.num_features,
    )


def num_eigenvalues(sizes: Sizes, settings: MeasureSettings) -> int:
    """Leading eigenvalues that are measured; the rule for outliers sees C + 7."""
    C, asked = sizes.num_classes, settings.num_eigenvalues
    if asked is None:
        return num_seen(C)
    return max(asked, num_seen(C)) if C <= MAX_LEADING else asked


def weightings(method: str, settings: MeasureSettings) -> tuple[str, ...]:
    """Those that G is split in: where it takes passes over the data, one."""
    return (settings.weighting,) if method == STREAMED else WEIGHTINGS


def whole_hessian(sizes: Sizes, settings: MeasureSettings) -> bool:
    """Whether P products with the Hessian take seconds: then all of it is exact."""
    within = settings.exact_hessian and sizes.num_params <= settings.exact_limit
    size = max(sizes.num_params, sizes.num_activations)
    return within and sizes.num_params * sizes.num_examples * size <= 10**10


def count(method: str, sizes: Sizes, settings: MeasureSettings) -> Counted:
    """Count one way to measure; memory is that of its largest arrays together."""
    P, N, C = sizes.num_params, sizes.num_examples, sizes.num_classes
    k = min(num_eigenvalues(sizes, settings), P)
    n = N * (C - 1)
    order = n if method == DUAL else P
    probes = settings.num_steps * settings.num_probes
    kept = {
        kind: min(_PER_PAIR[kind] * num, P)
        for kind, num in (("G", k), ("Hess", k + NUM_LOW), ("H", 2 * NUM_LOW))
    }
    means = Cost(gradients=(1 + 4 * C) / 3)
    rows = Cost(gradients=(1 + C) / 3)
    square = Cost(algebra=float(n) * P**2)  # the rows times themselves

    def iterated(kind: str) -> Cost:
        wanted = {"G": k, "Hess": k + NUM_LOW, "H": 2 * NUM_LOW}[kind]
        room = min(kept[kind], max(4.0 * wanted + LOOK, FREE / P))
        subspace = 12.0 * P * kept[kind] * room  # sums over it, and residuals
        subspace += 4.0 * P * settings.num_steps * probes
        products = kept[kind] + probes
        if kind == "G":
            return Cost(g_products=products, algebra=subspace)
        return Cost(hess_products=products, algebra=subspace)

    def solved(size: int) -> Cost:
        return Cost(algebra=_EIGEN * float(size) ** 3 + 150.0 * size**2)

    exact = method in (DENSE, DUAL)
    whole = exact and whole_hessian(sizes, settings)
    if method == DENSE:
        first = means + rows + square
    elif method == DUAL:
        first = rows + Cost(algebra=_dual_products(sizes) + 1.5 * float(n) ** 3)
    elif method == KRYLOV:
        first = means + rows + Cost(algebra=float(N) * C * P)
    else:
        first = Cost(gradients=2.0 * math.ceil(2.0 * C * P / SLICE)) + rows
    if whole:
        hess = Cost(hess_products=P) + solved(P)
        h = solved(P) + (square if method == DUAL else Cost())
    else:
        hess, h = iterated("Hess"), iterated("H")
    parts = Cost(algebra=4.0 * order * kept["G"] ** 2, seconds=_SPLIT)
    if method == STREAMED:
        few = _PER_PAIR["G"] * min(k, NUM_STREAMED)
        parts += Cost(g_products=_STREAMED * few + NUM_STREAMED)
    else:
        parts += Cost(algebra=float(order) * C**4)
        parts += (
            Cost(algebra=3.0 * _KNOCK_OUT * order**2)
            if exact
            else Cost(g_products=3 * _KNOCK_OUT)
        )
    stages = {
        "means": first,
        "G": solved(order) if exact else iterated("G"),
        "Hess": hess,
        "H": h,
        **dict.fromkeys(weightings(method, settings), parts),
        "picture": _picture(method, sizes, settings),
        "last_layer": _last_layer(sizes, settings),
    }
    return Counted(method, stages, _memory(method, whole, sizes, settings))


def _dual_products(sizes: Sizes) -> float:
    """Multiply-adds of the Gram matrix, each layer by the cheaper of its two ways."""
    n = float(sizes.num_examples * sizes.num_classes)
    total = 0.0
    for num_params, positions, q, r in sizes.layers:
        by_rows = n * n * num_params
        pairs = float(sizes.num_examples * positions) ** 2
        by_factors = pairs * (q + sizes.num_classes**2 * (r + 2.0))
        total += min(by_rows, by_factors) if q else by_rows
    return total


def _picture(method: str, sizes: Sizes, settings: MeasureSettings) -> Cost:
    C = sizes.num_classes
    width = min(C, MAX_PAIRS // C or 1)  # potential classes a class
    drawn = min(max(1, settings.num_drawn // (C * width)) * C, sizes.num_examples)
    points = drawn * width + C * width + C + 1
    if width < C:
        passes = (2 + width) / 3 + drawn * width / sizes.num_examples
        placing = _UMAP * points + _IMPORT
        return Cost(gradients=passes, seconds=placing)
    passes = 0.0 if method == DUAL else drawn / sizes.num_examples * (1 + C) / 3
    algebra = 0.0 if method == DUAL else float(points) ** 2 * sizes.num_params
    placing = 0.0 if settings.embedding == "pca" else _UMAP * points
    if settings.embedding == "umap":
        placing += _IMPORT
    return Cost(gradients=passes, algebra=algebra, seconds=placing)


def _last_layer(sizes: Sizes, settings: MeasureSettings) -> Cost:
    """One forward pass, and G of one layer from what it puts out."""
    N, C, q = sizes.num_examples, sizes.num_classes, sizes.num_features
    if not q:
        return Cost()
    order = smaller_order(N, C, q)
    if order > settings.exact_limit:
        products = _PER_PAIR["G"] * num_eigenvalues(sizes, settings)
        algebra = 2.0 * N * C * q * products
    elif q > N:
        algebra = float(order) ** 2 * C
    else:
        algebra = 0.5 * N * (C * q) ** 2
    if order <= settings.exact_limit:
        algebra += _EIGEN * float(order) ** 3 + 150.0 * order**2
    return Cost(gradients=1 / 3, algebra=algebra)


def _memory(method: str, whole: bool, sizes: Sizes, settings: MeasureSettings) -> int:
    """Bytes of the largest arrays that there are at once, and of the process itself.

    Subspaces are counted by those who take their room; what is held from one stage to
    the next is added to the largest stage.
    """
    P, N, C = sizes.num_params, sizes.num_examples, sizes.num_classes
    k = num_eigenvalues(sizes, settings)
    width = min(C, MAX_PAIRS // C or 1)
    points = max(2 * C * width, settings.num_drawn + C * width) + C
    matrices = 6.0 * points**2  # float64: distances, and UMAP's copies of them
    step = step_of(k, sizes.num_activations * N < SMALL)

    def subspace(dim: int, num: int, low: int = 0, start: int = 0) -> float:
        """Vectors of one, with those that a step works on; few are ever filled."""
        block = max(step, start)
        ends: dict[str, Any] = {"which": "BE", "k_low": low} if low else {}
        most = subspace_vectors(dim, num, block_size=block, **ends)
        filled = 2 * most_products(num) + num + low + (IN_WORK + 2) * block
        return float(min(most, filled))

    few = min(k, NUM_LOW) + SPARE
    probes = settings.num_probes * settings.num_steps
    together = max(settings.num_steps, BASIS_BYTES / (P * sizes.num_bytes))
    density = k + NUM_LOW + min(probes, together) + 5 * settings.num_probes
    hess = subspace(P, k + SPARE, NUM_LOW + SPARE)
    ends = max(hess, subspace(P, few, NUM_LOW + SPARE), density)
    parts = 3.0 * C**2 + 3 * C  # their factors in one convention
    in_work = 8.0 * min(_WIDEST, max(1, BLOCK_NUMBERS // P))  # of a product
    if method in (DENSE, DUAL):
        n = P if method == DENSE else N * (C - 1)
        # of order n, float64: all of one, the eigensolver's copy, what it came from
        matrices += (3.0 if method == DENSE else 4.1) * n**2 + 4.0 * N * C**3
        inside = 2.0 * C**2 + parts + subspace(n, k + SPARE, start=k)
        matrices += inside * n
        vectors = 0.0 if whole else ends
        matrices += 3.0 * P**2 if whole else 0.0
    elif method == KRYLOV:
        g = subspace(P, k + SPARE, start=min(C, k))
        start = RICHER * k if k * P > FREE else int(g) // 2
        knocked = parts + subspace(P, k, start=start)
        held = g - IN_WORK * max(step, min(C, k))
        vectors = 2.0 * C**2 + max(g, held + max(ends, knocked, 2.0 * C**2))
    else:
        g, some = subspace(P, k + SPARE), min(k, NUM_STREAMED)
        knocked = some + NUM_SIGNS + subspace(P, some)
        vectors = k + max(g, ends, knocked, min(2.0 * C, SLICE / P))
    vectors += in_work
    passing = min(TILE, N * C * P) + 3.0 * _WIDEST * min(
        2.0**24, sizes.num_activations * N
    )
    stored = 2.0 * sizes.num_weights + N * sizes.num_inputs
    if sizes.num_features:
        stored += N * (sizes.num_features + 2 * C)
        order = smaller_order(N, C, sizes.num_features)
        matrices += 3.0 * order**2 if order <= settings.exact_limit else 0.0
    own = PROCESS + (UMAP_ITSELF if settings.embedding == "umap" else 0)
    return int(own + 8 * matrices + sizes.num_bytes * (vectors * P + passing + stored))
