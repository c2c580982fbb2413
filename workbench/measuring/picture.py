"""A sample of the gradients and all their means, in the plane."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.curvature.coordinates import Coordinates
from workbench.curvature.deltas import averages
from workbench.curvature.products import union_gram
from workbench.curvature.risk import EmpiricalRisk
from workbench.embedding import embed
from workbench.measuring.config import MeasureSettings
from workbench.study import Embedding


def draw(
    risk: EmpiricalRisk,
    place: Coordinates,
    settings: MeasureSettings,
    near: Embedding | None = None,
) -> Embedding:
    """A balanced sample of the gradients and all their means, in the plane.

    ``near`` is the picture of the same ones at another time: they start from there.
    """
    chosen, inputs, labels = _sample(risk, settings)
    num_classes = risk.num_classes
    three = averages(place.means, settings.weighting)
    if place.gram is None:
        vectors = torch.cat(
            [three.cross.flatten(0, 1), three.classes, three.everything[None]]
        )
        products = union_gram(risk, inputs, vectors.to(risk.dtype))
    else:
        products = place.gram.products(torch.from_numpy(chosen), settings.weighting)
    if settings.weighting == "jmlr":  # g = delta / sqrt(p)
        scale = risk.probabilities(inputs).clamp(min=1e-300).rsqrt().flatten()
        scale = torch.cat([scale, scale.new_ones(len(products) - len(scale))])
        products = scale[:, None] * products * scale
    points = np.zeros((len(products), 2))
    if risk.world.rank == 0:  # one process places them, for all
        points = embed(
            products.cpu().numpy(),
            method=settings.embedding,
            metric=settings.metric,
            seed=settings.seed,
            start=None if near is None else near.points.astype(np.float64),
        )
    points = risk.world.sum(torch.from_numpy(points)).numpy()
    c, k = np.divmod(np.arange(num_classes**2), num_classes)
    b = len(chosen)
    none = -np.ones(1, dtype=np.int64)
    every = np.arange(num_classes)
    return Embedding(
        points=points.astype(np.float32),
        level=np.repeat(
            [0, 1, 2, 3], [b * num_classes, num_classes**2, num_classes, 1]
        ),
        example=np.concatenate(
            [
                np.repeat(chosen, num_classes),
                np.full(num_classes**2 + num_classes + 1, -1),
            ]
        ),
        true_class=np.concatenate([np.repeat(labels, num_classes), c, every, none]),
        potential_class=np.concatenate(
            [np.tile(every, b), k, np.full(num_classes + 1, -1)]
        ),
        method=settings.embedding,
        metric=settings.metric,
        weighting=settings.weighting,
        num_total=risk.num_examples * num_classes,
    )


def _sample(
    risk: EmpiricalRisk, settings: MeasureSettings
) -> tuple[NDArray[np.int64], Tensor, NDArray[np.int64]]:
    """Examples whose gradients are drawn: as many of each class as fit, by the seed."""
    batches = list(risk.whole())
    labels = torch.cat([y for _, y in batches]).cpu().numpy()
    per_class = max(1, settings.num_drawn // risk.num_classes**2)
    random = np.random.default_rng(settings.seed)
    chosen = np.sort(
        np.concatenate(
            [
                random.permutation(np.flatnonzero(labels == c))[:per_class]
                for c in range(risk.num_classes)
            ]
        )
    )
    inputs = torch.cat([x for x, _ in batches])[torch.from_numpy(chosen)]
    return chosen, inputs, labels[chosen]
