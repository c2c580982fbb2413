"""What follows from the inner products of the gradients, without another pass."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.curvature.means.averages import (
    Averages,
    average_further,
    pair_weights,
)
from workbench.curvature.means.parts_of_g import (
    Hierarchy,
    eigh_psd,
    hierarchy,
    overlaps,
)
from workbench.curvature.problem.cross_entropy import reflection
from workbench.curvature.problem.labelled import Labelled
from workbench.errors import WorkbenchError
from workbench.linalg.columns import distances
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.progress.control import Progress, ProgressCallback
from workbench.progress.timing import say_duration
from workbench.study.card import Card, Described
from workbench.study.convention import convention_of

TINY = 1e-300  # no division by a probability that underflowed
TRIAL = 512  # order of the matrix that a large one's time is told from


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """How the leading eigenvectors u of G lie to the delta_c."""

    values: Tensor  # (m,) eigenvalues, descending
    classes: Tensor  # (m, C) squared cosine of u with each delta_c
    span: Tensor  # (m,) share of u in span{delta_c}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Gram(Described):
    r"""Inner products of the gradients of all examples: the dual of G.

    The C gradients of an example are dependent, ``sum_k sqrt(p_k) delta_{i,k} = 0``, so
    C - 1 combinations stand for them, ``r_{i,j} = sum_k U_{i,k,j} delta_{i,k}`` with
    the orthonormal columns U of `reflection`; ``delta_{i,k} = sum_j U_{i,k,j} r_{i,j}``
    and ``G = (1/N) sum_{i,j} r_{i,j} r_{i,j}^T = R^T R / N``. So ``matrix / N`` has the
    nonzero eigenvalues of G, and what is a combination of gradients, ``R^T w``, is
    known by w: parts of G are ``R^T W W^T R``, their eigenvalues those of ``W^T K W``.
    Where examples have a mass m in their loss, rows are ``sqrt(m)`` times these.
    """

    matrix: Tensor  # K, (n, n) float64, n = N (C - 1): <r_{i,j}, r_{i',j'}>
    probs: Tensor | None  # (N, C) float64; None: the loss has no class to an example
    labels: Tensor | None  # (N,)
    normaliser: float  # Z, for the mean cross-entropy N: G = R^T R / Z
    weights: Tensor | None = None  # (N,) m / Z; None: 1 / Z each

    def card(self) -> Card:
        """What it is, in a few lines."""
        n = len(self.matrix)
        N, C = (0, 0) if self.probs is None else self.probs.shape
        return Card(
            f"Inner products of {n:,} gradients",
            {
                "data": f"{N:,} examples of {C:,} classes" if N else "",
                "matrix": f"{n:,} x {n:,}, {8 * n**2 / 2**20:,.1f} MB on "
                f"{self.matrix.device}",
                "trace of G": f"{float(self.matrix.trace()) / self.normaliser:.4g}",
            },
        )

    @property
    def classes(self) -> Labelled:
        """The examples or tokens with their classes, N of them.

        Raises:
            WorkbenchError: If the loss has no class to an example.
        """
        if self.probs is None or self.labels is None:
            raise WorkbenchError(
                "Gram: class means are those of a cross-entropy with a class number to "
                "each example or token; this loss has the spectrum alone."
            )
        weights = self.weights
        if weights is None:
            weights = torch.full_like(self.probs[:, 0], 1 / self.normaliser)
        return Labelled(self.probs, self.labels, weights)

    def eigenvalues(self, *, progress: ProgressCallback | None = None) -> Tensor:
        """All eigenvalues of G but zeros that it must have, (n,), descending.

        Costs ``4/3 n^3`` operations and a second matrix of the size. LAPACK gives no
        news meanwhile, and cannot be stopped: ``progress`` says beforehand how long.
        """
        return eigenvalues_of(self.matrix, progress) / self.normaliser

    def part(self, name: str, weighting: str = "icml") -> Tensor:
        """Eigenvalues of a part of G, descending: G0, G1, G2, G3, G12 in ``icml``.

        Raises:
            WorkbenchError: If this convention has no part of that name.
        """
        parts = self._parts(weighting)
        convention = parts.convention
        if name == convention.within_part:
            return self._lowered(parts.factors[convention.means_part])
        if name not in parts.factors:
            known = ", ".join([*parts.factors, convention.within_part])
            raise WorkbenchError(
                f"part: {weighting} has no part {name!r}; choose one of {known}."
            )
        factor = parts.factors[name]
        inner = factor.T @ self.matrix @ factor
        return torch.linalg.eigvalsh(inner).flip(0).clamp(min=0.0)

    def knock_out(
        self,
        weighting: str = "icml",
        *,
        how: Literal["subtract", "project"] = "subtract",
    ) -> Tensor:
        """Eigenvalues of G without its class part, descending, (n,).

        Either minus the class part, which leaves no negative ones, or projected off the
        span of the delta_c.
        """
        _check("how", how, ("subtract", "project"))
        parts = self._parts(weighting)
        if how == "subtract":
            return self._lowered(parts.factors[parts.convention.class_part])
        products = self.matrix @ parts.classes
        size, turn = eigh_psd(parts.classes.T @ products)
        gone = products @ (turn / size.sqrt())
        left = torch.addmm(self.matrix, gone, gone.T, alpha=-1.0)
        return eigenvalues_of(left) / self.normaliser

    def overlaps(self, num: int = 10, weighting: str = "icml") -> Overlaps:
        r"""Squared cosines of the ``num`` leading eigenvectors of G with the delta_c.

        From eigenvectors u of K: ``R^T u / sqrt(mu)`` is one of G, so its product with
        ``delta_c = R^T w`` is ``sqrt(mu) u^T w``.
        """
        classes = self._parts(weighting).classes
        pairs = top_eigenpairs(Dense(self.matrix), num, tol=1e-10, start=classes)
        along = pairs.values.clamp(min=0).sqrt() * (classes.T @ pairs.vectors)
        found = overlaps(along, classes.T @ self.matrix @ classes)
        return Overlaps(pairs.values / self.normaliser, *found)

    def products(self, chosen: Tensor, weighting: str = "icml") -> Tensor:
        """Inner products of the delta of some examples and of all means.

        Args:
            chosen: b examples that count, by their number; their b C gradients come
                first, then the delta_{c,k}, the delta_c and delta_G.
            weighting: Of the means; the single gradients are the delta in each.

        Returns:
            (b C + C^2 + C + 1, same), float64.

        Raises:
            WorkbenchError: If one of them does not count, or the loss has no classes.
        """
        three = self._averages(weighting)
        n = len(self.matrix)
        means = torch.cat(
            [three.cross.reshape(-1, n), three.classes, three.everything[None]]
        ).T
        chosen = chosen.to(means.device)
        rows = self.classes.at(chosen)
        if not (rows.weights > 0).all():
            raise WorkbenchError(
                f"Gram: {int((rows.weights == 0).sum())} of the {len(chosen)} chosen "
                "examples do not count in the loss (their label is ignored, or its "
                "class has the weight 0), so the matrix holds no gradient of theirs; "
                "choose among the others."
            )
        width = rows.probs.shape[1] - 1
        index = (
            chosen[:, None] * width + torch.arange(width, device=means.device)
        ).flatten()
        turned = reflection(rows.probs) / self._root_mass(rows)  # (b, k, j)

        def back(columns: Tensor) -> Tensor:
            """What is over the rows r of the chosen examples, over their delta."""
            return (turned @ columns.unflatten(0, (len(chosen), width))).flatten(0, 1)

        across = back(self.matrix[index] @ means)
        inside = means.T @ (self.matrix @ means)
        own = back(back(self.matrix[index][:, index]).T)
        return torch.cat(
            [torch.cat([own, across], dim=1), torch.cat([across.T, inside], dim=1)]
        )

    def distances(
        self,
        chosen: Tensor,
        weighting: str = "icml",
        *,
        metric: Literal["cosine", "euclidean"] = "cosine",
    ) -> Tensor:
        """Distances of what `products` holds: ``1 - cos``, or plain Euclidean ones."""
        _check("metric", metric, ("cosine", "euclidean"))
        inner = self.products(chosen, weighting)
        if metric == "cosine":
            root = inner.diagonal().clamp(min=0.0).sqrt().clamp(min=TINY)
            inner = inner / root[:, None] / root
        return distances(inner, metric)

    def combine(self, factors: Tensor) -> Tensor:
        """Combinations of the delta, (N, C, m), as such of the rows, (n, m)."""
        rows = self.classes
        turned = reflection(rows.probs) / self._root_mass(rows)
        return torch.einsum("ikj,ikm->ijm", turned, factors).flatten(0, 1)

    def _averages(self, weighting: str) -> Averages:
        """The three averages as combinations of the rows, in R^n."""
        convention = convention_of(weighting, "Gram")
        plain, weighted, mass = mean_coefficients(self.classes)
        weight = pair_weights(convention, mass, mass.sum(1))
        chosen = weighted if convention.weighted else plain
        cross = self.combine(chosen.flatten(2)).T.unflatten(0, (len(mass), -1))
        return average_further(convention, cross, weight)

    def _root_mass(self, rows: Labelled) -> Tensor:
        """``sqrt(m)`` of some examples, (b, 1, 1); those of none are in no sum."""
        mass = (rows.weights * self.normaliser).clamp(min=TINY)
        return mass.sqrt()[:, None, None]

    def _parts(self, weighting: str) -> Hierarchy:
        return hierarchy(self._averages(weighting))

    def _lowered(self, factor: Tensor) -> Tensor:
        r"""Eigenvalues of ``G - R^T W W^T R``, known to be positive semidefinite.

        ``I / Z - W W^T = T T / Z`` with a T that differs from I on span W only, so they
        are those of ``T K T / Z``.
        """
        Z = self.normaliser
        left, size, _ = torch.linalg.svd(factor, full_matrices=False)
        kept = (1 - Z * size.square()).clamp(min=0.0).sqrt()
        change = left * (1 - kept)  # T = I - left change^T
        products = self.matrix @ left
        half = products - 0.5 * change @ (left.T @ products)
        changed = torch.addmm(self.matrix, change, half.T, alpha=-1.0)
        changed.addmm_(half, change.T, alpha=-1.0)
        return eigenvalues_of(changed) / Z


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise WorkbenchError(
            f"Gram: {name} is {value!r}; expected one of {', '.join(known)}."
        )


def mean_coefficients(rows: Labelled) -> tuple[Tensor, Tensor, Tensor]:
    """The first averages as combinations of the delta, and their mass.

    Returns:
        ``plain`` and ``weighted``, (N, C, C, C): entry ``[i, k, c, l]`` is the factor
        of delta_{i,k} in the mean of (c, l); and the mass, (C, C).
    """
    num_classes = rows.probs.shape[1]
    member = torch.nn.functional.one_hot(rows.labels, num_classes).to(rows.probs.dtype)
    member = rows.weights[:, None] * member
    total = member.sum(0)
    if not bool((total > 0).all()):
        missing = (total == 0).nonzero().flatten().tolist()
        raise WorkbenchError(
            f"Gram: {len(missing)} of {num_classes:,} classes have no example, the "
            f"first is {missing[0]}, so they have no mean; pass a sample that holds "
            "every class."
        )
    mass = member.T @ rows.probs
    eye = torch.eye(num_classes, dtype=rows.probs.dtype, device=rows.probs.device)
    plain = torch.einsum("ic,kl->ikcl", member / total, eye)
    over = 1 / mass.clamp(min=TINY)
    share = torch.einsum("ic,ik,ck->ick", member, rows.probs.sqrt(), over)
    weighted = torch.einsum("ick,kl->ikcl", share, eye)
    return plain, weighted, mass


def eigenvalues_of(
    matrix: Tensor, progress: ProgressCallback | None = None, *, start: float = 0.0
) -> Tensor:
    """All eigenvalues, descending; ``progress`` says beforehand how long it takes.

    Told from the time of a small matrix, by the third power of the order.
    """
    if progress is not None:
        trial = matrix[:TRIAL, :TRIAL]
        began = time.perf_counter()
        torch.linalg.eigvalsh(trial)
        seconds = time.perf_counter() - began
        n = len(matrix)
        silence = say_duration(seconds * (n / len(trial)) ** 3)
        detail = f"{n:,} at once: about {silence} without news"
        progress(Progress("Solving for all eigenvalues", start, detail))
    values = torch.linalg.eigvalsh(matrix).flip(0)
    if progress is not None:
        progress(Progress("Solving for all eigenvalues", 1.0))
    return values
