"""Files of ours, damaged and forged by the thousand; `make fuzz` is the long form.

Each ends in a sentence, or in a study that can be shown everywhere, or in a checkpoint
whose network can be made; in no other exception, no warning, and little memory.
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.fuzz.damage import damaged, forged, opened
from tests.fuzz.use import use_checkpoint, use_study
from tests.studies import make_study
from workbench.training.data import load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train

MEMORY = 300 * 2**20  # bytes above the start
SECONDS = 20.0  # of a core, for one file


def seeds(folder: Path) -> list[tuple[str, Path]]:
    """Write the files that all others are made from: kind and path."""
    studies = [
        make_study(2, 12, exact=False),
        make_study(3, 20, "slide", num_moments=1),
        make_study(2, 8, "jmlr", weightings=("jmlr",), with_hess=False),
        make_study(4, 0, with_dots=False, num_moments=2, exact=False),
    ]
    full = {"training": {"epochs": 30, "seed": 0, "lr": 0.1, "snapshots": [0, 3]}}
    found = []
    for n, study in enumerate(studies):
        study = replace(study, run={**study.run, **full, "data": "digits"})
        found.append(("study", study.save(folder / f"seed-{n}.study")))
    data = load_data("digits", per_class=4)
    for n, name in enumerate(("linear", "cnn")):
        config = TrainConfig(epochs=2, snapshots=(0, 1), device="cpu", batch_size=16)
        trained = train(build_model(name, data), data, config)
        found.append(("checkpoint", trained.save(folder / f"seed-{n}.ckpt")))
    return found


def fuzz(
    num: int, *, pictures: int = 1, start: int = 0, minutes: float = math.inf
) -> Counter[str]:
    """Try so many damaged and as many forged files.

    Args:
        num: How many of each.
        pictures: Of so many studies that open, one is drawn.
        start: Number of the first: numbers are seeds.
        minutes: Stop after so many.

    Returns:
        How many were refused and opened, by kind; and "failed", each told on stderr.
    """
    counts: Counter[str] = Counter()
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = seeds(folder)
        content = {path: path.read_bytes() for _, path in made}
        parsed = {path: opened(path, kind) for kind, path in made}
        for _, path in made[:5]:  # what is loaded once is no leak
            (use_study if path.suffix == ".study" else use_checkpoint)(path)
        gc.collect()
        before = _memory()
        for number in range(start, start + num):
            for how in ("damaged", "forged"):
                kind, seed = made[random.Random(f"{how} {number}").randrange(len(made))]
                path = folder / f"tried{seed.suffix}"
                if how == "damaged":
                    path.write_bytes(damaged(content[seed], number))
                else:
                    path.write_bytes(forged(*parsed[seed], kind, number))
                drawn = counts[f"study {how} opened"] % max(pictures, 1) == 0
                much = (1, 2, 1, 3)[number % 4] if drawn and pictures else 0
                began = time.process_time()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("error")
                        used = (
                            use_study(path, much=much)
                            if kind == "study"
                            else use_checkpoint(path)
                        )
                    counts[f"{kind} {how} {'opened' if used else 'refused'}"] += 1
                except Exception:
                    counts["failed"] += 1
                    print(f"\n{how} {kind} {number} of {seed.name}", file=sys.stderr)
                    traceback.print_exc(limit=-4)
                if time.process_time() - began > SECONDS:
                    counts["slow"] += 1
                    print(f"{how} {kind} {number} took long", file=sys.stderr)
            if number % 50 == 0:
                gc.collect()
                if time.monotonic() > until:
                    break
        more = _memory() - before
        counts["MB above the start"] = max(more, 0) >> 20
        if more > MEMORY:
            counts["too much memory"] += 1
    return counts


def _memory() -> int:
    """The most memory that this process ever held, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=10_000, help="of each kind")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    counts = fuzz(**vars(parser.parse_args()))
    for name, count in sorted(counts.items()):
        print(f"{count:8,} {name}")
    return 1 if {"failed", "slow", "too much memory"} & set(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
