"""Measure a checkpoint: the spectra, the three averages, and the picture of both."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench import __version__
from workbench.control import Control, Progress, ProgressCallback
from workbench.curvature.coordinates import (
    Coordinates,
    coordinates,
    dense_gauss_newton,
    primal_eigenvectors,
)
from workbench.curvature.deltas import averages
from workbench.curvature.hierarchy import (
    Hierarchy,
    class_overlap,
    factor_eigenvalues,
    hierarchy,
    kept_shares,
    projected,
    span_overlap,
    subtracted,
    within,
)
from workbench.curvature.operators import operators
from workbench.curvature.products import dual_products, union_gram
from workbench.curvature.risk import EmpiricalRisk, empirical_risk
from workbench.embedding import check_names, embed
from workbench.errors import WorkbenchError
from workbench.linalg.density import spectral_density
from workbench.linalg.lanczos import EigenPairs, Which, top_eigenpairs
from workbench.linalg.operator import Dense, LinearOperator, Remembered
from workbench.memory import device_memory, total_memory
from workbench.outliers import count_outliers
from workbench.spectrum import Spectrum
from workbench.study import WEIGHTINGS, Embedding, Levels, Study
from workbench.training.checkpoint import Checkpoint
from workbench.training.device import resolve_device

DOUBLE_LIMIT = 5_000  # parameters up to which everything is measured in float64
MAX_CLASSES = 40  # C^2 means, each drawn: beyond that the picture is full too
NUM_LOW = 5  # eigenvalues at the low end of Hess and H
BLOCK_SIZE = 10  # vectors that share each forward pass
EDGE = 20.0  # times tol for H: no gap sets its ends apart, so they converge slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """How a checkpoint is measured."""

    weighting: str = "icml"  # convention of the averages: slide, icml or jmlr
    embedding: str = "umap"  # umap, tsne or pca
    metric: str = "cosine"  # distance of two gradients: cosine or euclidean
    num_drawn: int = 1500  # single gradients in the picture, about
    num_eigenvalues: int | None = None  # leading ones; None: C + 7
    tol: float = 1e-3  # largest residual over the largest eigenvalue; for H 20 times it
    num_steps: int = 16  # Lanczos steps a probe of the density
    num_probes: int = 3  # probes of the density: their spread is its error bar
    exact_limit: int = 5_000  # min(P, N (C - 1)) up to which all of G is had exactly
    seed: int = 0  # of probes, start vectors, the drawn sample and the embedding
    device: str = "auto"  # auto, cpu or cuda; mps has no float64 and becomes cpu


class _Stages:
    """Turns the shares of the stages into one fraction that never falls; cancels."""

    def __init__(
        self,
        progress: ProgressCallback | None,
        control: Control,
        costs: dict[str, float],
    ) -> None:
        self._progress = progress
        self._control = control
        self._costs = costs
        self._before = 0.0
        self._done = 0.0
        self._stage = ""

    def start(self, stage: str) -> Callable[[float], None]:
        """Enter a stage; returns what to call with its share done."""
        if self._stage:
            self._before += self._costs[self._stage]
        self._stage = stage
        total = sum(self._costs.values())
        before, cost = self._before, self._costs[stage]

        def report(share: float) -> None:
            self._control.check()
            if self._progress is not None:
                done = (before + cost * min(max(share, 0.0), 1.0)) / total
                self._done = max(self._done, done)  # a residual may rise for a step
                self._progress(Progress(stage, self._done))

        report(0.0)
        return report


def measure(
    checkpoint: Checkpoint,
    settings: MeasureSettings | None = None,
    *,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Study:
    r"""Measure the curvature of a trained network, and what its three averages carry.

    All eigenvalues of G where ``min(P, N (C - 1))`` is at most ``exact_limit``: from
    the matrix G, or from its dual, whichever is smaller. Beyond that the leading ones
    by a block Krylov subspace and the density by stochastic Lanczos quadrature, as for
    Hess and H always. Every eigenvalue has its residual ``||A v - lam v||``.

    Args:
        checkpoint: What `train` returned or `load_checkpoint` read.
        settings: How to measure.
        progress: Called with `Progress` events.
        control: Pauses and cancels.

    Raises:
        WorkbenchError: If a setting or the checkpoint cannot be measured.
        Cancelled: If ``control.cancel`` was called; nothing is kept.
    """
    settings = settings or MeasureSettings()
    _check(settings)
    control = control or Control()
    model, data = checkpoint.load_model(), checkpoint.load_data()
    num_params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if num_params <= DOUBLE_LIMIT:
        model = model.double()
    device = resolve_device(settings.device)
    if device.type == "mps":  # has no float64, which sums and softmax need
        device = torch.device("cpu")
    risk = empirical_risk(model, data, device=device, control=control)
    n = risk.num_examples * (risk.num_classes - 1)
    exact = min(risk.dim, n) <= settings.exact_limit
    costs = {
        "Averaging the gradients": 3.0,
        "Eigenvalues of G": 2.0 if exact else 8.0,
        "Eigenvalues of Hess": 6.0,
        "Eigenvalues of H": 2.0 if _hessian_fits(risk, settings) else 6.0,
        "Splitting G into its parts": 2.0 if exact else 6.0,
        "Placing the gradients in the plane": 5.0,
    }
    num = settings.num_eigenvalues or risk.num_classes + 7
    _check_memory(risk, num, exact)
    stages = _Stages(progress, control, costs)
    generator = torch.Generator().manual_seed(settings.seed)
    ops = operators(model, data, device=device, control=control)

    report = stages.start("Averaging the gradients")
    place = coordinates(risk, ops["G"], settings.exact_limit, report)
    probe = _Probe(settings, num, generator)
    start = averages(place.means, settings.weighting).classes.T

    report = stages.start("Eigenvalues of G")
    # products with a matrix are cheap: vectors then as good as its eigenvalues
    tight = 1e-9 if isinstance(place.g, Dense) else None
    pairs = probe.pairs(place.g, "LA", start, report, tol=tight)
    if isinstance(place.g, Dense):
        g = _whole_spectrum(place.g, risk, min(risk.dim, n), place.method)
    else:
        g = probe.spectrum(place.g, pairs, _part(report, 0.5))
        g = replace(g, trace=place.trace, trace_error=0.0)
    spectra = {"G": g}
    if _hessian_fits(risk, settings) and isinstance(place.g, Dense):
        hess = _dense(ops["Hess"], stages.start("Eigenvalues of Hess"))
        spectra["Hess"] = _whole_spectrum(
            hess, risk, risk.dim, "dense, exact", risk.dim
        )
        report = stages.start("Eigenvalues of H")
        g_matrix = dense_gauss_newton(risk, report) if place.gram else place.g
        rest = Dense(hess.matrix - g_matrix.matrix)
        spectra["H"] = _whole_spectrum(rest, risk, risk.dim, "dense, exact")
    else:
        for kind in ("Hess", "H"):
            report = stages.start(f"Eigenvalues of {kind}")
            noise = torch.randn(risk.dim, BLOCK_SIZE, generator=generator)
            first, tol = noise.to(risk.device, risk.dtype), EDGE * settings.tol
            if kind == "Hess":  # its outliers lean on G's; the noise sees the low end
                leading = primal_eigenvectors(risk, place, pairs.vectors)
                first, tol = torch.cat([leading, first], dim=1), settings.tol
            found = probe.pairs(ops[kind], "BE", first, report, tol=tol)
            spectra[kind] = probe.spectrum(ops[kind], found, _part(report, 0.5))

    report = stages.start("Splitting G into its parts")
    levels = {}
    for step, weighting in enumerate(WEIGHTINGS):
        parts = hierarchy(averages(place.means, weighting))
        levels[weighting] = _levels(place, parts, pairs, probe)
        report((step + 1) / len(WEIGHTINGS))

    stages.start("Placing the gradients in the plane")
    picture = _embedding(risk, place, settings)
    control.check()
    seen = 2 * num if g.complete else num
    num_outliers, rule = count_outliers(g.eigenvalues[:seen])
    if progress is not None:
        progress(Progress("Measured", 1.0))
    return Study(
        run=dict(checkpoint.run),
        settings=asdict(settings),
        class_names=tuple(data.class_names),
        history={k: np.asarray(v, float) for k, v in checkpoint.history.items()},
        spectra=spectra,
        levels=levels,
        num_outliers=num_outliers,
        outlier_rule=rule,
        embedding=picture,
        versions={
            "hessian-workbench": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _check(settings: MeasureSettings) -> None:
    if settings.weighting not in WEIGHTINGS:
        raise WorkbenchError(
            f"measure: there is no weighting {settings.weighting!r}; choose one of "
            f"{', '.join(WEIGHTINGS)}."
        )
    check_names(settings.embedding, settings.metric)
    for name, least in (
        ("num_drawn", 0),
        ("num_eigenvalues", 1),
        ("num_steps", 2),
        ("num_probes", 2),
        ("exact_limit", 0),
        ("seed", 0),
    ):
        value = getattr(settings, name)
        if name == "num_eigenvalues" and value is None:
            continue
        if not isinstance(value, int) or value < least:
            raise WorkbenchError(
                f"measure: {name} is {value!r}; give a whole number from {least}."
            )
    if not isinstance(settings.tol, (int, float)) or not 0 < settings.tol < 1:
        raise WorkbenchError(
            f"measure: tol is {settings.tol!r}; give a number between 0 and 1."
        )


def _check_memory(risk: EmpiricalRisk, num: int, exact: bool) -> None:
    """Refuse what would end the process, with the numbers and a way on."""
    if risk.num_classes > MAX_CLASSES:
        raise WorkbenchError(
            f"measure: the data have {risk.num_classes} classes, and the means of all "
            f"pairs of classes are held for at most {MAX_CLASSES}; measure a folder "
            "that holds fewer classes."
        )
    number = torch.finfo(risk.dtype).bits // 8
    means = 0 if exact else 2 * risk.num_classes**2 * risk.dim
    spaces = 0 if risk.dim <= DOUBLE_LIMIT else 8 * (num + BLOCK_SIZE) * risk.dim
    n = risk.num_examples * risk.num_classes
    gram = 8 * 5 * n**2 if exact and n < risk.dim else 0
    need = number * (means + spaces) + gram
    there = total_memory() if risk.device.type == "cpu" else device_memory(risk.device)
    if need > 0.8 * there:
        raise WorkbenchError(
            f"measure: this needs about {need / 2**30:.0f} GB of memory and "
            f"{risk.device.type} has {there / 2**30:.0f}: {risk.dim:,} parameters, "
            f"{risk.num_classes} classes, {risk.num_examples:,} examples; take a "
            "smaller network, fewer classes, or fewer examples a class."
        )


def _hessian_fits(risk: EmpiricalRisk, settings: MeasureSettings) -> bool:
    """Whether P products with the Hessian take seconds: then all of it is exact."""
    size = max(risk.dim, risk.num_activations)
    within = risk.dim <= settings.exact_limit
    return within and risk.dim * risk.num_examples * size <= 10**10


def _dense(operator: LinearOperator, report: Callable[[float], None]) -> Dense:
    """The matrix of a small operator, symmetrised, with progress."""
    eye = torch.eye(operator.dim, dtype=operator.dtype, device=operator.device)
    columns = []
    for start in range(0, operator.dim, 256):
        columns.append(operator.matmat(eye[:, start : start + 256]))
        report(start / operator.dim)
    matrix = torch.cat(columns, dim=1).double()
    return Dense((matrix + matrix.T) / 2)


def _whole_spectrum(
    matrix: Dense, risk: EmpiricalRisk, rank: int, method: str, num_matvecs: int = 0
) -> Spectrum:
    """Every eigenvalue of a matrix; those beyond the rank are zero.

    The error bars are rounding: of the eigensolver, and of the gradients' dtype.
    """
    values = torch.linalg.eigvalsh(matrix.matrix).flip(0)
    if rank < len(values):
        values = values[:rank]
    values = values.cpu().numpy()
    eps = len(values) * np.finfo(np.float64).eps + 10 * torch.finfo(risk.dtype).eps
    rounding = float(np.abs(values).max()) * eps
    empty = np.empty((0, 0))
    return Spectrum(
        eigenvalues=values,
        residuals=np.full(len(values), rounding),
        nodes=empty,
        weights=empty,
        dim=risk.dim,
        trace=float(matrix.matrix.trace()),
        trace_error=0.0,
        complete=True,
        method=method,
        num_matvecs=num_matvecs,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """Iterative measurements of one operator, as the settings ask."""

    settings: MeasureSettings
    num: int  # eigenvalues an end
    generator: torch.Generator

    def pairs(
        self,
        operator: LinearOperator,
        which: Which,
        start: Tensor | None,
        report: Callable[[float], None] | None = None,
        scale: float = 0.0,
        tol: float | None = None,
    ) -> EigenPairs:
        """Leading eigenpairs; the decades that the residual fell are the progress."""
        tol = min(tol or self.settings.tol, 0.5)

        def falling(worst: float) -> None:
            if report:
                decades = math.log10(max(worst, 1e-30)) / math.log10(tol)
                report(0.5 * decades)

        return top_eigenpairs(
            operator,
            self.num,
            tol=tol,
            scale=scale,
            start=start,
            block_size=BLOCK_SIZE,
            which=which,
            k_low=NUM_LOW,
            generator=self.generator,
            report=falling,
        )

    def spectrum(
        self,
        operator: LinearOperator,
        pairs: EigenPairs,
        report: Callable[[float], None],
    ) -> Spectrum:
        """Leading eigenvalues with residuals, and the density by Lanczos quadrature."""
        density = spectral_density(
            operator,
            num_steps=self.settings.num_steps,
            num_probes=self.settings.num_probes,
            generator=self.generator,
            report=report,
        )
        return Spectrum(
            eigenvalues=pairs.values.cpu().numpy(),
            residuals=pairs.residuals.cpu().numpy(),
            nodes=density.nodes.cpu().numpy(),
            weights=density.weights.cpu().numpy(),
            dim=operator.dim,
            trace=density.trace,
            trace_error=density.trace_error,
            complete=False,
            method=f"block Krylov ({pairs.status}), stochastic Lanczos quadrature",
            num_matvecs=pairs.num_matvecs + density.num_matvecs,
        )


def _part(report: Callable[[float], None], start: float) -> Callable[[float], None]:
    """The rest of a stage, from ``start`` on."""
    return lambda share: report(start + (1.0 - start) * share)


def _levels(
    place: Coordinates, parts: Hierarchy, pairs: EigenPairs, probe: _Probe
) -> Levels:
    """One weighting, from the subspace that G's eigenvectors were found in."""
    eigenvalues = {
        part: factor_eigenvalues(factor).cpu().numpy()
        for part, factor in parts.factors.items()
    }
    trace = {part: float(values.sum()) for part, values in eigenvalues.items()}
    trace["G"] = place.trace
    trace[parts.within_part] = place.trace - trace[parts.means_part]

    g = Remembered(place.g, pairs.basis, pairs.images)

    def leading(operator: LinearOperator) -> NDArray[np.float64]:
        scale = float(pairs.values[0])
        found = probe.pairs(operator, "LA", pairs.basis, None, scale)
        return found.values.cpu().numpy()

    eigenvalues[parts.within_part] = leading(within(g, parts))
    return Levels(
        weighting=parts.weighting,
        parts=eigenvalues,
        trace=trace,
        kept=np.asarray(kept_shares(parts, place.trace)),
        overlap=span_overlap(parts, pairs.vectors).cpu().numpy(),
        class_overlap=class_overlap(parts, pairs.vectors).cpu().numpy(),
        subtracted=leading(subtracted(g, parts)),
        projected=leading(projected(g, parts)),
    )


