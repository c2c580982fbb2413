"""The measures of neural collapse by their definitions, slow and obvious."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def measures(
    features: Array, labels: NDArray[np.int64], weight: Array, chosen: NDArray[np.int64]
) -> dict[str, float]:
    """Papyan, Han, Donoho (2020), loop by loop.

    Args:
        features: (N, q).
        labels: (N,).
        weight: (C, q).
        chosen: Class with the largest logit, (N,).
    """
    C, q = weight.shape
    means = np.array([features[labels == c].mean(axis=0) for c in range(C)])
    middle = features.mean(axis=0)
    within, between = np.zeros((2, q, q))
    for h, c in zip(features, labels, strict=True):
        within += np.outer(h - means[c], h - means[c]) / len(features)
        between += np.outer(means[c] - middle, means[c] - middle) / len(features)
    centred = means - middle
    found = {"NC1": float(np.trace(within @ np.linalg.pinv(between, 1e-10)) / C)}
    sets = {"means": centred, "weights": weight}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, rows in sets.items():
            length = np.linalg.norm(rows, axis=1)
            found[f"NC2 equinorm, {name}"] = float(length.std() / length.mean())
        cosines = {
            name: np.array([_cosine(a, b) for a, b in permutations(rows, 2)])
            for name, rows in sets.items()
        }
        for name, values in cosines.items():
            found[f"NC2 equiangular, {name}"] = float(values.std())
        for name, values in cosines.items():
            angle = np.abs(values + 1 / (C - 1)).mean()
            found[f"NC2 maximal angle, {name}"] = float(angle)
        dual = weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred)
    found["NC3"] = float((dual**2).sum())
    nearest = [np.argmin([np.sum((h - m) ** 2) for m in means]) for h in features]
    found["NC4"] = float(np.mean(np.array(nearest) != chosen))
    return found


def _cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
