"""All C^2 means by their products: the same operator, trace and parts as from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.curvature.conftest import Solved, solve
from tests.oracles import apart
from workbench.curvature import layerwise
from workbench.curvature.coordinates import KRYLOV, STREAMED, coordinates
from workbench.curvature.general import General
from workbench.curvature.means import class_means
from workbench.curvature.sketch import count_sketch
from workbench.curvature.streamed import estimate_trace, mean_products
from workbench.curvature.thinned import thinned_gradients, thinned_means
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.measuring.config import MeasureSettings
from workbench.measuring.levels import split_levels
from workbench.measuring.probe import Probe
from workbench.study import Levels


def test_the_products_are_those_of_the_matrix(
    case: Solved, weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerwise, "SMALL", 0)
    parts = case.parts(weighting)
    matrix = case.g - parts.matrices[parts.within_part]
    layers = layerwise.read_layers(case.risk)
    for network in filter(None, (General(case.risk, *case.risk.snapshot()), layers)):
        found = mean_products(case.risk, network, weighting)
        assert apart(found.to_dense(), matrix) < 1e-9
        vectors = torch.randn(case.problem.dim, 40, dtype=matrix.dtype)
        expected = (vectors * (matrix @ vectors)).sum(0)
        assert apart(found.quadratic(vectors), expected) < 1e-9


def test_the_parts_are_those_of_the_means(weighting: str) -> None:
    case = solve("unequal")
    risk, g = case.risk, Dense(case.g)
    pairs = top_eigenpairs(g, 6, tol=1e-9)
    settings = MeasureSettings(tol=1e-8)

    def split(method: str) -> Levels:
        place = coordinates(risk, g, method, lambda share: None, weighting=weighting)
        probe = Probe(settings, 6, torch.Generator().manual_seed(0))
        network = General(risk, *risk.snapshot())
        means = mean_products(risk, network, weighting) if method == STREAMED else None
        return split_levels(place, weighting, pairs, probe, lambda _: None, means)

    exact, found = split(KRYLOV), split(STREAMED)
    assert not exact.trace_error
    for part, values in found.parts.items():
        expected = exact.parts[part][: len(values)]
        np.testing.assert_allclose(values[: len(expected)], expected, atol=1e-6)
    for part, trace in found.trace.items():
        bound = 4 * found.trace_error.get(part, 0.0) + 1e-9
        assert abs(trace - exact.trace[part]) < bound, part
    for name in ("overlap", "class_overlap", "subtracted", "projected"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(exact, name), atol=1e-6
        )
    np.testing.assert_allclose(found.kept, exact.kept, atol=0.1)


def test_the_error_of_a_trace_covers() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(60, 60, generator=generator, dtype=torch.float64)
    matrix = root @ root.T
    vectors = torch.linalg.eigh(matrix).eigenvectors[:, -5:]
    within = 0
    for _ in range(200):
        trace, error = estimate_trace(
            lambda v: (v * (matrix @ v)).sum(0), vectors, 10, generator
        )
        within += abs(trace - float(matrix.trace())) < 2 * error
    assert 170 < within < 200


def test_thinned_means_are_the_means(weighting: str) -> None:
    case = solve("unequal")
    pairs = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]]).bool()
    sketch = count_sketch(case.problem.dim, case.problem.dim)  # loses nothing
    risk = case.risk
    found = thinned_means(risk, pairs, weighting, sketch)
    means = class_means(
        case.problem.model, case.problem.data, weighting=weighting, level="ck"
    )
    assert means.cross is not None
    assert means.classes is not None
    rows = torch.cat([means.cross[pairs], means.classes, means.everything[None]])
    assert apart(found, sketch(rows)) < 1e-10
    gradients = thinned_gradients(
        risk, case.problem.inputs, case.problem.labels, pairs, weighting, sketch
    )
    label = case.problem.labels
    if weighting == "slide":
        first = gradients.view(-1, 2, gradients.shape[1])[label == 0].mean(0)
        assert apart(first, found[:2]) < 1e-10