def _embedding(
    risk: EmpiricalRisk, place: Coordinates, settings: MeasureSettings
) -> Embedding:
    """A balanced sample of the gradients and all their means, in the plane."""
    chosen, inputs, labels = _sample(risk, settings)
    num_classes = risk.num_classes
    three = averages(place.means, settings.weighting)
    if place.gram is None:
        vectors = torch.cat(
            [three.cross.flatten(0, 1), three.classes, three.everything[None]]
        )
        products = union_gram(risk, inputs, vectors.to(risk.dtype))
    else:
        products = dual_products(place.gram, torch.from_numpy(chosen), three)
    if settings.weighting == "jmlr":  # g = delta / sqrt(p)
        scale = risk.probabilities(inputs).clamp(min=1e-300).rsqrt().flatten()
        scale = torch.cat([scale, scale.new_ones(len(products) - len(scale))])
        products = scale[:, None] * products * scale
    points = embed(
        products.cpu().numpy(),
        method=settings.embedding,
        metric=settings.metric,
        seed=settings.seed,
    )
    c, k = np.divmod(np.arange(num_classes**2), num_classes)
    b = len(chosen)
    none = -np.ones(1, dtype=np.int64)
    every = np.arange(num_classes)
    return Embedding(
        points=points.astype(np.float32),
        level=np.repeat(
            [0, 1, 2, 3], [b * num_classes, num_classes**2, num_classes, 1]
        ),
        example=np.concatenate(
            [
                np.repeat(chosen, num_classes),
                np.full(num_classes**2 + num_classes + 1, -1),
            ]
        ),
        true_class=np.concatenate([np.repeat(labels, num_classes), c, every, none]),
        potential_class=np.concatenate(
            [np.tile(every, b), k, np.full(num_classes + 1, -1)]
        ),
        method=settings.embedding,
        metric=settings.metric,
        weighting=settings.weighting,
        num_total=risk.num_examples * num_classes,
    )


def _sample(
    risk: EmpiricalRisk, settings: MeasureSettings
) -> tuple[NDArray[np.int64], Tensor, NDArray[np.int64]]:
    """Examples whose gradients are drawn: as many of each class as fit, by the seed."""
    batches = list(risk.batches())
    labels = torch.cat([y for _, y in batches]).cpu().numpy()
    per_class = max(1, settings.num_drawn // risk.num_classes**2)
    random = np.random.default_rng(settings.seed)
    chosen = np.sort(
        np.concatenate(
            [
                random.permutation(np.flatnonzero(labels == c))[:per_class]
                for c in range(risk.num_classes)
            ]
        )
    )
    inputs = torch.cat([x for x, _ in batches])[torch.from_numpy(chosen)]
    return chosen, inputs, labels[chosen]
