"""Leading eigenpairs on planted spectra: values, residual bounds, counts, failures."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests.oracles import apart
from tests.spectra import (
    OUTLIERS,
    SPECTRA,
    Counting,
    orthogonal,
    planted,
    symmetric_matrix,
)
from workbench.errors import WorkbenchError
from workbench.linalg.lanczos import EigenPairs, Which, top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.linalg.tridiagonal import tridiagonalise

ENDS: list[Which] = ["LA", "SA", "BE"]
EPS = {torch.float32: 1.2e-7, torch.float64: 2.2e-16}


@pytest.fixture(params=SPECTRA)
def spectrum(request: pytest.FixtureRequest) -> Tensor:
    return SPECTRA[request.param]()


def wanted(spectrum: Tensor, k: int, which: Which) -> Tensor:
    """What a dense eigensolver would return."""
    values = spectrum.sort(descending=True).values
    if which == "LA" or (2 * k >= len(values) and which == "BE"):
        return values[: k if which == "LA" else None]
    return values[-k:] if which == "SA" else torch.cat([values[:k], values[-k:]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check(found: EigenPairs, matrix: Tensor, spectrum: Tensor) -> None:
    """All that a result promises whatever the iteration came to."""
    matrix = matrix.double()
    rounding = 30 * EPS[found.vectors.dtype] * float(spectrum.abs().max())
    vectors, basis = found.vectors.double(), found.basis.double()
    residuals = (matrix @ vectors - vectors * found.values).norm(dim=0)
    assert float((residuals - found.residuals).abs().max()) <= rounding
    distances = (found.values[:, None] - spectrum).abs().min(1).values
    assert (distances <= found.residuals + rounding).all()
    for columns in (vectors, basis):
        eye = torch.eye(columns.shape[1]).double()
        error = (columns.T @ columns - eye).abs().max()
        assert float(error) < 100 * EPS[found.vectors.dtype]
    assert float((matrix @ basis - found.images).abs().max()) <= rounding
    assert (found.values.diff() <= 0).all()


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("k", [1, 5])
def test_values_are_those_of_the_matrix(spectrum: Tensor, k: int, which: Which) -> None:
    matrix = symmetric_matrix(spectrum)
    found = top_eigenpairs(
        Dense(matrix), k, tol=1e-10, which=which, block_size=3, max_matvecs=500,
        generator=seeded(),
    )  # fmt: skip
    expected = wanted(spectrum, k, which)
    check(found, matrix, spectrum)
    scale = float(spectrum.abs().max())
    assert found.values.shape == expected.shape
    assert float((found.values - expected).abs().max()) <= 1e-9 * scale


@pytest.mark.parametrize("which", ENDS)
def test_a_single_vector_finds_clusters_too(spectrum: Tensor, which: Which) -> None:
    matrix = symmetric_matrix(spectrum)
    found = top_eigenpairs(Dense(matrix), 4, tol=1e-10, which=which, max_matvecs=500)
    check(found, matrix, spectrum)
    expected = wanted(spectrum, 4, which)
    scale = float(spectrum.abs().max())
    assert float((found.values - expected).abs().max()) <= 1e-9 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_residual_bounds_hold_however_it_ends(
    spectrum: Tensor, dtype: torch.dtype
) -> None:
    matrix = symmetric_matrix(spectrum, seed=3).to(dtype)
    for which, tol, limit, block_size in itertools.product(
        ENDS, (0.3, 1e-12), (2, 9, None), (None, 4)
    ):
        found = top_eigenpairs(
            Dense(matrix), 3, tol=tol, which=which, block_size=block_size,
            max_matvecs=limit, generator=seeded(1),
        )  # fmt: skip
        check(found, matrix, spectrum)
        size = max(float(found.values.abs().max()), 1e-300)
        if found.status == "converged":
            assert float(found.residuals.max()) <= tol * size
        if found.status == "max_steps":
            assert float(found.residuals.max()) > tol * size


@pytest.mark.parametrize("which", ENDS)
def test_matvecs_are_counted_truthfully(spectrum: Tensor, which: Which) -> None:
    for k, block_size, limit in itertools.product((1, 4), (None, 3), (None, 9)):
        operator = Counting(symmetric_matrix(spectrum))
        found = top_eigenpairs(
            operator, k, tol=1e-9, which=which, block_size=block_size, max_matvecs=limit
        )
        assert found.num_matvecs == operator.count == found.basis.shape[1]
        assert found.num_matvecs <= operator.dim
        if limit is not None:
            assert found.num_matvecs <= max(limit, 2 * k)


def test_status_says_how_it_ended() -> None:
    matrix = symmetric_matrix(planted())
    few = top_eigenpairs(Dense(matrix), 3, tol=1e-8, max_matvecs=6)
    enough = top_eigenpairs(Dense(matrix), 3, tol=1e-8)
    whole = top_eigenpairs(Dense(matrix[:5, :5]), 5, tol=1e-30)
    assert (few.status, few.num_matvecs) == ("max_steps", 6)
    assert enough.status == "converged"
    assert enough.num_matvecs < len(matrix)
    assert (whole.status, whole.num_matvecs) == ("breakdown", 5)


@pytest.mark.parametrize("k", [5, 6, 50])
@pytest.mark.parametrize("which", ENDS)
def test_asking_for_more_than_there_are_gives_all(k: int, which: Which) -> None:
    spectrum = torch.tensor([4.0, 1.0, 0.0, -1.0, -6.0]).double()
    matrix = symmetric_matrix(spectrum)
    found = top_eigenpairs(Dense(matrix), k, which=which, tol=1e-12)
    assert apart(found.values, spectrum) < 1e-13
    check(found, matrix, spectrum)


def test_the_two_ends_can_have_numbers_of_their_own() -> None:
    spectrum = planted()
    matrix = symmetric_matrix(spectrum)
    found = top_eigenpairs(Dense(matrix), 5, k_low=2, which="BE", tol=1e-9)
    low = spectrum.sort().values[:2].flip(0)
    assert apart(found.values, torch.cat([torch.tensor(OUTLIERS).double(), low])) < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_low_end_beside_large_outliers_is_held_to_its_own_size(
    dtype: torch.dtype,
) -> None:
    low = torch.tensor([-0.21, -0.24, -0.28, -0.32], dtype=torch.float64)
    bulk = torch.linspace(0.3, -0.2, 390, dtype=torch.float64)
    spectrum = torch.cat([torch.tensor([150.0, 80.0, 30.0]).double(), bulk, low])
    operator = Dense(symmetric_matrix(spectrum).to(dtype))
    loose, held = (
        top_eigenpairs(operator, 3, k_low=4, which="BE", tol_low=tol_low)
        for tol_low in (None, 1e-2)
    )
    assert float((loose.values[3:] - low).abs().max()) > 0.05  # none of the lowest
    assert float((held.values[3:] - low).abs().max()) < 1e-3
    assert float(held.residuals[3:].max()) <= 1e-2 * 0.32
    assert held.status == "converged"


def test_a_low_end_that_fades_to_zero_takes_no_more_than_its_tolerance() -> None:
    fading = 10 ** torch.linspace(-1, -14, 295, dtype=torch.float64)
    operator = Dense(symmetric_matrix(torch.cat([torch.tensor(OUTLIERS), fading])))
    found = top_eigenpairs(operator, 5, k_low=3, which="BE", tol_low=2e-2)
    assert found.status == "converged"
    assert found.num_matvecs < 100
    assert float(found.values[5:].abs().max()) < 1e-3 * float(found.values[0])


HUGE = torch.tensor([1e-150, 1.0, 1e150], dtype=torch.float64)
STARTS = {
    "dependent": lambda turn: turn[:, :2] @ torch.ones(2, 4).double(),
    "zero_column": lambda turn: torch.cat([turn[:, :2], torch.zeros(40, 1)], dim=1),
    "all_zero": lambda turn: torch.zeros(40, 2).double(),
    "tiny_and_huge": lambda turn: turn[:, :3] @ torch.diag(HUGE),
    "too_wide": lambda turn: torch.cat([turn, turn], dim=1),
    "single_precision": lambda turn: turn[:, :2].float(),
    "eigenvectors": lambda turn: turn[:, :3],
    "lower_eigenvectors": lambda turn: turn[:, 5:9],
}


@pytest.mark.parametrize("name", STARTS)
def test_any_start_leads_to_the_top(name: str) -> None:
    spectrum = torch.linspace(5.0, -7.0, 40, dtype=torch.float64)
    turn = orthogonal(40)
    matrix = symmetric_matrix(spectrum)
    found = top_eigenpairs(
        Dense(matrix), 3, tol=1e-10, start=STARTS[name](turn), generator=seeded()
    )
    check(found, matrix, spectrum)
    assert apart(found.values, spectrum[:3]) < 1e-9


def test_dependent_columns_of_a_start_cost_no_matvec() -> None:
    operator = Counting(symmetric_matrix(planted()))
    column = torch.ones(operator.dim, 1, dtype=torch.float64)
    top_eigenpairs(operator, 2, start=column * torch.tensor([[1.0, -2.0, 0.0, 3.0]]))
    assert operator.widths[0] == 1


def test_a_start_near_the_eigenvectors_saves_matvecs() -> None:
    spectrum = planted()
    matrix, turn = symmetric_matrix(spectrum), orthogonal(len(spectrum))
    noise = torch.randn(len(spectrum), 5, dtype=torch.float64, generator=seeded())
    near = turn[:, :5] + 1e-3 * noise
    informed = top_eigenpairs(Dense(matrix), 5, start=near)
    blind = top_eigenpairs(Dense(matrix), 5, block_size=5)
    assert informed.num_matvecs < blind.num_matvecs
    assert apart(informed.values, blind.values) < 1e-5


def test_a_block_takes_no_more_products_of_blocks_than_its_share() -> None:
    operator = Counting(symmetric_matrix(planted()))
    found = top_eigenpairs(operator, 5, block_size=5)
    assert found.num_matvecs == operator.count
    blocks = [width for width in operator.widths if width > 1]
    assert blocks == [5] * len(blocks) == operator.widths[: len(blocks)]
    assert len(blocks) < 8
    assert len(operator.widths) - len(blocks) <= 5  # a look for copies, one by one


def test_the_same_seed_gives_the_same_bits() -> None:
    operator = Dense(symmetric_matrix(planted()))
    first, again = (top_eigenpairs(operator, 4, generator=seeded(5)) for _ in range(2))
    other = top_eigenpairs(operator, 4, generator=seeded(6))
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    assert apart(first.values, other.values) < 1e-5


def test_single_precision_finds_the_same_values() -> None:
    matrix = symmetric_matrix(planted())
    found = top_eigenpairs(Dense(matrix.float()), 5, tol=1e-5, block_size=5)
    assert found.vectors.dtype == torch.float32
    assert found.values.dtype == torch.float64
    assert apart(found.values, torch.tensor(OUTLIERS).double()) < 1e-6


def test_a_larger_scale_is_content_with_less() -> None:
    operator = Dense(symmetric_matrix(planted()))
    strict = top_eigenpairs(operator, 5, tol=1e-6)
    content = top_eigenpairs(operator, 5, tol=1e-6, scale=3e4)
    assert content.num_matvecs < strict.num_matvecs
    assert float(content.residuals.max()) <= 1e-6 * 3e4


def test_each_step_is_reported_until_the_tolerance_is_met() -> None:
    reports: list[float] = []
    top_eigenpairs(
        Dense(symmetric_matrix(planted())), 5, tol=1e-4, report=reports.append
    )
    assert len(reports) > 5
    assert reports[-1] <= 1e-4 < min(reports[:-1])


def test_bad_input_gets_a_sentence() -> None:
    operator = Dense(symmetric_matrix(planted()))
    broken = Dense(torch.full((4, 4), torch.nan))
    with pytest.raises(
        WorkbenchError, match="k is 0; expected a whole number, at least 1"
    ):
        top_eigenpairs(operator, 0)
    with pytest.raises(WorkbenchError, match="the operator returned NaN or infinity"):
        top_eigenpairs(broken, 1)
    with pytest.raises(
        WorkbenchError, match="which is 'LM'; expected 'LA', 'SA' or 'BE'"
    ):
        top_eigenpairs(operator, 1, which="LM")  # type: ignore[arg-type]
    with pytest.raises(WorkbenchError, match=r"start has shape \(7, 2\); expected"):
        top_eigenpairs(operator, 1, start=torch.ones(7, 2))


def test_tridiagonalise_obeys_its_three_term_relation() -> None:
    """``A Q_m = Q_m T_m + beta_m q_{m+1} e_m^T``, from the leading minors of T."""
    matrix = symmetric_matrix(planted())
    start = torch.randn(len(matrix), 3, dtype=torch.float64, generator=seeded())
    num_steps = 12
    alpha, beta = tridiagonalise(Dense(matrix), start, num_steps)
    assert alpha.shape == (3, num_steps)
    assert beta.shape == (3, num_steps - 1)
    for probe in range(3):
        q = [start[:, probe] / start[:, probe].norm()]
        for m in range(num_steps - 1):
            rest = matrix @ q[m] - alpha[probe, m] * q[m]
            if m:
                rest = rest - beta[probe, m - 1] * q[m - 1]
            q.append(rest / beta[probe, m])
        basis = torch.stack(q)
        assert apart(basis @ basis.T, torch.eye(num_steps).double()) < 1e-6
        triangular = torch.diag(alpha[probe]) + torch.diag(beta[probe], 1)
        triangular = triangular + torch.diag(beta[probe], -1)
        assert apart(basis @ matrix @ basis.T, triangular) < 1e-6


def test_tridiagonalise_ends_with_zeros_where_the_subspace_is_invariant() -> None:
    spectrum = torch.tensor([3.0, 1.0] + [0.0] * 8).double()
    matrix, turn = symmetric_matrix(spectrum), orthogonal(10)
    start = torch.stack([turn[:, 0], turn[:, 0] + turn[:, 1], turn.sum(1)], dim=1)
    alpha, beta = tridiagonalise(Dense(matrix), start, 6)
    assert alpha[0].tolist() == pytest.approx([3.0, 0, 0, 0, 0, 0], abs=1e-13)
    assert beta[0].tolist() == [0.0] * 5
    assert alpha[1].tolist() == pytest.approx([2.0, 2.0, 0, 0, 0, 0], abs=1e-13)
    assert beta[1].tolist() == pytest.approx([1.0, 0, 0, 0, 0], abs=1e-13)
    assert beta[2, 2:].tolist() == [0.0] * 3


def test_tridiagonalise_shares_the_products_between_probes() -> None:
    operator = Counting(symmetric_matrix(planted()))
    shares: list[float] = []
    start = torch.randn(operator.dim, 4, dtype=torch.float64, generator=seeded())
    tridiagonalise(operator, start, 9, shares.append)
    assert operator.widths == [4] * 9
    assert shares == pytest.approx([(m + 1) / 9 for m in range(9)])
