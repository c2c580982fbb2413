"""Measure a checkpoint: spectra, three averages, and the picture of both."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench import __version__
from workbench.curvature.problem.blocks import blocks_of
from workbench.curvature.products.layerwise import is_small
from workbench.curvature.products.operators import curvatures
from workbench.linalg.precision import full_precision
from workbench.machine.distributed import ALONE, World
from workbench.measurement.checks import TIGHTER, established
from workbench.measurement.cost import (
    STAGES,
    blocks_left_out,
    num_eigenvalues,
    whole_hessian,
)
from workbench.measurement.last_layer import record_last_layer
from workbench.measurement.layers import (
    by_products,
    from_matrix,
    hess_blocks,
    layers_of,
    num_in_block,
    share_errors,
)
from workbench.measurement.null import not_drawn
from workbench.measurement.picture import draw
from workbench.measurement.plan import (
    bind,
    checked,
    classes_of,
    layers_note,
    make_plan,
)
from workbench.measurement.record import record
from workbench.measurement.settings import MeasureSettings, settled
from workbench.measurement.snapshots import (
    COST,
    as_snapshot,
    snapshot_settings,
    thinned_out,
)
from workbench.measurement.solver import IterativeSolver, dense_matrix
from workbench.measurement.spectra import (
    both_ends,
    bulk_ends,
    rest_of_hess,
    whole_hess,
)
from workbench.measurement.stage_store import StageStore, fingerprint
from workbench.measurement.stages import Stages
from workbench.measurement.subject import (
    Snapshot,
    Subject,
    all_labels,
    plain,
    subject_of,
)
from workbench.measurement.walk import (
    leading_directions,
    shared_directions,
    walk_along,
)
from workbench.measurement.ways import Bound
from workbench.progress.control import (
    Control,
    Progress,
    ProgressCallback,
    Report,
    progress_span,
    span,
)
from workbench.study.layers import Layers
from workbench.study.null import Array
from workbench.study.outliers import count_in_window
from workbench.study.records import MAX_LEADING, Embedding, Study
from workbench.study.spectrum import Spectrum
from workbench.training.checkpoint import Checkpoint

__all__ = ["MeasureSettings", "measure", "measure_moments"]


@full_precision()
def measure(
    subject: Checkpoint | nn.Module,
    data: Any = None,
    settings: MeasureSettings | None = None,
    *,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
    parts: Path | None = None,
    world: World = ALONE,
    data_name: str | None = None,
    held_out: bool | None = None,
    snapshots: Iterable[Snapshot | Checkpoint] | None = None,
    epoch: int | None = None,
    **options: Any,
) -> Study:
    r"""Measure a network's curvature on data, and how the three averages explain it.

    ``measure(checkpoint)`` measures the result of `train` on its training data;
    ``measure(model, data)`` measures any network. To see the cost first, use `plan`.
    The second argument may also be the settings.

    If ``min(P, N (C - 1))`` is at most ``exact_limit``, all eigenvalues of G are
    computed, from the matrix G or its dual, as `plan` chooses. Beyond that, if it is
    cheaper, only the leading ones are computed, by a block Krylov subspace, and the
    density is estimated by stochastic Lanczos quadrature. The same holds for Hess and
    H, except that they are computed in full if that takes only seconds. Each eigenvalue
    has an error bar: its residual ``||A v - lam v||`` or, from a full eigensolver, its
    rounding error.

    Epochs kept in training are measured too and become the study's snapshots, at about
    half the cost each: see `measure_moments`.

    Args:
        subject: A checkpoint from `train` or `load_checkpoint`, or a network.
        data: A `Dataset`, a pair of tensors ``(inputs, labels)``, or a re-iterable of
            such pairs. A checkpoint uses its training data by default; any other data
            count as held out.
        settings: How to measure.
        progress: Called with `Progress` events; the first one's note is the plan.
        control: Pauses and cancels.
        parts: A folder that keeps finished stages until the study is complete, so that
            an interrupted measurement resumes with the same numbers.
        world: Processes that share the examples; each returns the study.
        data_name: Name of the data in the study.
        held_out: Whether the network was not trained on these data; the study records
            it.
        snapshots: Weights of earlier epochs, each ``(epoch, state_dict)`` or a
            checkpoint. They become the study's snapshots, replacing a checkpoint's own.
        epoch: Epoch of the network itself, if it has snapshots; by default that of the
            last snapshot if its weights are the same, else one more.
        **options: Single settings by name, such as ``embedding="pca"``, and the options
            of `operators`: ``outputs``, ``batch_size``, ``check``.

    Returns:
        The study: spectra, parts, overlaps, knock-outs and picture, as plain numbers.

    Raises:
        WorkbenchError: If a setting, network or data set is invalid, or no method fits
            the memory or ``max_minutes``.
        Cancelled: If ``control.cancel`` was called; only the stages in ``parts``
            remain.

    Reference:
        Papyan (2019), arXiv:1901.08244; Papyan (2020), arXiv:2008.11865.
    """
    if isinstance(data, MeasureSettings):
        data, settings = None, data
    settings, options = settled(settings, options)
    control = control or Control()
    case = subject_of(
        subject,
        data,
        data_name=data_name,
        held_out=held_out,
        snapshots=snapshots,
        epoch=epoch,
        **options,
    )
    num = len(case.earlier) if settings.moments else 0
    share = 1 / (1 + COST * num)
    first = progress_span(progress, 0.0, share)
    study = _measure_one(case, settings, first, control, parts, world, num_moments=num)
    if not num:
        return study
    rest = progress_span(progress, share, 1.0)
    return _with_snapshots(study, case, settings, math.inf, rest, control, parts, world)


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
    """Measure the earlier epochs kept in training, for a study of the last one.

    Goes from the last epoch to the first and draws the same gradients, each starting
    from its position one snapshot later. So points move smoothly, and the study's own
    picture does not change. Of Hess and H only the ends are computed
    (`snapshot_settings`).

    Args:
        study: Result of `measure` for the same checkpoint and settings.
        checkpoint: The checkpoint, with weights of earlier epochs; if it has none, the
            study is returned unchanged.
        settings: How the study was measured.
        seconds: Approximate time limit. The first snapshot is timed, and as many others
            measured as fit.
        progress: Called with `Progress` events.
        control: Pauses and cancels.
        parts: As for `measure`; each snapshot gets a subfolder.
        world: As for `measure`.

    Returns:
        The study with its snapshots.

    Raises:
        WorkbenchError: If the weights of an epoch cannot be measured.
        Cancelled: If ``control.cancel`` was called; nothing is returned.
    """
    case = subject_of(checkpoint)
    control = control or Control()
    return _with_snapshots(
        study, case, settings, seconds, progress, control, parts, world
    )


def _with_snapshots(
    study: Study,
    subject: Subject,
    settings: MeasureSettings,
    seconds: float,
    progress: ProgressCallback | None,
    control: Control,
    parts: Path | None,
    world: World,
) -> Study:
    """Measure the earlier epochs, from the last to the first."""
    epochs = sorted(subject.earlier)
    cheap = snapshot_settings(settings)
    snapshots: list[Study] = []
    total, near, began = len(epochs), study.embedding, time.monotonic()
    while epochs:
        epoch, done = epochs.pop(), len(snapshots)
        piece = progress_span(
            progress, done / total, (done + 1) / total, f"epoch {epoch}"
        )
        folder = parts / f"epoch-{epoch}" if parts else None
        at_epoch = subject.earlier[epoch]()
        snapshot = _measure_one(at_epoch, cheap, piece, control, folder, world, near)
        snapshots.append(as_snapshot(snapshot))
        near = snapshot.embedding
        if not done and epochs:
            num = min(seconds / (time.monotonic() - began), total)
            epochs = list(thinned_out(tuple(epochs), max(int(num) - 1, 0)))
            total = 1 + len(epochs)
    return replace(study, moments=tuple(reversed(snapshots)))


def _measure_one(
    subject: Subject,
    settings: MeasureSettings,
    progress: ProgressCallback | None,
    control: Control,
    parts: Path | None,
    world: World,
    near: Embedding | None = None,
    num_moments: int = 0,
) -> Study:
    """Measure one set of weights; ``near`` has the same gradients at another time."""
    risk = bind(subject, None, settings, control, world)
    plan = make_plan(risk, settings, num_moments=num_moments)

    def note(sentence: str) -> None:
        if progress is not None:
            progress(Progress(STAGES["means"], 0.0, note=sentence))

    ops = curvatures(risk)
    key = fingerprint(subject, settings) if parts else ""
    bound = Bound(risk, ops["G"], settings)
    outside = {"bound": bound, "operator": ops["G"]}
    store = StageStore(parts, key, world, outside, note)
    counted = plan.by_name(store.keep("way", lambda: checked(plan).method))
    line = store.keep("plan", lambda: plan.line)
    if near is None:
        note(line)
    stages = Stages(progress, control, plan.stages(counted), store)
    num = num_eigenvalues(plan.sizes, settings)

    def solver(name: str, again: bool = False) -> IterativeSolver:
        """Give each stage its own random numbers, whatever ran before it."""
        seed = settings.seed * len(STAGES) + list(STAGES).index(name)
        asked = settings
        if again:
            seed, asked = -1 - seed, replace(settings, tol=settings.tol / TIGHTER)
        return IterativeSolver(
            asked, num, torch.Generator().manual_seed(seed), is_small(risk)
        )

    def measured_again(name: str) -> Spectrum:
        """Measure a spectrum with other random numbers and a smaller tolerance."""
        how, report = solver(name, again=True), stages.silent
        if name == "G":
            return way.spectrum(how, report)[1]
        if name == "Hess":
            lift = way.in_parameters
            return both_ends(risk, ops["Hess"], lift, pairs, how, report)[1]
        return bulk_ends(ops["H"], how, report)[1]

    way = stages.do("means", partial(counted.way.prepare, bound))
    pairs, g = stages.do("G", partial(way.spectrum, solver("G")))
    spectra = {"G": g}
    directions = stages.do("directions", lambda _: leading_directions(way, pairs))
    num_first = min(risk.num_classes, MAX_LEADING)

    def compared(found: tuple[Tensor, Spectrum]) -> tuple[Array, Spectrum]:
        """What Hess shares with G, in place of its eigenvectors."""
        vectors, spectrum = found
        return shared_directions(directions, vectors, num_first), spectrum

    whole_matrix: Tensor | None = None
    if way.exact and whole_hessian(plan.sizes, settings):

        def whole(report: Report) -> tuple[Tensor, tuple[Array, Spectrum]]:
            matrix = dense_matrix(ops["Hess"], report)
            hess, vectors, spectrum = whole_hess(risk, matrix, num_first)
            return hess, compared((vectors, spectrum))

        hess, (shared, spectra["Hess"]) = stages.do("Hess", whole)
        whole_matrix = hess
        lowest, spectra["H"] = stages.do(
            "H", lambda report: rest_of_hess(risk, hess, way.dense_g(report))
        )
    else:
        ends = partial(
            both_ends, risk, ops["Hess"], way.in_parameters, pairs, solver("Hess")
        )
        shared, spectra["Hess"] = stages.do(
            "Hess", lambda report: compared(ends(report))
        )
        lowest, spectra["H"] = stages.do("H", partial(bulk_ends, ops["H"], solver("H")))
    levels = {
        each.name: stages.do(
            each.name, partial(way.split, each, pairs, solver(each.name))
        )
        for each in way.conventions(settings)
    }
    spectra = established(spectra, levels, measured_again)
    picture = stages.do(
        "picture", lambda report: draw(risk, way.products, settings, near)
    )
    last_layer = None
    if plan.sizes.num_features:
        look = partial(record_last_layer, risk, solver("last_layer"))
        last_layer = stages.do("last_layer", look)
    if risk.is_plain:
        null = stages.do("null", partial(way.null, pairs, solver("null")))
    else:
        null = not_drawn(way.conventions(settings), pairs.vectors.shape[1])
    levels = {k: replace(v, null=null.shuffled.get(k)) for k, v in levels.items()}
    walked = None
    if settings.walk and risk.is_plain:
        num_pairs, h = len(pairs.values), spectra["H"]
        walked = stages.do(
            "walk", partial(walk_along, risk, directions, g, lowest, h, num_pairs)
        )
    layers = None
    if settings.layers:
        left_out = blocks_left_out(plan.sizes, settings, way.exact)

        def look_at_layers(report: Report) -> Layers:
            blocks, how = blocks_of(risk), solver("layers")
            first = directions[:, :num_first]
            known, hess = way.block_values(), None
            if not way.exact and "G" not in left_out:
                told = span(report, 0.0, 0.4)
                found = by_products(blocks, ops["G"], first, how, told)
                known = replace(known, eigenvalues=found[0], residuals=found[1])
            if whole_matrix is not None:
                num_leading = num_in_block(risk.num_classes)
                hess = from_matrix(blocks, whole_matrix, num_leading, risk.dtype)
            elif "Hess" not in left_out:
                told, curved = span(report, 0.4), plan.sizes.curved
                hess = hess_blocks(blocks, curved, known, ops["Hess"], first, how, told)
            errors = share_errors(pairs, g, first.shape[1], risk.dtype)
            said = layers_note(plan.sizes, settings, way.exact)
            return layers_of(risk, known, hess, first, errors, said)

        layers = stages.do("layers", look_at_layers)
    classes = classes_of(subject, settings)
    if classes is not None:
        picture = _numbered(picture, subject, classes)
    head = record(subject, risk, classes)
    control.check()
    rank = min(risk.dim, risk.num_rows)
    num_outliers, rule = count_in_window(g.eigenvalues, risk.num_classes, rank)
    if progress is not None:
        progress(Progress("Measured", 1.0))
    return Study(
        run={**head.run, "products": dict(plan.products)},
        settings=plain(asdict(settings)),
        class_names=head.class_names,
        history=head.history,
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
        last_layer=last_layer,
        random=null.random,
        shared=shared,
        walk=walked,
        layers=layers,
    )


def _numbered(
    picture: Embedding, subject: Subject, classes: tuple[int, ...]
) -> Embedding:
    """Number the picture's examples as in the full data, if classes were chosen."""
    labels = all_labels(subject.data).cpu().numpy()
    numbers = np.append(np.flatnonzero(np.isin(labels, classes)), -1)  # of -1: -1
    return replace(picture, example=numbers[picture.example])
