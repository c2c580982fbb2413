"""The closed forms of a collapsed network, against dense numerics."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.study.convention import CONVENTIONS as OF_STUDIES
from workbench.theory import collapse, collapse_of
from workbench.theory.collapsed import CONVENTIONS

Array = NDArray[np.float64]
EPS = 1e-3


def descending(matrix: Array) -> Array:
    return np.linalg.eigvalsh(matrix)[::-1]


def features_of(cosine: float, num_classes: int) -> Array:
    """Vectors of length 1 with one cosine between any two."""
    gram = (1 - cosine) * np.eye(num_classes) + cosine
    values, vectors = np.linalg.eigh(gram)
    return vectors * np.sqrt(values.clip(min=0))


def idealised(cosine: float, num_classes: int) -> tuple[Array, Array]:
    """G and its class part as matrices, to first order in the small probability."""
    C, h, e = num_classes, features_of(cosine, num_classes), np.eye(num_classes)
    G, class_part = np.zeros((2, C * C, C * C))
    for c in range(C):
        deltas = [np.kron(e[k] - e[c], h[c]) * EPS**0.5 for k in range(C) if k != c]
        mean = sum(deltas) / (C - 1)
        class_part += (C - 1) / C * np.outer(mean, mean)
        for delta in deltas:
            G += np.outer(delta, delta) / C
    return G, class_part


@pytest.mark.parametrize("num_classes", [*range(2, 10), 12, 16])
def test_the_closed_form_is_the_spectrum_of_the_matrix(num_classes: int) -> None:
    C = num_classes
    for cosine in (0.0, 0.05, 0.3, 0.7, 0.95, 1.0, -0.5 / (C - 1), -1 / (C - 1)):
        found = collapse(cosine, C, EPS)
        G, class_part = idealised(cosine, C)
        whole = np.r_[found.G.all, np.zeros(C)]
        np.testing.assert_allclose(whole, descending(G), atol=1e-12 * EPS + 1e-15)
        part = np.r_[found.class_part.all, np.zeros(C * C - C)]
        np.testing.assert_allclose(part, descending(class_part), atol=1e-15)


def test_the_closed_form_is_the_spectrum_of_the_gram_matrix_up_to_twenty() -> None:
    """The Gram matrix of the C (C - 1) vectors: the same, of a tenth of the order."""
    for C in range(2, 21):
        e = np.eye(C)
        pairs = [(c, k) for c, k in product(range(C), repeat=2) if c != k]
        apart = np.array([e[k] - e[c] for c, k in pairs])
        true = [c for c, _ in pairs]
        means = (1 - C * e) / (C - 1)
        for cosine in np.linspace(0, 1, 6):
            R = (1 - cosine) * e + cosine
            found = collapse(float(cosine), C, 1.0 / C)
            K = apart @ apart.T * R[np.ix_(true, true)] / C**2
            np.testing.assert_allclose(found.G.all, descending(K), atol=1e-10)
            K = (C - 1) / C**2 * (means @ means.T) * R
            np.testing.assert_allclose(found.class_part.all, descending(K), atol=1e-10)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 20])
def test_orthogonal_features_are_all_class_part_and_equal_ones_are_not(
    num_classes: int,
) -> None:
    C = num_classes
    np.testing.assert_allclose(collapse(0.0, C, EPS).ratio, 1.0, rtol=1e-14)
    found = collapse(1.0, C, EPS)
    np.testing.assert_allclose(found.G.all[: C - 1], 2 * EPS, rtol=1e-14)
    np.testing.assert_allclose(found.ratio[: C - 1], C / (2 * (C - 1)), rtol=1e-14)
    assert found.G.counts.sum() == C * (C - 1)
    assert found.class_part.counts.sum() == C


def test_the_outliers_are_c_at_first_and_one_fewer_at_last() -> None:
    def drop(cosine: float, rank: int) -> float:
        values = collapse(cosine, 10, EPS).G.all
        return float(values[rank - 1] / values[rank])

    assert drop(0.0, 10) > 9 > 1.1 > drop(0.0, 9)
    assert drop(0.95, 9) > 20 > 3 > drop(0.95, 10)


@pytest.mark.parametrize("cosine", [0.0, 0.4, 0.9])
def test_measured_probabilities_lead_to_the_closed_form_as_they_become_small(
    cosine: float,
) -> None:
    C, h = 6, 2.0 * features_of(cosine, 6)
    apart = []
    for eps in (1e-3, 1e-4, 1e-5):
        p = np.full((C, C), eps) + (1 - C * eps) * np.eye(C)
        found, limit = collapse_of(h, p), collapse(cosine, C, eps)
        for one, other in ((found.G, limit.G), (found.class_part, limit.class_part)):
            apart.append(np.abs(one.all / 4 - other.all).max() / eps)
    errors = np.array(apart).reshape(3, 2)
    assert errors.max() < 0.03
    np.testing.assert_allclose(errors[:-1] / errors[1:], 10, rtol=0.1)


def case(seed: int, num_classes: int, num_features: int) -> tuple[Array, Array, Array]:
    """Any features, any probabilities, any shares."""
    rng = np.random.default_rng(seed)
    h = rng.standard_normal((num_classes, num_features)) + 0.5
    logits = 2 * rng.standard_normal((num_classes, num_classes))
    p = np.exp(logits + 3 * np.eye(num_classes))
    return h, p / p.sum(1, keepdims=True), rng.dirichlet(np.ones(num_classes) * 5)


@pytest.mark.parametrize(
    ("num_classes", "num_features"), [(2, 1), (2, 5), (3, 3), (4, 2), (5, 9), (7, 3)]
)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_any_classes_have_the_spectrum_of_their_matrices(
    num_classes: int, num_features: int, convention: str
) -> None:
    """The matrices of the definitions, loop by loop."""
    C = num_classes
    h, p, w = case(C + num_features, C, num_features)
    e = np.eye(C)
    G = sum(
        w[c] * np.kron(np.diag(p[c]) - np.outer(p[c], p[c]), np.outer(h[c], h[c]))
        for c in range(C)
    )
    class_part = np.zeros_like(G)
    for c in range(C):
        used = [k for k in range(C) if convention == "slide" or k != c]
        if convention == "jmlr":
            weight = [p[c, k] for k in used]
            vectors = [np.kron(e[k] - p[c], h[c]) for k in used]
        else:
            weight = [1.0] * len(used)
            vectors = [p[c, k] ** 0.5 * np.kron(e[k] - p[c], h[c]) for k in used]
        mean = np.average(vectors, axis=0, weights=weight)
        class_part += w[c] * sum(weight) * np.outer(mean, mean)
    found = collapse_of(h, p, w, convention=convention)
    size = descending(G)[0]
    whole = found.G.all[: C * num_features]
    np.testing.assert_allclose(
        whole, descending(G)[: len(whole)], atol=1e-13 * size, rtol=1e-10
    )
    assert len(found.G.all) == C * (C - 1)
    part = found.class_part.all[: C * num_features]
    np.testing.assert_allclose(
        part, descending(class_part)[: len(part)], atol=1e-13 * size, rtol=1e-10
    )
    assert (found.class_part.all <= found.G.all[:C] + 1e-13 * size).all() or C == 2


def test_by_default_the_classes_are_of_equal_size() -> None:
    h, p, _ = case(1, 4, 6)
    even, given = collapse_of(h, p), collapse_of(h, p, [0.25] * 4)
    np.testing.assert_array_equal(even.G.all, given.G.all)


def test_a_network_that_is_sure_to_the_last_digit_keeps_its_digits() -> None:
    eps = 1e-30
    p = np.full((3, 3), eps) + np.diag([1.0] * 3)
    found = collapse_of(np.eye(3), p)
    np.testing.assert_allclose(found.G.all[:3], eps, rtol=1e-12)


def test_a_study_whose_features_have_collapsed_has_the_predicted_spectrum() -> None:
    study = make_study(4, 40, noise=0.0)
    assert study.last_layer is not None
    for convention in OF_STUDIES.values():
        found = study.last_layer.collapsed(convention.name)
        G = study.spectra["G"].eigenvalues[:12]
        np.testing.assert_allclose(found.G.all, G, atol=1e-12 * G[0])
        expected = study.levels[convention.name].parts[convention.class_part][:4]
        np.testing.assert_allclose(found.class_part.all, expected, atol=1e-12 * G[0])


BAD: dict[str, tuple[Any, ...]] = {
    "num_classes is 1; give a whole number, at least 2": (0.5, 1, 0.1),
    "num_classes is 2.5; give a whole number": (0.5, 2.5, 0.1),
    "cosine is 1.1; give a number from -0.5 to 1": (1.1, 3, 0.1),
    "cosine is -0.6; give": (-0.6, 3, 0.1),
    "cosine is nan; give": (float("nan"), 3, 0.1),
    "eps is 0.5; give a number from 0 to 0.333333": (0.5, 3, 0.5),
    "eps is 'small'; give": (0.5, 3, "small"),
}


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_is_one_sentence(said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        collapse(*BAD[said])


H, P = np.eye(3), np.full((3, 3), 1 / 3)
UNFIT: dict[str, dict[str, Any]] = {
    r"features \(2, 3\), probabilities": {"features": H[:2], "probabilities": P},
    r"shares \(2,\); expected": {"features": H, "probabilities": P, "shares": [1, 0]},
    "probabilities are negative or do not": {"features": H, "probabilities": 2 * P},
    "shares are negative or do not sum": {
        "features": H, "probabilities": P, "shares": [2, -1, 0]
    },
    "NaN or infinity": {"features": H + np.inf, "probabilities": P},
    "not arrays of numbers": {"features": "x", "probabilities": P},
    "no convention 'nips'": {"features": H, "probabilities": P, "convention": "nips"},
    "number of classes is 1": {"features": H[:1], "probabilities": [[1.0]]},
    "the limit is 10,000": {
        "features": np.zeros((200, 100)), "probabilities": np.eye(200)
    },
}  # fmt: skip


@pytest.mark.parametrize("said", UNFIT)
def test_what_does_not_fit_is_one_sentence(said: str) -> None:
    with pytest.raises(WorkbenchError, match=said) as caught:
        collapse_of(**UNFIT[said])
    assert "\n" not in str(caught.value)


def test_the_conventions_are_those_of_studies() -> None:
    assert tuple(OF_STUDIES) == CONVENTIONS


def test_two_classes_at_the_cosine_where_both_roots_meet() -> None:
    found = collapse(2 / 3 - 1, 2, 0.01)  # the square under the root rounds to below 0
    np.testing.assert_allclose(found.G.all, [0.04 / 3, 0.02 / 3], rtol=1e-12)
