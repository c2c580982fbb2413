r"""G of the last layer once its features have collapsed to one vector for each class.

For a last layer ``f = W h(x)`` the gradients are ``delta_{i,c,k} = sqrt(p_k) (e_k - p)
(x) h(x_i)``. If all examples of class c have the features ``h_c`` and the probabilities
``p_c``, nothing depends on i, and the spectrum of G follows from the inner products of
C vectors and from C x C probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import WorkbenchError
from workbench.theory.eigenvalues import Eigenvalues, check_between, check_whole

MOST_ORDER = 10_000  # of the matrix that `collapse_of` diagonalises: 800 MB, a minute
SUM_TO_1 = 1e-4  # tolerance for sums of probabilities, which may be single precision
CONVENTIONS = ("slide", "icml", "jmlr")  # as `workbench.study.convention` has them
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Collapse:
    """The spectrum of the last layer's G, and of its class part."""

    G: Eigenvalues  # C (C - 1) eigenvalues; the others are zero
    class_part: Eigenvalues  # C eigenvalues; the others are zero

    @property
    def ratio(self) -> Array:
        """Each eigenvalue of the class part relative to that of G, (C,).

        The j-th eigenvalue of the class part divided by the j-th of G, from 0 to 1; NaN
        if both are zero.
        """
        part = self.class_part.all
        whole = self.G.all[: len(part)]
        unknown = np.full(len(part), math.nan)
        return np.divide(part, whole, out=unknown, where=whole > 0)


def collapse(cosine: float, num_classes: int, eps: float) -> Collapse:
    r"""Eigenvalues of the last layer's G of a collapsed network, in closed form.

    All features of a class are equal, those of any two classes have the cosine r, and
    each example assigns the probability ``eps`` to every wrong class. To first order in
    ``eps``, with features of length 1 and ``s = 1 + r (C - 1)``:

    .. math:: \lambda_\pm = \frac{\epsilon}{2C} \Bigl( C + s \pm
        \sqrt{(C + s)^2 - 4 C s (1 - r)} \Bigr)

    ==================================== ================ =============================
    of G                                 how many         of the class part, ``icml``
    ==================================== ================ =============================
    ``lam+``                             C - 1            ``eps (1 + r / (C - 1))``
    ``eps (1 - r)``                      1                ``eps (1 - r)``
    ``lam-``                             C - 1            0
    ``eps (1 - r) / C``                  C^2 - 3 C + 1    0
    ==================================== ================ =============================

    At r = 0 there are C outliers, which the class part reproduces fully. At r = 1 there
    are C - 1, and the class part reaches C / (2 (C - 1)) of each.

    Args:
        cosine: r, the same for the features of any two classes, from -1 / (C - 1) (a
            simplex around zero) to 1.
        num_classes: C, at least 2.
        eps: Probability of each wrong class; small. For features of another length,
            multiply all eigenvalues by its square.

    Raises:
        WorkbenchError: If no such features or probabilities exist.

    Reference:
        Derived here from Papyan (2019), arXiv:1901.08244, and Papyan, Han, Donoho
        (2020), PNAS 117(40).

    Example:
        >>> found = collapse(cosine=1.0, num_classes=3, eps=0.01)
        >>> found.G.values, found.G.counts  # two outliers of size 2 eps
        (array([0.02, 0.  ]), array([2, 4]))
        >>> found.ratio[:2]  # 3 / (2 * 2)
        array([0.75, 0.75])
    """
    check_whole("collapse", "num_classes", num_classes, 2)
    C, r = int(num_classes), float(cosine)
    check_between("collapse", "cosine", cosine, -1 / (C - 1), 1.0)
    check_between("collapse", "eps", eps, 0.0, 1 / C)
    s = max(1 + r * (C - 1), 0.0)
    square = (C + s) ** 2 - 4 * C * s * (1 - r)  # 0 at C = 2, r = -1/3, or just below
    root = math.sqrt(max(square, 0.0))
    high = eps / (2 * C) * (C + s + root)
    low = eps**2 * s * (1 - r) / (C * high) if high else 0.0  # their product, exactly
    common, rest = eps * (1 - r), eps * (1 - r) / C
    if C == 2:  # the mini-bulk's count is -1, which cancels one of the others
        pairs = [(eps * (1 + r), 1), (common, 1)]
    else:
        pairs = [(high, C - 1), (common, 1), (low, C - 1), (rest, C * C - 3 * C + 1)]
    class_part = [(eps * (1 + r / (C - 1)), C - 1), (common, 1)]
    return Collapse(_merged(pairs), _merged(class_part))


