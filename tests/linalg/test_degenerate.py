"""Leading eigenpairs where numbers are extreme: scales, zeros, copies, little room."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.spectra import Counting, orthogonal, planted, symmetric_matrix
from workbench.errors import WorkbenchError
from workbench.linalg.lanczos import (
    EigenPairs,
    Which,
    subspace_vectors,
    top_eigenpairs,
)
from workbench.linalg.operator import Dense, LinearOperator

FACTORS = {
    torch.float64: (1e-300, 1e-170, 1e-20, 1e30, 1e150, 1e290),
    torch.float32: (1e-32, 1e-30, 1e-24, 1e-20, 1e-12, 1e12, 1e30, 1e36),
}


class Diagonal(LinearOperator):
    """Any symmetric matrix, seen from its eigenvectors."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.dim, self.dtype, self.device = len(values), values.dtype, values.device

    def _matmat(self, vectors: Tensor) -> Tensor:
        return self.values[:, None] * vectors


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", FACTORS)
@pytest.mark.parametrize("which", ["LA", "SA", "BE"])
def test_the_answer_does_not_depend_on_the_unit(
    dtype: torch.dtype, which: Which
) -> None:
    matrix = symmetric_matrix(planted())
    tol = 1e-3 if dtype == torch.float32 else 1e-8
    plain = top_eigenpairs(Dense(matrix.to(dtype)), 5, which=which, tol=tol)
    for factor in FACTORS[dtype]:
        scaled = (matrix * factor).to(dtype)
        found = top_eigenpairs(Dense(scaled), 5, which=which, tol=tol)
        assert found.status == "converged"
        values = found.values / factor
        assert float((values - plain.values).abs().max()) <= 30 * tol
        image = (scaled.double() / factor) @ found.vectors.double()
        true = (image - found.vectors.double() * values).norm(dim=0)
        rounding = 3e-4 if dtype == torch.float32 else 1e-12
        assert float((true - found.residuals / factor).abs().max()) <= rounding
        images = found.images.double() / factor
        basis = (scaled.double() / factor) @ found.basis.double()
        assert float((images - basis).abs().max()) <= rounding


def test_products_that_have_lost_digits_are_refused() -> None:
    matrix = (symmetric_matrix(planted()) * 1e-41).float()
    with pytest.raises(WorkbenchError, match="too small for the precision of"):
        top_eigenpairs(Dense(matrix), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", ["LA", "SA", "BE"])
def test_a_zero_operator_has_exact_zeros(which: Which, dtype: torch.dtype) -> None:
    found = top_eigenpairs(Dense(torch.zeros(300, 300, dtype=dtype)), 4, which=which)
    assert found.status == "breakdown"
    assert not found.values.any()
    assert not found.residuals.any()
    assert not found.errors.any()
    assert found.num_matvecs < 30
    eye = found.vectors.T @ found.vectors
    assert float((eye - torch.eye(len(eye))).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"tol": -1e-3}, "tol is -0.001; expected a positive fraction"),
        ({"tol": 0.0}, "tol is 0.0; expected a positive fraction"),
        ({"tol": math.nan}, "tol is nan; expected a positive fraction"),
        ({"tol_low": -1.0, "which": "BE"}, "tol_low is -1.0; expected a positive"),
        ({"tol_low": math.nan}, "tol_low is nan; expected a positive"),
        (
            {"k_low": 0, "which": "BE"},
            "k_low is 0; expected a whole number, at least 1",
        ),
        (
            {"k_low": -3, "which": "BE"},
            "k_low is -3; expected a whole number, at least 1",
        ),
        ({"block_size": 0}, "block_size is 0; expected a whole number, at least 1"),
        ({"max_matvecs": 0}, "max_matvecs is 0; expected a whole number, at least 1"),
        ({"max_matvecs": -5}, "max_matvecs is -5; expected a whole number, at least 1"),
        ({"max_vectors": 4}, "max_vectors is 4; expected at least 5"),
        ({"scale": math.nan}, "scale is nan; expected the size of a matrix"),
        ({"scale": -1.0}, "scale is -1.0; expected the size of a matrix"),
        ({"start": torch.full((120, 1), math.inf)}, "start contains NaN or infinity"),
    ],
)
def test_an_option_out_of_range_gets_a_sentence(
    option: dict[str, Any], words: str
) -> None:
    with pytest.raises(WorkbenchError, match=words) as caught:
        top_eigenpairs(Dense(symmetric_matrix(planted())), 3, **option)
    assert len(str(caught.value)) <= 300


