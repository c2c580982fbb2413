"""Trace, diagonal, inverse and chains of operators, against matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.oracles import apart
from tests.spectra import Counting, planted, symmetric_matrix
from workbench.errors import WorkbenchError
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense, Product
from workbench.linalg.trace import (
    TraceEstimate,
    hutchpp,
    inverse_product,
    xdiag,
    xtrace,
)

Estimator = Callable[..., TraceEstimate]
ESTIMATORS: list[Estimator] = [hutchpp, xtrace]
KINDS = {
    "planted": planted(),
    "decaying": 10 ** torch.linspace(0, -6, 150, dtype=torch.float64),
    "flat": 1 + 0.2 * torch.linspace(-1, 1, 150, dtype=torch.float64),
    "both_signs": torch.linspace(-7.0, 5.0, 150, dtype=torch.float64),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_of_a_trace_covers(estimator: Estimator, kind: str) -> None:
    matrix = symmetric_matrix(KINDS[kind])
    true, inside, off = float(matrix.trace()), 0, []
    for seed in range(100):
        found = estimator(Dense(matrix), 30, generator=seeded(seed))
        off.append(found.value - true)
        inside += abs(off[-1]) <= found.error
    assert inside >= 90
    mean, spread = sum(off) / 100, (sum(o * o for o in off) / 100) ** 0.5
    assert abs(mean) < 3.5 * spread / 10  # no bias


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_sketch_beats_plain_probes_where_eigenvalues_decay(
    estimator: Estimator,
) -> None:
    matrix = symmetric_matrix(10 ** torch.linspace(0, -15, 150).double())
    plain, sketched = (
        [abs(one(seed) - float(matrix.trace())) for seed in range(20)]
        for one in (
            lambda seed: (
                spectral_density(
                    Dense(matrix), num_steps=1, num_probes=60, generator=seeded(seed)
                ).trace
            ),
            lambda seed: estimator(Dense(matrix), 60, generator=seeded(seed)).value,
        )
    )
    assert sum(sketched) < 0.2 * sum(plain)


def test_xtrace_is_the_mean_of_the_estimates_that_leave_one_out() -> None:
    """The definition, with a basis for each estimate."""
    matrix = symmetric_matrix(planted())
    n, m = len(matrix), 6
    probes = torch.randn((n, m), generator=seeded(3), dtype=torch.float64)
    estimates = []
    for i in range(m):
        others = matrix @ torch.cat([probes[:, :i], probes[:, i + 1 :]], dim=1)
        basis = torch.linalg.qr(others)[0]
        off = probes[:, i] - basis @ (basis.T @ probes[:, i])
        rest = (n - m + 1) / off.dot(off) * off.dot(matrix @ off)
        estimates.append((basis.T @ matrix @ basis).trace() + rest)
    found = xtrace(Dense(matrix), 2 * m, generator=seeded(3))
    assert found.value == pytest.approx(float(torch.stack(estimates).mean()), rel=1e-9)


def test_xdiag_is_the_mean_of_the_estimates_that_leave_one_out() -> None:
    matrix = symmetric_matrix(planted())
    n, m = len(matrix), 6
    signs = torch.randn((n, m), generator=seeded(3), dtype=torch.float64).sign()
    estimates = []
    for i in range(m):
        others = matrix @ torch.cat([signs[:, :i], signs[:, i + 1 :]], dim=1)
        basis = torch.linalg.qr(others)[0]
        inside = basis @ (basis.T @ matrix)
        rest = matrix @ signs[:, i] - inside @ signs[:, i]
        estimates.append(inside.diagonal() + signs[:, i] * rest)
    found = xdiag(Dense(matrix), 2 * m, generator=seeded(3))
    assert apart(found.values, torch.stack(estimates).mean(0)) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_the_intervals_of_a_diagonal_cover(kind: str) -> None:
    matrix = symmetric_matrix(KINDS[kind])
    inside = []
    for seed in range(20):
        found = xdiag(Dense(matrix), 40, generator=seeded(seed))
        off = (found.values - matrix.diagonal()).abs()
        inside.append((off <= found.errors).double().mean())
    assert float(torch.stack(inside).mean()) > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 1, 4, 12])
def test_what_has_a_low_rank_or_few_rows_is_exact(
    rank: int, dtype: torch.dtype
) -> None:
    spectrum = torch.zeros(12, dtype=torch.float64)
    spectrum[:rank] = torch.linspace(3, 1, rank)
    matrix = symmetric_matrix(spectrum).to(dtype)
    slack = 1e-4 if dtype == torch.float32 else 1e-10
    for estimator in ESTIMATORS:
        found = estimator(Dense(matrix), 72)
        assert found.value == pytest.approx(float(spectrum.sum()), abs=slack)
        assert found.error <= slack
    diagonal = xdiag(Dense(matrix), 72)
    assert apart(diagonal.values, matrix.diagonal().double()) < slack
    assert float(diagonal.errors.max()) <= slack


@pytest.mark.parametrize("estimator", [*ESTIMATORS, xdiag])
def test_no_more_products_are_taken_than_asked_for(
    estimator: Callable[..., TraceEstimate],
) -> None:
    for num in (4, 7, 30):
        operator = Counting(symmetric_matrix(planted()))
        found = estimator(operator, num)
        assert found.num_matvecs == operator.count <= num


@pytest.mark.parametrize("estimator", [*ESTIMATORS, xdiag])
def test_estimators_refuse_with_a_sentence(
    estimator: Callable[..., TraceEstimate],
) -> None:
    with pytest.raises(WorkbenchError, match="num_matvecs is 2; expected at least"):
        estimator(Dense(torch.eye(3)), 2)
    with pytest.raises(WorkbenchError, match="returned NaN or infinity"):
        estimator(Dense(torch.full((9, 9), torch.nan)), 6)
    with pytest.raises(WorkbenchError, match="expected a symmetric LinearOperator"):
        estimator([[1.0]], 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_products_solve_their_equations(dtype: torch.dtype) -> None:
    matrix = symmetric_matrix(10 ** torch.linspace(0, -3, 60).double())
    operator = Counting(matrix.to(dtype))
    rhs = torch.randn(60, 3, generator=seeded(), dtype=torch.float64)
    found = inverse_product(operator, rhs.to(dtype), damping=0.01, tol=1e-4)
    damped = matrix + 0.01 * torch.eye(60).double()
    off = (damped @ found.vectors.double() - rhs).norm(dim=0) / rhs.norm(dim=0)
    assert found.status == "converged"
    assert float(off.max()) <= 1.1e-4
    assert float((found.residuals - off).abs().max()) < 1e-6
    assert found.num_matvecs == operator.count
    one = inverse_product(operator, rhs[:, 0].to(dtype), damping=0.01, tol=1e-4)
    assert one.vectors.shape == (60,)
    assert apart(one.vectors.double(), found.vectors[:, 0].double()) < 1e-2
    few = inverse_product(operator, rhs.to(dtype), tol=1e-9, max_steps=2)
    assert (few.status, few.num_matvecs) == ("max_steps", 9)
    nothing = inverse_product(operator, 0 * rhs.to(dtype))
    assert not nothing.vectors.any()


def test_an_indefinite_operator_is_refused_unless_damping_makes_it_definite() -> None:
    matrix = symmetric_matrix(torch.linspace(-0.5, 3.0, 40, dtype=torch.float64))
    rhs = torch.ones(40, dtype=torch.float64)
    with pytest.raises(WorkbenchError, match=r"is not positive definite .* more damp"):
        inverse_product(Dense(matrix), rhs)
    damped = inverse_product(Dense(matrix), rhs, damping=0.6)
    assert damped.status == "converged"
    with pytest.raises(WorkbenchError, match=r"has shape \(3,\); expected \(40,\)"):
        inverse_product(Dense(matrix), torch.ones(3))
    with pytest.raises(WorkbenchError, match="tol is -1"):
        inverse_product(Dense(matrix), rhs, tol=-1)


A = symmetric_matrix(torch.linspace(-2.0, 5.0, 9, dtype=torch.float64))
B = symmetric_matrix(torch.linspace(0.0, 1.0, 9, dtype=torch.float64), seed=1)
V = torch.randn(9, 4, dtype=torch.float64, generator=seeded())


def test_operators_multiply_like_matrices() -> None:
    a, b = Dense(A), Dense(B)
    assert apart(a @ V, A @ V) < 1e-14
    assert apart(a @ V[:, 0], A @ V[:, 0]) < 1e-14
    assert (a @ V[:, 0]).shape == (9,)
    assert a.T is a
    chain = a @ b
    assert isinstance(chain, Product)
    assert apart(chain.to_dense(), A @ B) < 1e-14
    assert apart(chain @ V, A @ B @ V) < 1e-14
    assert apart(chain.T.to_dense(), B @ A) < 1e-14
    assert apart((chain @ a).to_dense(), A @ B @ A) < 1e-13
    assert apart((a @ chain).to_dense(), A @ A @ B) < 1e-13
    assert apart((chain @ chain.T) @ V, A @ B @ B @ A @ V) < 1e-13


def test_a_chain_that_is_not_symmetric_is_no_symmetric_operator() -> None:
    chain = Dense(A) @ Dense(B)
    with pytest.raises(WorkbenchError, match="a Product; expected a symmetric"):
        top_eigenpairs(chain, 2)  # type: ignore[arg-type]
    with pytest.raises(WorkbenchError, match="a Product; expected a symmetric"):
        spectral_density(chain)  # type: ignore[arg-type]
    with pytest.raises(WorkbenchError, match=r"shape \(3,\); expected \(9,\)"):
        Dense(A) @ torch.ones(3)
    with pytest.raises(WorkbenchError, match="9 columns and the right one 3 rows"):
        Dense(A) @ Dense(torch.eye(3))


def test_a_tensor_is_not_given_to_an_estimator_of_operators() -> None:
    matrix: Tensor = A
    with pytest.raises(TypeError):
        Dense(matrix) @ 3.0  # type: ignore[operator]
