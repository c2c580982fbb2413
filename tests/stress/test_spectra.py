"""Spectra drawn at random, recovered; densities against the exact histogram."""

from __future__ import annotations

import math
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles import eigenvalues
from tests.spectra import SPECTRA, symmetric_matrix
from workbench.linalg.density import SpectralDensity, spectral_density
from workbench.linalg.lanczos import Which, top_eigenpairs
from workbench.linalg.operator import Dense

stress = settings(
    max_examples=int(os.environ.get("STRESS", "40")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def spectra(draw: st.DrawFn) -> Tensor:
    """Outliers in clusters, a mini-bulk, a bulk of either sign, and zeros."""
    size = draw(st.sampled_from([1e-8, 1.0, 1e6]))
    outliers = draw(
        st.lists(
            st.tuples(st.floats(5, 100), st.integers(1, 4), st.booleans()), max_size=4
        )
    )
    values = [v for v, copies, _ in outliers for _ in range(copies)]
    values += [-v for v, _, mirrored in outliers if mirrored]
    num_mini = draw(st.integers(0, 9))
    values += torch.linspace(1, 2, num_mini).tolist()
    low, num_bulk = draw(st.sampled_from([-0.5, 0.0, 0.1])), draw(st.integers(1, 25))
    values += torch.linspace(low, 0.5, num_bulk).tolist()
    values += [0.0] * draw(st.integers(0, 15))
    return size * torch.tensor(values, dtype=torch.float64)


@stress
@given(
    spectra(),
    st.integers(1, 8),
    st.sampled_from(["LA", "SA", "BE"]),
    st.sampled_from([None, 1, 3, 10]),
    st.integers(0, 99),
)
def test_planted_eigenvalues_are_recovered_within_their_residuals(
    spectrum: Tensor, k: int, which: Which, block_size: int | None, seed: int
) -> None:
    matrix = symmetric_matrix(spectrum, seed)
    found = top_eigenpairs(
        Dense(matrix), k, tol=1e-7, which=which, block_size=block_size
    )
    exact = eigenvalues(matrix)
    k = min(k, len(exact))
    scale = float(exact.abs().max()) + 1e-300
    assert found.status in ("converged", "breakdown")
    image = matrix @ found.vectors - found.vectors * found.values
    assert (image.norm(dim=0) <= found.residuals + 1e-12 * scale).all()
    inner = found.vectors.T @ found.vectors
    eye = torch.eye(len(inner), dtype=inner.dtype)
    assert float((inner - eye).abs().max()) < 1e-10
    nearest = (found.values[:, None] - exact).abs().min(1).values
    assert (nearest <= found.residuals + 1e-12 * scale).all()
    wanted = {
        "LA": exact[:k],
        "SA": exact[-k:],
        "BE": exact if 2 * k >= len(exact) else torch.cat([exact[:k], exact[-k:]]),
    }[which]
    assert float((found.values - wanted).abs().max()) <= 1e-6 * scale


def distance(density: SpectralDensity, exact: Tensor) -> float:
    """First Wasserstein distance of the estimate from the exact spectrum."""
    points = torch.cat([density.nodes.flatten(), exact])
    num_probes = len(density.nodes)
    mass = torch.cat(
        [density.weights.flatten() / num_probes, -torch.ones_like(exact) / len(exact)]
    )
    order = points.argsort()
    points, mass = points[order], mass[order]
    return float((mass.cumsum(0)[:-1].abs() * points.diff()).sum())


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("num_steps", [4, 12, 30])
def test_the_density_is_as_near_to_the_exact_spectrum_as_its_steps_allow(
    name: str, num_steps: int
) -> None:
    """m steps resolve the range over m; P n random squares miss 1/sqrt(P n) of it."""
    spectrum = SPECTRA[name]()
    matrix = symmetric_matrix(spectrum)
    width = float(spectrum.max() - spectrum.min())
    for seed in range(2):
        found = spectral_density(
            Dense(matrix),
            num_steps=num_steps,
            num_probes=6,
            generator=torch.Generator().manual_seed(seed),
        )
        chance = 1 / math.sqrt(6 * len(spectrum))
        bound = width * (1 / num_steps + 1.5 * chance)
        rounding = 1e-12 * float(spectrum.abs().max())
        assert distance(found, spectrum) <= bound + rounding


def test_error_bars_of_moments_cover_as_often_as_they_claim() -> None:
    """Over seeds and spectra: two standard errors of six probes cover 90 %."""
    covered = num = 0
    for name in ("planted", "clusters", "rank_deficient", "both_signs", "negative"):
        spectrum = SPECTRA[name]()
        matrix = Dense(symmetric_matrix(spectrum))
        for seed in range(25):
            found = spectral_density(
                matrix,
                num_steps=6,
                num_probes=6,
                generator=torch.Generator().manual_seed(1000 + seed),
            )
            for power in (1, 2, 3):
                moments = (found.weights * found.nodes**power).sum(1)
                error = 2 * float(moments.std()) / math.sqrt(6)
                true = float((spectrum**power).mean())
                covered += abs(float(moments.mean()) - true) <= error
                num += 1
    assert 0.82 < covered / num < 0.98  # Student, 5 degrees: 0.898
