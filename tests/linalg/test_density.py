"""Stochastic Lanczos quadrature: exact moments, error bars that cover, determinism."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
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
from workbench.linalg import density as module
from workbench.linalg.density import SpectralDensity, spectral_density
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.study.spectrum import Spectrum, density_curve, share_between


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probes_of(dim: int, num: int, seed: int = 0) -> Tensor:
    """The unit vectors that a generator of this seed gives."""
    noise = torch.randn(dim, num, generator=seeded(seed), dtype=torch.float64)
    return noise / noise.norm(dim=0)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5])
def test_moments_are_exact_up_to_twice_the_steps(num_steps: int) -> None:
    """Gauss quadrature: ``sum_m w_m theta_m^j = v^T A^j v`` for j <= 2 m - 1."""
    matrix = symmetric_matrix(torch.linspace(-1.0, 1.5, 30, dtype=torch.float64))
    found = spectral_density(
        Dense(matrix), num_steps=num_steps, num_probes=4, generator=seeded(1)
    )
    vectors = probes_of(30, 4, seed=1)
    power = vectors
    for j in range(2 * num_steps):
        moments = (found.weights * found.nodes**j).sum(1)
        assert apart(moments, (vectors * power).sum(0)) < 1e-12, j
        power = matrix @ power
    degree = 2 * num_steps
    moments = (found.weights * found.nodes**degree).sum(1)
    assert apart(moments, (vectors * power).sum(0)) > 1e-6  # and no further


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_positive_and_sum_to_one(name: str, dtype: torch.dtype) -> None:
    spectrum = SPECTRA[name]()
    matrix = symmetric_matrix(spectrum).to(dtype)
    found = spectral_density(Dense(matrix), num_steps=20, num_probes=3)
    steps = min(20, len(spectrum))
    assert found.nodes.shape == found.weights.shape == (3, steps)
    assert found.nodes.dtype == found.weights.dtype == torch.float64
    assert (found.weights >= 0).all()
    assert apart(found.weights.sum(1), torch.ones(3).double()) < 1e-14
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    room = slack * float(spectrum.abs().max()) + 1e-300
    inside = (found.nodes >= spectrum.min() - room) & (
        found.nodes <= spectrum.max() + room
    )
    assert inside[found.weights > 1e-12].all()


def test_as_many_steps_as_eigenvalues_give_them_all() -> None:
    spectrum = torch.tensor([4.0, 2.0, 1.0, -3.0]).double()
    matrix = symmetric_matrix(spectrum)
    found = spectral_density(Dense(matrix), num_steps=9, num_probes=2)
    assert found.nodes.shape == (2, 4)
    expected = spectrum.flip(0).expand(2, -1)
    assert apart(found.nodes, expected) < 1e-12
    turned = orthogonal(4).T @ probes_of(4, 2)
    assert apart(found.weights, turned.square().flip(0).T) < 1e-10
    assert found.num_matvecs == 8


def test_matvecs_are_shared_between_the_probes_and_counted() -> None:
    operator = Counting(symmetric_matrix(planted()))
    found = spectral_density(operator, num_steps=7, num_probes=3)
    assert operator.widths == [3] * 7
    assert found.num_matvecs == operator.count == 21


def test_probes_that_do_not_fit_together_run_apart_to_the_same_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = Counting(symmetric_matrix(planted()))
    together = spectral_density(operator, num_steps=7, num_probes=3)
    monkeypatch.setattr(module, "BASIS_BYTES", 2 * 7 * operator.dim * 8)
    operator.widths.clear()
    shares: list[float] = []
    apart_ = spectral_density(operator, num_steps=7, num_probes=3, report=shares.append)
    assert operator.widths == [2] * 7 + [1] * 7
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert apart(apart_.nodes, together.nodes) < 1e-12
    assert apart(apart_.weights, together.weights) < 1e-10


def test_the_same_seed_gives_the_same_bits() -> None:
    operator = Dense(symmetric_matrix(planted()))
    first, again = (spectral_density(operator, generator=seeded(3)) for _ in range(2))
    other = spectral_density(operator, generator=seeded(4))
    assert torch.equal(first.nodes, again.nodes)
    assert torch.equal(first.weights, again.weights)
    assert first.trace == again.trace != other.trace


def test_single_precision_gives_the_same_to_its_rounding() -> None:
    matrix = symmetric_matrix(planted())
    exact = spectral_density(Dense(matrix), num_steps=8, generator=seeded())
    single = spectral_density(Dense(matrix.float()), num_steps=8, generator=seeded())
    assert apart(single.nodes, exact.nodes) < 1e-4
    assert single.trace == pytest.approx(exact.trace, rel=1e-5)


def estimates(num: int, matrix: Tensor) -> list[SpectralDensity]:
    return [
        spectral_density(
            Dense(matrix), num_steps=12, num_probes=6, generator=seeded(seed)
        )
        for seed in range(num)
    ]


def test_the_trace_of_a_multiple_of_the_identity_has_no_error() -> None:
    found = spectral_density(Dense(2.5 * torch.eye(12).double()), num_probes=3)
    assert found.trace == pytest.approx(30.0, rel=1e-14)
    assert found.trace_error == pytest.approx(0.0, abs=1e-13)


def test_error_bars_cover_over_repetitions() -> None:
    """The 95 % interval of the trace from six probes, five outliers and all."""
    spectrum = planted()
    matrix = symmetric_matrix(spectrum)
    trace = float(spectrum.sum())
    runs = estimates(100, matrix)
    covered = sum(abs(run.trace - trace) <= run.trace_error for run in runs)
    assert covered >= 90
    means = np.array([run.trace for run in runs])
    assert abs(means.mean() - trace) < 3.5 * means.std() / 10  # no bias
    claimed = np.array([run.trace_error for run in runs]) / 1.96
    assert 0.7 < math.sqrt((claimed**2).mean()) / means.std() < 1.8


def as_spectrum(found: SpectralDensity, dim: int) -> Spectrum:
    return Spectrum(
        eigenvalues=np.empty(0), residuals=np.empty(0), nodes=found.nodes.numpy(),
        weights=found.weights.numpy(), dim=dim, trace=found.trace,
        trace_error=found.trace_error, complete=False, method="", num_matvecs=0,
    )  # fmt: skip


def test_the_smoothed_density_has_unit_mass_and_its_error_bars_cover() -> None:
    spectrum = planted()
    matrix = symmetric_matrix(spectrum)
    exact = Spectrum(
        eigenvalues=spectrum.sort(descending=True).values.numpy(),
        residuals=np.zeros(len(spectrum)), nodes=np.empty((0, 0)),
        weights=np.empty((0, 0)), dim=len(spectrum), trace=0.0, trace_error=0.0,
        complete=True, method="", num_matvecs=0,
    )  # fmt: skip
    covered, points = 0, 0
    for run in estimates(30, matrix):
        curve = density_curve(as_spectrum(run, len(spectrum)), width=2.0)
        assert np.trapezoid(curve.density, curve.grid) == pytest.approx(1.0, abs=2e-2)
        truth = density_curve(exact, width=2.0)
        expected = np.interp(curve.grid, truth.grid, truth.density)
        where = (curve.grid > 8) & (curve.grid < 28)  # among the outliers
        near = np.abs(curve.density - expected) <= curve.error + 1e-3 * expected
        covered += int(near[where].sum())
        points += int(where.sum())
    assert covered / points > 0.9


@pytest.mark.parametrize("name", ["planted", "both_signs", "clusters"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deflated_pairs_are_sticks_and_out_of_the_nodes(
    name: str, dtype: torch.dtype
) -> None:
    spectrum = SPECTRA[name]().sort(descending=True).values
    operator = Dense(symmetric_matrix(spectrum).to(dtype))
    pairs = top_eigenpairs(operator, 5, tol=1e-5, block_size=3)
    found = spectral_density(
        operator, num_steps=12, num_probes=4, deflate=pairs, generator=seeded(2)
    )
    size = float(spectrum.abs().max())
    assert found.sticks.shape == (5,)
    assert float((found.sticks - spectrum[:5]).abs().max()) < 1e-4 * size
    assert found.stick_weight == 1 / len(spectrum)
    total = found.weights.sum(1) + 5 * found.stick_weight
    assert apart(total, torch.ones(4).double()) < 1e-13
    drawn = found.nodes[found.weights > 1e-9]
    assert float(drawn.max()) < float(spectrum[5]) + 1e-4 * size
    whole = spectral_density(operator, num_steps=12, num_probes=4, generator=seeded(2))
    assert found.trace_error < 0.5 * whole.trace_error or name == "both_signs"
    slack = 4 * found.trace_error + 1e-3 * size
    assert abs(found.trace - float(spectrum.sum())) < slack


def test_deflated_moments_are_exact_off_the_pairs() -> None:
    spectrum = planted()
    matrix, turn = symmetric_matrix(spectrum), orthogonal(len(spectrum))
    pairs = top_eigenpairs(Dense(matrix), 5, tol=1e-12, block_size=5)
    found = spectral_density(
        Dense(matrix), num_steps=3, num_probes=2, deflate=pairs, generator=seeded()
    )
    inside = (turn.T @ probes_of(len(spectrum), 2))[5:]
    inside = inside / inside.norm(dim=0)
    share = (len(spectrum) - 5) / len(spectrum)
    for j in range(6):
        expected = share * (inside**2 * spectrum[5:, None] ** j).sum(0)
        assert apart((found.weights * found.nodes**j).sum(1), expected) < 1e-9, j


def test_on_the_log_scale_each_sign_is_a_curve_with_error_bars_that_cover() -> None:
    spectrum = torch.cat([torch.logspace(1, -1, 150), -torch.logspace(1, 0, 50)])
    matrix = symmetric_matrix(spectrum.double())
    covered = points = 0
    for seed in range(12):
        found = spectral_density(
            Dense(matrix),
            num_steps=40,
            num_probes=6,
            scale="log",
            generator=seeded(seed),
        )
        for sign, side in ((1, spectrum[:150]), (-1, -spectrum[150:])):
            curve = found.curve(sign=sign, width=0.4)
            z = (curve.grid[:, None] - side.log10().numpy()) / 0.4
            exact = np.exp(-0.5 * z**2).sum(1) / (0.4 * np.sqrt(2 * np.pi) * 200)
            mass = np.trapezoid(curve.density, curve.grid)
            assert mass == pytest.approx(len(side) / 200, rel=0.4)
            where = exact > 0.2 * exact.max()
            near = np.abs(curve.density - exact) <= curve.error
            covered += int(near[where].sum())
            points += int(where.sum())
    assert covered / points > 0.9


def test_pairs_that_cannot_be_deflated_get_a_sentence() -> None:
    operator = Dense(symmetric_matrix(planted()))
    few = top_eigenpairs(operator, 3, tol=1e-9, max_matvecs=4)
    with pytest.raises(WorkbenchError, match=r"residuals up to .* have not converged"):
        spectral_density(operator, deflate=few)
    small = Dense(torch.eye(3).double())
    with pytest.raises(
        WorkbenchError, match="5 vectors to deflate have length 120 and"
    ):
        spectral_density(small, deflate=top_eigenpairs(operator, 5, block_size=5))
    with pytest.raises(WorkbenchError, match="and fewer of them than rows"):
        spectral_density(small, deflate=top_eigenpairs(small, 3))
    with pytest.raises(
        WorkbenchError, match="scale is 'cubic'; expected 'linear' or 'log'"
    ):
        spectral_density(operator, scale="cubic")  # type: ignore[arg-type]


def test_bad_input_gets_a_sentence() -> None:
    operator = Dense(symmetric_matrix(planted()))
    with pytest.raises(
        WorkbenchError, match="0 steps and 4 probes were requested; expected"
    ):
        spectral_density(operator, num_steps=0)
    with pytest.raises(
        WorkbenchError, match="24 steps and 0 probes were requested; expected"
    ):
        spectral_density(operator, num_probes=0)
    with pytest.raises(WorkbenchError, match="the operator returned NaN or infinity"):
        spectral_density(Dense(torch.full((4, 4), torch.nan)))


def test_one_probe_has_an_error_bar_too() -> None:
    """The spread over the sphere is known; it takes no second probe to see it."""
    spectrum = planted()
    operator = Dense(symmetric_matrix(spectrum))
    runs = [
        spectral_density(operator, num_steps=8, num_probes=1, generator=seeded(seed))
        for seed in range(60)
    ]
    off = [abs(run.trace - float(spectrum.sum())) for run in runs]
    assert sum(o <= r.trace_error for o, r in zip(off, runs, strict=True)) >= 54


def shapes(seed: int) -> dict[str, Tensor]:
    """Spectra of the kinds that a Hessian has."""
    generator, P = seeded(seed), 400 + 20 * (seed % 5)

    def powers(first: float, last: float, num: int) -> Tensor:
        return 10 ** torch.linspace(first, last, num, dtype=torch.float64)

    bulk = 0.3 * torch.randn(P - 5, generator=generator, dtype=torch.float64)
    angle = torch.linspace(0.01, math.pi - 0.01, 4 * P, dtype=torch.float64)
    weight = angle.sin().square().cumsum(0)
    even = weight[-1] * torch.arange(1, P + 1) / (P + 1)
    zeros = torch.zeros(P - P // 4, dtype=torch.float64)
    return {
        "outliers": torch.cat([torch.tensor(OUTLIERS), bulk]),
        "semicircle": angle.cos()[torch.searchsorted(weight, even)],
        "decaying": powers(0, -8, P),
        "zeros": torch.cat([powers(1, -2, P // 4), zeros]),
        "both signs": torch.cat([powers(1, -3, P // 2), -powers(-0.5, -3, P // 2)]),
    }


def measured(values: Tensor, seed: int) -> Spectrum:
    """A density by default settings; outliers deflated, zeros known by rank."""
    operator = Dense(torch.diag(values))
    leading = top_eigenpairs(operator, 5, tol=1e-6) if values.max() > 20 else None
    found = spectral_density(
        operator,
        deflate=leading,
        num_zeros=int((values == 0).sum()),
        generator=seeded(seed),
    )
    assert found.num_matvecs == 96
    sticks = found.sticks.expand(len(found.nodes), -1)
    known = torch.full_like(sticks, found.stick_weight)
    full = replace(
        found,
        nodes=torch.cat([found.nodes, sticks], 1),
        weights=torch.cat([found.weights, known], 1),
    )
    return as_spectrum(full, len(values))


SHARES = [(-math.inf, 0.0), (1e-4, 1e-3), (0.1, 1.0), (-0.2, 0.3)]


def test_the_95_percent_intervals_cover_in_100_trials() -> None:
    """Of the density on either axis, of the trace, and of shares."""
    covered: dict[str, list[float]] = {}
    for seed in range(20):
        for shape, values in shapes(seed).items():
            found, true = measured(values, seed), values.numpy()
            for scale, sign in (("linear", 1), ("log", 1), ("log", -1)):
                curve = density_curve(found, scale=scale, sign=sign, num_points=120)
                there = true
                if scale == "log":
                    there = np.log10(np.abs(true[true * sign > 0]))
                if not len(curve.grid) or not len(there):
                    continue
                z = (curve.grid[:, None] - there) / curve.width
                bells = np.exp(-0.5 * z * z).sum(1) / np.sqrt(2 * np.pi)
                exact = bells / (curve.width * len(true))
                near = np.abs(curve.density - exact) <= curve.error + 1e-12
                covered.setdefault(f"{shape}, {scale}", []).append(near.mean())
                if scale == "linear":
                    middle = exact > 0.1 * exact.max()
                    assert (curve.error / exact)[middle].mean() < 0.3, shape
            near = abs(found.trace - true.sum()) <= found.trace_error
            covered.setdefault("trace", []).append(near)
            for low, high in SHARES:
                share, error = share_between(found, low, high)
                exact = ((true >= low) & (true < high)).mean()
                covered.setdefault(f"share {low}", []).append(
                    abs(share - exact) <= error
                )
    for what, cases in covered.items():
        assert np.mean(cases) >= 0.9, what
    assert len(covered["trace"]) == 100


def test_zeros_known_by_rank_are_one_node_that_is_the_same_in_every_probe() -> None:
    values = shapes(0)["zeros"]
    found = measured(values, 0)
    assert found.num_zeros == int((values == 0).sum())
    apart_ = density_curve(found, zeros=False)
    assert apart_.zeros == pytest.approx(found.num_zeros / len(values))
    mass = np.trapezoid(apart_.density, apart_.grid)
    assert mass == pytest.approx(1 - apart_.zeros, abs=0.01)
    whole = density_curve(found)
    assert np.trapezoid(whole.density, whole.grid) == pytest.approx(1, abs=0.01)
    share, error = share_between(found, 0.0, 1e-300)
    assert abs(share - apart_.zeros) <= error


def test_more_zeros_than_eigenvalues_get_a_sentence() -> None:
    operator = Dense(symmetric_matrix(planted()))
    for num in (-1, 120, 400):
        with pytest.raises(WorkbenchError, match="for 120 eigenvalues; expected"):
            spectral_density(operator, num_zeros=num)
