"""Operators and their arithmetic, against matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles import apart
from tests.spectra import Counting, orthogonal, planted, symmetric_matrix
from workbench.errors import WorkbenchError
from workbench.linalg import operator as module
from workbench.linalg.operator import (
    Dense,
    LinearOperator,
    LowRank,
    Projected,
    Remembered,
    Scaled,
    Sum,
)

A = symmetric_matrix(torch.linspace(-2.0, 5.0, 9, dtype=torch.float64))
B = symmetric_matrix(torch.linspace(0.0, 1.0, 9, dtype=torch.float64), seed=1)
Q = orthogonal(9, seed=2)[:, :3]

CASES: dict[str, tuple[LinearOperator, Tensor]] = {
    "dense": (Dense(A), A),
    "low_rank": (LowRank(Q * 3), 9 * Q @ Q.T),
    "sum": (Dense(A) + Dense(B), A + B),
    "difference": (Dense(A) - Dense(B), A - B),
    "scaled": (Dense(A) * 2.5, 2.5 * A),
    "scaled_from_the_left": (-0.5 * Dense(A), -0.5 * A),
    "nested": (2.0 * (Dense(A) - LowRank(Q)) + Dense(B), 2 * (A - Q @ Q.T) + B),
    "projected": (
        Projected(Dense(A), Q),
        (torch.eye(9) - Q @ Q.T) @ A @ (torch.eye(9) - Q @ Q.T),
    ),
    "remembered": (Remembered(Dense(A), Q, A @ Q), A),
}


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest) -> tuple[LinearOperator, Tensor]:
    return CASES[request.param]


def test_products_are_those_of_the_matrix(pair: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = pair
    vectors = torch.randn(9, 4, dtype=torch.float64, generator=seeded())
    assert (operator.dim, operator.dtype) == (9, torch.float64)
    assert apart(operator.matmat(vectors), matrix @ vectors) < 1e-14
    assert apart(operator.matvec(vectors[:, 0]), matrix @ vectors[:, 0]) < 1e-14
    assert apart(operator.to_dense(), matrix) < 1e-14


def test_scipy_sees_the_same_matrix(pair: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = pair
    found = operator.to_scipy()
    assert found.shape == (9, 9)
    assert found.dtype == np.float64
    block = np.random.default_rng(0).standard_normal((9, 2))
    for given in (block, block[:, 0], block[:, :1]):
        product = found @ given
        assert product.shape == given.shape
        np.testing.assert_allclose(product, matrix.numpy() @ given, atol=1e-13)
    np.testing.assert_allclose(found.T @ block, matrix.numpy() @ block, atol=1e-13)


def test_scipys_eigensolver_finds_its_eigenvalues() -> None:
    from scipy.sparse.linalg import eigsh

    operator = Dense(symmetric_matrix(planted()))
    found = eigsh(operator.to_scipy(), k=5, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), sorted(planted().tolist())[-5:])


def test_operators_of_two_sizes_do_not_add() -> None:
    with pytest.raises(
        WorkbenchError, match="9 rows and 4 rows; expected operators of"
    ):
        Dense(A) + Dense(A[:4, :4])


def test_a_large_operator_is_not_made_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE_LIMIT", 8)
    with pytest.raises(WorkbenchError, match="has 9 rows and a dense matrix at most 8"):
        Dense(A).to_dense()


def test_a_wide_operator_is_made_dense_in_blocks() -> None:
    matrix = symmetric_matrix(torch.linspace(0.0, 1.0, 300, dtype=torch.float64))
    operator = Counting(matrix)
    assert apart(operator.to_dense(), matrix) < 1e-14
    assert operator.widths == [256, 44]


def test_what_is_remembered_costs_no_product() -> None:
    operator = Counting(A)
    remembered = Remembered(operator, Q, A @ Q)
    inside = Q @ torch.randn(3, 2, dtype=torch.float64, generator=seeded())
    assert apart(remembered.matmat(inside), A @ inside) < 1e-13
    assert operator.count == 0
    outside = torch.randn(9, 1, dtype=torch.float64, generator=seeded())
    mixed = torch.cat([inside, outside], dim=1)
    assert apart(remembered.matmat(mixed), A @ mixed) < 1e-13
    assert operator.count == 1


def test_operators_are_made_final() -> None:
    final = (Dense, LowRank, Sum, Scaled, Projected, Remembered)
    assert all(kind.__subclasses__() == [] for kind in final)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
