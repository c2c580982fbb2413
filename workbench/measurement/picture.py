"""The picture: a sample of the gradients and all their means in the plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.curvature.gram.coordinates import Coordinates
from workbench.curvature.gram.unions import union_gram
from workbench.curvature.means.count_sketch import count_sketch
from workbench.curvature.means.pair_selection import all_pairs, keep_largest
from workbench.curvature.means.sketched import thinned_gradients, thinned_means
from workbench.curvature.problem.batches import join, shape_of, take
from workbench.curvature.problem.labelled import Drawn, chosen_rows
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.measurement.embedding import embed
from workbench.measurement.settings import MAX_PAIRS, MeasureSettings
from workbench.study.records import Embedding

SKETCH = 8192  # length of a gradient's sketch, if pairs are left out
SKETCHED = (
    f"from sketches of {SKETCH:,} numbers: the root mean square error of an inner "
    f"product is {(2 / SKETCH) ** 0.5:.1%} of the lengths."
)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The examples, or tokens, whose gradients are drawn."""

    chosen: NDArray[np.int64]  # indices in the data
    drawn: list[Drawn]


def draw(
    risk: EmpiricalRisk,
    products_of: Callable[[Sample], tuple[Tensor, str]],
    settings: MeasureSettings,
    near: Embedding | None = None,
) -> Embedding:
    """Embed a balanced sample of the gradients and all their means in the plane.

    If there are more than `MAX_PAIRS` pair means, only the largest of each class are
    drawn, from sketches. The picture's note then says how much the others hold, and how
    exact it is.

    Args:
        risk: Network and data.
        products_of: Returns inner products of a sample's gradients and all means, with
            a note if they are not exact; called unless there are too many means.
        settings: Embedding, metric, convention, size and seed.
        near: The picture of the same gradients at another time, to start from.
    """
    C = risk.num_classes
    every, note = C**2 <= MAX_PAIRS, ""
    if every:
        pairs = np.ones((C, C), dtype=bool)
    elif near is None:
        kept = keep_largest(risk, MAX_PAIRS // C or 1)
        pairs = kept.pairs.cpu().numpy()
        note = f"{kept} The picture draws the others, {SKETCHED}"
    else:  # the same rows, or it is not a snapshot of the same film
        pairs, note = np.zeros((C, C), dtype=bool), near.note
        means = near.level == 1
        pairs[near.true_class[means], near.potential_class[means]] = True
    sample = _sample(risk, settings, per_example=int(pairs[0].sum()))
    if every:
        products, note = products_of(sample)
    else:
        products = sketched_products(risk, settings, sample, pairs)
    points = np.zeros((len(products), 2))
    if risk.world.rank == 0:  # one process computes the embedding for all
        points = embed(
            products.cpu().numpy(),
            method=settings.embedding,
            metric=settings.metric,
            seed=settings.seed,
            start=None if near is None else near.points.astype(np.float64),
        )
    points = risk.world.sum(torch.from_numpy(points)).numpy()
    c, k = np.nonzero(pairs)
    single = [
        (i, one.label, m)
        for i, one in zip(sample.chosen, sample.drawn, strict=True)
        for m in np.flatnonzero(pairs[one.label])
    ]
    example, true, potential = np.array(single, dtype=np.int64).reshape(-1, 3).T
    none = np.full(1, -1)
    return Embedding(
        points=points.astype(np.float32),
        level=np.repeat([0, 1, 2, 3], [len(single), len(c), C, 1]),
        example=np.concatenate([example, np.full(len(c) + C + 1, -1)]),
        true_class=np.concatenate([true, c, np.arange(C), none]),
        potential_class=np.concatenate([potential, k, np.full(C + 1, -1)]),
        method=settings.embedding,
        metric=settings.metric,
        weighting=settings.weighting,
        num_total=risk.num_labelled * C,
        note=note,
    )


def products_of_means(
    risk: EmpiricalRisk,
    coordinates: Coordinates,
    settings: MeasureSettings,
    sample: Sample,
) -> tuple[Tensor, str]:
    """Return inner products of some examples' gradients and all means, in R^P.

    Examples of different shapes are sketched, and a note says so.
    """
    if len({shape_of(one.inputs) for one in sample.drawn}) > 1:
        note = f"The examples have different shapes; the picture is drawn {SKETCHED}"
        return sketched_products(risk, settings, sample), note
    three = coordinates.averages(settings.convention)
    vectors = torch.cat(
        [three.cross.flatten(0, 1), three.classes, three.everything[None]]
    )
    products = union_gram(risk, sample.drawn, vectors.to(risk.dtype))
    predictions = risk.predictions(join([one.inputs for one in sample.drawn]))
    places = torch.tensor([one.place for one in sample.drawn], device=risk.device)
    return of_single(settings, chosen_rows(predictions, places), products), ""


def of_single(settings: MeasureSettings, probs: Tensor, products: Tensor) -> Tensor:
    """Convert products of delta to those of the gradients a convention averages.

    Args:
        settings: Settings with the convention.
        probs: Probabilities of the single examples, (b, C).
        products: Products of their gradients, then of means.
    """
    if settings.convention.weighted:  # g = delta / sqrt(p)
        scale = probs.clamp(min=1e-300).rsqrt().flatten()
        scale = torch.cat([scale, scale.new_ones(len(products) - len(scale))])
        products = scale[:, None] * products * scale
    return products


def sketched_products(
    risk: EmpiricalRisk,
    settings: MeasureSettings,
    sample: Sample,
    pairs: NDArray[np.bool_] | None = None,
) -> Tensor:
    """The same from sketches, for all or some potential classes of each class."""
    generator = torch.Generator().manual_seed(settings.seed)
    sketch = count_sketch(risk.dim, SKETCH, generator=generator, device=risk.device)
    convention, mask = settings.convention, all_pairs(risk)
    if pairs is not None:
        mask = torch.from_numpy(pairs).to(risk.device)
    single = thinned_gradients(risk, sample.drawn, mask, convention, sketch)
    rows = torch.cat([single, thinned_means(risk, mask, convention, sketch)])
    return rows @ rows.T


def _sample(risk: EmpiricalRisk, settings: MeasureSettings, per_example: int) -> Sample:
    """Choose the examples to draw: equally many per class, by the seed."""
    batches = list(risk.whole())
    labels = torch.cat([y.flatten() for _, y in batches]).cpu().numpy()
    masses = [risk.mass(y).flatten() for _, y in batches]
    counted = (torch.cat(masses) > 0).cpu().numpy()
    per_class = max(1, settings.num_drawn // (risk.num_classes * per_example))
    random = np.random.default_rng(settings.seed)
    chosen = np.sort(
        np.concatenate(
            [
                random.permutation(np.flatnonzero((labels == c) & counted))[:per_class]
                for c in range(risk.num_classes)
            ]
        )
    )
    drawn, first = [], 0
    for inputs, targets in batches:
        length = targets[0].numel()
        own = (chosen >= first) & (chosen < first + targets.numel())
        for number in chosen[own]:
            i, place = divmod(int(number) - first, length)
            one = take(inputs, slice(i, i + 1))
            drawn.append(Drawn(one, place, int(labels[number])))
        first += targets.numel()
    return Sample(chosen, drawn)
