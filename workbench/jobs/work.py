"""The steps of jobs: training and measuring, from plain settings to files.

`workbench.jobs.job` looks these up by name in the thread that runs a job. This is the
only link from the page to the code that computes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.files.container import save_somewhere
from workbench.jobs.job import ELSEWHERE, Outcome
from workbench.measurement import measurement
from workbench.measurement.embedding import embed
from workbench.measurement.stage_store import save_study
from workbench.progress.control import Control, ProgressCallback
from workbench.study.records import Study, load_study
from workbench.training.checkpoint import Checkpoint, load_checkpoint
from workbench.training.data import load_data
from workbench.training.models import build_model
from workbench.training.settings import film_epochs
from workbench.training.train import TrainConfig
from workbench.training.train import train as train_network

FILM_SECONDS = 60.0  # that a page spends on earlier epochs, once its picture is done
FILM_PARAMETERS = 2_000_000  # for larger networks a page keeps no earlier weights


def train(
    settings: Mapping[str, Any],
    folder: Path,
    progress: ProgressCallback,
    control: Control,
) -> Outcome:
    """Train a network, or continue training ``settings["resume"]``.

    Args:
        settings: ``data``, ``per_class``, ``download``, ``model``, ``epochs``, ``lr``
            and ``seed``; or ``resume``, the path of a checkpoint. Optional:
            ``weight_decay``, ``device``, and ``embedding`` if a measurement is to
            follow.
        folder: Folder for the checkpoint. It is also written regularly during training,
            so training can resume if the process is killed.
        progress: Called with every event.
        control: Pauses and cancels; after a cancel, what was learnt is saved.

    Returns:
        The path of the checkpoint, and the facts of its run.
    """
    path = _free(folder, ".ckpt")

    def keep(found: Checkpoint) -> None:
        found.save(path)

    if settings.get("embedding") == "umap":
        warm_up()  # a measurement will follow
    if resume := settings.get("resume"):
        checkpoint = train_network(
            load_checkpoint(resume), progress=progress, control=control, keep=keep
        )
    else:
        data = load_data(
            settings["data"],
            per_class=settings["per_class"],
            seed=settings["seed"],
            download=settings.get("download", False),
            progress=progress,
            control=control,
        )
        model = build_model(settings["model"], data, seed=settings["seed"])
        small = sum(p.numel() for p in model.parameters()) <= FILM_PARAMETERS
        names = ("epochs", "lr", "weight_decay", "seed", "device")
        config = TrainConfig(
            **{name: settings[name] for name in names if name in settings},
            snapshots=film_epochs(settings["epochs"]) if small else (),
        )
        checkpoint = train_network(
            model, data, config, progress=progress, control=control, keep=keep
        )
    place, said = save_somewhere(checkpoint.save, path)
    facts = checkpoint.run | ({ELSEWHERE: said} if said else {})
    return Outcome({"checkpoint": str(place)}, checkpoint.status, facts)


def film(
    settings: Mapping[str, Any],
    folder: Path,
    progress: ProgressCallback,
    control: Control,
) -> Outcome:
    """Add earlier epochs to an existing study, as many as time allows.

    Finished stages are kept as in `measure`, in one folder per snapshot.

    Args:
        settings: ``checkpoint`` and ``study``, paths from the previous steps.
        folder: Folder for the study with its snapshots.
        progress: Called with every event.
        control: Pauses and cancels.

    Returns:
        The path of the study with its snapshots, if the training kept any.

    Raises:
        Cancelled: If ``control`` was cancelled; the study without snapshots remains.
    """
    source = Path(settings["checkpoint"])
    checkpoint = load_checkpoint(source)
    if not checkpoint.snapshots:
        return Outcome({})
    study = load_study(settings["study"])
    study = replace(study, settings={**study.settings, "moments": True})
    chosen = measurement.MeasureSettings(**study.settings)
    found = measurement.measure_moments(
        study,
        checkpoint,
        chosen,
        seconds=FILM_SECONDS,
        progress=progress,
        control=control,
        parts=_parts(source),
    )
    return _saved(found, folder, _parts(source))


def measure(
    settings: Mapping[str, Any],
    folder: Path,
    progress: ProgressCallback,
    control: Control,
) -> Outcome:
    """Measure the network at ``settings["checkpoint"]``.

    Finished stages are kept beside the checkpoint until the study is written, so an
    interrupted measurement resumes from there, in whatever folder it is started again.

    Args:
        settings: ``checkpoint``, ``weighting``, ``embedding``, ``metric`` and ``seed``;
            optional: ``device``.
        folder: Folder for the study.
        progress: Called with every event.
        control: Pauses and cancels.

    Returns:
        The path of the study.

    Raises:
        Cancelled: If ``control`` was cancelled; only finished stages are kept.
    """
    source = Path(settings["checkpoint"])
    parts = _parts(source)
    keys = ("weighting", "embedding", "metric", "seed", "device")
    chosen = {key: settings[key] for key in keys if key in settings}
    study = measurement.measure(
        load_checkpoint(source),
        measurement.MeasureSettings(**chosen, moments=False),  # `film` has its time
        progress=progress,
        control=control,
        parts=parts,
    )
    return _saved(study, folder, parts)


def _saved(study: Study, folder: Path, parts: Path) -> Outcome:
    """Write a study; if the disk is full, delete its finished stages to make room."""
    path, said = save_study(study, _free(folder, ".study"), parts)
    return Outcome({"study": str(path)}, facts={ELSEWHERE: said} if said else {})


def _parts(checkpoint: Path) -> Path:
    """Return the folder for the finished stages of measuring it."""
    return checkpoint.with_name(f"{checkpoint.name}.parts")


@functools.cache
def warm_up() -> threading.Thread:
    """Start loading UMAP in a thread, and compiling it if needed; once per process.

    This keeps one core busy for about 20 s, or 2 s if UMAP was compiled before.
    Measured on two cores, training digits is not slowed down by it.
    """

    def compile_umap() -> None:
        points = np.random.default_rng(0).normal(size=(40, 8))
        embed(points @ points.T, method="umap", metric="cosine")

    thread = threading.Thread(target=compile_umap, name="warm-up", daemon=True)
    thread.start()
    return thread


def _free(folder: Path, suffix: str) -> Path:
    """Return the first unused path among ``run-001``, ``run-002``, ..."""
    number = 1
    while (path := folder / f"run-{number:03d}{suffix}").exists():
        number += 1
    return path
