"""Measure a checkpoint: the spectra, the three averages, and the picture of both."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import __version__
from workbench.control import Control, Progress, ProgressCallback
from workbench.curvature.classgram import ClassGram
from workbench.curvature.coordinates import coordinates
from workbench.curvature.layerwise import is_small
from workbench.curvature.operators import curvatures, network_of
from workbench.curvature.streamed import StreamedMeans
from workbench.distributed import ALONE, World
from workbench.measuring.config import (
    MeasureSettings,
    check_settings,
    chosen_classes,
)
from workbench.measuring.counting import (
    STAGES,
    num_eigenvalues,
    weightings,
    whole_hessian,
)
from workbench.measuring.levels import split_levels, split_streamed
from workbench.measuring.moments import (
    COST,
    as_moment,
    earlier_epochs,
    moment_settings,
    share_of,
    thinned_out,
)
from workbench.measuring.parts import Parts, fingerprint
from workbench.measuring.picture import draw
from workbench.measuring.plan import bind, checked, make_plan
from workbench.measuring.probe import Probe, dense_matrix
from workbench.measuring.spectra import (
    both_ends,
    bulk_ends,
    of_g,
    rest_of_hess,
    whole_hess,
)
from workbench.measuring.stages import Stages
from workbench.outliers import count_outliers
from workbench.study import Embedding, Study
from workbench.training.checkpoint import Checkpoint

__all__ = ["MeasureSettings", "measure", "measure_moments"]


def measure(
    checkpoint: Checkpoint,
    settings: MeasureSettings | None = None,
    *,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
    parts: Path | None = None,
    world: World = ALONE,
) -> Study:
    r"""Measure the curvature of a trained network, and what its three averages carry.

    All eigenvalues of G where ``min(P, N (C - 1))`` is at most ``exact_limit``: from
    the matrix G, or from its dual, as `plan` says. Beyond that, where it is cheaper,
    the leading ones by a block Krylov subspace and the density by stochastic Lanczos
    quadrature; likewise Hess and H, but where all of them takes seconds. Each
    eigenvalue has an error bar: its residual ``||A v - lam v||``, or where all are
    found by one eigensolver, its rounding.

    The epochs that the training kept are measured too and become the study's moments,
    each at about half the cost: see `measure_moments`.

    Args:
        checkpoint: What `train` returned or `load_checkpoint` read.
        settings: How to measure.
        progress: Called with `Progress` events; the plan is the first one's note.
        control: Pauses and cancels.
        parts: A folder that keeps each finished stage until the study is there: a
            measurement that was ended goes on from it, to the same numbers.
        world: Processes that share the examples; each returns the study.

    Returns:
        The study: spectra, parts, overlaps, knock-outs and picture, of plain numbers.

    Raises:
        WorkbenchError: If a setting or the checkpoint cannot be measured, or no way to
            measure it fits the memory or ``max_minutes``.
        Cancelled: If ``control.cancel`` was called; only ``parts`` are kept.

    Reference:
        Papyan (2019), arXiv:1901.08244; Papyan (2020), arXiv:2008.11865.
    """
    settings = settings or MeasureSettings()
    check_settings(settings)
    control = control or Control()
    checkpoint = replace(checkpoint, data=checkpoint.load_data())  # once
    epochs = earlier_epochs(checkpoint) if settings.moments else ()
    share = 1 / (1 + COST * len(epochs))
    own = share_of(progress, 0.0, share)
    study = _measure_one(
        checkpoint, settings, own, control, parts, world, num_moments=len(epochs)
    )
    if not epochs:
        return study
    rest = share_of(progress, share, 1.0)
    return measure_moments(
        study,
        checkpoint,
        settings,
        progress=rest,
        control=control,
        parts=parts,
        world=world,
    )


def measure_moments(
    study: Study,
    checkpoint: Checkpoint,
    settings: MeasureSettings,
    *,
    seconds: float = math.inf,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
    parts: Path | None = None,
    world: World = ALONE,
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
        parts: As for `measure`; each moment has a folder in it.
        world: As for `measure`.

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
        kept = parts / f"epoch-{epoch}" if parts else None
        moment = _measure_one(
            checkpoint.at_epoch(epoch), cheap, own, control, kept, world, near
        )
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
    parts: Path | None,
    world: World,
    near: Embedding | None = None,
    num_moments: int = 0,
) -> Study:
    """Measure these weights alone; ``near``: the same gradients at another time."""
    names = checkpoint.class_names
    classes = chosen_classes(settings, names)
    risk = bind(checkpoint, None, settings, control, world)
    plan = make_plan(risk, settings, num_moments=num_moments)
    method = checked(plan)

    def note(sentence: str) -> None:
        if progress is not None:
            progress(Progress(STAGES["means"], 0.0, note=sentence))

    ops = curvatures(risk)
    key = fingerprint(checkpoint, settings, method.method) if parts else ""
    store = Parts(parts, key, world, {"operator": ops["G"]}, note)
    line = store.keep("plan", lambda: plan.line)
    if near is None:
        note(line)
    stages = Stages(progress, control, plan.stages(), store)
    num = num_eigenvalues(plan.sizes, settings)

    def probe(name: str) -> Probe:
        """A stage's own random numbers, whatever was done before it."""
        seed = settings.seed * len(STAGES) + list(STAGES).index(name)
        return Probe(settings, num, torch.Generator().manual_seed(seed), is_small(risk))

    weighting, way = settings.weighting, method.method
    find = partial(coordinates, risk, ops["G"], way, weighting=weighting)
    place = stages.do("means", find)
    pairs, g = stages.do("G", partial(of_g, risk, place, probe("G")))
    spectra = {"G": g}
    if method.exact and whole_hessian(plan.sizes, settings):
        hess, spectra["Hess"] = stages.do(
            "Hess", lambda report: whole_hess(risk, dense_matrix(ops["Hess"], report))
        )
        spectra["H"] = stages.do("H", partial(rest_of_hess, risk, place, hess))
    else:
        ends = partial(both_ends, risk, ops["Hess"], place, pairs, probe("Hess"))
        spectra["Hess"] = stages.do("Hess", ends)
        spectra["H"] = stages.do("H", partial(bulk_ends, ops["H"], probe("H")))
    if isinstance(place.means, ClassGram):
        means = StreamedMeans(risk, network_of(ops["G"]), place.means)
        split = partial(split_streamed, place, means, pairs, probe(weighting))
        levels = {weighting: stages.do(weighting, split)}
    else:
        levels = {
            name: stages.do(
                name, partial(split_levels, place, name, pairs, probe(name))
            )
            for name in weightings(way, settings)
        }
    picture = stages.do("picture", lambda report: draw(risk, place, settings, near))
    if classes is not None:
        picture = _numbered(picture, checkpoint, classes)
        names = tuple(names[c] for c in classes)
    control.check()
    seen = 2 * num if g.complete else num
    num_outliers, rule = count_outliers(g.eigenvalues[:seen])
    if progress is not None:
        progress(Progress("Measured", 1.0))
    return Study(
        run={**checkpoint.run, "training": _plain(checkpoint.settings)},
        settings=_plain(asdict(settings)),
        class_names=names,
        history={k: np.asarray(v, float) for k, v in checkpoint.history.items()},
        spectra=spectra,
        levels=levels,
        num_outliers=num_outliers,
        outlier_rule=rule,
        embedding=picture,
        plan=line,
        versions={
            "hessian-workbench": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _numbered(
    picture: Embedding, checkpoint: Checkpoint, classes: tuple[int, ...]
) -> Embedding:
    """The picture of some classes, its examples by their number in all of the data."""
    labels = checkpoint.load_data().labels.numpy()
    numbers = np.append(np.flatnonzero(np.isin(labels, classes)), -1)  # of -1: -1
    return replace(picture, example=numbers[picture.example])


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file: lists for tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
