"""What holds for every network, tried on 200 random ones.

``STRESS=1000 pytest tests/stress`` tries as many of everything here.
"""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from tests import oracles
from tests.cases import Problem
from tests.oracles import apart
from tests.stress.networks import problems
from workbench.curvature.gram.assembly import gram
from workbench.curvature.means.averages import averages, cross_class_means
from workbench.curvature.means.class_means import class_means
from workbench.curvature.means.parts_of_g import (
    class_overlap,
    hierarchy,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.products import layerwise
from workbench.curvature.products.operators import network_of, operators
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.study.convention import CONVENTIONS


def stress(num: int) -> settings:
    """Try so many, always the same, or as many as STRESS says."""
    return settings(
        max_examples=int(os.environ.get("STRESS", num)),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def below(smaller: Tensor, larger: Tensor, scale: float) -> bool:
    """Whether each eigenvalue is at most that of the same rank, up to rounding."""
    num = min(len(smaller), len(larger))
    return bool((smaller[:num] <= larger[:num] + 1e-11 * scale).all())


@pytest.mark.slow
@stress(80)
@given(problems())
def test_every_identity_holds_on_a_random_network(problem: Problem) -> None:
    risk = empirical_risk(problem.model, problem.data, batch_size=problem.batch_size)
    ops = operators(
        problem.model, problem.data, batch_size=problem.batch_size, device=risk.device
    )
    grads = oracles.gradients(problem)
    g = oracles.gauss_newton(problem)
    largest = float(torch.linalg.eigvalsh(g)[-1])
    matrices = {kind: op.to_dense() for kind, op in ops.items()}

    # G by its definition, Hess = G + H, all symmetric
    assert apart(matrices["G"], g) < 1e-10
    flat = grads.delta.flatten(0, 1)
    assert apart(flat.T @ flat / len(problem.labels), g) < 1e-10
    size = matrices["Hess"].abs().max() + g.abs().max()
    assert float((matrices["G"] + matrices["H"] - matrices["Hess"]).abs().max()) <= (
        1e-10 * float(size)
    )
    for matrix in matrices.values():
        assert float((matrix - matrix.T).abs().max()) <= 1e-10 * float(size)

    # written out layer by layer, where the network can be read, the same
    with patch.object(layerwise, "SMALL", 0):
        read = operators(
            problem.model, problem.data, batch_size=problem.batch_size, device=None
        )
        if isinstance(network_of(read["G"]), layerwise.LayerWise):
            for kind, op in read.items():
                difference = float((op.to_dense() - matrices[kind]).abs().max())
                assert difference <= 1e-10 * float(size), kind

    # the dual has G's nonzero eigenvalues
    inner = gram(
        problem.model, problem.data, batch_size=problem.batch_size, device=None
    )
    dual = inner.eigenvalues()
    primal = oracles.eigenvalues(g)
    num = min(len(dual), len(primal))
    assert float((dual[:num] - primal[:num]).abs().max()) <= 1e-9 * largest
    for rest in (dual[num:], primal[num:]):
        assert not len(rest) or float(rest.abs().max()) <= 1e-9 * largest

    means = cross_class_means(risk)
    for weighting in CONVENTIONS:
        _check_parts(problem, weighting, g, grads, means, inner)


def _check_parts(problem, weighting, g, grads, means, inner) -> None:  # type: ignore[no-untyped-def]
    """Parts, inequalities, overlaps and knock-outs of one convention."""
    three = averages(means, CONVENTIONS[weighting])
    parts = hierarchy(three)
    matrix = {name: f @ f.T for name, f in parts.factors.items()}
    all_means = matrix.pop(parts.convention.means_part)
    rest = within(Dense(g), parts).to_dense()
    assert apart(sum(matrix.values()) + rest, g) < 1e-10
    expected = oracles.parts(grads, weighting)
    largest = float(g.trace())
    for name, part in expected.matrices.items():
        found = rest if name == parts.convention.within_part else matrix[name]
        assert float((found - part).abs().max()) <= 1e-10 * largest, name
        small, large = inner.part(name, weighting), oracles.eigenvalues(part)
        num = min(len(small), len(large))
        assert float((small[:num] - large[:num]).abs().max()) <= 1e-9 * largest, name

    whole = oracles.eigenvalues(g)
    middle = oracles.eigenvalues(all_means)
    class_part = oracles.eigenvalues(matrix[parts.convention.class_part])
    assert below(middle, whole, largest)
    assert below(class_part, middle, largest)
    assert float(torch.linalg.eigvalsh(rest)[0]) >= -1e-11 * largest
    for knock_out in (subtracted, projected):
        left = oracles.eigenvalues(knock_out(Dense(g), parts).to_dense())
        assert below(left, whole, largest)
        assert float(left[-1]) >= -1e-11 * largest

    vectors = torch.linalg.eigh(g)[1]
    for overlap in (span_overlap(parts, vectors), class_overlap(parts, vectors)):
        assert 0.0 <= float(overlap.min()) <= float(overlap.max()) <= 1.0
    for level in ("c", "ck", "G"):
        found = class_means(
            problem.model,
            problem.data,
            weighting=weighting,
            level=level,  # type: ignore[arg-type]
            batch_size=problem.batch_size,
            device=None,
        )
        scale = float(three.cross.abs().max())
        for mine, theirs in (
            (found.everything, three.everything),
            (found.classes, three.classes),
            (found.cross, three.cross),
        ):
            if mine is not None:
                assert float((mine - theirs).abs().max()) <= 1e-10 * scale


@stress(8)
@given(problems())
def test_eigenpairs_of_a_random_network_are_those_of_its_matrices(
    problem: Problem,
) -> None:
    ops = operators(problem.model, problem.data, batch_size=problem.batch_size)
    for kind in ("G", "Hess"):
        matrix = ops[kind].to_dense()
        exact = oracles.eigenvalues((matrix + matrix.T) / 2)
        k = min(4, len(exact))
        found = top_eigenpairs(ops[kind], k, tol=1e-6)
        scale = float(found.values.abs().max())
        assert found.status in ("converged", "breakdown")
        image = matrix @ found.vectors
        true = (image - found.vectors * found.values).norm(dim=0)
        assert (true <= found.residuals + 1e-9 * scale).all()
        nearest = (found.values[:, None] - exact).abs().min(1).values
        assert (nearest <= found.residuals + 1e-10 * scale).all()
        # Of two that both are zero to that tolerance either may be found.
        assert float((found.values - exact[:k]).abs().max()) <= 1e-5 * scale
