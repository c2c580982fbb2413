"""Long columns in float32: lengths, products and bases to single roundings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workbench.curvature.means.parts_of_g import span_basis
from workbench.linalg.columns import dots, lengths, reorthonormalised
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import LinearOperator, LowRank, Projected

LONG = 9 * 2**20  # parameters of a full-size network


def noise(columns: int, seed: int = 0) -> Tensor:
    return torch.randn(LONG, columns, generator=torch.Generator().manual_seed(seed))


def planted() -> Tensor:
    """Factor (LONG, 3) of a matrix with the eigenvalues 4, 3 and 2, float32."""
    unit = reorthonormalised(torch.linalg.qr(noise(3))[0])
    return unit * torch.tensor([4.0, 3.0, 2.0]).sqrt()


class Twice(LinearOperator):
    """Two times the identity, float32."""

    dim, dtype, device = LONG, torch.float32, torch.device("cpu")

    def _matmat(self, vectors: Tensor) -> Tensor:
        return 2 * vectors


def test_sums_are_right_where_those_of_torch_are_not() -> None:
    x = noise(3)
    exact = x.double()
    assert (x.norm(dim=0) / exact.norm(dim=0) - 1).abs().max() > 1e-4  # why all this
    torch.testing.assert_close(lengths(x), exact.norm(dim=0), rtol=1e-12, atol=0)
    gram = exact.T @ exact
    found = dots(x, x)
    assert (found - gram).abs().max() < 3e-6 * gram.max()


def test_columns_become_orthonormal_to_single_roundings() -> None:
    left, _ = torch.linalg.qr(noise(3))
    found = reorthonormalised(left).double()
    off = found.T @ found - torch.eye(3)
    assert off.abs().max() < 1e-6


@pytest.mark.slow
def test_eigenpairs_of_a_long_float32_operator_are_not_off_by_the_length() -> None:
    pairs = top_eigenpairs(LowRank(planted()), 3, tol=1e-5)
    wanted = torch.tensor([4.0, 3.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(pairs.values, wanted, rtol=5e-6, atol=0)
    ones = torch.ones_like(wanted)
    torch.testing.assert_close(lengths(pairs.vectors), ones, rtol=1e-6, atol=0)


def test_what_is_projected_out_of_long_vectors_is_gone() -> None:
    factor = planted()
    operator = Projected(LowRank(factor), reorthonormalised(factor[:, :1] / 2))
    left = operator.matmat(factor)
    assert lengths(left)[0] < 1e-4  # of 8
    torch.testing.assert_close(
        lengths(left)[1:], (factor.new_tensor([3.0, 2.0]) ** 1.5).double(), rtol=1e-5,
        atol=0,
    )  # fmt: skip


@pytest.mark.slow
def test_the_density_of_a_long_float32_operator_has_its_trace() -> None:
    found = spectral_density(Twice(), num_steps=2, num_probes=2)
    assert found.trace == pytest.approx(2.0 * LONG, rel=1e-5)


def test_the_basis_of_long_columns_spans_them() -> None:
    x = noise(2)
    basis = span_basis(torch.cat([x, x[:, :1]], 1))  # rank two
    assert basis.shape == (LONG, 2)
    inside = dots(basis, x).square().sum(0).sqrt()
    torch.testing.assert_close(inside, lengths(x), rtol=1e-5, atol=0)
