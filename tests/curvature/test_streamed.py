"""All C^2 means by their products: the same operator, trace and parts as from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.curvature.conftest import Solved, solve
from tests.oracles import apart
from workbench.curvature.means import class_gram as module
from workbench.curvature.means.class_gram import class_gram
from workbench.curvature.means.class_means import class_means
from workbench.curvature.means.count_sketch import count_sketch
from workbench.curvature.means.sketched import thinned_gradients, thinned_means
from workbench.curvature.means.streamed import ClassesOut, StreamedMeans, estimate_trace
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.problem.labelled import Drawn
from workbench.curvature.products import layerwise
from workbench.curvature.products.forward_mode import General
from workbench.curvature.products.layerwise import LayerWise
from workbench.curvature.products.operators import curvatures
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.solver import IterativeSolver
from workbench.measurement.ways import Bound, Way
from workbench.measurement.ways.krylov import KrylovWay
from workbench.measurement.ways.streamed import StreamedWay
from workbench.progress.control import Report
from workbench.study.convention import CONVENTIONS
from workbench.study.records import Levels


def networks(case: Solved) -> list[General | LayerWise]:
    """All ways to take the products."""
    layers = layerwise.read_layers(case.risk)
    return [*filter(None, (General(case.risk, *case.risk.snapshot()), layers))]


def test_the_products_are_those_of_the_matrices(
    case: Solved, weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerwise, "SMALL", 0)
    parts = case.parts(weighting)
    convention = CONVENTIONS[weighting]
    means_part, within_part = convention.means_part, convention.within_part
    matrices = {k: m for k, m in parts.matrices.items() if k != within_part}
    matrices[means_part] = case.g - parts.matrices[within_part]
    vectors = torch.randn(case.problem.dim, 40, dtype=case.g.dtype)
    gram = class_gram(case.risk, CONVENTIONS[weighting])
    for network in networks(case):
        means = StreamedMeans(case.risk, network, gram)
        for name, matrix in matrices.items():
            found = means.part(name)
            assert apart(found.to_dense(), matrix) < 1e-9
            expected = (vectors * (matrix @ vectors)).sum(0)
            assert apart(found.quadratic(vectors), expected) < 1e-9


def test_the_directions_of_the_class_means_are_projected_out(
    case: Solved, weighting: str
) -> None:
    classes = case.parts(weighting).classes.T
    basis = torch.linalg.svd(classes, full_matrices=False)
    basis = basis.U[:, 1e-9 * basis.S[0] < basis.S]
    keep = torch.eye(len(classes), dtype=classes.dtype) - basis @ basis.T
    gram = class_gram(case.risk, CONVENTIONS[weighting])
    means = StreamedMeans(case.risk, networks(case)[0], gram)
    found = ClassesOut(means, Dense(case.g)).to_dense()
    assert float((found - keep @ case.g @ keep).norm() / case.g.norm()) < 1e-7


def test_the_class_means_are_multiplied_some_parameters_at_a_time(
    case: Solved, weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = case.problem
    means = class_means(problem.model, problem.data, weighting=weighting)
    assert means.classes is not None
    rows = [means.classes]
    if means.diagonal is not None:
        rows.append(means.diagonal)
    expected = torch.cat(rows) @ torch.cat(rows).T
    passes = []
    for size in (module.SLICE, 40):
        monkeypatch.setattr(module, "SLICE", size)
        told: list[float] = []
        found = class_gram(case.risk, CONVENTIONS[weighting], told.append)
        assert apart(found.inner, expected) < 1e-11
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1.0)
        passes.append(len(told))
    assert passes[1] >= 2 * passes[0]
    exact = means.eigenvalues()
    for name, values in found.eigenvalues().items():
        assert apart(values[: len(exact[name])], exact[name]) < 1e-9
    share = means.everything_weight * float(means.everything.square().sum())
    assert found.everything == pytest.approx(share)


def test_the_class_part_of_each_layer_needs_no_slice_to_end_where_a_layer_does(
    case: Solved, weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    convention = CONVENTIONS[weighting]
    matrix = case.parts(weighting).matrices[convention.class_part]
    blocks = blocks_of(case.risk)
    for size in (module.SLICE, 40):
        monkeypatch.setattr(module, "SLICE", size)
        found = class_gram(case.risk, convention, by_layer=True).blocks
        for block, values in zip(blocks, found, strict=True):
            own = matrix[block.columns, block.columns]
            expected = torch.linalg.eigvalsh(own).flip(0)
            many = min(len(values), len(expected))
            gap = (values[:many] - expected[:many]).abs().max()
            assert float(gap) < 1e-11 * float(matrix.trace())


def test_the_parts_are_those_of_the_means(weighting: str) -> None:
    case, convention = solve("unequal"), CONVENTIONS[weighting]
    risk, settings = case.risk, MeasureSettings(tol=1e-8, weighting=weighting)
    pairs = top_eigenpairs(Dense(case.g), 6, tol=1e-9)
    bound = Bound(risk, curvatures(risk)["G"], settings)

    def split(way: type[Way], report: Report) -> Levels:
        solver = IterativeSolver(settings, 6, torch.Generator().manual_seed(0))
        prepared = way.prepare(bound, lambda share: None)
        return prepared.split(convention, pairs, solver, report)

    exact = split(KrylovWay, lambda share: None)
    told: list[float] = []
    found = split(StreamedWay, told.append)
    assert max(told) > 0.8
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
    found = thinned_means(risk, pairs, CONVENTIONS[weighting], sketch)
    means = class_means(
        case.problem.model, case.problem.data, weighting=weighting, level="ck"
    )
    assert means.cross is not None
    assert means.classes is not None
    rows = torch.cat([means.cross[pairs], means.classes, means.everything[None]])
    assert apart(found, sketch(rows)) < 1e-10
    x, label = case.problem.data
    drawn = [Drawn(x[i : i + 1], 0, int(y)) for i, y in enumerate(label)]
    gradients = thinned_gradients(risk, drawn, pairs, CONVENTIONS[weighting], sketch)
    if weighting == "slide":
        first = gradients.view(-1, 2, gradients.shape[1])[label == 0].mean(0)
        assert apart(first, found[:2]) < 1e-10
