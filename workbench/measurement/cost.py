"""The cost of each method, counted in passes over the data, algebra and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench.curvature.gram.assembly import TILE
from workbench.curvature.gram.last_layer import find_last_layer, smaller_order
from workbench.curvature.gram.layer_gradients import layer_gradients
from workbench.curvature.problem.batches import numbers_of, take
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.curvature.products.layerwise import BLOCK_NUMBERS, SMALL
from workbench.linalg.density import BASIS_BYTES
from workbench.linalg.lanczos import FREE, IN_WORK, LOOK, subspace_vectors
from workbench.measurement.layers import AT_ONCE, FEW, WHOLE, num_in_block
from workbench.measurement.null import NUM_KNOCKED, NUM_RANDOM, NUM_SHUFFLES
from workbench.measurement.settings import MAX_PAIRS, MeasureSettings
from workbench.measurement.solver import (
    NUM_LOW,
    SPARE,
    most_products,
    step_of,
)
from workbench.study.convention import CONVENTIONS
from workbench.study.outliers import num_seen
from workbench.study.records import MAX_LEADING
from workbench.study.walk import NUM_DISTANCES

# Stages in order, by the names of their files, with the words that people read.
STAGES: Mapping[str, str] = {
    "means": "Averaging the gradients",
    "G": "Eigenvalues of G",
    "Hess": "Eigenvalues of Hess",
    "H": "Eigenvalues of H",
    **dict.fromkeys(CONVENTIONS, "Splitting G into its parts"),
    "picture": "Placing the gradients in the plane",
    "last_layer": "Measuring the last layer",
    "directions": "Eigenvectors of G",
    "null": "Shuffling the labels",
    "walk": "Walking along the eigenvectors",
    "layers": "Looking at each layer",
}
# Matvecs per wanted eigenpair until residuals are 1e-3, measured on three networks.
PER_PAIR = {"G": 4.0, "Hess": 7.0, "H": 8.0}
TIGHTER_PAIRS = 2.0  # times as many until residuals are 1e-6
_WIDEST = 10  # vectors that share a forward pass, if they can
KNOCK_OUT = 24  # products not saved by the subspace of G's own pairs
_EIGEN = 1.7  # n^3 multiply-adds for all eigenvalues of a matrix of order n
PROCESS = 800_000_000  # bytes used by Python and torch before measuring
UMAP_ITSELF = 300_000_000  # used by UMAP and its compiler
_SPLIT = 0.2  # seconds for all the small steps of splitting
SOLVED = 3  # operators solved for when G is split in one convention
_UMAP, _IMPORT = 1e-3, 3.0  # seconds per point, and once per process
BLOCKS_WORK = 3e11  # most multiply-adds for the blocks of G, or Hess, by products
_CALIBRATION = 0.5  # passes over data take twice as long as their operation count says


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Everything that determines the cost of a measurement, except the machine."""

    num_params: int  # P
    num_examples: int  # N
    num_classes: int  # C
    num_rows: int  # n, which is N (C - 1) for one label per example: G = R^T R / Z
    num_activations: int  # per example
    num_bytes: int  # per number of the network's dtype
    forward: float  # multiply-adds of a forward pass per example
    layers: tuple[tuple[int, int, int, int], ...]  # P, positions, inputs, outputs
    num_weights: int  # of the whole network
    num_inputs: int  # numbers per example
    num_features: int  # of the last layer, including its bias; 0: none
    blocks: tuple[int, ...]  # parameters of each module that owns some
    curved: tuple[bool, ...]  # whether H is not zero in each; if unknown, True

    @property
    def num_labelled(self) -> int:
        """The examples, or tokens, that have a class each."""
        return self.num_rows // max(self.num_classes - 1, 1)

    @property
    def num_columns(self) -> float:
        """Rows of R that an example has."""
        return self.num_rows / self.num_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one stage, by its components."""

    gradients: float = 0.0  # gradients of the loss over all examples
    g_products: float = 0.0  # vectors multiplied by G, in blocks
    hess_products: float = 0.0  # the same for Hess or H
    algebra: float = 0.0  # multiply-adds of float64 matrices
    seconds: float = 0.0  # not covered by the counts

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            **{
                f.name: getattr(self, f.name) + getattr(other, f.name)
                for f in fields(self)
            }
        )

    def work(self, sizes: Sizes) -> float:
        """Return the total in multiply-adds, the same on every machine in every run.

        A gradient counts as three forward passes, a product with G as five, with Hess
        as seven.
        """
        passes = 3 * self.gradients + 5 * self.g_products + 7 * self.hess_products
        data = passes * sizes.forward * sizes.num_examples
        return data + _CALIBRATION * self.algebra


def sizes_of(risk: EmpiricalRisk) -> Sizes:
    """Determine the sizes from one example."""
    example = take(risk.piece[0], slice(0, 1))
    with (
        evaluating(risk.model),
        torch.enable_grad(),  # as it is when it is trained
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
        num_rows=risk.num_rows,
        num_activations=risk.num_activations,
        num_bytes=number,
        forward=max(seen.get_total_flops() / 2, weights),
        layers=tuple(layers),
        num_weights=weights,
        num_inputs=numbers_of(example),
        num_features=0 if last is None else last.num_features,
        blocks=(blocks := tuple(block.dim for block in blocks_of(risk))),
        curved=(True,) * len(blocks),
    )


def num_eigenvalues(sizes: Sizes, settings: MeasureSettings) -> int:
    """Number of leading eigenvalues to measure; the outlier rule needs C + 7."""
    C, asked = sizes.num_classes, settings.num_eigenvalues
    if asked is None:
        return num_seen(C)
    return max(asked, num_seen(C)) if C <= MAX_LEADING else asked


def whole_hessian(sizes: Sizes, settings: MeasureSettings) -> bool:
    """Whether P products with the Hessian take only seconds, so all of it is exact."""
    within = settings.exact_hessian and sizes.num_params <= settings.exact_limit
    size = max(sizes.num_params, sizes.num_activations)
    return within and sizes.num_params * sizes.num_examples * size <= 10**10


def blocks_left_out(sizes: Sizes, settings: MeasureSettings, exact: bool) -> list[str]:
    """Of G and Hess, those whose blocks would take too many products.

    Args:
        sizes: Of the network.
        settings: Of the measurement.
        exact: Whether the method knows G without products.
    """
    tally = Tally(sizes, settings)
    kinds = [] if exact else ["G"]
    kinds += [] if exact and whole_hessian(sizes, settings) else ["Hess"]
    return [kind for kind in kinds if tally.blocks_are_far(kind)]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts the building blocks of the methods, for one network and settings."""

    sizes: Sizes
    settings: MeasureSettings

    @property
    def num_gradients(self) -> int:
        """The order of the Gram matrix."""
        return self.sizes.num_rows

    @property
    def num_asked(self) -> int:
        """The requested number of leading eigenvalues of G."""
        return num_eigenvalues(self.sizes, self.settings)

    @property
    def num_leading(self) -> int:
        """k, the number of those that exist."""
        return min(self.num_asked, self.sizes.num_params)

    @property
    def step(self) -> int:
        """The vectors by which a subspace grows."""
        numbers = self.sizes.num_activations * self.sizes.num_examples
        return step_of(self.num_asked, numbers < SMALL)

    @property
    def pair_means(self) -> Cost:
        """All pair means, plain and weighted."""
        passes = 4 * self.sizes.num_classes * self.classes_at_once
        return Cost(gradients=(1 + passes) / 3)

    @property
    def classes_at_once(self) -> int:
        """How many classes each piece of the data is processed for."""
        tokens = self.sizes.num_labelled > self.sizes.num_examples
        return self.sizes.num_classes if tokens else 1

    @property
    def rows(self) -> Cost:
        """All rows of R, C - 1 per example with one label."""
        return Cost(gradients=(2 + self.sizes.num_columns) / 3)

    @property
    def square(self) -> Cost:
        """G as a matrix, from those gradients."""
        return Cost(algebra=float(self.num_gradients) * self.sizes.num_params**2)

    @property
    def gram(self) -> Cost:
        """The Gram matrix, with each layer computed the cheaper of two ways."""
        n, columns = float(self.sizes.num_rows), self.sizes.num_columns
        total = 0.0
        for num_params, positions, q, r in self.sizes.layers:
            by_rows = n * n * num_params
            pairs = float(self.sizes.num_examples * positions) ** 2
            by_factors = pairs * (q + columns**2 * (r + 2.0))
            total += min(by_rows, by_factors) if q else by_rows
        return Cost(algebra=total)

    def solved(self, order: int) -> Cost:
        """All eigenvalues of a matrix."""
        return Cost(algebra=_EIGEN * float(order) ** 3 + 150.0 * order**2)

    def iterated(self, kind: str) -> Cost:
        """Both ends of an operator, and its density."""
        P, settings = self.sizes.num_params, self.settings
        wanted, kept = self._wanted(kind), self.num_products(kind)
        probes = settings.num_steps * settings.num_probes
        room = min(kept, max(4.0 * wanted + LOOK, FREE / P))
        subspace = 12.0 * P * kept * room  # sums over it and residuals
        subspace += 4.0 * P * settings.num_steps * probes
        products = kept + probes
        if kind == "G":
            return Cost(g_products=products, algebra=subspace)
        return Cost(hess_products=products, algebra=subspace)

    def _wanted(self, kind: str) -> int:
        k = self.num_leading
        return {"G": k, "Hess": k + NUM_LOW, "H": 2 * NUM_LOW}[kind]

    def num_products(self, kind: str) -> float:
        """Products until an operator's wanted pairs have converged."""
        return min(PER_PAIR[kind] * self._wanted(kind), self.sizes.num_params)

    def split(self, order: int) -> Cost:
        """Splitting G in the subspace of its own pairs, for vectors of this length."""
        return Cost(algebra=4.0 * order * self.num_products("G") ** 2, seconds=_SPLIT)

    def pair_factors(self, order: int) -> Cost:
        """Eigenvalues of the parts whose factors are the pair means."""
        return Cost(algebra=float(order) * self.sizes.num_classes**4)

    def matrix_split(self, order: int) -> Cost:
        """Splitting G as a matrix."""
        knocked_out = Cost(algebra=3.0 * KNOCK_OUT * order**2)
        return self.split(order) + self.pair_factors(order) + knocked_out

    @property
    def null_passes(self) -> Cost:
        """The class means of shuffled labels, and random combinations, by passes."""
        C = self.sizes.num_classes
        shuffled = NUM_SHUFFLES * (1 + 2 * len(CONVENTIONS)) / 3
        return Cost(gradients=shuffled + NUM_RANDOM * (1 + 2 * C) / 3)

    def matrix_null(self, order: int) -> Cost:
        """The null, of G as a matrix: knock-outs in every convention."""
        num = 2 * NUM_KNOCKED * len(CONVENTIONS) + NUM_RANDOM
        algebra = float(num * KNOCK_OUT) * order**2
        return Cost(algebra=algebra, seconds=num * _SPLIT / SOLVED)

    @property
    def num_walked(self) -> int:
        """Leading eigenvectors of G that are walked along, with one of the bulk."""
        return min(self.sizes.num_classes, MAX_LEADING, self.num_leading) + 1

    @property
    def walk(self) -> Cost:
        """The loss along them and along H's lowest, by forward passes."""
        if not self.settings.walk:
            return Cost()
        passes = (NUM_DISTANCES - 1) * (self.num_walked + 1) + 1
        return Cost(gradients=passes / 3)

    @property
    def num_in_block(self) -> int:
        """Leading eigenvalues of a block, if it is solved as a matrix."""
        return num_in_block(self.sizes.num_classes)

    @property
    def solved_blocks(self) -> Cost:
        """The diagonal blocks of a matrix in R^P, layer by layer."""
        return self._blocks(self.sizes.blocks)

    @property
    def gram_blocks(self) -> Cost:
        """The Gram matrix of each layer: added up, and solved."""
        n, num = self.num_gradients, len(self.sizes.blocks)
        C = self.sizes.num_classes
        return self._blocks((n,) * num) + Cost(algebra=num * (1.0 + 3 * C) * n**2)

    def _blocks(self, orders: Sequence[int]) -> Cost:
        if not self.settings.layers:
            return Cost()
        whole = [order for order in orders if order <= AT_ONCE]
        few = sum(float(order) ** 2 for order in orders if order > AT_ONCE)
        products = TIGHTER_PAIRS * PER_PAIR["G"] * self.num_in_block
        return sum(map(self.solved, whole), Cost(algebra=products * few))

    def block_products(self, kind: str) -> Cost:
        """The leading eigenvalues of all blocks of G or Hess, through its products."""
        some = PER_PAIR[kind] * (FEW + SPARE)
        pairs = zip(self.sizes.blocks, self.sizes.curved, strict=True)
        orders = [order for order, curved in pairs if curved or kind == "G"]
        products = sum(order if order <= WHOLE else some for order in orders)
        name = "g_products" if kind == "G" else "hess_products"
        return Cost(**{name: products})

    @property
    def class_blocks(self) -> Cost:
        """The class part of each layer, from inner products of the class means."""
        orders = [self.sizes.num_classes] * len(self.sizes.blocks)
        solved = sum(map(self.solved, orders), Cost())
        return solved if self.settings.layers else Cost()

    @property
    def g_blocks(self) -> Cost:
        """The blocks of G, if G is known through its products only."""
        return self._near("G")

    def hess_blocks(self, whole: bool) -> Cost:
        """The blocks of Hess, from the matrix or through its products."""
        return self.solved_blocks if whole else self._near("Hess")

    def _near(self, kind: str) -> Cost:
        far = self.blocks_are_far(kind) or not self.settings.layers
        return Cost() if far else self.block_products(kind)

    def blocks_are_far(self, kind: str) -> bool:
        """Whether all blocks of G or Hess take too many products to be measured."""
        return self.block_products(kind).work(self.sizes) > BLOCKS_WORK

    def matrix_numbers(
        self, order: int, copies: float, whole: bool
    ) -> tuple[float, float]:
        """Return the arguments of `memory`, for G as a matrix of this order.

        Args:
            order: Order of the matrix.
            copies: Copies of it: for all eigenvalues, the eigensolver's, its source.
            whole: Whether Hess is stored as a matrix too.
        """
        P, k = self.sizes.num_params, self.num_asked
        num, C = self.sizes.num_labelled, self.sizes.num_classes
        matrices = copies * order**2 + 4.0 * num * C**3
        subspace = self.subspace(order, k + SPARE, start=k)
        matrices += (2.0 * C**2 + self.factors + subspace) * order
        return (matrices + 3.0 * P**2, 0.0) if whole else (matrices, self.ends)

    def picture(self, *, from_gram: bool = False) -> Cost:
        """Inner products of what is drawn, unless available, and the embedding."""
        sizes, settings = self.sizes, self.settings
        C = sizes.num_classes
        width = min(C, MAX_PAIRS // C or 1)  # potential classes per class
        most = max(1, settings.num_drawn // (C * width)) * C
        drawn = min(most, sizes.num_labelled)
        points = drawn * width + C * width + C + 1
        if width < C:
            passes = (2 + width) / 3 + drawn * width / sizes.num_examples
            placing = _UMAP * points + _IMPORT
            return Cost(gradients=passes, seconds=placing)
        passes = 0.0 if from_gram else drawn / sizes.num_examples * (1 + C) / 3
        algebra = 0.0 if from_gram else float(points) ** 2 * sizes.num_params
        placing = 0.0 if settings.embedding == "pca" else _UMAP * points
        if settings.embedding == "umap":
            placing += _IMPORT
        return Cost(gradients=passes, algebra=algebra, seconds=placing)

    @property
    def last_order(self) -> int:
        """The order of the smaller matrix with the spectrum of the last layer's G."""
        sizes = self.sizes
        return smaller_order(sizes.num_examples, sizes.num_classes, sizes.num_features)

    @property
    def last_layer(self) -> Cost:
        """One forward pass, and G of the last layer from its outputs."""
        sizes = self.sizes
        N, C, q = sizes.num_examples, sizes.num_classes, sizes.num_features
        if not q:
            return Cost()
        forward = Cost(gradients=1 / 3)
        if self.last_order > self.settings.exact_limit:
            products = PER_PAIR["G"] * self.num_asked
            return forward + Cost(algebra=2.0 * N * C * q * products)
        formed = 0.5 * N * (C * q) ** 2 if q <= N else float(self.last_order) ** 2 * C
        return forward + Cost(algebra=formed) + self.solved(self.last_order)

    def subspace(self, dim: int, num: int, low: int = 0, start: int = 0) -> float:
        """Vectors of a subspace, with those of a step; rarely all are filled."""
        block = max(self.step, start)
        ends: dict[str, Any] = {"which": "BE", "k_low": low} if low else {}
        most = subspace_vectors(dim, num, block_size=block, **ends)
        filled = 2 * most_products(num) + num + low + (IN_WORK + 2) * block
        return float(min(most, filled))

    @property
    def ends(self) -> float:
        """Vectors of length P for the ends of Hess and H, and for densities."""
        P, settings = self.sizes.num_params, self.settings
        k = self.num_asked
        few = min(k, NUM_LOW) + SPARE
        probes = settings.num_probes * settings.num_steps
        basis = BASIS_BYTES / (P * self.sizes.num_bytes)
        together = max(settings.num_steps, basis)
        density = k + NUM_LOW + min(probes, together) + 5 * settings.num_probes
        hess = self.subspace(P, k + SPARE, NUM_LOW + SPARE)
        return max(hess, self.subspace(P, few, NUM_LOW + SPARE), density)

    @property
    def factors(self) -> float:
        """Vectors in the factors of the parts, in one convention."""
        C = self.sizes.num_classes
        return 3.0 * C**2 + 3 * C

    def memory(self, matrices: float, vectors: float) -> int:
        """Return the bytes of the largest arrays that exist at once, plus the process.

        Subspaces are counted where they are allocated; arrays kept between stages are
        added to the largest stage.

        Args:
            matrices: Float64 numbers in the method's own arrays.
            vectors: Vectors of length P that it stores, in the network's dtype.
        """
        sizes, settings = self.sizes, self.settings
        P, N, C = sizes.num_params, sizes.num_examples, sizes.num_classes
        width = min(C, MAX_PAIRS // C or 1)
        points = max(2 * C * width, settings.num_drawn + C * width) + C
        matrices += 6.0 * points**2  # distances and UMAP's copies
        in_work = 8.0 * min(_WIDEST, max(1, BLOCK_NUMBERS // P))  # for a product
        passing = min(TILE, N * C * P) + 3.0 * _WIDEST * min(
            2.0**24, sizes.num_activations * N
        )
        stored = 2.0 * sizes.num_weights + N * sizes.num_inputs
        if sizes.num_features:
            stored += N * (sizes.num_features + 2 * C)
            if self.last_order <= settings.exact_limit:
                matrices += 3.0 * self.last_order**2
        numbers = (vectors + in_work) * P + passing + stored
        own = PROCESS + (UMAP_ITSELF if settings.embedding == "umap" else 0)
        return int(own + 8 * matrices + sizes.num_bytes * numbers)
