"""Embeds gradients in the plane from their inner products: UMAP, t-SNE or PCA."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import warnings

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.linalg.columns import distances
from workbench.machine.scratch import let_numba_cache
from workbench.study.procrustes import align

METHODS = ("umap", "tsne", "pca")
METRICS = ("cosine", "euclidean")
STARTED_EPOCHS = 200  # of UMAP with a given start, instead of its default 500
STARTED_RATE = 0.3  # at UMAP's own rate, 1, points forget their start
Matrix = NDArray[np.float64]
_ONE_UMAP = threading.Lock()  # numba's threads and warning filters are per process


def embed(
    gram: Matrix,
    *,
    method: str,
    metric: str,
    seed: int = 0,
    start: Matrix | None = None,
) -> Matrix:
    """Place vectors in the plane so that neighbours stay close.

    Uses only inner products, so the vectors can have any dimension. Needs O(n^2)
    memory; UMAP's first call on a machine also compiles for about twenty seconds.

    Args:
        gram: Inner products of n vectors, (n, n).
        method: ``"umap"`` and ``"tsne"`` show clusters, ``"pca"`` is linear and fast;
            fewer than 8 vectors always use PCA.
        metric: ``"cosine"`` compares directions only, ``"euclidean"`` also lengths.
        seed: Seed of the method; the same seed gives the same picture.
        start: Positions of the same vectors at another time, (n, 2). UMAP and t-SNE
            start from them, and the result is aligned with them (`align`), so that
            points move smoothly.

    Returns:
        Points, (n, 2), centred, with the furthest at distance 1; with ``start``, at its
        position and scale instead.

    Raises:
        WorkbenchError: If the method or metric does not exist.

    Reference:
        McInnes, Healy and Melville (2018), arXiv:1802.03426; van der Maaten and Hinton
        (2008), JMLR 9.
    """
    check_names(method, metric)
    if metric == "cosine":
        size = np.sqrt(np.clip(np.diag(gram), 0.0, None))
        safe = np.where(size > 0, size, 1.0)
        gram = gram / safe[:, None] / safe
    else:  # rescaled, because single precision has a limited range
        gram = gram / (np.diag(gram).max(initial=0.0) or 1.0)
    if method == "pca" or len(gram) < 8:
        points = _pca(gram)
    elif method == "tsne":
        points = _tsne(distances(gram, metric), seed, start)
    else:
        points = _umap(distances(gram, metric), seed, start)
    if start is not None:
        return align(points, start)
    points = points - points.mean(0)
    reach = np.sqrt((points**2).sum(1).max(initial=0.0))
    return points / (reach or 1.0)


def check_names(method: str, metric: str) -> None:
    """Raise a `WorkbenchError` if a name does not exist."""
    if method not in METHODS:
        raise WorkbenchError(
            f"embed: there is no method {method!r}; choose one of {', '.join(METHODS)}."
        )
    if metric not in METRICS:
        raise WorkbenchError(
            f"embed: there is no metric {metric!r}; choose one of {', '.join(METRICS)}."
        )


def _pca(gram: Matrix) -> Matrix:
    """The two leading principal components, from the centred Gram matrix."""
    from scipy.linalg import eigh

    mean = gram.mean(0)
    centred = gram - mean - mean[:, None] + mean.mean()
    n = len(gram)
    values, vectors = eigh(centred, subset_by_index=(max(n - 2, 0), n - 1))
    points = vectors[:, ::-1] * np.sqrt(np.clip(values[::-1], 0.0, None))
    flip = np.sign(points[np.abs(points).argmax(0), np.arange(points.shape[1])])
    points = points * np.where(flip == 0, 1.0, flip)
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _tsne(apart: Matrix, seed: int, start: Matrix | None) -> Matrix:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    begin: str | Matrix = "random"
    if start is not None:  # as small as scikit-learn's own start
        begin = (1e-4 / (start[:, 0].std() or 1.0) * start).astype(np.float32)
    with threadpool_limits(1):  # a second thread would spin: slower on busy cores
        found = TSNE(
            metric="precomputed",
            init=begin,
            perplexity=min(30.0, (len(apart) - 1) / 3),
            random_state=seed,
        ).fit_transform(apart)
    return np.asarray(found, dtype=np.float64)


def _umap(apart: Matrix, seed: int, start: Matrix | None) -> Matrix:
    from threadpoolctl import threadpool_limits

    # Numba gives OpenMP all cores when it starts, overriding torch; undo that.
    with _ONE_UMAP, threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap and numba warn about their own choices
        let_numba_cache()
        from umap import UMAP

        _keep_compiled()
        found = UMAP(
            metric="precomputed",
            n_neighbors=min(15, len(apart) - 1),
            min_dist=0.3,
            init="spectral" if start is None else start.astype(np.float32),
            n_epochs=None if start is None else STARTED_EPOCHS,
            learning_rate=1.0 if start is None else STARTED_RATE,
            random_state=seed,
            n_jobs=1,
        ).fit_transform(apart)
    return np.asarray(found, dtype=np.float64)


@functools.cache
def _keep_compiled() -> None:
    """Have numba cache compiled UMAP on disk for later processes."""
    from numba.core.dispatcher import Dispatcher

    for name in [name for name in sys.modules if name.startswith("umap.")]:
        for function in vars(sys.modules[name]).values():
            if isinstance(function, Dispatcher) and function.py_func.__module__ == name:
                with contextlib.suppress(RuntimeError):  # no writable folder
                    function.enable_caching()
