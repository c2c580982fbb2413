"""The last layer: features by class, neural collapse, and G of its weights alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from workbench.curvature.gram.last_layer import (
    Features,
    LastGaussNewton,
    find_last_layer,
    last_features,
    smaller_matrix,
    smaller_order,
    trace_of,
)
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.linalg.operator import Dense
from workbench.measurement.solver import IterativeSolver, whole_spectrum
from workbench.progress.control import Report, span
from workbench.study.records import NEURAL_COLLAPSE, LastLayer
from workbench.study.spectrum import Spectrum

TIGHT = 1e-6  # relative tolerance of leading eigenvalues: products need no pass
TINY = 1e-12  # of the longest class mean; below it a direction is rounding


def record_last_layer(
    risk: EmpiricalRisk, solver: IterativeSolver, report: Report
) -> LastLayer | None:
    """Measure the layer that outputs the logits, by one forward pass.

    G of its weights gets all eigenvalues if the smaller matrix that has them is at most
    of order ``exact_limit``, else only the leading ones.

    Args:
        risk: The network and data.
        solver: How to iterate.
        report: Called with the completed share.

    Returns:
        The record; None if the logits do not come from a linear layer.
    """
    layer = find_last_layer(risk)
    report(0.1)
    features = None if layer is None else last_features(risk, layer)
    report(0.5)
    if layer is None or features is None:
        return None
    shares = risk.classes("measure").to(risk.device)  # n_c / N
    means = class_averages(features.inputs, features.labels, risk.num_classes)
    apart = deviations(features, means)
    centred = means - shares @ means
    between = float(shares @ centred.square().sum(1))
    return LastLayer(
        name=layer.name,
        bias=features.bias,
        class_means=means.cpu().numpy(),
        probabilities=class_averages(features.probs, features.labels, risk.num_classes)
        .cpu()
        .numpy(),
        shares=shares.cpu().numpy(),
        within=float(apart.square().sum(1).mean()),
        between=between,
        neural_collapse=neural_collapse(
            features, layer.weight.double(), means, apart, shares
        ),
        spectrum=last_spectrum(risk, features, solver, span(report, 0.5)),
    )


def class_averages(rows: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean row of each class, (C, q), float64; no class may be empty."""
    total = torch.zeros(
        num_classes, rows.shape[1], dtype=torch.float64, device=rows.device
    )
    total.index_add_(0, labels, rows.double())
    return total / labels.bincount(minlength=num_classes)[:, None]


def deviations(features: Features, means: Tensor) -> Tensor:
    """Return features minus the mean of their class, (N, q), float64."""
    return features.inputs.double() - means[features.labels]


def neural_collapse(
    features: Features, weight: Tensor, means: Tensor, apart: Tensor, shares: Tensor
) -> dict[str, float]:
    r"""Compute the measures of neural collapse, by the names in `NEURAL_COLLAPSE`.

    With ``m_c`` the class means minus the mean of all examples, and averages over
    classes or over pairs of different classes:

    * NC1: ``tr(S_W pinv(S_B)) / C``;
    * NC2: standard deviation over mean of ``||m_c||``; standard deviation of
      ``cos(m_c, m_c')``; mean of ``|cos(m_c, m_c') + 1 / (C - 1)|``; likewise of the
      rows of the weight;
    * NC3: ``|| W / ||W|| - M / ||M|| ||^2`` in Frobenius norms, M the matrix of m_c;
    * NC4: share of examples whose nearest class mean is not of the class with the
      largest logit.

    A division by zero gives NaN.

    Args:
        features: Features of all examples, (N, q).
        weight: W, (C, q).
        means: Class means, (C, q).
        apart: Features minus their class mean, (N, q).
        shares: n_c / N, (C,).

    Reference:
        Papyan, Han, Donoho (2020), PNAS 117(40), arXiv:2008.08186, Figures 2 to 7.
    """
    centred = means - shares @ means
    nearest = torch.cdist(
        features.inputs.double(), means, compute_mode="donot_use_mm_for_euclid_dist"
    ).argmin(1)
    chosen = features.probs.argmax(1)
    both = {"means": centred, "weights": weight}
    found = {"NC1": _variation(means, centred, apart, shares)}
    for name, rows in both.items():
        length = rows.norm(dim=1)
        spread = length.std(correction=0) / length.mean()
        found[f"NC2 equinorm, {name}"] = float(spread)
    cosines = {name: _cosines(rows) for name, rows in both.items()}
    for name, values in cosines.items():
        found[f"NC2 equiangular, {name}"] = float(values.std(correction=0))
    simplex = 1 / (len(means) - 1)
    for name, values in cosines.items():
        found[f"NC2 maximal angle, {name}"] = float((values + simplex).abs().mean())
    dual = weight / weight.norm() - centred / centred.norm()
    found["NC3"] = float(dual.square().sum())
    found["NC4"] = float((nearest != chosen).double().mean())
    return {name: found[name] for name in NEURAL_COLLAPSE}


def last_spectrum(
    risk: EmpiricalRisk, features: Features, solver: IterativeSolver, report: Report
) -> Spectrum:
    """Return all or the leading eigenvalues of G of the last layer; exact trace."""
    C, q = risk.num_classes, features.num_features
    order = smaller_order(risk.num_examples, C, q)
    if order <= solver.settings.exact_limit:
        matrix = Dense(smaller_matrix(features))
        report(0.5)
        found = whole_spectrum(matrix, risk, order, f"order {order:,}, exact")
        values = found.eigenvalues.clip(min=0.0)
        trace = float(matrix.matrix.trace())
        return replace(found, eigenvalues=values, dim=C * q, trace=trace)
    operator = LastGaussNewton(features)
    pairs = solver.pairs(operator, "LA", None, report, tol=TIGHT).alone()
    empty = np.empty((0, 0))
    return Spectrum(
        eigenvalues=pairs.values.cpu().numpy(),
        residuals=pairs.errors.cpu().numpy(),
        nodes=empty,
        weights=empty,
        dim=operator.dim,
        trace=trace_of(features),
        trace_error=0.0,
        complete=False,
        method=f"block Krylov ({pairs.status})",
        num_matvecs=pairs.num_matvecs,
        num_low=0,
    )


def _variation(means: Tensor, centred: Tensor, apart: Tensor, shares: Tensor) -> float:
    """Return ``tr(S_W pinv(S_B)) / C`` without forming either matrix.

    With ``S_B = V S^2 V^T``, the trace is the mean over the examples of ``||S^-1 V^T
    (h_i - h_c)||^2``.
    """
    _, size, directions = torch.linalg.svd(
        shares.sqrt()[:, None] * centred, full_matrices=False
    )
    known = size > TINY * means.norm(dim=1).max()
    if not known.any():
        return math.nan
    seen = apart @ (directions[known] / size[known, None]).T
    return float(seen.square().sum(1).mean()) / len(means)


def _cosines(rows: Tensor) -> Tensor:
    """Return the cosines of all pairs of different rows, (C (C - 1),)."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    eye = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return (unit @ unit.T)[~eye]
