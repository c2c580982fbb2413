r"""The class means of a network's gradients, as a stand-alone function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench.curvature.means.averages import (
    average_classes,
    average_further,
    class_cotangents,
    included,
    pair_cotangents,
    pair_weights,
)
from workbench.curvature.means.count_sketch import CountSketch, count_sketch
from workbench.curvature.means.pair_selection import Kept, all_pairs, keep_pairs
from workbench.curvature.means.parts_of_g import factor_eigenvalues, hierarchy
from workbench.curvature.means.pullback import Slice, class_sums
from workbench.curvature.problem.adapter import as_problem
from workbench.curvature.problem.labelled import Labelled
from workbench.curvature.problem.network import Outputs, Trained
from workbench.curvature.problem.risk import EmpiricalRisk
from workbench.errors import WorkbenchError
from workbench.linalg.precision import full_precision
from workbench.machine.memory import device_memory
from workbench.progress.control import Control, ProgressCallback, Report, as_report
from workbench.study.card import Card, Described
from workbench.study.convention import (
    CONVENTIONS,
    ICML,
    Convention,
    convention_of,
)

Level = Literal["c", "ck", "G"]
LEVELS = ("c", "ck", "G")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClassMeans(Described):
    r"""Averages of the gradients delta_{i,c,k} in one convention.

    In R^d with d = P, or in the d bins of a sketch, which keeps inner products up to
    ``sketch_error`` of the lengths, root mean square over sketches; the eigenvalues are
    then off by at most that share of their sum, the differences summed in squares.
    """

    weighting: str
    level: Level
    everything: Tensor  # (d,) delta_G
    everything_weight: float
    classes: Tensor | None  # (C, d) delta_c; None at level G
    class_weight: Tensor | None  # (C,) class part: sum_c weight delta_c delta_c^T
    diagonal: Tensor | None  # (C, d) delta_{c,c}; None at level G and for "slide"
    diagonal_weight: Tensor | None  # (C,)
    cross: Tensor | None  # (C, C, d) delta_{c,k}; None but at level ck
    cross_weight: Tensor | None  # (C, C)
    sketch: CountSketch | None  # what made the coordinates; None: they are R^P
    kept: Kept | None  # what was left out; None: nothing

    def card(self) -> Card:
        """What it is, in a few lines."""
        held = {
            "delta_{c,c'}": self.cross,
            "delta_{c,c}": self.diagonal,
            "delta_c": self.classes,
            "delta_G": self.everything,
        }
        shapes = {
            name: " x ".join(f"{size:,}" for size in means.shape)
            for name, means in held.items()
            if means is not None
        }
        error = f"sketched, inner products off by {self.sketch_error:.1%}"
        return Card(
            f"Means of the gradients by {self.weighting}, level {self.level!r}",
            {**shapes, "in": error if self.sketch else "the parameters"},
        )

    @property
    def convention(self) -> Convention:
        """Of the averages."""
        return CONVENTIONS[self.weighting]

    @property
    def sketch_error(self) -> float:
        """Root mean square error of an inner product over the lengths; 0 in R^P."""
        return 0.0 if self.sketch is None else self.sketch.error

    @full_precision()
    def eigenvalues(self) -> dict[str, Tensor]:
        """Nonzero eigenvalues of each part of G that these means make, descending.

        Those of the class part, G1 in ``icml``, are the predicted outliers.
        """
        if self.cross is not None and self.cross_weight is not None:
            cross, weight = self.cross, self.cross_weight
            factors = hierarchy(average_further(self.convention, cross, weight)).factors
        else:
            factors = self._factors()
        return {name: factor_eigenvalues(f) for name, f in factors.items()}

    def _factors(self) -> dict[str, Tensor]:
        found = {}
        for name, vectors, weight in (
            (self.convention.class_part, self.classes, self.class_weight),
            (self.convention.diagonal_part, self.diagonal, self.diagonal_weight),
        ):
            if vectors is not None and weight is not None:
                root = weight.sqrt().to(vectors.dtype)
                found[name] = (root[:, None] * vectors).T
        return found


@full_precision()
def class_means(
    model: nn.Module | Trained,
    data: Any = None,
    *,
    weighting: str = "icml",
    level: Level = "c",
    classes: Sequence[int] | None = None,
    sketch: int | None = None,
    skip: float | None = None,
    seed: int = 0,
    loss: Any = "cross_entropy",
    outputs: Outputs | None = None,
    parameters: str | Sequence[str] | None = None,
    check: str = "once",
    batch_size: int | None = None,
    device: str | torch.device | None = "auto",
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> ClassMeans:
    r"""Average the gradients of a network over examples, potential and true classes.

    .. math:: \delta_{i,c,k} = \sqrt{p_{ik}} J_i^T (e_k - p_i), \quad
       \delta_{c,k} = \mathrm{Ave}_i\, \delta_{i,c,k}, \quad
       \delta_c = \mathrm{Ave}_{k \ne c}\, \delta_{c,k}, \quad
       \delta_G = \mathrm{Ave}_c\, \delta_c

    in ``icml``; the other conventions are in `Convention`. Streams over the data. Level
    ``"G"`` costs a gradient of the loss and stores P numbers; ``"c"`` costs one or two
    and stores 2 C P, from which G0, G1 and the predicted outliers follow; ``"ck"`` is
    all C^2 means: one forward and C backward passes, C^2 P numbers.

    Args:
        model: The network, to logits, or a `Checkpoint`. Used in eval mode and
            left as it was; where it is not on the device, a copy.
        data: As `operators` takes them, with a label to each example.
        weighting: The convention: ``"icml"``, ``"slide"`` or ``"jmlr"``.
        level: ``"c"``, ``"ck"`` or ``"G"``.
        classes: Use only these classes and their logits, as `choose_classes` does.
        sketch: Store each mean as a sketch of this many numbers, d, instead of P; inner
            products then have an error of ``sqrt(2 / d)`` of the lengths, see
            `CountSketch`.
        skip: Leave out the smallest pairs (c, k), up to this share of the trace in the
            logits: their means are zero; the bound is in ``kept``. Level ``"ck"`` only.
        seed: Seed of the sketch.
        loss: A cross-entropy with class numbers. With class weights, smoothing or
            ignored labels, the means weight examples as G does (`Labelled`); if tokens
            have labels, (B, T), each token is an example.
        outputs: As in `operators`.
        parameters: As in `operators`.
        check: As in `operators`.
        batch_size: Examples per batch; None chooses what fits.
        device: ``"auto"`` is a CUDA device if there is one, else the model's.
        progress: Called with `Progress` events.
        control: Pauses and cancels.

    Returns:
        The means, (C, d) or (C, C, d) and (d,), in the model's dtype, with the weights
        that turn them into parts of G.

    Raises:
        WorkbenchError: If a setting is not one of these, the means do not fit the
            memory, or as `empirical_risk`.

    Reference:
        Papyan (2019), arXiv:1901.08244; Papyan (2020), arXiv:2008.11865.
    """
    risk = as_problem(
        model,
        data,
        classes=classes,
        loss=loss,
        outputs=outputs,
        parameters=parameters,
        check=check,
        batch_size=batch_size,
        device=device,
        control=control,
    )
    return risk_means(
        risk,
        convention_of(weighting, "class_means"),
        level=level,
        sketch=sketch,
        skip=skip,
        seed=seed,
        report=as_report(progress, "Averaging the gradients"),
    )


def risk_means(
    risk: EmpiricalRisk,
    convention: Convention = ICML,
    *,
    level: Level = "c",
    sketch: int | None = None,
    skip: float | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> ClassMeans:
    """`class_means` of a network and data that are bound already."""
    _check(risk, convention, level, sketch, skip)
    share = risk.classes("class_means").to(risk.device)
    projection = None
    if sketch is not None:
        generator = torch.Generator().manual_seed(seed)
        projection = count_sketch(
            risk.dim, sketch, generator=generator, device=risk.device
        )
    kept = None if skip is None else keep_pairs(risk, skip)
    sums, mass = mean_sums(risk, convention, level, projection, kept, report)
    weight = pair_weights(convention, mass, share)
    class_weight = included(convention, weight).sum(1)
    tiny = torch.finfo(risk.dtype).tiny  # a probability that underflowed

    def mean(total: Tensor, over: Tensor) -> Tensor:
        """In place: the sums are as large as all that is returned."""
        return total.div_(over.to(total.dtype).clamp(min=tiny).unsqueeze(-1))

    cross = None
    classes = diagonal = None
    if level == "G":
        total = float(class_weight.sum())
        everything = sums[0, 0] / (total if convention.weighted else float(share.sum()))
    elif level == "c":
        over = class_weight if convention.weighted else share
        classes = mean(sums[:, 0], over)
        everything, total = average_classes(classes, class_weight)
        if convention.weighted:  # sum_k p_k (e_k - p) = 0
            diagonal = mean(-class_weight.to(sums)[:, None] * classes, mass.diagonal())
        elif convention.sums_diagonal:
            diagonal = mean(sums[:, 1], over)
    else:
        cross = mean(sums, weight)
        three = average_further(convention, cross, weight)
        classes, everything = three.classes, three.everything
        total = three.everything_weight
        if not convention.includes_true:
            diagonal = cross.diagonal().T
    return ClassMeans(
        weighting=convention.name,
        level=level,
        everything=everything,
        everything_weight=total,
        classes=classes,
        class_weight=None if classes is None else class_weight,
        diagonal=diagonal,
        diagonal_weight=None if diagonal is None else weight.diagonal(),
        cross=cross,
        cross_weight=None if cross is None else weight,
        sketch=projection,
        kept=kept,
    )


def mean_sums(
    risk: EmpiricalRisk,
    convention: Convention,
    level: Level,
    image: CountSketch | Slice | None,
    kept: Kept | None,
    report: Report | None,
) -> tuple[Tensor, Tensor]:
    """Weighted sums over examples: (1, 1, d), (C, 1 or 2, d) or (C, C, d); mass."""
    C = risk.num_classes
    rows, columns = means_shape(C, convention, level)
    pairs = (all_pairs(risk) if kept is None else kept.pairs).tolist()

    def cotangents(c: int, own: Labelled) -> Iterator[tuple[int, Tensor]]:
        first, probs = columns * c if rows > 1 else 0, own.probs
        sizes = convention.sizes(probs)
        if level == "ck":
            for k in range(C):
                if pairs[c][k]:
                    yield first + k, pair_cotangents(sizes, probs, k)
            return
        over = convention.num_averaged(C)
        yield first, class_cotangents(convention, probs, c) / over
        if columns == 2:
            yield first + 1, pair_cotangents(sizes, probs, c)

    num = rows * columns
    sums, mass = class_sums(risk, num, cotangents, image=image, report=report)
    return sums.view(rows, columns, -1), mass


def means_shape(
    num_classes: int, convention: Convention, level: Level
) -> tuple[int, int]:
    """How many sums there are."""
    if level == "G":
        return 1, 1
    if level == "ck":
        return num_classes, num_classes
    return num_classes, 1 + convention.sums_diagonal


def _check(
    risk: EmpiricalRisk,
    convention: Convention,
    level: Level,
    sketch: int | None,
    skip: float | None,
) -> None:
    """Refuse what is not one of the settings, and what does not fit the memory."""
    if level not in LEVELS:
        raise WorkbenchError(
            f"class_means: level is {level!r}; expected one of {', '.join(LEVELS)}."
        )
    if skip is not None and level != "ck":
        raise WorkbenchError(
            f"class_means: skip leaves out pairs of classes, and level {level!r} has "
            'none; set level="ck", or leave skip out.'
        )
    rows, columns = means_shape(risk.num_classes, convention, level)
    number = torch.finfo(risk.dtype).bits // 8
    need = 2 * number * rows * columns * (sketch or risk.dim)
    there = device_memory(risk.device)
    if need > 0.8 * there:
        fits = int(0.4 * there / (2 * number * rows * columns))
        raise WorkbenchError(
            f"class_means: {rows * columns:,} means of {risk.dim:,} numbers need about "
            f"{need / 2**30:.0f} GB of memory and {risk.device.type} has "
            f"{there / 2**30:.0f}; sketch them, for instance sketch={min(fits, 8192)}, "
            "or choose fewer classes."
        )