def test_what_is_no_symmetric_operator_gets_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match="expected a symmetric LinearOperator"):
        top_eigenpairs([[1.0]], 1)  # type: ignore[arg-type]


def with_copies(seed: int) -> tuple[Tensor, int]:
    """A spectrum with repeated or nearly repeated leading values, and how many."""
    generator = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    copies, num = draw(2, 10), draw(30, 60)
    leading = [
        [10.0] * copies + [5.0] * draw(1, 3),
        [20.0 - 4 * j for j in range(draw(2, 4)) for _ in range(draw(1, copies))],
        (30 * 0.8 ** torch.arange(12.0)).tolist() + [30 * 0.8**4] * copies,
        [10 * (1 + 1e-7 * j) for j in range(copies)] + [8.0],
        torch.linspace(2, 9, 5).repeat(copies).tolist(),
    ][draw(0, 4)]
    bulk = [
        torch.linspace(-1, 1, num),
        10 ** torch.linspace(0, -6, num),
        torch.cat([torch.zeros(num), torch.linspace(0, 1.5, num)]),
    ][draw(0, 2)]
    spectrum = torch.cat([torch.tensor(leading).double(), bulk.double()])
    return spectrum.sort(descending=True).values, draw(1, min(12, len(leading)))


def test_no_copy_of_a_leading_eigenvalue_is_missing_in_200_trials() -> None:
    for seed in range(200):
        spectrum, k = with_copies(seed)
        dtype = torch.float32 if seed % 2 else torch.float64
        tol = 1e-3 if seed % 3 else 1e-5
        start = None
        if seed % 5 == 0:  # a vector that has no part in the first ten
            start = torch.ones(len(spectrum), 1, dtype=dtype)
            start[:10] = 0
        found = top_eigenpairs(
            Diagonal(spectrum.to(dtype)),
            k,
            tol=tol,
            start=start,
            generator=seeded(seed),
        )
        assert found.status == "converged" or found.num_matvecs == len(spectrum)
        off = float((found.values - spectrum[:k]).abs().max())
        assert off <= 1.1 * tol * float(spectrum[0]), seed


@pytest.mark.parametrize("copies", range(2, 11))
def test_every_copy_is_found_from_a_single_vector(copies: int) -> None:
    bulk = torch.linspace(1.0, -1.0, 400, dtype=torch.float64)
    spectrum = torch.cat([torch.full((copies,), 9.0).double(), bulk])
    found = top_eigenpairs(Diagonal(spectrum), copies)
    assert found.status == "converged"
    assert float((found.values - 9).abs().max()) < 1e-2


def test_looking_for_copies_costs_a_few_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outliers = torch.tensor([30.0, 24, 21, 15, 12, 10, 9, 8, 7, 6])
    decaying = 3 * 10 ** torch.linspace(0, -8, 5000)
    operator = Diagonal(torch.cat([outliers, decaying]))
    found = top_eigenpairs(operator, 10, generator=seeded())
    monkeypatch.setattr("workbench.linalg.lanczos.LOOK", 1)
    blind = top_eigenpairs(operator, 10, generator=seeded())
    assert found.num_matvecs - (blind.num_matvecs - 1) <= 6
    assert torch.equal(found.errors, found.residuals)  # nothing else is out there


def like_h(seed: int) -> Tensor:
    """A spectrum like H's: a bulk of both signs, ends of very different size."""
    generator = seeded(seed)
    P = int(torch.randint(100, 160, (1,), generator=generator))
    normal = torch.randn(P, generator=generator, dtype=torch.float64)
    even = torch.rand(P, generator=generator, dtype=torch.float64)
    half = P // 2
    found = [
        torch.cat([1e-3 * normal[5:], torch.tensor([1.0, 0.5, 0.4, 0.3, 0.2])]),
        0.01 * normal * normal.abs() ** 2,
        torch.cat([-2e-3 * even[:4], even[4:] ** 6]),  # four negative ones
        torch.cat([-2e-3 * even[:half] ** 3, even[half:] ** 8]),
    ][seed % 4]
    return found.sort(descending=True).values


def test_no_value_of_either_end_is_beyond_its_error_in_200_trials() -> None:
    beyond, errors, sizes = 0, [], []
    for seed in range(200):
        spectrum = like_h(seed)
        dtype = torch.float32 if seed % 8 < 4 else torch.float64
        found = top_eigenpairs(
            Diagonal(spectrum.to(dtype)),
            5,
            which="BE",
            tol=0.02,
            tol_low=0.02,
            generator=seeded(seed),
        )
        assert found.num_high == 5
        true = torch.cat([spectrum[:5], spectrum[-5:]])
        off = (found.values - true).abs()
        rounding = 1e-7 * float(spectrum.abs().max())
        beyond += int((off > found.errors + rounding).sum())
        errors.append(float(found.errors[-1]))
        sizes.append(float(-spectrum[-1]))
    assert beyond == 0  # of 2,000
    assert sum(errors) < 0.4 * sum(sizes)  # and they say something