def collapse_of(
    features: ArrayLike,
    probabilities: ArrayLike,
    shares: ArrayLike | None = None,
    *,
    convention: str = "icml",
) -> Collapse:
    r"""Eigenvalues of the last layer's G from features and probabilities of classes.

    .. math:: G = \sum_c w_c \sum_k p_{ck} (e_k - p_c)(e_k - p_c)^T \otimes h_c h_c^T

    Exact if all examples of a class have the same features and probabilities; otherwise
    this is the part of G that their means explain. The ``C^2`` vectors ``sqrt(w_c p_ck)
    (e_k - p_c) (x) h_c`` span at most ``C (C - 1)`` dimensions, because ``sum_k p_ck
    (e_k - p_c) = 0``. The cost is one eigendecomposition of at most that order.

    Args:
        features: h_c, the inputs of the layer, (C, q). For a layer with a bias, append
            a 1 to each.
        probabilities: p_c, (C, C), each row sums to 1.
        shares: w_c = n_c / N, the share of each class among the examples, (C,); by
            default 1 / C.
        convention: Of the class part: ``"icml"``, ``"slide"`` or ``"jmlr"``.

    Raises:
        WorkbenchError: If shapes do not match, probabilities are invalid, numbers are
            not finite, or there are more than about a hundred classes.

    Example:
        >>> even = np.full((3, 3), 0.01) + 0.97 * np.eye(3)
        >>> found = collapse_of(np.eye(3), even)  # orthogonal features: C outliers
        >>> found.G.all.round(4)
        array([0.0098, 0.0098, 0.0098, 0.0033, 0.0033, 0.0033])
    """
    h, p, w = _checked(features, probabilities, shares, convention)
    C = len(p)
    residual = np.eye(C) - p[:, None]  # [c, k, :]: e_k - p_c
    left, size, _ = np.linalg.svd(h, full_matrices=False)
    place = left * size  # (C, min(C, q)): coordinates of the features in their span
    logits = np.linalg.qr(np.eye(C) - 1 / C)[0][:, : C - 1]  # logits that sum to zero
    rows = np.sqrt(w[:, None] * p)[..., None] * (residual @ logits)
    rows = np.einsum("ckl,cm->cklm", rows, place).reshape(C * C, -1)
    whole = np.zeros(C * (C - 1))
    found = np.linalg.eigvalsh(rows.T @ rows)[::-1]
    whole[: len(found)] = found.clip(min=0.0)
    vectors, weights = _class_vectors(p, residual, w, convention)
    vectors = np.sqrt(weights)[:, None] * vectors
    inner = (vectors @ vectors.T) * (place @ place.T)
    part = np.linalg.eigvalsh(inner)[::-1].clip(min=0.0)
    return Collapse(_single(whole), _single(part))


def _class_vectors(
    p: Array, residual: Array, w: Array, convention: str
) -> tuple[Array, Array]:
    """The factors a_c of delta_c = a_c (x) h_c, (C, C), and their weights, (C,)."""
    C = len(p)
    leaves_out = convention != "slide"  # k = c
    apart = np.ones((C, C)) - leaves_out * np.eye(C)  # the k averaged over
    if convention == "jmlr":
        mass = p * apart
        total = mass.sum(1)
        tiny = np.finfo(np.float64).tiny
        mean = np.einsum("ck,ckl->cl", mass, residual) / total.clip(min=tiny)[:, None]
        return mean, w * total
    num = C - leaves_out
    return np.einsum("ck,ckl->cl", np.sqrt(p) * apart, residual) / num, w * num


def _checked(
    features: ArrayLike,
    probabilities: ArrayLike,
    shares: ArrayLike | None,
    convention: str,
) -> tuple[Array, Array, Array]:
    """Return features, probabilities and shares as arrays, checked."""
    try:
        h = np.asarray(features, dtype=np.float64)
        p = np.asarray(probabilities, dtype=np.float64)
        w = np.full(len(p), 1 / len(p)) if shares is None else np.asarray(shares, float)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise WorkbenchError(
            f"collapse_of: the arguments are not arrays of numbers ({error}); "
            "expected features (C, q) and probabilities (C, C)."
        ) from error
    C = len(p)
    if h.ndim != 2 or h.shape[1] < 1 or p.shape != (len(h), len(h)) or w.shape != (C,):
        raise WorkbenchError(
            f"collapse_of: features {h.shape}, probabilities {p.shape} and shares "
            f"{w.shape}; expected (C, q), (C, C) and (C,)."
        )
    check_whole("collapse_of", "the number of classes", C, 2)
    if (C - 1) * min(h.shape) > MOST_ORDER:
        raise WorkbenchError(
            f"collapse_of: {C:,} classes with {h.shape[1]:,} features need a matrix "
            f"of order {(C - 1) * min(h.shape):,}, and the limit is {MOST_ORDER:,}; "
            "choose fewer classes."
        )
    if not np.isfinite(h).all():
        raise WorkbenchError(
            "collapse_of: the features contain NaN or infinity; give finite numbers."
        )
    for name, rows in (("probabilities", p), ("shares", w[None])):
        if not (rows >= 0).all() or np.abs(rows.sum(1) - 1).max() > SUM_TO_1:
            raise WorkbenchError(
                f"collapse_of: {name} are negative or do not sum to 1; give a "
                "distribution, for instance a softmax."
            )
    if convention not in CONVENTIONS:
        raise WorkbenchError(
            f"collapse_of: there is no convention {convention!r}; choose one of "
            f"{', '.join(CONVENTIONS)}."
        )
    return h, p, w


def _single(values: Array) -> Eigenvalues:
    return Eigenvalues(values, np.ones(len(values), dtype=np.int64))


def _merged(pairs: list[tuple[float, int]]) -> Eigenvalues:
    """Merge equal eigenvalues, which occur at r = 0."""
    found: dict[float, int] = {}
    for value, num in pairs:
        found[value] = found.get(value, 0) + num
    return Eigenvalues.of(found.items())
