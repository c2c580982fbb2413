"""The smoothed density: its mass, its two ways of being computed, its error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.study.spectrum import (
    DensityCurve,
    Spectrum,
    density_curve,
    share_between,
)

Array = NDArray[np.float64]


def complete(eigenvalues: Array, dim: int) -> Spectrum:
    """Make a spectrum of which everything is known."""
    found = np.sort(eigenvalues)[::-1]
    none = np.empty((0, 0))
    return Spectrum(
        found, 0 * found, none, none, dim, found.sum(), 0.0, True, "dense, exact", 0
    )


def quadrature(nodes: Array, weights: Array, dim: int) -> Spectrum:
    """Make a spectrum of which only the density was measured."""
    none = np.empty(0)
    return Spectrum(
        none, none, nodes, weights, dim, 1.0, 0.1, False, "stochastic Lanczos", 80
    )


def mass(curve: DensityCurve) -> float:
    return float(np.trapezoid(curve.density, curve.grid))


@pytest.fixture
def eigenvalues() -> Array:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=40), [-3.0, 5.0, 8.0]])


def test_the_density_of_all_eigenvalues_has_mass_one(eigenvalues: Array) -> None:
    for dim in (len(eigenvalues), 200):  # without zeros, and with many
        curve = density_curve(complete(eigenvalues, dim), num_points=2000)
        assert mass(curve) == pytest.approx(1.0, abs=2e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_on_the_log_scale_each_side_has_its_share_and_zeros_none(
    eigenvalues: Array, sign: int
) -> None:
    share = (eigenvalues * sign > 0).sum() / 200
    curve = density_curve(complete(eigenvalues, 200), scale="log", sign=sign)
    assert mass(curve) == pytest.approx(share, rel=1e-3)
    inside = np.log10(np.abs(eigenvalues[eigenvalues * sign > 0]))
    assert curve.grid[0] < inside.min() < inside.max() < curve.grid[-1]


@pytest.mark.parametrize(("scale", "sign"), [("linear", 1), ("log", 1), ("log", -1)])
def test_a_full_quadrature_gives_the_density_of_all_eigenvalues(
    eigenvalues: Array, scale: str, sign: int
) -> None:
    count = len(eigenvalues)
    nodes, weights = eigenvalues[None], np.full((1, count), 1 / count)
    exact, found = (
        density_curve(spectrum, scale=scale, sign=sign, width=0.1)
        for spectrum in (
            complete(eigenvalues, count),
            quadrature(nodes, weights, count),
        )
    )
    np.testing.assert_allclose(found.grid, exact.grid, atol=1e-13)
    np.testing.assert_allclose(found.density, exact.density, atol=1e-12)


def test_one_eigenvalue_is_a_gaussian_of_the_width_asked_for() -> None:
    curve = density_curve(complete(np.array([2.0]), 1), width=0.1, num_points=801)
    assert curve.grid[curve.density.argmax()] == pytest.approx(2.0, abs=3e-3)
    assert mass(curve) == pytest.approx(1.0, abs=1e-4)
    spread = np.trapezoid(curve.density * (curve.grid - 2) ** 2, curve.grid)
    assert np.sqrt(spread) == pytest.approx(0.1, rel=1e-2)


def test_the_density_is_the_mean_over_probes_whoever_they_agree_with() -> None:
    rng = np.random.default_rng(1)
    nodes, weights = rng.normal(size=(4, 6)), rng.dirichlet(np.ones(6), size=4)
    both = density_curve(quadrature(nodes, weights, 50), width=0.3)
    grid = both.grid[:, None, None]
    bells = np.exp(-0.5 * ((grid - nodes) / 0.3) ** 2) / (0.3 * np.sqrt(2 * np.pi))
    single = (bells * weights).sum(axis=2)  # one curve a probe, summed in the open
    np.testing.assert_allclose(both.density, single.mean(axis=1), atol=1e-12)
    nodes, weights = nodes[:1].repeat(4, 0), weights[:1].repeat(4, 0)
    nodes += 1e-9 * rng.normal(
        size=nodes.shape
    )  # probes that agree by chance: no less sure, and no surer
    alike = density_curve(quadrature(nodes, weights, 50), width=0.3)
    middle = alike.density > 0.3 * alike.density.max()
    assert (alike.error > 0.02 * alike.density)[middle].all()


def test_more_steps_and_more_probes_have_smaller_errors() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=400)

    def error(num_probes: int, num_steps: int) -> float:
        nodes, weights = [], []
        for _ in range(num_probes):
            square = rng.normal(size=400) ** 2
            order = np.argsort(values)
            groups = np.array_split(order, num_steps)
            weights.append([square[g].sum() / square.sum() for g in groups])
            nodes.append([np.average(values[g], weights=square[g]) for g in groups])
        found = quadrature(np.array(nodes), np.array(weights), 400)
        return float(density_curve(found, width=0.5).error.mean())

    assert error(16, 20) < 0.6 * error(3, 20)
    assert error(4, 20) < 0.9 * error(4, 5)


def test_what_is_exact_has_no_error(eigenvalues: Array) -> None:
    assert not density_curve(complete(eigenvalues, 60)).error.any()


def test_blocks_of_points_add_up() -> None:
    many = np.random.default_rng(2).normal(size=2500)
    curve = density_curve(complete(many, 2500), width=0.2, num_points=50)
    bells = np.exp(-0.5 * ((curve.grid[:, None] - many) / 0.2) ** 2)
    wanted = bells.mean(axis=1) / (0.2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(curve.density, wanted, atol=1e-12)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_nothing_measured_draws_nothing(scale: str) -> None:
    none = np.empty((0, 0))
    curve = density_curve(quadrature(none, none, 10), scale=scale)
    assert curve.grid.size == curve.density.size == curve.error.size == 0


def test_a_side_without_eigenvalues_draws_nothing(eigenvalues: Array) -> None:
    found = complete(np.abs(eigenvalues), 60)
    assert density_curve(found, scale="log", sign=-1).grid.size == 0


def test_rounding_below_zero_is_not_a_negative_side() -> None:
    found = complete(np.array([1.0, 0.5, -1e-15]), 3)
    assert density_curve(found, scale="log", sign=-1).grid.size == 0
    assert mass(density_curve(found, scale="log")) == pytest.approx(2 / 3, rel=1e-3)


def test_all_eigenvalues_alike_still_draw_a_curve() -> None:
    curve = density_curve(complete(np.full(3, 2.0), 3), scale="log")
    assert np.isfinite(curve.density).all()
    assert mass(curve) == pytest.approx(1.0, abs=1e-3)


def test_an_unknown_scale_is_refused(eigenvalues: Array) -> None:
    with pytest.raises(ValueError, match="use 'linear' or 'log'"):
        density_curve(replace(complete(eigenvalues, 60)), scale="sqrt")


def test_a_quadrature_is_smoothed_no_finer_than_its_nodes_lie() -> None:
    nodes = np.linspace(-1.0, 1.0, 10)[None]
    curve = density_curve(quadrature(nodes, np.full((1, 10), 0.1), 500))
    assert curve.width == pytest.approx(2.0 / 10)  # the nodes' spacing, about
    middle = curve.density[np.abs(curve.grid) < 0.8]
    assert middle.min() > 0.3 * middle.max()  # no comb


def test_shares_of_a_complete_spectrum_are_counted() -> None:
    found = complete(np.array([3.0, 1.0, 0.5, -2.0]), 8)
    assert share_between(found, -np.inf, 0.0) == (1 / 8, 0.0)
    assert share_between(found, 0.5, 3.0) == (2 / 8, 0.0)
    assert share_between(found, 0.0, 1e-9) == (4 / 8, 0.0)
    wide = replace(found, residuals=np.full(4, 0.6))
    assert share_between(wide, -np.inf, 0.0) == (1 / 8, 1 / 8)  # 0.5 may be below
    assert found.num_zeros == 4


def test_a_share_from_few_nodes_says_how_little_it_knows() -> None:
    nodes = np.array([[-1.0, 0.5, 2.0], [-1.2, 0.4, 2.1]])
    weights = np.full((2, 3), 1 / 3)
    share, error = share_between(quadrature(nodes, weights, 1000), -np.inf, 0.0)
    assert share == pytest.approx(1 / 3)
    assert 1 / 3 < error < 1 / 2
    assert share_between(quadrature(nodes, weights, 9), -np.inf, np.inf)[0] == 1.0
