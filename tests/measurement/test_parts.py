"""A measurement that was ended goes on from its parts, to the same bits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from workbench.measurement.cost import STAGES
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.measurement.stage_store import remove_parts
from workbench.measurement.ways import WAYS
from workbench.progress.control import Progress
from workbench.study.records import Study
from workbench.training.checkpoint import Checkpoint
from workbench.training.data import load_data
from workbench.training.train import TrainConfig, train

ROUTES = {"dense": (5, 5000), "dual": (2, 5000), "iterated": (2, 0)}


class Killed(BaseException):
    """The end of the process."""


def settings(limit: int, **values: Any) -> MeasureSettings:
    chosen = {"embedding": "pca", "device": "cpu", "num_drawn": 0, **values}
    return MeasureSettings(exact_limit=limit, **chosen)


@pytest.fixture(scope="module", params=ROUTES)
def route(request: pytest.FixtureRequest) -> tuple[Checkpoint, int]:
    per_class, limit = ROUTES[request.param]
    data = load_data("digits", per_class=per_class)
    model = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 10)
    )
    return train(model, data, TrainConfig(epochs=3, device="cpu")), limit


def plain(value: Any) -> Any:
    """Arrays as bytes, so that two studies can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("plan", "created")}
    return value


def same(one: Study, two: Study) -> bool:
    return bool(plain(asdict(one)) == plain(asdict(two)))


def killed(
    checkpoint: Checkpoint, chosen: MeasureSettings, parts: Path, stage: str
) -> None:
    """Measure until the stage begins."""

    def watch(event: Progress) -> None:
        if event.stage == stage and not event.note:
            raise Killed

    with pytest.raises(Killed):
        measure(checkpoint, chosen, progress=watch, parts=parts)


def test_a_killed_measurement_goes_on_to_the_same_numbers(
    route: tuple[Checkpoint, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, limit = route
    chosen, parts = settings(limit), tmp_path / "run.study.parts"
    whole = measure(checkpoint, chosen)

    def again(*args: object) -> None:
        raise AssertionError("this stage was done")

    for stage in list(dict.fromkeys(STAGES.values()))[1:]:
        killed(checkpoint, chosen, parts, stage)
        for way in WAYS:
            monkeypatch.setattr(way, "prepare", again)
    events: list[Progress] = []
    study = measure(checkpoint, chosen, progress=events.append, parts=parts)
    assert same(study, whole)
    assert {path.name for path in parts.iterdir()} == {"plan", "way", *STAGES}
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert next(e.fraction for e in events if e.stage == STAGES["picture"]) == 0.0
    assert same(measure(checkpoint, chosen, parts=parts), whole)
    remove_parts(parts)
    assert not parts.exists()


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_part_is_noticed_and_measured_again(
    route: tuple[Checkpoint, int], tmp_path: Path, harm: str
) -> None:
    checkpoint, limit = route
    chosen = settings(limit)
    whole = measure(checkpoint, chosen, parts=tmp_path)
    part = tmp_path / "G"
    good = part.read_bytes()
    part.write_bytes(
        {
            "cut": good[: len(good) // 2],
            "flipped": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
            "empty": b"",
            "foreign": b"PK" + good,
        }[harm]
    )
    notes: list[str] = []
    study = measure(
        checkpoint, chosen, parts=tmp_path, progress=lambda e: notes.append(e.note)
    )
    assert same(study, whole)
    assert [n for n in notes if f"{part} is damaged" in n and "\n" not in n]
    notes.clear()
    measure(checkpoint, chosen, parts=tmp_path, progress=lambda e: notes.append(e.note))
    assert len([n for n in notes if n]) == 1  # the plan


def test_parts_of_other_settings_or_weights_are_not_used(tmp_path: Path) -> None:
    data = load_data("digits", per_class=2)
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 10))
    first = train(model, data, TrainConfig(epochs=1, device="cpu"))
    second = train(model, data, TrainConfig(epochs=2, device="cpu"))
    measure(first, settings(5000), parts=tmp_path)
    for checkpoint, seed in ((first, 1), (second, 0)):
        chosen, events = settings(5000, seed=seed), list[Progress]()
        study = measure(checkpoint, chosen, parts=tmp_path, progress=events.append)
        assert same(study, measure(checkpoint, chosen))
        assert len([e for e in events if "stages of another network" in e.note]) == 1


def test_what_is_not_a_part_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "G").write_text("a part")
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_said_and_does_not_end_the_measurement(tmp_path: Path) -> None:
    data = load_data("digits", per_class=2)
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 10))
    done = train(model, data, TrainConfig(epochs=1, device="cpu"))
    notes: list[str] = []
    nowhere = tmp_path / "a file"
    nowhere.write_text("")
    study = measure(
        done, settings(5000), parts=nowhere, progress=lambda e: notes.append(e.note)
    )
    assert study.spectra["G"].complete
    assert len([n for n in notes if "cannot be stored" in n]) == 1
