"""Whether a change leaves every number as it was: `save` before it, `compare` after.

    python -m tests.same_numbers save small BEFORE.npz
    python -m tests.same_numbers compare small BEFORE.npz

Small networks measured by each way in each convention, and the parts, knock-outs,
overlaps, distances and means that need no measurement. In sections (small, many, mlp,
cnn) of a minute or so; with OMP_NUM_THREADS=1 they are the same in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import workbench as wb
from workbench.measurement import cost, picture, plan

METHODS = ("dense", "dual", "krylov", "streamed")
CONVENTIONS = ("slide", "icml", "jmlr")
NOT_NUMBERS = ("plan", "created", "versions")  # with times in them


def numbers(which: str) -> Iterator[tuple[str, Any]]:
    """One of `SECTIONS`, by name."""
    if which == "mlp":
        data = wb.load_data("digits", per_class=3)
        done = train("mlp", data, epochs=3, snapshots=(0, 1))
        made = wb.plan(done, wb.MeasureSettings())
        for way in made.methods:
            yield f"plan/{way.method}", [way.memory, way.work(made.sizes), way.exact]
        asked = {"exact_hessian": False, "embedding": "tsne", "exact_limit": 300}
        yield "film", measured(done, None, **asked)
        for method in METHODS:
            asked = {"method": method, "exact_hessian": False, "moments": False}
            yield f"mlp/{method}", measured(done, None, **asked)
    elif which == "cnn":
        done = train("cnn", wb.load_data("digits", per_class=2), epochs=2)
        asked = {"classes": 3, "num_steps": 4, "num_probes": 2, "num_drawn": 20}
        for method in METHODS[1:]:
            yield f"cnn/{method}", measured(done, None, method=method, **asked)
    elif which == "small":
        yield from small()
    elif which == "many":
        yield from many()


def many() -> Iterator[tuple[str, Any]]:
    """As if there were too many means of pairs: the largest of each class, sketched."""
    for module in (picture, cost, plan):
        module.MAX_PAIRS = 15  # type: ignore[attr-defined]
    conv = convolution()
    for method in ("dual", "streamed"):
        for name in CONVENTIONS:
            asked = {"method": method, "weighting": name, "num_eigenvalues": 12}
            asked["exact_hessian"] = False
            yield f"many/{method}/{name}", measured(*conv, **asked)


def small() -> Iterator[tuple[str, Any]]:
    """Of a few hundred parameters, so that everything is had in seconds."""
    conv = convolution()
    for method in METHODS:
        for name in CONVENTIONS:
            asked = {"method": method, "weighting": name, "num_eigenvalues": 12}
            yield f"conv/{method}/{name}", measured(*conv, **asked)
    asked = {"classes": 3, "num_eigenvalues": 10, "metric": "euclidean"}
    yield "classes", measured(*conv, method="dual", **asked)
    yield from without_measuring(*conv)


def without_measuring(model: nn.Module, data: Any) -> Iterator[tuple[str, Any]]:
    dual = wb.gram(model, data)
    yield "gram", dual.matrix
    for name in CONVENTIONS:
        yield f"gram/{name}/out", dual.knock_out(name)
        yield f"gram/{name}/off", dual.knock_out(name, how="project")
        yield f"gram/{name}/overlaps", dual.overlaps(6, name)
        for metric in ("cosine", "euclidean"):
            chosen = torch.tensor([0, 3, 5])
            yield f"gram/{name}/{metric}", dual.distances(chosen, name, metric=metric)
        for level in ("c", "ck", "G"):
            for sketch in (None, 64):
                found = wb.class_means(
                    model, data, weighting=name, level=level, sketch=sketch
                )
                yield f"means/{name}/{level}/{sketch}", record_of(found)
                values = {} if level == "G" else found.eigenvalues()
                yield f"eigenvalues/{name}/{level}/{sketch}", values
                for part in values:
                    yield f"gram/{name}/{part}", dual.part(part, name)
        skipped = wb.class_means(model, data, weighting=name, level="ck", skip=0.05)
        yield f"skip/{name}", record_of(skipped)


def record_of(means: Any) -> dict[str, Any]:
    names = ("everything", "classes", "diagonal", "cross")
    weights = ("everything_weight", "class_weight", "diagonal_weight", "cross_weight")
    found = {name: getattr(means, name) for name in (*names, *weights)}
    return {name: value for name, value in found.items() if value is not None}


def train(model: str, data: Any, **settings: Any) -> Any:
    network = wb.build_model(model, data)
    return wb.train(network, data, wb.TrainConfig(**settings, device="cpu"))


def measured(subject: Any, data: Any, **settings: Any) -> Any:
    settings = {"embedding": "pca", "num_drawn": 200, "device": "cpu"} | settings
    return wb.measure(subject, data, wb.MeasureSettings(**settings))


def convolution() -> tuple[nn.Module, Any]:
    """A trained one of a few hundred parameters, on classes of unequal size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5)
        )
        labels = torch.arange(5).repeat_interleave(torch.tensor([3, 5, 4, 6, 2]))
        images = torch.randn(20, 1, 6, 6) + 0.5 * labels[:, None, None, None]
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        step.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        step.step()
    return model, (images, labels)


def flat(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays and plain values below one, by name."""
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in NOT_NUMBERS:
                yield from flat(f"{name}/{key}", inner)
    elif isinstance(value, torch.Tensor):
        yield name, value.detach().numpy()
    elif isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, (list, tuple)) and any(map(is_dataclass, value)):
        for number, inner in enumerate(value):
            yield from flat(f"{name}/{number}", inner)
    else:
        yield name, np.array(str(value) if value is None else value)


def compare(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> int:
    """Print what is no longer bit for bit the same; how many are off by over 1e-12."""
    wrong = 0
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print("only before:" if name in before else "only after:", name)
            wrong += 1
            continue
        one, other = before[name], after[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            print(f"{name}: {one.dtype}{one.shape} is now {other.dtype}{other.shape}")
            wrong += 1
        elif one.dtype.kind in "fiub":
            if not np.array_equal(one, other, equal_nan=True):
                size = np.abs(one).max() or 1.0
                off = float(np.abs(one.astype(float) - other).max() / size)
                print(f"{name}: off by {off:.1e} of its largest")
                wrong += not off < 1e-12
        elif not np.array_equal(one, other):
            print(f"{name}: {one} is now {other}")
            wrong += 1
    print(f"{len(before)} arrays, {wrong} wrong")
    return wrong


def main() -> int:
    action, which, path = sys.argv[1:]
    torch.manual_seed(0)
    found = dict(pair for name, value in numbers(which) for pair in flat(name, value))
    if action == "save":
        np.savez(path, **found)
        return 0
    with np.load(path) as before:
        return int(compare(dict(before), found) > 0)


if __name__ == "__main__":
    sys.exit(main())
