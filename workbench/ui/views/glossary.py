"""The glossary: the terms on the page, explained in two sentences each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from itertools import count

# Term as listed -> its meaning.
GLOSSARY: Mapping[str, str] = {
    "gradient": (
        "How the loss of one image would change with each weight of the network. Here "
        "it is taken for every label c′ that the image might have had, not the true "
        "one alone."
    ),
    "class mean": (
        "The average δ_c of all gradients of one true class, over its images and "
        "their possible labels. There is one per class."
    ),
    "Hessian": (
        "The matrix of all second derivatives of the training loss: how the gradient "
        "changes from one point to the next. Hess = G + H."
    ),
    "G": (
        "The Gauss-Newton matrix: the sum of the outer products of all gradients "
        "δ_i,c,c′. It is the part of the Hessian whose largest eigenvalues stand apart."
    ),
    "H": (
        "The rest of the Hessian, Hess − G: the curvature of the network itself, "
        "weighted by its errors. Compare its spectrum with G's: it may be small or not."
    ),
    "spectrum": (
        "All eigenvalues of a matrix, drawn as a density: how many of them lie where. "
        "An eigenvalue says how strongly the loss curves along its eigenvector."
    ),
    "eigenvector": (
        "A direction in the space of all weights that the matrix only stretches. Its "
        "eigenvalue is the factor."
    ),
    "bulk": (
        "Where nearly all eigenvalues lie, close to zero. Along these directions the "
        "loss curves little."
    ),
    "outlier": (
        "An eigenvalue that stands apart from the bulk. A rule counts them, and the "
        "slider below the spectrum lets you count otherwise."
    ),
    "density": (
        "How many eigenvalues lie in a short piece of the axis, as a share of all. It "
        "is exact where all are measured, else estimated with an error."
    ),
    "class part": (
        "The part of G that the class means carry by themselves, one eigenvalue per "
        "class. The closer its eigenvalues are to G's, the more of them it explains."
    ),
    "trace share": (
        "The sum of a part's eigenvalues over the sum of G's. It says how much of G "
        "an average keeps."
    ),
    "overlap": (
        "The share of a class mean that points along an eigenvector, from 0 to 100 %. "
        "Nearly equal eigenvalues mix, so one outlier may share several classes."
    ),
    "span": (
        "All directions that can be put together from the class means. An eigenvector "
        "within it points where they point."
    ),
    "knock-out": (
        "G without its class part, or without the directions of the class means. The "
        "first tests sizes, the second directions; neither proves a cause."
    ),
    "averages": (
        "The convention of the means: slide averages over every c′, icml leaves out "
        "c′ = c, jmlr also weighs by the predicted probability. Names are those of the "
        "papers."
    ),
    "UMAP": (
        "A method that lays points out in the plane so that neighbours stay "
        "neighbours. Distances between far groups mean nothing."
    ),
    "residual": (
        "How far a computed eigenpair is from an exact one. A true eigenvalue lies no "
        "further than that from the one drawn."
    ),
    "dense": (
        "Computed from the matrix itself, written out number by number. That gives all "
        "eigenvalues, and is done for small networks."
    ),
    "dual": (
        "Computed from the inner products of all gradients, a matrix with the same "
        "eigenvalues as G but for zeros. It is the smaller one when there are more "
        "weights than gradients."
    ),
    "rank": (
        "How many eigenvalues of a matrix are not zero. G is put together from the "
        "gradients and cannot have more of them; the others are zero by rank."
    ),
    "block Krylov": (
        "A way to find the largest and lowest eigenvalues from products of the matrix "
        "with a few vectors, again and again. It has converged when the residuals are "
        "small."
    ),
    "stochastic Lanczos quadrature": (
        "A way to estimate a density from products of the matrix with random vectors, "
        "where the matrix is too large to be written out. The band around the curve is "
        "the error of the estimate."
    ),
    "probe": (
        "One of the random vectors from which a density is estimated. The more of "
        "them, the smaller the error."
    ),
    "epoch": (
        "One pass of the training over all its images. The film shows how the outliers "
        "change from epoch to epoch."
    ),
}
_FORMS = {  # patterns of terms within a sentence, where they differ
    "class mean": "class means?",
    "outlier": "outliers?",
    "eigenvector": "eigenvectors?",
    "overlap": "overlaps?",
    "knock-out": "[Kk]nock-out",
    "probe": "probes?",
}
_serial = count()  # for ids: a term may be explained in several places on a page


def explained(html: str) -> str:
    """Turn the first mention of each glossary term into a button that explains it.

    Args:
        html: Our own text; tags are left alone.

    Returns:
        The same text with buttons. The browser opens and closes the explanations
        itself.
    """
    words = sorted(GLOSSARY, key=len, reverse=True)
    forms = "|".join(f"(?P<word{n}>{_form(word)})" for n, word in enumerate(words))
    seen: set[str] = set()

    def explain_first(match: re.Match[str]) -> str:
        if match["tag"]:
            return match[0]
        word = words[int(str(match.lastgroup).removeprefix("word"))]
        if word in seen:
            return match[0]
        seen.add(word)
        return term(word, match[0])

    pattern = rf"(?P<tag><[^>]*>)|(?<![\w-])(?:{forms})(?![\w-])"
    return re.sub(pattern, explain_first, html)


def _form(word: str) -> str:
    return _FORMS.get(word, re.escape(word))


def term(word: str, shown: str) -> str:
    """Return a term as a button that opens its explanation."""
    name = f"wb-term-{next(_serial)}"
    return (
        f'<button type="button" class="wb-term" popovertarget="{name}">{shown}</button>'
        f'<span class="wb-meaning" id="{name}" popover><b>{escape(word)}</b> '
        f"{_meaning(word)}</span>"
    )


def glossary_html() -> str:
    """The whole glossary, folded."""
    rows = "".join(
        f"<dt>{escape(word)}</dt><dd>{_meaning(word)}</dd>"
        for word in sorted(GLOSSARY, key=str.lower)
    )
    return (
        '<details class="wb-glossary"><summary>Glossary</summary>'
        f"<dl>{rows}</dl></details>"
    )


def _meaning(word: str) -> str:
    return re.sub(r"δ_([\w,′]+)", r"δ<sub>\1</sub>", escape(GLOSSARY[word]))
