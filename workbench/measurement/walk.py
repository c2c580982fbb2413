"""The loss along eigenvectors of G and H, by forward passes alone."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.curvature.problem.surroundings import evaluating
from workbench.linalg.columns import dots, lengths
from workbench.linalg.lanczos import EigenPairs
from workbench.measurement.ways import Way
from workbench.progress.control import Report
from workbench.study.records import MAX_LEADING
from workbench.study.spectrum import Spectrum
from workbench.study.walk import NUM_DISTANCES, Array, Walk


def leading_directions(way: Way, pairs: EigenPairs) -> Tensor:
    """G's first C eigenvectors in R^P, at most 20, and the last found, unit (P, d)."""
    num = len(pairs.values)
    first = min(way.bound.risk.num_classes, MAX_LEADING, num)
    rows = sorted({*range(first), num - 1})
    found = way.in_parameters(pairs.vectors[:, rows])
    size = lengths(found).to(found.dtype)
    return found / size.clamp(min=torch.finfo(found.dtype).tiny)


def shared_directions(leading: Tensor, of_hess: Tensor, num: int) -> Array:
    """Share of each of G's first eigenvectors in the span of as many of Hess, (m,).

    Args:
        leading: Unit eigenvectors of G, (P, d).
        of_hess: Orthonormal ones of Hess, from its largest eigenvalue down, (P, k).
        num: How many are compared.
    """
    many = min(num, leading.shape[1], of_hess.shape[1])
    first = leading[:, :many].to(of_hess.dtype)
    share = dots(of_hess[:, :many], first).square().sum(0)
    return share.clamp(max=1.0).cpu().numpy()


def distances_of(first: float, num: int = NUM_DISTANCES) -> Array:
    """Evenly from -T to T with ``first T^2 / 2 = 1``."""
    end = math.sqrt(2.0 / first)
    found = np.linspace(-end, end, num)
    found[num // 2] = 0.0
    return found


def class_losses(
    risk: EmpiricalRisk, directions: Tensor, distances: Array, report: Report
) -> Array:
    """Mean loss of each class at ``theta + t v``, (d, n, C).

    A forward pass over the data for each v and each t but 0, and one for that. In eval
    mode, with the statistics of batch norm held, as all of a measurement.
    """
    theta, fixed = risk.snapshot()
    flat = risk.flatten(list(theta.values()))
    counts = risk.classes("walk").to(risk.device) * risk.num_examples
    d, n = directions.shape[1], len(distances)
    found = np.empty((d, n, risk.num_classes))

    def at(vector: Tensor) -> Array:
        weights = {**fixed, **risk.split(vector)}
        total = torch.zeros_like(counts)
        for inputs, labels in risk.batches():
            logits = risk.logits(weights, inputs).detach().double()
            own = cross_entropy(logits, labels, reduction="none")
            total.index_add_(0, labels, own)
        mean: Array = (risk.world.sum(total) / counts).cpu().numpy()
        mean[~np.isfinite(mean)] = np.nan
        return mean

    with evaluating(risk.model):
        here = at(flat)
        for j in range(d):
            for k, t in enumerate(distances):
                found[j, k] = here if t == 0.0 else at(flat + t * directions[:, j])
                report((j * n + k + 1) / (d * n))
    return found


def walk_along(
    risk: EmpiricalRisk,
    leading: Tensor,
    g: Spectrum,
    lowest: Tensor,
    h: Spectrum,
    num_found: int,
    report: Report,
) -> Walk:
    """Walk along G's leading eigenvectors, one of its bulk, and H's lowest.

    Args:
        risk: Network and data.
        leading: Unit eigenvectors of G, (P, d): `leading_directions`.
        g: G's spectrum.
        lowest: H's unit eigenvector, (P, 1); (P, 0) where it is not known.
        h: H's spectrum.
        num_found: Eigenpairs of G; the last of `leading` is the last of them.
        report: Told the share done.
    """
    d = leading.shape[1]
    ranks = [*range(1, d), num_found] + [-1] * lowest.shape[1]
    values = [float(g.eigenvalues[rank - 1]) for rank in ranks[:d]]
    values += [float(h.eigenvalues[-1])] * lowest.shape[1]
    distance = distances_of(values[0])
    directions = torch.cat([leading, lowest.to(leading.dtype)], dim=1)
    losses = class_losses(risk, directions, distance, report)
    shares: Array = risk.classes("walk").cpu().numpy()
    ends = np.nan_to_num(losses[:, [0, -1]] @ shares, nan=np.inf)
    back = ends[:, 0] > ends[:, 1]
    losses[back] = losses[back, ::-1]  # -v is an eigenvector as well as v
    return Walk(
        operator=("G",) * d + ("H",) * lowest.shape[1],
        rank=np.array(ranks, dtype=np.int64),
        eigenvalue=np.array(values),
        distance=distance,
        class_loss=losses,
        shares=shares,
    )
