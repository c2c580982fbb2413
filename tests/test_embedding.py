"""Gradients in the plane: finite, repeatable, and clusters stay apart."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from workbench.errors import WorkbenchError
from workbench.linalg.columns import distances
from workbench.measurement.embedding import METHODS, METRICS, embed
from workbench.study.procrustes import align

Array = NDArray[np.float64]

# UMAP compiles for some ten seconds at its first call on a machine.
EACH_METHOD = [
    pytest.param(m, marks=[pytest.mark.slow] if m == "umap" else []) for m in METHODS
]


def clusters(num: int = 12, dim: int = 20, seed: int = 0) -> tuple[Array, Array]:
    """Three clusters of unlike directions and unlike lengths, and their labels."""
    rng = np.random.default_rng(seed)
    centres = 10 * np.linalg.qr(rng.standard_normal((dim, 3)))[0].T
    centres *= np.array([1.0, 2.0, 3.0])[:, None]
    labels = np.repeat([0, 1, 2], num)
    vectors = centres[labels] + 0.3 * rng.standard_normal((3 * num, dim))
    return vectors, labels


def gram(vectors: Array) -> Array:
    return vectors @ vectors.T


def spread(points: Array, labels: Array) -> float:
    """Smallest distance between clusters' centres, over their largest radius."""
    centres = np.stack([points[labels == c].mean(0) for c in range(3)])
    radius = max(
        np.linalg.norm(points[labels == c] - centres[c], axis=1).max() for c in range(3)
    )
    between = cdist(centres, centres)[np.triu_indices(3, 1)].min()
    return float(between / radius)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", EACH_METHOD)
def test_clusters_stay_apart_and_the_seed_fixes_them(method: str, metric: str) -> None:
    vectors, labels = clusters()
    points = embed(gram(vectors), method=method, metric=metric, seed=3)
    assert points.shape == (36, 2)
    assert points.dtype == np.float64
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1.0)
    assert spread(points, labels) > 2
    again = embed(gram(vectors), method=method, metric=metric, seed=3)
    np.testing.assert_array_equal(points, again)
    if method != "pca":
        other = embed(gram(vectors), method=method, metric=metric, seed=4)
        assert not np.allclose(points, other)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", EACH_METHOD)
@pytest.mark.parametrize("num", [1, 2, 3, 7, 8, 9])
def test_few_vectors_are_placed_too(num: int, method: str, metric: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((num, 5))
    points = embed(gram(vectors), method=method, metric=metric)
    assert points.shape == (num, 2)
    assert np.isfinite(points).all()
    if num > 1:
        assert len(np.unique(points.round(6), axis=0)) == num


HARD = {
    "some_zero": lambda: np.concatenate([clusters()[0], np.zeros((4, 20))]),
    "all_zero": lambda: np.zeros((20, 5)),
    "all_alike": lambda: np.ones((20, 5)),
    "on_a_line": lambda: np.outer(np.linspace(-1, 1, 20), np.ones(5)),
    "tiny": lambda: 1e-150 * clusters()[0],
    "huge": lambda: 1e150 * clusters()[0],
    "many_decades": lambda: clusters()[0] * np.logspace(0, -12, 36)[:, None],
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", EACH_METHOD)
@pytest.mark.parametrize("name", HARD)
def test_vectors_of_any_length_give_finite_points(
    name: str, method: str, metric: str
) -> None:
    points = embed(gram(HARD[name]()), method=method, metric=metric)
    assert np.isfinite(points).all()
    assert np.linalg.norm(points, axis=1).max() <= 1 + 1e-9
    if name in ("tiny", "huge"):
        assert spread(points, clusters()[1]) > 2


def test_pca_keeps_the_distances_of_points_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((15, 2)) * np.array([3.0, 1.0])
    turn = np.linalg.qr(rng.standard_normal((9, 2)))[0]
    points = embed(gram(plane @ turn.T + 5.0), method="pca", metric="euclidean")
    plane = plane - plane.mean(0)
    size = np.linalg.norm(plane, axis=1).max()
    np.testing.assert_allclose(cdist(points, points), cdist(plane, plane) / size)


def test_pca_is_that_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    vectors, _ = clusters()
    expected = PCA(2, svd_solver="full").fit_transform(vectors)
    expected /= np.linalg.norm(expected, axis=1).max()
    points = embed(gram(vectors), method="pca", metric="euclidean")
    signs = np.sign((points * expected).sum(0))
    np.testing.assert_allclose(points, signs * expected, atol=1e-9)


def test_pca_does_not_depend_on_the_axes_of_the_vectors() -> None:
    vectors, _ = clusters()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((20, 20)))[0]
    plain = embed(gram(vectors), method="pca", metric="cosine")
    turned = embed(gram(vectors @ turn), method="pca", metric="cosine")
    np.testing.assert_allclose(turned, plain, atol=1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_pca_puts_the_furthest_point_of_each_axis_on_its_positive_side(
    sign: float,
) -> None:
    points = embed(gram(sign * clusters()[0]), method="pca", metric="euclidean")
    for axis in points.T:
        assert axis[np.abs(axis).argmax()] > 0


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_cosine_metric_does_not_see_lengths(method: str) -> None:
    vectors, _ = clusters()
    lengths = 2.0 ** np.random.default_rng(0).integers(-9, 9, len(vectors))
    plain = embed(gram(vectors), method=method, metric="cosine")
    scaled = embed(gram(lengths[:, None] * vectors), method=method, metric="cosine")
    np.testing.assert_allclose(scaled, plain, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_between_the_vectors(metric: str) -> None:
    vectors, _ = clusters()
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = distances(gram(vectors), metric)
    np.testing.assert_allclose(found, cdist(vectors, vectors, metric), atol=1e-6)
    assert (np.diag(found) == 0).all()
    assert (found >= 0).all()
    np.testing.assert_array_equal(found, found.T)


def test_a_zero_vector_is_as_far_from_all_in_direction() -> None:
    vectors = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, -1.0]])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    assert distances(gram(unit), "cosine")[0].tolist() == [0.0, 1.0, 1.0, 1.0]


