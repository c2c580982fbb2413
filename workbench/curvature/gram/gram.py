"""Results from the inner products of the gradients, without further passes."""

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

TINY = 1e-300  # against division by a probability that underflowed
TRIAL = 512  # order of the matrix timed to predict the time for a large one


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Overlaps of the leading eigenvectors u of G with the delta_c."""

    values: Tensor  # (m,) eigenvalues, descending
    classes: Tensor  # (m, C) squared cosine of u with each delta_c
    span: Tensor  # (m,) share of u in span{delta_c}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Gram(Described):
    r"""Inner products of the gradients of all examples: the dual of G.

    The C gradients of an example are linearly dependent, ``sum_k sqrt(p_k) delta_{i,k}
    = 0``, so C - 1 combinations represent them, ``r_{i,j} = sum_k U_{i,k,j}
    delta_{i,k}`` with the orthonormal columns U of `reflection`; ``delta_{i,k} = sum_j
    U_{i,k,j} r_{i,j}`` and ``G = (1/N) sum_{i,j} r_{i,j} r_{i,j}^T = R^T R / N``. So
    ``matrix / N`` has the nonzero eigenvalues of G, and any combination of gradients,
    ``R^T w``, is represented by w: parts of G are ``R^T W W^T R``, with the eigenvalues
    of ``W^T K W``.
    If examples have a mass m in their loss, rows are ``sqrt(m)`` times these.
    """

    matrix: Tensor  # K, (n, n) float64, n = N (C - 1): <r_{i,j}, r_{i',j'}>
    probs: Tensor | None  # (N, C) float64; None: the loss has no class per example
    labels: Tensor | None  # (N,)
    normaliser: float  # Z, which is N for the mean cross-entropy: G = R^T R / Z
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
        """Return the examples or tokens with their classes, N of them.

        Raises:
            WorkbenchError: If the loss has no class per example.
        """
        if self.probs is None or self.labels is None:
            raise WorkbenchError(
                "Gram: class means exist only for a cross-entropy with a class number "
                "for each example or token; for this loss, use the spectrum."
            )
        weights = self.weights
        if weights is None:
            weights = torch.full_like(self.probs[:, 0], 1 / self.normaliser)
        return Labelled(self.probs, self.labels, weights)

    def eigenvalues(self, *, progress: ProgressCallback | None = None) -> Tensor:
        """Return all eigenvalues of G except zeros by rank, (n,), descending.

        Costs ``4/3 n^3`` operations and a second matrix of the same size. LAPACK
        reports no progress and cannot be stopped: ``progress`` says in advance how long
        it takes.
        """
        return eigenvalues_of(self.matrix, progress) / self.normaliser

    def part(self, name: str, weighting: str = "icml") -> Tensor:
        """Return the eigenvalues of a part of G, such as G0 or G12, descending.

        Raises:
            WorkbenchError: If this convention has no such part.
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

    def class_factor(self, weighting: str = "icml") -> Tensor:
        """Return W, (n, C), with ``R^T W W^T R`` the class part of G.

        It does not depend on the matrix: the class part of a diagonal block has the
        eigenvalues of ``W^T K W`` with the inner products in its parameters.
        """
        parts = self._parts(weighting)
        return parts.factors[parts.convention.class_part]

    def knock_out(
        self,
        weighting: str = "icml",
        *,
        how: Literal["subtract", "project"] = "subtract",
    ) -> Tensor:
        """Return the eigenvalues of G without its class part, descending, (n,).

        Either the class part is subtracted, which leaves no negative eigenvalues, or G
        is projected off the span of the delta_c.
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
        r"""Return squared cosines of the leading eigenvectors of G with the delta_c.

        An eigenvector u of K gives the eigenvector ``R^T u / sqrt(mu)`` of G, whose
        inner product with ``delta_c = R^T w`` is ``sqrt(mu) u^T w``.
        """
        classes = self._parts(weighting).classes
        pairs = top_eigenpairs(Dense(self.matrix), num, tol=1e-10, start=classes)
        along = pairs.values.clamp(min=0).sqrt() * (classes.T @ pairs.vectors)
        found = overlaps(along, classes.T @ self.matrix @ classes)
        return Overlaps(pairs.values / self.normaliser, *found)

    def products(self, chosen: Tensor, weighting: str = "icml") -> Tensor:
        """Return inner products of the delta of some examples and of all means.

        Args:
            chosen: Indices of b examples that count; their b C gradients come first,
                then the delta_{c,k}, the delta_c and delta_G.
            weighting: Convention of the means; the single gradients are always the
                delta.

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
            """Convert from the rows r of the chosen examples to their delta."""
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
        """Return distances of the vectors of `products`: ``1 - cos`` or Euclidean."""
        _check("metric", metric, ("cosine", "euclidean"))
        inner = self.products(chosen, weighting)
        if metric == "cosine":
            root = inner.diagonal().clamp(min=0.0).sqrt().clamp(min=TINY)
            inner = inner / root[:, None] / root
        return distances(inner, metric)

    def combine(self, factors: Tensor) -> Tensor:
        """Convert combinations of the delta, (N, C, m), to the rows', (n, m)."""
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
        r"""Eigenvalues of ``G - R^T W W^T R``, which must be positive semidefinite.

        ``I / Z - W W^T = T T / Z`` with a T that differs from I only on span W, so they
        equal those of ``T K T / Z``.
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
    """Return the first averages as combinations of the delta, and their mass.

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
            f"first is {missing[0]}, so they have no mean; pass a sample with every "
            "class."
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
    """Return all eigenvalues, descending; ``progress`` predicts how long it takes.

    Extrapolated from the time for a small matrix, by the cube of the order.
    """
    if progress is not None:
        trial = matrix[:TRIAL, :TRIAL]
        began = time.perf_counter()
        torch.linalg.eigvalsh(trial)
        seconds = time.perf_counter() - began
        n = len(matrix)
        silence = say_duration(seconds * (n / len(trial)) ** 3)
        detail = f"{n:,} at once: about {silence} without an update"
        progress(Progress("Solving for all eigenvalues", start, detail))
    values = torch.linalg.eigvalsh(matrix).flip(0)
    if progress is not None:
        progress(Progress("Solving for all eigenvalues", 1.0))
    return values
