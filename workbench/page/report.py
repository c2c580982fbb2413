"""What the page reports about a job: learning curves, result, device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.jobs.job import ELSEWHERE, JobRecord
from workbench.progress.timing import say_duration


@dataclass(frozen=True, slots=True)
class Trained:
    """The last network trained in this session."""

    path: str  # to its checkpoint
    finished: bool  # False: training was stopped and can continue
    facts: Mapping[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """Its description, by the names of a job's settings, for the menu Open."""
        names = ("data", "model", "per_class", "epochs")
        return {name: self.facts[name] for name in names if name in self.facts}


def trained_at(path: str, facts: Mapping[str, Any]) -> Trained:
    """Describe the network of a checkpoint with these facts."""
    finished = facts.get("epochs") == facts.get("epochs_planned", facts.get("epochs"))
    return Trained(path, finished, facts)


def describe_device(used: str = "") -> str:
    """Name the computing device; ``used`` is torch's name for it, if known."""
    if used and not used.startswith("cpu"):
        return f"GPU ({used})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = cores or os.cpu_count() or 1
    cpu = f"CPU, {cores} core{'s' if cores > 1 else ''}"
    if not used and Path("/proc/driver/nvidia/gpus").is_dir():
        return f"{cpu} (GPU found)"
    return cpu


def extended(
    history: Mapping[str, tuple[float, ...]], values: Mapping[str, float]
) -> Mapping[str, tuple[float, ...]]:
    """Add loss and accuracy at this epoch, replacing those of an unfinished one."""
    names = ("epoch", "loss", "accuracy")
    if any(name not in values for name in names):
        return history
    before = history.get("epoch", ())
    keep = sum(e == int(e) and e < values["epoch"] for e in before)
    return {
        name: (*history.get(name, ())[:keep], float(values[name])) for name in names
    }


def end_in_words(record: JobRecord, trained: Trained | None) -> str:
    """Say how a job ended, and where files are that had to be saved elsewhere."""
    elsewhere = str(record.facts.get(ELSEWHERE, ""))
    return " ".join(filter(None, (_end_in_words(record, trained), elsewhere)))


def _end_in_words(record: JobRecord, trained: Trained | None) -> str:
    measured = record.status == "cancelled" and "study" in record.files  # no film
    if record.status == "finished" or measured:
        did = "Trained and measured" if record.work == "run" else "Measured"
        if not record.seconds:  # it was killed
            return f"{did}."
        return f"{did} in {say_duration(sum(record.seconds.values()))}."
    kept = "checkpoint" in record.files
    if record.status == "failed":
        return (
            "The trained network is kept: press Measure again to retry." if kept else ""
        )
    if kept and trained is not None and not trained.finished:
        epoch, planned = trained.facts["epochs"] + 1, trained.facts["epochs_planned"]
        return (
            f"Stopped in epoch {epoch} of {planned}. What was learnt is kept: "
            "Continue resumes training, Measure again shows its current state."
        )
    if kept or record.work == "measure":
        return (
            "Measuring was stopped. The network and the finished stages are kept: "
            "Measure again resumes from there."
        )
    return "Stopped before anything was learnt."
