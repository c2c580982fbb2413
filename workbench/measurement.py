"""Measure a checkpoint: the spectra, the three averages, and the picture of both."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from workbench import __version__
from workbench.control import Control, Progress, ProgressCallback
from workbench.curvature.coordinates import (
    coordinates,
    dense_gauss_newton,
    primal_eigenvectors,
)
from workbench.curvature.deltas import averages
from workbench.curvature.operators import operators
from workbench.curvature.risk import EmpiricalRisk, empirical_risk
from workbench.errors import WorkbenchError
from workbench.linalg.operator import Dense
from workbench.measuring.config import MeasureSettings, check_settings
from workbench.measuring.levels import split_levels
from workbench.measuring.moments import (
    COST,
    as_moment,
    earlier_epochs,
    moment_settings,
    share_of,
    thinned_out,
)
from workbench.measuring.picture import draw
from workbench.measuring.probe import BLOCK_SIZE, Probe, dense_matrix, whole_spectrum
from workbench.measuring.stages import Stages, part_of
from workbench.memory import device_memory, total_memory
from workbench.outliers import count_outliers
from workbench.study import WEIGHTINGS, Embedding, Study
from workbench.training.checkpoint import Checkpoint
from workbench.training.device import resolve_device

__all__ = ["MeasureSettings", "measure", "measure_moments"]

DOUBLE_LIMIT = 5_000  # parameters up to which everything is measured in float64
MAX_CLASSES = 40  # C^2 means, each drawn: beyond that the picture is full too
EDGE = 20.0  # times tol for H: no gap sets its ends apart, so they converge slowly


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

    The epochs that the training kept are measured too and become the study's moments,
    each at about half the cost: see `measure_moments`.

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
    check_settings(settings)
    control = control or Control()
    epochs = earlier_epochs(checkpoint) if settings.moments else ()
    share = 1 / (1 + COST * len(epochs))
    own = share_of(progress, 0.0, share)
    study = _measure_one(checkpoint, settings, own, control)
    if not epochs:
        return study
    rest = share_of(progress, share, 1.0)
    return measure_moments(study, checkpoint, settings, progress=rest, control=control)


def measure_moments(
    study: Study,
    checkpoint: Checkpoint,
    settings: MeasureSettings,
    *,
    seconds: float = math.inf,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> Study:
    """Measure the earlier epochs that a training kept, for a study of its last one.

    From the last to the first, and the gradients drawn are the same, each placed from
    where it lies one moment later: so points move and do not jump, and the study's own
    picture stays as it is. Hess and H by their leading ends (`moment_settings`).

    Args:
        study: What `measure` found of the same checkpoint with the same settings.
        checkpoint: With the weights of earlier epochs; without, the study is returned.
        settings: How the study was measured.
        seconds: About how long this may take. The first moment is timed, and of the
            others as many are measured as fit.
        progress: Called with `Progress` events.
        control: Pauses and cancels.

    Returns:
        The study with its moments.

    Raises:
        WorkbenchError: If the weights of an epoch cannot be measured.
        Cancelled: If ``control.cancel`` was called; nothing is kept.
    """
    left = list(earlier_epochs(checkpoint))
    cheap, control = moment_settings(settings), control or Control()
    found: list[Study] = []
    total, near, began = len(left), study.embedding, time.monotonic()
    while left:
        epoch = left.pop()
        done, detail = len(found) / total, f"epoch {epoch}"
        own = share_of(progress, done, (len(found) + 1) / total, detail)
        moment = _measure_one(checkpoint.at_epoch(epoch), cheap, own, control, near)
        found.append(as_moment(moment))
        near = moment.embedding
        if len(found) == 1 and left:
            num = min(seconds / (time.monotonic() - began), total)
            left = list(thinned_out(tuple(left), max(int(num) - 1, 0)))
            total = 1 + len(left)
    return replace(study, moments=tuple(reversed(found)))


def _measure_one(
    checkpoint: Checkpoint,
    settings: MeasureSettings,
    progress: ProgressCallback | None,
    control: Control,
    near: Embedding | None = None,
) -> Study:
    """Measure these weights alone; ``near``: the same gradients at another time."""
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
    stages = Stages(progress, control, costs)
    generator = torch.Generator().manual_seed(settings.seed)
    ops = operators(model, data, device=device, control=control)

    report = stages.start("Averaging the gradients")
    place = coordinates(risk, ops["G"], settings.exact_limit, report)
    probe = Probe(settings, num, generator)
    start = averages(place.means, settings.weighting).classes.T

    report = stages.start("Eigenvalues of G")
    # products with a matrix are cheap: vectors then as good as its eigenvalues
    tight = 1e-9 if isinstance(place.g, Dense) else None
    pairs = probe.pairs(place.g, "LA", start, report, tol=tight)
    if isinstance(place.g, Dense):
        g = whole_spectrum(place.g, risk, min(risk.dim, n), place.method)
    else:
        g = probe.spectrum(place.g, pairs, part_of(report, 0.5))
        g = replace(g, trace=place.trace, trace_error=0.0)
    spectra = {"G": g}
    if _hessian_fits(risk, settings) and isinstance(place.g, Dense):
        hess = dense_matrix(ops["Hess"], stages.start("Eigenvalues of Hess"))
        spectra["Hess"] = whole_spectrum(hess, risk, risk.dim, "dense, exact", risk.dim)
        report = stages.start("Eigenvalues of H")
        g_matrix = dense_gauss_newton(risk, report) if place.gram else place.g
        rest = Dense(hess.matrix - g_matrix.matrix)
        spectra["H"] = whole_spectrum(rest, risk, risk.dim, "dense, exact")
    else:
        for kind in ("Hess", "H"):
            report = stages.start(f"Eigenvalues of {kind}")
            noise = torch.randn(risk.dim, BLOCK_SIZE, generator=generator)
            first, tol = noise.to(risk.device, risk.dtype), EDGE * settings.tol
            if kind == "Hess":  # its outliers lean on G's; the noise sees the low end
                leading = primal_eigenvectors(risk, place, pairs.vectors)
                first, tol = torch.cat([leading, first], dim=1), settings.tol
            found = probe.pairs(ops[kind], "BE", first, report, tol=tol)
            spectra[kind] = probe.spectrum(ops[kind], found, part_of(report, 0.5))

    report = stages.start("Splitting G into its parts")
    levels = {}
    for step, weighting in enumerate(WEIGHTINGS):
        levels[weighting] = split_levels(place, weighting, pairs, probe)
        report((step + 1) / len(WEIGHTINGS))

    stages.start("Placing the gradients in the plane")
    picture = draw(risk, place, settings, near)
    control.check()
    seen = 2 * num if g.complete else num
    num_outliers, rule = count_outliers(g.eigenvalues[:seen])
    if progress is not None:
        progress(Progress("Measured", 1.0))
    return Study(
        run={**checkpoint.run, "training": _plain(checkpoint.settings)},
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
    within = settings.exact_hessian and risk.dim <= settings.exact_limit
    return within and risk.dim * risk.num_examples * size <= 10**10


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file: lists for tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
