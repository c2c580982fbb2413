"""What the page says of a job: its learning curves, how it ended, what computed."""

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
    """The last network that this session trained."""

    path: str  # of its checkpoint
    finished: bool  # False: training was stopped and can be continued
    facts: Mapping[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """What it is, by the names of a job's settings; so the menu Open tells it."""
        names = ("data", "model", "per_class", "epochs")
        return {name: self.facts[name] for name in names if name in self.facts}


def trained_at(path: str, facts: Mapping[str, Any]) -> Trained:
    """Take up the network of this checkpoint, of which these facts are known."""
    finished = facts.get("epochs") == facts.get("epochs_planned", facts.get("epochs"))
    return Trained(path, finished, facts)


def describe_device(used: str = "") -> str:
    """Say in a few words what computes; ``used`` is torch's name for it, if known."""
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
    """Add loss and accuracy at this epoch; a part of an epoch stands for the moment."""
    names = ("epoch", "loss", "accuracy")
    if any(name not in values for name in names):
        return history
    before = history.get("epoch", ())
    keep = sum(e == int(e) and e < values["epoch"] for e in before)
    return {
        name: (*history.get(name, ())[:keep], float(values[name])) for name in names
    }


def end_in_words(record: JobRecord, trained: Trained | None) -> str:
    """One or two sentences on how a job ended, and one on what is elsewhere."""
    elsewhere = str(record.facts.get(ELSEWHERE, ""))
    return " ".join(filter(None, (_end_in_words(record, trained), elsewhere)))


def _end_in_words(record: JobRecord, trained: Trained | None) -> str:
    measured = record.status == "cancelled" and "study" in record.files  # no film
    if record.status == "finished" or measured:
        did = "Trained and measured" if record.work == "run" else "Measured"
        if not record.seconds:  # it was ended by force
            return f"{did}."
        return f"{did} in {say_duration(sum(record.seconds.values()))}."
    kept = "checkpoint" in record.files
    if record.status == "failed":
        return (
            "The trained network is kept: Measure again tries once more."
            if kept
            else ""
        )
    if kept and trained is not None and not trained.finished:
        epoch, planned = trained.facts["epochs"] + 1, trained.facts["epochs_planned"]
        return (
            f"Stopped in epoch {epoch} of {planned}. What was learnt is kept: "
            "Continue trains on, Measure again shows it as it is."
        )
    if kept or record.work == "measure":
        return (
            "Measuring was stopped. The network and what was finished are kept: "
            "Measure again goes on from there."
        )
    return "Stopped before anything was learnt."