def any_spectrum(seed: int) -> Tensor:
    """One of eight kinds: outliers or none, ends of very different size, or edges."""
    generator = seeded(1000 + seed)
    P = int(torch.randint(100, 250, (1,), generator=generator))
    normal = torch.randn(P, generator=generator, dtype=torch.float64)
    even = torch.rand(P, generator=generator, dtype=torch.float64)
    half, apart = P // 2, 10 * even[:8]
    square = torch.randn(P, P // 2, generator=generator, dtype=torch.float64)
    found = [
        torch.cat([1e-3 * normal[5:], torch.tensor([1.0, 0.5, 0.4, 0.3, 0.2])]),
        0.01 * normal * normal.abs() ** 2,
        torch.cat([-2e-3 * even[:4], even[4:] ** 6]),
        torch.cat([-2e-3 * even[:half] ** 3, even[half:] ** 8]),
        normal,
        even,
        torch.cat([normal[8:], apart]),
        torch.linalg.eigvalsh(square @ square.T / P),  # half of them zeros
    ][seed % 8]
    return found.sort(descending=True).values


@pytest.mark.parametrize(("block_size", "max_vectors"), [(None, None), (4, 60)])
def test_at_loose_tolerances_no_more_than_two_of_forty_have_a_value_beyond(
    block_size: int | None, max_vectors: int | None
) -> None:
    """A residual of .05 says where some eigenvalue lies, not that none was missed."""
    beyond, errors = 0, 0.0
    for seed in range(40):
        spectrum = any_spectrum(seed)
        dtype = torch.float32 if seed % 16 < 8 else torch.float64
        found = top_eigenpairs(
            Diagonal(spectrum.to(dtype)),
            5,
            which="BE",
            tol=0.05,
            tol_low=0.05,
            block_size=block_size,
            max_vectors=max_vectors,
            generator=seeded(seed),
        )
        true = torch.cat([spectrum[:5], spectrum[-5:]])
        off = (found.values - true).abs()
        size = float(spectrum.abs().max())
        beyond += bool((off > found.errors + 1e-6 * size).any())
        errors += float(found.errors.mean()) / size
    assert beyond <= 2
    assert errors < 0.05 * 40  # and they say something


def test_a_bound_that_is_wrong_would_be_seen() -> None:
    """Residuals alone are too small in a good part of these trials."""
    beyond = 0
    for seed in range(40):
        spectrum = any_spectrum(seed)
        found = top_eigenpairs(
            Diagonal(spectrum),
            5,
            which="BE",
            tol=0.05,
            tol_low=0.05,
            generator=seeded(seed),
        )
        true = torch.cat([spectrum[:5], spectrum[-5:]])
        beyond += bool(((found.values - true).abs() > found.residuals + 1e-12).any())
    assert beyond > 2


@pytest.mark.parametrize("start", ["top", "random columns"])
def test_errors_cover_from_a_start_that_was_given_too(start: str) -> None:
    """Nothing is known of what vectors that were chosen do not see."""
    beyond = 0
    for seed in range(40):
        spectrum = any_spectrum(seed)
        first = torch.zeros(len(spectrum), 3, dtype=torch.float64)
        first[:3] = torch.eye(3, dtype=torch.float64)
        if start == "random columns":
            first = torch.randn(first.shape, generator=seeded(seed)).double()
        found = top_eigenpairs(
            Diagonal(spectrum), 5, tol=0.05, start=first, generator=seeded(seed)
        )
        off = (found.values - spectrum[:5]).abs()
        beyond += bool((off > found.errors + 1e-9).any())
    assert beyond <= 2


@pytest.mark.parametrize("dim", [3, 7, 9, 10, 11])
def test_the_pairs_say_which_end_they_are_of(dim: int) -> None:
    spectrum = torch.linspace(2.0, -1.0, dim, dtype=torch.float64)
    found = top_eigenpairs(Diagonal(spectrum), 6, k_low=4, which="BE")
    assert len(found.values) == min(dim, 10)
    high = found.num_high
    assert high == (6 if dim >= 10 else dim - dim * 4 // 10)
    assert torch.allclose(found.values[:high], spectrum[:high], atol=5e-3)
    low = len(found.values) - high
    assert torch.allclose(found.values[high:], spectrum[dim - low :], atol=5e-3)
    assert top_eigenpairs(Diagonal(spectrum), 2).num_high == 2
    assert top_eigenpairs(Diagonal(spectrum), 2, which="SA").num_high == 0


ROOMS: list[tuple[Which, int]] = [("LA", 7), ("LA", 12), ("SA", 20), ("BE", 12)]


@pytest.mark.parametrize(("which", "room"), ROOMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bounded_basis_restarts_and_finds_the_same(
    which: Which, room: int, dtype: torch.dtype
) -> None:
    matrix = symmetric_matrix(planted())
    operator = Counting(matrix.to(dtype))
    found = top_eigenpairs(
        operator, 5, which=which, max_vectors=room, max_matvecs=2000, tol=1e-4
    )
    free = top_eigenpairs(Dense(matrix), 5, which=which, tol=1e-7)
    assert found.status == "converged"
    assert found.num_matvecs == operator.count
    assert found.basis.shape[1] <= room < found.num_matvecs
    assert float((found.values - free.values).abs().max()) < 30 * 1e-4
    assert bool((free.values - found.values).abs().le(found.errors + 1e-4).all())
    double = matrix.double()
    vectors, basis = found.vectors.double(), found.basis.double()
    residuals = (double @ vectors - vectors * found.values).norm(dim=0)
    rounding = 1e-4 if dtype == torch.float32 else 1e-10
    assert float((residuals - found.residuals).abs().max()) < rounding
    eye = torch.eye(basis.shape[1], dtype=basis.dtype)
    assert float((basis.T @ basis - eye).abs().max()) < rounding
    assert float((double @ basis - found.images).abs().max()) < rounding


def test_a_basis_that_is_bounded_ends_at_its_limit_and_says_so() -> None:
    even = Diagonal(torch.linspace(1.0, -1.0, 500, dtype=torch.float64))
    found = top_eigenpairs(even, 5, max_vectors=8, max_matvecs=30, tol=1e-9)
    assert (found.status, found.num_matvecs) == ("max_steps", 30)


class Live(TorchDispatchMode):
    """Bytes of all tensors that are alive, and the most that there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.holders: dict[int, int] = {}  # storage -> tensors that are alive on it
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes():
                storage = tensor.untyped_storage()
                key = storage.data_ptr()
                self.sizes[key] = storage.nbytes()
                self.holders[key] = self.holders.get(key, 0) + 1
                weakref.finalize(tensor, self._gone, key)
        self.most = max(self.most, sum(self.sizes.values()))
        return out

    def _gone(self, key: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            del self.holders[key], self.sizes[key]


@pytest.mark.parametrize("block_size", [1, 4])
@pytest.mark.parametrize("max_vectors", [None, 30])
def test_no_more_vectors_are_held_than_are_counted(
    monkeypatch: pytest.MonkeyPatch, block_size: int, max_vectors: int | None
) -> None:
    def small(num: int, size: int = 0) -> Iterator[slice]:  # as if dim were millions
        return (slice(first, first + 1024) for first in range(0, num, 1024))

    monkeypatch.setattr("workbench.linalg.subspace.pieces", small)
    monkeypatch.setattr("workbench.linalg.columns.pieces", small)
    monkeypatch.setattr("workbench.linalg.columns.DOUBLES", 2**12)
    monkeypatch.setattr("workbench.linalg.lanczos.FREE", 0)
    dim = 2**15
    bulk = torch.linspace(1, -1, dim - 5)
    operator = Diagonal(torch.cat([torch.tensor([9.0, 8, 7, 6, 5]), bulk]))
    counted = subspace_vectors(
        dim, 5, which="BE", block_size=block_size, max_vectors=max_vectors
    )
    with Live() as live:
        found: EigenPairs = top_eigenpairs(
            operator,
            5,
            which="BE",
            block_size=block_size,
            max_vectors=max_vectors,
            max_matvecs=60,
        )
    assert found.num_matvecs > 30
    held = live.most / (4 * dim)
    assert held <= counted + 1  # small matrices, and pieces
    assert held > 0.7 * counted  # and not many fewer


def test_the_turn_of_the_basis_does_not_matter() -> None:
    spectrum = planted()
    turn = orthogonal(len(spectrum), 3)
    turned = Dense((turn * spectrum) @ turn.T)
    found, straight = (
        top_eigenpairs(operator, 5, tol=1e-9)
        for operator in (turned, Diagonal(spectrum))
    )
    assert float((found.values - straight.values).abs().max()) < 1e-8
