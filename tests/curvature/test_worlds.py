"""Processes that share the examples find what one finds alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.cases import CASES
from tests.worlds import together
from workbench.curvature.gram.assembly import risk_gram
from workbench.curvature.gram.coordinates import (
    dense_gauss_newton,
    dual_coordinates,
    primal_eigenvectors,
    trace_gauss_newton,
)
from workbench.curvature.means.averages import cross_class_means
from workbench.curvature.problem.binding import empirical_risk
from workbench.curvature.products.operators import KINDS, Curvature
from workbench.machine.distributed import ALONE, World

NAMES = ("unequal", "ragged", "batch_norm", "convolution", "odd_convolutions")


def found(name: str, world: World) -> dict[str, Tensor]:
    """All that is summed over examples."""
    problem = CASES[name]()
    risk = empirical_risk(
        problem.model, problem.data, batch_size=problem.batch_size, world=world
    )
    vectors = torch.randn(
        risk.dim, 3, generator=torch.Generator().manual_seed(0), dtype=risk.dtype
    )
    one = replace(risk, world=ALONE, num_own=risk.num_examples)  # roots are not unique
    gram = risk_gram(one)
    place, root = dual_coordinates(gram)
    lifted = vectors[: place.g.dim]
    means = cross_class_means(risk)
    return {
        **{kind: Curvature(risk, kind).matmat(vectors) for kind in KINDS},
        "dense": dense_gauss_newton(risk).matrix,
        "trace": torch.tensor(trace_gauss_newton(risk)),
        "gram": risk_gram(risk).matrix,
        "plain": means.plain,
        "weighted": means.weighted,
        "mass": means.mass,
        "lifted": primal_eigenvectors(risk, root, lifted),
    }


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_processes_find_what_one_finds(name: str, size: int) -> None:
    alone = found(name, ALONE)
    several = together(size, lambda world: found(name, world))
    for key, expected in alone.items():
        for rank in range(size):
            error = (several[rank][key] - expected).abs().max()
            assert error <= 1e-12 * expected.abs().max(), (key, rank)
            assert torch.equal(several[rank][key], several[0][key])


def test_the_shares_of_a_batch_are_all_of_it() -> None:
    for count in range(9):
        for size in (1, 2, 3, 4):
            parts = [
                range(count)[World(rank, size).share(count)] for rank in range(size)
            ]
            assert [i for part in parts for i in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
