"""Operators and their arithmetic, against matrices."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from tests.oracles import apart
from tests.spectra import Counting, orthogonal, planted, symmetric_matrix
from workbench.errors import WorkbenchError
from workbench.linalg import operator as module
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import (
    Dense,
    Foreign,
    LinearOperator,
    LowRank,
    Projected,
    Remembered,
    Scaled,
    Sum,
    as_operator,
)
from workbench.linalg.trace import hutchpp, inverse_product

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


NUMPY = np.random.default_rng(0).standard_normal((9, 4))


def test_arrays_give_arrays_and_tensors_tensors(
    pair: tuple[LinearOperator, Tensor],
) -> None:
    operator, matrix = pair
    for given in (NUMPY, NUMPY[:, 0], NUMPY[::-1, ::2], NUMPY.astype(np.float32)):
        found = operator @ given
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype) == (given.shape, np.float64)
        np.testing.assert_allclose(found, matrix.numpy() @ given, atol=1e-13)
    columns = torch.from_numpy(NUMPY)
    assert isinstance(operator @ columns, Tensor)
    for method, given in ((operator.matmat, NUMPY), (operator.matvec, NUMPY[:, 1])):
        np.testing.assert_array_equal(method(given), operator @ given)
    whole = np.arange(9)
    np.testing.assert_allclose(operator @ whole, matrix.numpy() @ whole, atol=1e-13)


def test_vectors_multiply_from_the_left(pair: tuple[LinearOperator, Tensor]) -> None:
    operator, matrix = pair
    for given in (NUMPY.T, NUMPY[:, 0]):
        found = given @ operator
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, given @ matrix.numpy(), atol=1e-13)
        rows = torch.from_numpy(given)
        assert apart(rows @ operator, rows @ matrix) < 1e-14
    chain = operator @ Dense(B)
    np.testing.assert_allclose(
        NUMPY.T @ chain, NUMPY.T @ matrix.numpy() @ B.numpy(), atol=1e-13
    )


def test_an_operator_has_what_a_matrix_has(
    pair: tuple[LinearOperator, Tensor],
) -> None:
    operator, matrix = pair
    assert operator.shape == (operator @ Dense(B)).shape == (9, 9)
    assert apart((operator / 4).to_dense(), matrix / 4) < 1e-14
    assert apart((-operator).to_dense(), -matrix) < 1e-14
    assert apart((np.float64(3) * operator).to_dense(), 3 * matrix) < 1e-14
    assert re.fullmatch(r"<\w+, 9 x 9, float64 on cpu>", repr(operator))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ones(8), r"Dense times vectors of shape \(8,\); expected \(9, ?"),
        (np.ones((9, 1, 1)), r"shape \(9, 1, 1\); expected"),
        (torch.ones(4, 9), r"shape \(4, 9\); expected"),
        (np.ones(9) * 1j, "Dense times vectors of complex128; expected real numbers"),
        (torch.ones(9, dtype=torch.complex64), "of complex64; expected real"),
        (np.array(["a"] * 9), "of <U1; expected real"),
    ],
)
def test_what_no_matrix_multiplies_gets_one_sentence(given: Any, said: str) -> None:
    operator = Dense(A)
    for multiply in (operator.__matmul__, operator.matvec, operator.matmat):
        with pytest.raises(WorkbenchError, match=said):
            multiply(given)


def test_a_vector_is_no_column_for_matmat_and_columns_are_none_for_matvec() -> None:
    with pytest.raises(WorkbenchError, match=r"shape \(9,\); expected \(9, k\)\."):
        Dense(A).matmat(np.ones(9))
    with pytest.raises(WorkbenchError, match=r"shape \(9, 2\); expected \(9,\)\."):
        Dense(A).matvec(np.ones((9, 2)))


FOREIGN: dict[str, Any] = {
    "array": A.numpy(),
    "tensor": A,
    "sparse": scipy.sparse.csr_array(A.numpy()),
    "products": scipy.sparse.linalg.aslinearoperator(A.numpy()),
    "back_and_forth": scipy.sparse.linalg.aslinearoperator(Dense(A).to_scipy()),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_matrix_of_another_library_is_an_operator(kind: str) -> None:
    operator = as_operator(FOREIGN[kind])
    assert (operator.shape, operator.dtype) == ((9, 9), torch.float64)
    assert apart(operator.to_dense(), A) < 1e-14
    np.testing.assert_allclose(operator @ NUMPY, A.numpy() @ NUMPY, atol=1e-13)
    pairs = top_eigenpairs(FOREIGN[kind], 2, tol=1e-10)
    assert apart(pairs.values, torch.tensor([5.0, 4.125]).double()) < 1e-9
    density = spectral_density(FOREIGN[kind], num_steps=9)
    assert abs(density.trace - float(A.trace())) < density.trace_error
    assert abs(hutchpp(FOREIGN[kind], 40).value - float(A.trace())) < 1e-12
    solved = inverse_product(FOREIGN[kind], np.ones(9), damping=3.0)
    residual = A @ solved.vectors + 3 * solved.vectors - 1
    assert float(residual.norm()) < 1e-4


def test_single_precision_stays_and_whole_numbers_become_double() -> None:
    assert as_operator(A.numpy().astype(np.float32)).dtype == torch.float32
    assert as_operator(scipy.sparse.eye_array(3, dtype=int)).dtype == torch.float64
    assert as_operator(torch.eye(2, dtype=torch.int64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ([[1.0]], "who: the operator is a list; expected a symmetric LinearOp"),
        (Dense(A) @ Dense(B), "who: the operator is a Product; expected"),
        (np.ones((3, 4)), r"who: the matrix has shape \(3, 4\); expected a square"),
        (np.ones(3), r"shape \(3,\)"),
        (torch.ones(0, 0), r"shape \(0, 0\)"),
        (np.triu(np.ones((5, 5))), "who: the matrix is not symmetric"),
        (torch.ones(5, 5).tril(), "who: the matrix is not symmetric"),
        (scipy.sparse.csr_array(np.triu(np.ones((5, 5)))), "not symmetric"),
        (np.eye(3) * 1j, "who: the matrix contains complex128; expected real"),
        (torch.eye(3) * 1j, "who: the matrix contains complex64; expected real"),
        (np.full((2, 2), np.nan), "who: the matrix contains NaN"),
    ],
)
def test_what_is_no_symmetric_matrix_gets_one_sentence(matrix: Any, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        as_operator(matrix, "who")


def test_operators_of_two_sizes_do_not_add() -> None:
    with pytest.raises(WorkbenchError, match="9 and 4 rows; expected operators of"):
        Dense(A) + Dense(A[:4, :4])


def test_a_large_operator_is_not_made_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE_LIMIT", 8)
    with pytest.raises(
        WorkbenchError, match="has 9 rows and the limit for a dense matrix is 8"
    ):
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
    final = (Dense, Foreign, LowRank, Sum, Scaled, Projected, Remembered)
    assert all(kind.__subclasses__() == [] for kind in final)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
