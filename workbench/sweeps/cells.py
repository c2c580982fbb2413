"""One cell of a sweep: trained, measured, and kept as a study in the sweep's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.files.container import write_whole
from workbench.jobs.job import explain_failure
from workbench.study.records import Study, load_study
from workbench.sweeps.settings import Cell, epochs_of

RUN = "sweep"  # where a study's run holds the settings of its cell


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a cell: a study, or a sentence that says why there is none."""

    study: Study | None
    error: str = ""


def run_cell(cell: Cell, begun: Path | None = None) -> Outcome:
    """Train and measure a cell, in one thread, so that sums do not depend on the host.

    Called in a worker process. Raises nothing.

    Args:
        cell: What to run.
        begun: A folder for what is finished of it, so that a killed run resumes with
            the same numbers; None keeps nothing.
    """
    from threadpoolctl import threadpool_limits

    try:
        import torch

        torch.set_num_threads(1)
        with threadpool_limits(1):
            return Outcome(_measured(cell, begun))
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        sentence, trace = explain_failure(error)
        if trace:  # a fault of ours, not of the settings
            sentence = f"{type(error).__name__}: {error}"
        return Outcome(None, " ".join(sentence.split()))


def _measured(cell: Cell, begun: Path | None) -> Study:
    """Train, or continue, and measure."""
    import warnings

    from workbench.measurement.measurement import MeasureSettings, measure
    from workbench.training.data import load_data
    from workbench.training.models import Shape, build_model
    from workbench.training.relabelled import first_classes, shuffled_labels
    from workbench.training.train import TrainConfig, train

    data = load_data(cell.data, per_class=cell.per_class, seed=cell.seed)
    data = first_classes(data, cell.num_classes or data.num_classes)
    data = shuffled_labels(data, cell.label_noise, seed=cell.seed)
    shape = Shape(
        width=cell.width,
        depth=cell.depth,
        batch_norm=cell.batch_norm,
        pooling=cell.pooling,
    )
    network = build_model(cell.model, data, seed=cell.seed, shape=shape)
    config = TrainConfig(
        epochs=cell.epochs,
        lr=cell.lr,
        momentum=cell.momentum,
        weight_decay=cell.weight_decay,
        batch_size=cell.batch_size,
        seed=cell.seed,
        snapshots=epochs_of(cell),
        device=cell.device,
    )
    kept = None if begun is None else begun / "trained.ckpt"
    start: Any = network
    if kept is not None:
        kept.parent.mkdir(exist_ok=True)
        start = _continued(kept, network, data) or network
    if getattr(start, "status", "") == "finished":
        checkpoint = start
    else:
        keep = None if kept is None else lambda found: found.save(kept)
        checkpoint = train(start, data, config, keep=keep)
        if kept is not None:
            checkpoint.save(kept)
    settings = MeasureSettings(
        weighting=cell.weighting,
        embedding=cell.embedding,
        metric=cell.metric,
        num_drawn=cell.num_drawn,
        method=cell.method,
        exact_hessian=cell.exact_hessian,
        walk=cell.walk,
        seed=cell.seed,
        device=cell.device,
    )
    parts = None if begun is None else begun / "stages"
    with warnings.catch_warnings():
        # torch.func.jvp compiles helpers on its first call, and torch warns about it.
        warnings.filterwarnings("ignore", r".*torch\.jit\.script", FutureWarning)
        study = measure(checkpoint, settings, parts=parts)
    study.run.update({"root": None, "model": network_name(cell), RUN: cell.values})
    return study


def _continued(path: Path, network: Any, data: Any) -> Any:
    """What a killed process had trained; None if nothing usable."""
    from workbench.training.checkpoint import load_checkpoint

    with suppress(WorkbenchError):
        return load_checkpoint(path, network, data)
    return None


def network_name(cell: Cell) -> str:
    """The network in words, with what is not its own shape.

    Example:
        >>> network_name(Cell(model="cnn", width=8, batch_norm=False))
        'cnn, width 8, no batch norm'
    """
    words: list[str] = [cell.model]
    words += [f"width {cell.width}"] if cell.width else []
    words += [f"depth {cell.depth}"] if cell.depth else []
    words += [] if cell.batch_norm else ["no batch norm"]
    words += [] if cell.pooling == "max" else [f"pooling {cell.pooling}"]
    return ", ".join(words)


def study_path(folder: Path, cell: Cell) -> Path:
    """Where the study of a cell is, or will be."""
    return folder / f"{cell.name}.study"


def begun_path(folder: Path, cell: Cell) -> Path:
    """Where the finished part of a cell is kept until its study is complete."""
    return folder / f"{cell.name}.begun"


def _failed_path(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.failed.json"


def find_study(folder: Path, cell: Cell) -> Study | None:
    """Return the study of a finished cell: a file that opens and has its settings."""
    path = study_path(folder, cell)
    if not path.exists():
        return None
    try:
        study = load_study(path)
    except WorkbenchError:  # damaged, so measured again
        return None
    return study if study.run.get(RUN) == cell.values else None


def find_error(folder: Path, cell: Cell) -> str:
    """Return why a cell failed the last time; "" if it did not."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(_failed_path(folder, cell).read_text(encoding="utf-8"))
        return str(found.get("error", "")) if isinstance(found, Mapping) else ""
    return ""


def keep_outcome(folder: Path, cell: Cell, outcome: Outcome) -> None:
    """Write the study, or why there is none; each file completely or not at all."""
    failed = _failed_path(folder, cell)
    if outcome.study is not None:
        outcome.study.save(study_path(folder, cell))
        failed.unlink(missing_ok=True)
        shutil.rmtree(begun_path(folder, cell), ignore_errors=True)
        return
    text = json.dumps({"error": outcome.error, "cell": cell.values}, indent=1)
    write_whole(failed, [text.encode()], "sweep")
