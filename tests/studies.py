"""Synthetic studies, made in milliseconds and true to the mathematics.

The network is multinomial logistic regression on clustered features, where each
gradient has a closed form: ``delta_{i,c,k} = sqrt(p_k) (e_k - p) (x) h_i``. So every
identity that a measured study obeys holds here too (parts sum to G, the class part
never exceeds G), and the residual H alone is made up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.neural_collapse import measures
from workbench.study.convention import CONVENTIONS
from workbench.study.layers import Layers
from workbench.study.null import Null
from workbench.study.records import Embedding, LastLayer, Levels, Study
from workbench.study.spectrum import Spectrum
from workbench.study.walk import Walk

Array = NDArray[np.float64]

CLOTHES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Boot",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Gradients:
    """All gradients of a small problem, and what they were made from."""

    delta: Array  # (N, C, P)
    prob: Array  # (N, C)
    label: NDArray[np.int64]  # (N,)
    features: Array  # (N, q)
    weight: Array  # (C, q)
    accuracy: float
    loss: float


@cache
def make_study(
    num_classes: int = 10,
    num_gradients: int = 1500,
    weighting: str = "icml",
    *,
    exact: bool = True,
    with_hess: bool = True,
    with_dots: bool = True,
    with_last_layer: bool = True,
    with_null: bool = True,
    with_walk: bool = True,
    with_layers: bool = True,
    weightings: tuple[str, ...] = tuple(CONVENTIONS),
    num_outliers: int | None = None,
    class_names: tuple[str, ...] | None = None,
    signal: float = 3.0,
    noise: float = 0.5,
    num_moments: int = 0,
    seed: int = 0,
) -> Study:
    """Make a study of logistic regression on clustered features, once a process.

    Args:
        num_classes: C.
        num_gradients: Individual gradients drawn in the embedding.
        weighting: The weighting that the embedding is made in.
        exact: Whether all eigenvalues are there; else the leading ones and a density.
        with_hess: Whether Hess and H were measured as well.
        with_dots: Whether the embedding holds individual gradients at all.
        with_last_layer: Whether the last layer was looked at.
        with_null: Whether labels were shuffled; a study of before has no null.
        with_walk: Whether the loss was walked along the eigenvectors, at the last
            epoch.
        with_layers: Whether the weights were looked at layer by layer, at the last
            epoch.
        weightings: The weightings that are there.
        num_outliers: How many outliers there are said to be; by default C - 1.
        class_names: One for each class; by default clothes, or numbers.
        signal: How far apart the classes are; 0 for a network that learnt nothing.
        noise: How far the features of a class are apart; 0: they have collapsed.
        num_moments: Earlier epochs, in which the classes were nearer to each other.
        seed: The same seed gives the same study.
    """
    rng = np.random.default_rng(seed)
    per_class = max(2, min(24, 240 // num_classes), -(-num_gradients // num_classes**2))
    grads = _gradients(rng, num_classes, per_class, signal, noise)
    num_examples, _, dim = grads.delta.shape
    flat = grads.delta.reshape(-1, dim)
    G = flat.T @ flat / num_examples
    random = rng.standard_normal((dim, dim))
    H = (random + random.T) * 0.02 * np.trace(G) / dim
    operators = {"G": G} | ({"Hess": G + H, "H": H} if with_hess else {})
    counted = num_outliers
    if num_outliers is None:
        num_outliers = num_classes - 1
    num_measured = min(dim, max(2 * num_classes, num_outliers))
    names = class_names or (
        CLOTHES if num_classes == 10 else tuple(map(str, range(num_classes)))
    )
    study = Study(
        run={
            "data": "synthetic",
            "per_class": per_class,
            "model": "linear",
            "num_params": dim,
            "num_classes": num_classes,
            "num_examples": num_examples,
            "epochs": 30,
            "seed": seed,
            "device": "cpu",
            "train_loss": grads.loss,
            "train_accuracy": grads.accuracy,
        },
        settings={"weighting": weighting, "embedding": "umap", "metric": "cosine"},
        class_names=names,
        history={
            "epoch": np.arange(1.0, 31.0),
            "loss": np.linspace(np.log(num_classes), grads.loss, 30),
            "accuracy": np.linspace(1 / num_classes, grads.accuracy, 30),
        },
        spectra={
            name: _spectrum(matrix, exact, num_measured, rng)
            for name, matrix in operators.items()
        },
        levels={
            w: replace(
                _levels(w, G, grads, num_measured),
                null=_null(w, G, grads, num_measured) if with_null else None,
            )
            for w in weightings
        },
        num_outliers=num_outliers,
        outlier_rule=f"the widest gap in log10 of the first {num_measured} eigenvalues",
        embedding=_embedding(
            rng, num_classes, per_class, num_gradients if with_dots else 0, weighting
        ),
        versions={"workbench": "0.1.0"},
        created="2025-01-01T00:00:00+00:00",
        last_layer=_last_layer(grads, G, rng) if with_last_layer else None,
        random=_random(G, grads, num_measured) if with_null else None,
        shared=_shared(G, H, num_classes) if with_null and with_hess else np.empty(0),
        walk=_walk(grads, G, H if with_hess else None) if with_walk else None,
        layers=_layers(operators, grads, weightings) if with_layers else None,
    )
    if not num_moments:
        return study
    moments = []
    for n in range(num_moments):
        share = (n + 0.3) / (num_moments + 0.3)
        moment = make_study(
            num_classes,
            num_gradients,
            weighting,
            exact=exact,
            with_hess=with_hess,
            with_dots=with_dots,
            with_last_layer=with_last_layer,
            with_null=with_null,
            with_walk=False,
            with_layers=False,
            weightings=weightings,
            num_outliers=counted,
            class_names=names,
            signal=signal * share,
            noise=noise,
            seed=seed,
        )
        points = study.embedding.points  # the classes move apart, and turn a little
        turn = np.array([[1, share - 1], [1 - share, 1]], dtype=np.float32)
        mixed = share * points @ turn + (1 - share) * rng.normal(size=points.shape)
        moments.append(
            replace(
                moment,
                run={**moment.run, "epochs": n**2},
                history={k: v[: n**2] for k, v in study.history.items()},
                embedding=replace(moment.embedding, points=mixed.astype(np.float32)),
            )
        )
    return replace(study, moments=tuple(moments))


def _gradients(
    rng: np.random.Generator,
    num_classes: int,
    per_class: int,
    signal: float,
    spread: float,
) -> _Gradients:
    num_features = max(2, min(12, 200 // num_classes))
    centre = rng.standard_normal((num_classes, num_features))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    label = np.repeat(np.arange(num_classes), per_class)
    noise = rng.standard_normal((len(label), num_features)) / np.sqrt(num_features)
    features = centre[label] + spread * noise
    logits = signal * features @ centre.T
    prob = np.exp(logits - logits.max(axis=1, keepdims=True))
    prob /= prob.sum(axis=1, keepdims=True)
    residual = np.eye(num_classes)[None] - prob[:, None]  # (N, C, C): e_k - p
    delta = np.sqrt(prob)[:, :, None, None] * (
        residual[..., None] * features[:, None, None]
    )
    own = prob[np.arange(len(label)), label]
    return _Gradients(
        delta=delta.reshape(len(label), num_classes, -1),
        prob=prob,
        label=label,
        features=features,
        weight=signal * centre,
        accuracy=float((prob.argmax(axis=1) == label).mean()),
        loss=float(-np.log(own).mean()),
    )


def _last_layer(grads: _Gradients, G: Array, rng: np.random.Generator) -> LastLayer:
    """The only layer there is, so its G is all of G."""
    C = grads.prob.shape[1]
    per_class = len(grads.label) // C
    means = grads.features.reshape(C, per_class, -1).mean(axis=1)
    apart = grads.features - means[grads.label]
    return LastLayer(
        name="linear",
        bias=False,
        class_means=means,
        probabilities=grads.prob.reshape(C, per_class, C).mean(axis=1),
        shares=np.full(C, 1 / C),
        within=float((apart**2).sum(axis=1).mean()),
        between=float(((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()),
        neural_collapse=measures(
            grads.features, grads.label, grads.weight, grads.prob.argmax(axis=1)
        ),
        spectrum=_spectrum(G, True, 0, rng),
    )


def _averages(weighting: str, grads: _Gradients) -> tuple[Array, Array, Array, Array]:
    """The delta_{c,k} with their weights in G, and those in delta_c; the delta_c."""
    num_examples, C, dim = grads.delta.shape
    per_class = num_examples // C
    by_class = grads.delta.reshape(C, per_class, C, dim)
    weight = np.full((C, C), 1 / C)  # of each delta_{c,k} in G
    if weighting == "jmlr":
        mass = grads.prob.reshape(C, per_class, C)  # delta = sqrt(p) g
        mean = np.einsum("cik,cikp->ckp", np.sqrt(mass), by_class)
        mean /= mass.sum(axis=1)[..., None]
        weight = mass.sum(axis=1) / num_examples
    else:
        mean = by_class.mean(axis=1)
    off = ~np.eye(C, dtype=bool)
    share = weight * (off if weighting != "slide" else np.ones_like(off))
    class_mean = np.einsum("ck,ckp->cp", share, mean) / share.sum(1)[:, None]
    return mean, weight, share, class_mean


def _class_part(weighting: str, grads: _Gradients) -> Array:
    _, _, share, class_mean = _averages(weighting, grads)
    return _second_moment(class_mean, share.sum(axis=1))


def _levels(weighting: str, G: Array, grads: _Gradients, num_leading: int) -> Levels:
    """The three averages, by their definitions."""
    dim = len(G)
    mean, weight, share, class_mean = _averages(weighting, grads)
    G_mean = class_mean.mean(axis=0)
    means = _second_moment(mean.reshape(-1, dim), weight.ravel())
    class_part = _class_part(weighting, grads)
    own = np.diagonal(mean, axis1=0, axis2=1).T
    diagonal = _second_moment(own, np.diagonal(weight) * (weighting != "slide"))
    parts = {
        "slide": ("G_class", "G_cross", "G_within", ""),
        "icml": ("G1", "G2", "G3", "G0"),
        "jmlr": ("G_class", "G_cross", "G_within", "G_diag"),
    }[weighting]
    matrices = dict(
        zip(
            parts,
            (class_part, means - class_part - diagonal, G - means, diagonal),
            strict=True,
        )
    )
    matrices.pop("", None)
    matrices[CONVENTIONS[weighting].means_part] = means
    basis, _ = np.linalg.qr(class_mean.T)
    vectors = np.linalg.eigh(G)[1][:, ::-1][:, :num_leading]
    rest = np.eye(dim) - basis @ basis.T
    unit = class_mean / np.linalg.norm(class_mean, axis=1, keepdims=True)
    trace = {name: float(np.trace(m)) for name, m in matrices.items()}
    trace["G"] = float(np.trace(G))
    last = float(share.sum() * G_mean @ G_mean)
    named = CONVENTIONS[weighting]
    carried = trace["G"], trace[named.means_part], trace[named.class_part]
    return Levels(
        weighting=weighting,
        parts={name: _descending(m)[:num_leading] for name, m in matrices.items()},
        trace=trace,
        kept=np.array([*carried, last]) / trace["G"],
        overlap=((basis.T @ vectors) ** 2).sum(axis=0),
        class_overlap=((unit @ vectors) ** 2).T,
        subtracted=_descending(G - class_part)[:num_leading],
        projected=_descending(rest @ G @ rest)[:num_leading],
    )


def _null(weighting: str, G: Array, grads: _Gradients, num_leading: int) -> Null:
    """The same averages over examples in another order, as if that were by class."""
    found = []
    for draw in range(3):
        order = np.random.default_rng(draw).permutation(len(grads.label))
        other = replace(grads, delta=grads.delta[order], prob=grads.prob[order])
        found.append(_levels(weighting, G, other, num_leading))
    part = CONVENTIONS[weighting].class_part
    return Null(
        overlap=np.array([one.overlap for one in found]),
        class_part=np.array([one.parts[part] for one in found]),
        subtracted=np.array([one.subtracted for one in found[:2]]),
        projected=np.array([one.projected for one in found[:2]]),
    )


def _random(G: Array, grads: _Gradients, num_leading: int) -> Null:
    """As many random combinations of the gradients as there are classes."""
    num_examples, C, dim = grads.delta.shape
    vectors = np.linalg.eigh(G)[1][:, ::-1][:, :num_leading]
    overlap, projected = [], []
    for draw in range(3):
        factors = np.random.default_rng(draw).standard_normal((C, num_examples * C))
        basis, _ = np.linalg.qr((factors @ grads.delta.reshape(-1, dim)).T)
        rest = np.eye(dim) - basis @ basis.T
        overlap.append(((basis.T @ vectors) ** 2).sum(axis=0))
        projected.append(_descending(rest @ G @ rest)[:num_leading])
    nothing = np.empty((0, 0))
    return Null(np.array(overlap), nothing, nothing, np.array(projected))


def _shared(G: Array, H: Array, num: int) -> Array:
    of_g, of_hess = (np.linalg.eigh(A)[1][:, ::-1][:, :num] for A in (G, G + H))
    shares: Array = ((of_hess.T @ of_g) ** 2).sum(axis=0)
    return shares


def _walk(grads: _Gradients, G: Array, H: Array | None) -> Walk:
    """The loss of the regression at its weight and t times a direction."""
    C = grads.prob.shape[1]
    values, vectors = np.linalg.eigh(G)
    ranks = [*range(1, min(C, 20) + 1), len(G) // 2]
    directions = [vectors[:, -rank] for rank in ranks]
    eigenvalues = [values[-rank] for rank in ranks]
    if H is not None:
        lowest = np.linalg.eigh(H)
        directions.append(lowest[1][:, 0])
        eigenvalues.append(lowest[0][0])
    end = np.sqrt(2 / values[-1])
    distance = np.linspace(-end, end, 21)
    distance[10] = 0.0
    weight = grads.weight + distance[:, None, None] * (
        np.array(directions).reshape(-1, 1, *grads.weight.shape)
    )
    logits = np.einsum("iq,dnkq->dnik", grads.features, weight)
    logits -= logits.max(axis=3, keepdims=True)
    own = np.take_along_axis(logits, grads.label[None, None, :, None], 3)[..., 0]
    loss = np.log(np.exp(logits).sum(axis=3)) - own
    return Walk(
        operator=("G",) * len(ranks) + ("H",) * (H is not None),
        rank=np.array(ranks + [-1] * (H is not None)),
        eigenvalue=np.array(eigenvalues),
        distance=distance,
        class_loss=loss.reshape(*loss.shape[:2], C, -1).mean(axis=3),
        shares=np.full(C, 1 / C),
    )


def _layers(
    operators: dict[str, Array], grads: _Gradients, weightings: tuple[str, ...]
) -> Layers:
    """The weight cut into three, as if by layers."""
    G = operators["G"]
    C, dim = grads.prob.shape[1], len(G)
    num, names = min(C, 20), ("body.0", "body.1", "head")
    cuts = [part for part in np.array_split(np.arange(dim), 3) if len(part)]
    vectors = np.linalg.eigh(G)[1][:, ::-1][:, :num]

    def leading(matrix: Array, own: NDArray[np.intp]) -> Array:
        found = np.full(num, np.nan)
        values = np.linalg.eigvalsh(matrix[np.ix_(own, own)])[::-1][:num]
        found[: len(values)] = values
        return found

    def blocks(matrix: Array) -> Array:
        return np.array([leading(matrix, own) for own in cuts])

    values = {k: blocks(v) for k, v in operators.items() if k != "H"}
    return Layers(
        names=names,
        kinds=("Conv2d", "BatchNorm2d", "Linear"),
        parameters=tuple((f"{name}.weight",) for name in names),
        num_parameters=np.array([len(own) for own in cuts]),
        share=np.array([(vectors[own] ** 2).sum(axis=0) for own in cuts]),
        share_error=np.full(num, 1e-9),
        trace=np.array([np.trace(G[np.ix_(own, own)]) for own in cuts]),
        eigenvalues=values,
        residuals={k: np.where(np.isnan(v), np.nan, 1e-9) for k, v in values.items()},
        class_part={w: blocks(_class_part(w, grads)) for w in weightings},
    )


def _second_moment(vectors: Array, weights: Array) -> Array:
    return (vectors * weights[:, None]).T @ vectors


def _descending(matrix: Array) -> Array:
    return np.linalg.eigvalsh(matrix)[::-1].copy()


def _spectrum(
    matrix: Array, exact: bool, num_measured: int, rng: np.random.Generator
) -> Spectrum:
    eigenvalues = _descending(matrix)
    dim, trace = len(matrix), float(np.trace(matrix))
    if exact:
        return Spectrum(
            eigenvalues=eigenvalues,
            residuals=np.zeros(dim),
            nodes=np.empty((0, 0)),
            weights=np.empty((0, 0)),
            dim=dim,
            trace=trace,
            trace_error=0.0,
            complete=True,
            method="dense, exact",
            num_matvecs=0,
        )
    both_ends = np.r_[eigenvalues[:num_measured], eigenvalues[-3:]]
    weights = rng.dirichlet(np.ones(dim), size=4)
    return Spectrum(
        eigenvalues=both_ends,
        residuals=np.abs(both_ends) * rng.uniform(0.001, 0.03, len(both_ends)),
        nodes=np.tile(eigenvalues, (4, 1)),
        weights=weights,
        dim=dim,
        trace=trace,
        trace_error=0.01 * abs(trace),
        complete=False,
        method="block Krylov",
        num_matvecs=128,
    )


def _embedding(
    rng: np.random.Generator,
    num_classes: int,
    per_class: int,
    num_drawn: int,
    weighting: str,
) -> Embedding:
    """Place clusters in the plane as UMAP would: classes apart, c' within them."""
    C = num_classes
    angle = 2 * np.pi * np.arange(C) / C
    radius = 10 * (0.75 + 0.25 * rng.random(C))
    centre = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    spread = min(2.6, 22 / C)
    mean = centre[:, None] + spread * rng.standard_normal((C, C, 2))
    mean[np.arange(C), np.arange(C)] += 0.3 * centre
    c, i, k = (
        a.ravel()
        for a in np.meshgrid(range(C), range(per_class), range(C), indexing="ij")
    )
    drawn = np.sort(rng.permutation(len(c))[:num_drawn])
    c, i, k = c[drawn], i[drawn], k[drawn]
    dots = mean[c, k] + 0.22 * spread * rng.standard_normal((len(c), 2))
    row, column = (a.ravel() for a in np.indices((C, C)))
    none = np.full(C, -1)
    return Embedding(
        points=np.concatenate(
            [dots, mean.reshape(-1, 2), centre, centre.mean(axis=0)[None]]
        ).astype(np.float32),
        level=np.repeat([0, 1, 2, 3], [len(c), C * C, C, 1]),
        example=np.concatenate([c * per_class + i, np.full(C * C + C + 1, -1)]),
        true_class=np.concatenate([c, row, np.arange(C), [-1]]),
        potential_class=np.concatenate([k, column, none, [-1]]),
        method="umap",
        metric="cosine",
        weighting=weighting,
        num_total=C * C * per_class,
    )