# ----- from where the same vectors lay before


def grown(share: float) -> Array:
    """The clusters on their way: nearer to each other, and turned another way."""
    vectors, labels = clusters()
    centres = np.stack([vectors[labels == c].mean(0) for c in range(3)])[labels]
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((20, 20)))[0]
    return (vectors - (1 - share) * 0.6 * centres) @ turn


@pytest.mark.parametrize("method", EACH_METHOD)
def test_points_that_start_where_they_lay_move_less(method: str) -> None:
    before = embed(gram(grown(1.0)), method=method, metric="euclidean")
    paths = []
    for seed in range(1, 6):  # UMAP by itself lies near its last one by chance
        place = partial(
            embed, gram(grown(0.7)), method=method, metric="euclidean", seed=seed
        )
        alone, moved = place(), place(start=before)
        assert spread(moved, clusters()[1]) > 1.5
        paths.append(
            [np.linalg.norm(p - before, axis=1).mean() for p in (moved, alone)]
        )
    path, path_alone = np.mean(paths, axis=0)
    assert path < 0.5 * path_alone + 0.02


def test_aligned_points_keep_their_distances_up_to_one_factor() -> None:
    rng = np.random.default_rng(0)
    points, to = rng.standard_normal((2, 30, 2))
    moved = align(points, to)
    factor = cdist(moved, moved)[0, 1] / cdist(points, points)[0, 1]
    np.testing.assert_allclose(cdist(moved, moved), factor * cdist(points, points))
    best = ((moved - to) ** 2).sum()
    for angle in np.linspace(0, 2 * np.pi, 50):
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        for mirror in (1, -1):
            other = (points - points.mean(0)) @ turn * [1, mirror]
            other = factor * other + to.mean(0)
            assert ((other - to) ** 2).sum() >= best - 1e-9


def test_points_in_one_place_are_aligned_to_the_middle_of_the_others() -> None:
    to = np.random.default_rng(0).standard_normal((9, 2))
    np.testing.assert_allclose(align(np.ones((9, 2)), to), np.tile(to.mean(0), (9, 1)))


@pytest.mark.parametrize(
    ("method", "metric", "sentence"),
    [
        ("isomap", "cosine", "no method 'isomap'; choose one of umap, tsne, pca"),
        ("pca", "manhattan", "no metric 'manhattan'; choose one of cosine, euclidean"),
    ],
)
def test_a_name_that_does_not_exist_gets_a_sentence(
    method: str, metric: str, sentence: str
) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        embed(np.eye(3), method=method, metric=metric)


@pytest.mark.slow
def test_what_numba_compiles_of_umap_stays_on_disk() -> None:
    vectors, _ = clusters()
    embed(gram(vectors), method="umap", metric="cosine")
    from umap.layouts import _nb_optimize_layout_euclidean_single_epoch as moving
    from umap.umap_ import smooth_knn_dist

    for function in (moving, smooth_knn_dist):
        assert function.stats.cache_path
        assert function.stats.cache_hits or function.stats.cache_misses


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="this machine has one core")
def test_the_first_umap_of_a_process_leaves_torch_its_number_of_threads() -> None:
    code = (
        "import torch\n"
        "import numpy as np\nfrom workbench.measurement.embedding import embed\n"
        "points = np.random.default_rng(0).normal(size=(40, 8))\n"
        "embed(points @ points.T, method='umap', metric='cosine')\n"
        "print(torch.get_num_threads())"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["1"]
