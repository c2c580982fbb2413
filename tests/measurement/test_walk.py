"""The loss along eigenvectors: held against the operators, and against the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests import oracles
from tests.cases import CASES, Problem, problem
from workbench.curvature.products.operators import curvatures
from workbench.linalg.columns import lengths
from workbench.measurement.measurement import measure
from workbench.measurement.plan import bind
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.snapshots import snapshot_settings
from workbench.measurement.walk import class_losses, distances_of, shared_directions
from workbench.study.records import Study, load_study

SETTINGS = MeasureSettings(device="cpu", embedding="pca", num_drawn=0)


def quiet(share: float) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module", params=["dense", "dual", "krylov", "streamed"])
def study(request: pytest.FixtureRequest) -> Study:
    case = CASES["unequal"]()
    chosen = replace(SETTINGS, method=request.param, tol=1e-9)
    return measure(case.model, case.data, chosen)


def at(case: Problem, vector: torch.Tensor) -> np.ndarray:
    """The loss of each class, by plain torch, at other parameters."""
    own = oracles.flat_parameters(case)
    nn.utils.vector_to_parameters(vector, case.parameters.values())
    with torch.no_grad():
        loss = nn.functional.cross_entropy(
            case.model(case.inputs), case.labels, reduction="none"
        )
    nn.utils.vector_to_parameters(own, case.parameters.values())
    return np.array([float(loss[case.labels == c].mean()) for c in range(3)])


@pytest.mark.parametrize("name", ["unequal", "residual"])  # one has batch norm
def test_losses_are_those_of_the_moved_network_a_class_at_a_time(name: str) -> None:
    case = CASES[name]()
    risk = bind(case.model, case.data, SETTINGS)
    before = {k: v.clone() for k, v in case.model.state_dict().items()}
    source = torch.Generator().manual_seed(0)
    directions = torch.randn(case.dim, 2, dtype=torch.float64, generator=source)
    distances = distances_of(2.0, 5)
    told: list[float] = []
    found = class_losses(risk, directions, distances, told.append)
    theta = oracles.flat_parameters(case)
    for j in range(2):
        for k, t in enumerate(distances):
            wanted = at(case, theta + float(t) * directions[:, j])
            np.testing.assert_allclose(found[j, k], wanted, rtol=1e-12)
    assert told == sorted(told)
    assert told[-1] == 1.0
    after = case.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def smooth_batch_norm() -> Problem:
    """Batch norm without kinks, so that differences converge."""

    def build() -> nn.Module:
        norm = nn.BatchNorm1d(5)
        return nn.Sequential(nn.Linear(4, 5), norm, nn.Tanh(), nn.Linear(5, 3))

    return problem(build, (4,), (5, 4, 2))


@pytest.mark.parametrize("make", [CASES["unequal"], smooth_batch_norm])
def test_the_second_difference_at_zero_is_what_hess_says(
    make: Callable[[], Problem],
) -> None:
    case = make()
    risk = bind(case.model, case.data, SETTINGS)
    source = torch.Generator().manual_seed(0)
    directions = torch.randn(case.dim, 3, dtype=torch.float64, generator=source)
    directions /= directions.norm(dim=0)
    wanted = (directions * (curvatures(risk)["Hess"] @ directions)).sum(0).numpy()
    shares = risk.classes("test").numpy()
    errors = []
    for step in (4e-3, 2e-3, 1e-3):
        grid = np.array([-2, -1, 0, 1, 2]) * step
        loss = class_losses(risk, directions, grid, quiet) @ shares
        second = (loss[:, 3] - 2 * loss[:, 2] + loss[:, 1]) / step**2
        errors.append(np.abs(second - wanted))
        fourth = loss @ np.array([1, -4, 6, -4, 1]) / step**4
        left = np.abs(second - wanted - step**2 * fourth / 12)
        assert (left < 1e-2 * errors[-1] + 1e-7).all()  # of second order, no other
    assert (errors[-1] < 1e-4).all()


def test_the_quadratic_model_of_the_first_climbs_by_one(study: Study) -> None:
    walk = study.walk
    assert walk is not None
    assert len(walk.distance) == 21
    np.testing.assert_allclose(walk.distance, -walk.distance[::-1], atol=1e-15)
    np.testing.assert_allclose(walk.eigenvalue[0] * walk.distance[-1] ** 2 / 2, 1.0)
    assert walk.distance[10] == 0.0


def test_a_study_walks_along_its_eigenvectors(study: Study) -> None:
    case, walk = CASES["unequal"](), study.walk
    assert walk is not None
    G, hess = oracles.gauss_newton(case), oracles.hessian_by_autograd(case)
    num = len(study.levels["icml"].overlap)
    assert walk.rank.tolist() == [1, 2, 3, num, -1]
    assert walk.operator == ("G",) * 4 + ("H",)
    values, vectors = torch.linalg.eigh(G)
    lowest, along = torch.linalg.eigh(hess - G)
    wanted = [vectors[:, -1], vectors[:, -2], vectors[:, -3], vectors[:, -num]]
    wanted.append(along[:, 0])
    np.testing.assert_allclose(walk.eigenvalue[:3], values.flip(0)[:3], rtol=1e-6)
    np.testing.assert_allclose(walk.eigenvalue[4], lowest[0], rtol=1e-3)
    theta = oracles.flat_parameters(case)
    for j, v in enumerate(wanted[:3]):
        for k in (0, 7, 20):
            t = float(walk.distance[k])
            both = [at(case, theta + t * v), at(case, theta - t * v)]
            off = min(np.abs(one - walk.class_loss[j, k]).max() for one in both)
            assert off < 1e-4
    loss = walk.loss
    assert (loss[:, -1] >= loss[:, 0]).all()  # to where it climbs more
    np.testing.assert_allclose(loss[:, 10], loss[0, 10])
    for j, v in enumerate(wanted):
        step = walk.distance[11]
        fourth = loss[j, 8:13] @ np.array([1, -4, 6, -4, 1]) / step**4
        error = abs(walk.curvature[j] - float(v @ hess @ v))
        assert error < abs(fourth) * step**2 / 6 + 2e-3


def test_shared_directions_are_those_of_the_dense_matrices(study: Study) -> None:
    case = CASES["unequal"]()
    G, hess = oracles.gauss_newton(case), oracles.hessian_by_autograd(case)
    of_g, of_hess = (
        torch.linalg.eigh(A).eigenvectors.flip(1)[:, :3] for A in (G, hess)
    )
    wanted = (of_hess.T @ of_g).square().sum(0).numpy()
    np.testing.assert_allclose(study.shared, wanted, atol=1e-4)
    same = shared_directions(of_g, of_g, 3)
    np.testing.assert_allclose(same, 1.0)


def test_eigenvectors_in_the_parameters_have_length_one(study: Study) -> None:
    assert study.shared.max() <= 1.0
    assert lengths(torch.eye(3)).tolist() == [1.0, 1.0, 1.0]


def test_a_walk_and_a_null_come_back_from_their_file(tmp_path, study: Study) -> None:
    again = load_study(study.save(tmp_path / "x.study"))
    assert again.walk is not None
    assert study.walk is not None
    assert again.walk.operator == study.walk.operator
    np.testing.assert_array_equal(again.walk.class_loss, study.walk.class_loss)
    null, mine = again.levels["icml"].null, study.levels["icml"].null
    assert null is not None
    assert mine is not None
    np.testing.assert_array_equal(null.overlap, mine.overlap)
    assert null.note == mine.note
    np.testing.assert_array_equal(again.shared, study.shared)


def test_moments_are_not_walked_and_a_loss_that_is_not_finite_is_missing() -> None:
    assert not snapshot_settings(SETTINGS).walk
    case = CASES["unequal"]()
    risk = bind(case.model, case.data, SETTINGS)
    far = np.array([-1e300, 0.0, 1e300])
    directions = torch.full((case.dim, 1), 1e10, dtype=torch.float64)
    found = class_losses(risk, directions, far, quiet)
    assert np.isfinite(found[0, 1]).all()
    assert np.isnan(found[0, 0]).all()
    assert not np.isinf(found).any()
