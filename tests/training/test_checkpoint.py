"""Checkpoint files: whole, resumable, and safe to open whatever is in them."""

from __future__ import annotations

import json
import os
import pickle
import stat
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.files.container import checksum
from workbench.progress.control import Control
from workbench.training.checkpoint import Checkpoint, load_checkpoint
from workbench.training.data import Dataset, load_data
from workbench.training.models import MODELS, build_model
from workbench.training.train import TrainConfig, train


def config(**values: object) -> TrainConfig:
    return TrainConfig(**{"device": "cpu", "epochs": 4, **values})  # type: ignore[arg-type]


def trained(name: str = "mlp", **values: object) -> Checkpoint:
    data = load_data("digits", per_class=30)
    return train(build_model(name, data), data, config(**values))


def stopped_within_an_epoch() -> Checkpoint:
    """Stop in the second epoch of four, in the middle of its three batches."""
    data = load_data("digits", per_class=30)
    checks = iter(range(4))

    class Stopping(Control):
        def check(self) -> None:
            if next(checks, None) is None:
                self.cancel()
            super().check()

    found = train(build_model("mlp", data), data, config(), control=Stopping())
    assert (found.run["epochs"], found.batch["num_batches"]) == (1, 1)
    return found


@pytest.fixture(scope="module")
def kept() -> Checkpoint:
    return trained(snapshots=(0, 2))


@pytest.fixture
def file(kept: Checkpoint, tmp_path: Path) -> Path:
    return kept.save(tmp_path / "run.ckpt")


def assert_same(first: Any, second: Any) -> None:
    """Compare two trees of plain values and tensors exactly."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second) or set(first) == set(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize(
    "make",
    [
        lambda: trained(snapshots=(0, 2, 4)),
        lambda: trained(snapshots=(0, 2, 4)).at_epoch(2),
        lambda: trained("cnn"),
        lambda: trained(epochs=0),
        stopped_within_an_epoch,
    ],
    ids=["snapshots", "at a snapshot", "cnn", "untrained", "within an epoch"],
)
def test_what_was_saved_is_what_is_loaded(
    tmp_path: Path, make: Callable[[], Checkpoint]
) -> None:
    saved = make()
    path = saved.save(tmp_path / "run.ckpt")
    loaded = load_checkpoint(path)
    saved = replace(saved, settings=json.loads(json.dumps(saved.settings)))
    for field in fields(Checkpoint):
        if field.name not in ("data", "module"):
            assert_same(getattr(saved, field.name), getattr(loaded, field.name))
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


def test_a_file_from_before_the_examples_there_were_had_been_counted_still_opens(
    kept: Checkpoint, tmp_path: Path
) -> None:
    assert (kept.run["num_examples"], kept.run["num_available"]) == (300, 1797)
    run = {name: told for name, told in kept.run.items() if name != "num_available"}
    old = load_checkpoint(replace(kept, run=run).save(tmp_path / "old.ckpt"))
    assert old.run == run
    assert train(old, config=config(epochs=5)).run["epochs"] == 5


def test_a_run_goes_on_from_its_file_as_if_it_had_not_been_cancelled(
    tmp_path: Path,
) -> None:
    whole = trained()
    part = stopped_within_an_epoch()
    rest = train(load_checkpoint(part.save(tmp_path / "run.ckpt")))
    assert_same(whole.weights, rest.weights)
    assert_same(whole.history, rest.history)


@pytest.mark.parametrize("name", MODELS)
def test_each_network_comes_back_on_the_cpu_in_eval_mode(
    name: str, tmp_path: Path
) -> None:
    data = load_data("digits", per_class=2)
    model = build_model(name, data, seed=3)
    done = train(model, data, config(epochs=0))
    found = load_checkpoint(done.save(tmp_path / "run.ckpt")).load_model()
    model.eval()
    assert not any(m.training for m in found.modules())
    values = [*found.parameters(), *found.buffers()]
    assert {v.device.type for v in values} == {"cpu"}
    assert {v.dtype for v in values if v.is_floating_point()} == {torch.float32}
    assert all(p.requires_grad for p in found.parameters())
    with torch.no_grad():
        assert torch.equal(found(data.images), model(data.images))


def test_a_loaded_network_shares_nothing_with_its_checkpoint(file: Path) -> None:
    loaded = load_checkpoint(file)
    before = {k: v.clone() for k, v in loaded.weights.items()}
    with torch.no_grad():
        for value in loaded.load_model().state_dict().values():
            value.zero_()
    assert_same(before, loaded.weights)


def test_data_come_back_by_their_name(file: Path) -> None:
    data = load_checkpoint(file).load_data()
    assert torch.equal(data.images, load_data("digits", per_class=30).images)


def test_the_file_says_what_it_holds_to_anyone(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["workbench.checkpoint"])
    assert header["schema"] == 1
    assert header["run"]["model"] == "mlp"


def test_a_file_can_be_read_by_those_whom_the_umask_allows(file: Path) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_every_changed_byte_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    spoilt = bytearray(content)
    for position in range(0, len(content), max(1, len(content) // 97)):
        spoilt[position] ^= 0x55
        file.write_bytes(spoilt)
        with pytest.raises(WorkbenchError, match=r"run.ckpt"):
            load_checkpoint(file)
        spoilt[position] ^= 0x55
    file.write_bytes(spoilt)
    assert load_checkpoint(file).status == "finished"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_file_cut_short_is_called_damaged(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        WorkbenchError, match=r"is damaged or not a checkpoint .* again"
    ):
        load_checkpoint(file)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_opening_a_file_runs_no_code(tmp_path: Path) -> None:
    bomb = tmp_path / "run.ckpt"
    for write in (
        torch.save,
        lambda value, path: path.write_bytes(pickle.dumps(value)),
    ):
        write(Bomb(tmp_path / "gone off"), bomb)
        with pytest.raises(WorkbenchError, match=r"is a (PyTorch file|Python pickle)"):
            load_checkpoint(bomb)
    assert not (tmp_path / "gone off").exists()


def test_a_foreign_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WorkbenchError, match=r"not a checkpoint; .*workbench train"):
        load_checkpoint(tmp_path / "other.safetensors")
    with pytest.raises(WorkbenchError, match=r"there is no file .*missing.ckpt"):
        load_checkpoint(tmp_path / "missing.ckpt")
    with pytest.raises(WorkbenchError, match="there is no file"):
        load_checkpoint(tmp_path)


def rewrite(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a file, and make its checksum right again."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["workbench.checkpoint"])
    change(header)
    text, tensors = json.dumps(header), load_file(file)
    crc = checksum(text, tensors)
    metadata = {"workbench.checkpoint": text, "workbench.crc32": crc}
    save_file(tensors, file, metadata)


def test_a_file_of_a_later_version_asks_for_an_update(file: Path) -> None:
    rewrite(file, lambda header: header.update(schema=2))
    with pytest.raises(WorkbenchError, match=r"schema 2 .* up to 1; update"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    "change",
    [
        *(lambda h, k=k: h.pop(k) for k in ("schema", "run", "history", "class_names")),
        *(lambda h, k=k: h["run"].pop(k) for k in ("model", "data", "num_classes")),
        lambda h: h["run"].update(epochs=3),
        lambda h: h["run"].update(epochs="4"),
        lambda h: h["run"].update(train_loss=None),
        lambda h: h["history"]["loss"].__setitem__(0, float("nan")),
        lambda h: h["class_names"].pop(),
        lambda h: h.update(image_shape=[1, 8]),
        lambda h: h.update(image_shape=[1, 8, -8]),
        lambda h: h.update(image_shape=[1, 8, 10**12]),
        lambda h: h.update(image_shape=[1, 8, float("inf")]),
        lambda h: h.update(status="good"),
        lambda h: h.update(batch={"loss": 1.0}),
        lambda h: h.update(snapshot_runs={}),
        lambda h: h.update(run=[]),
        lambda h: h.clear(),
    ],
)
def test_a_header_that_cannot_be_is_called_damaged(
    file: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    rewrite(file, lambda header: None)
    load_checkpoint(file)
    rewrite(file, change)
    with pytest.raises(WorkbenchError, match="damaged or not a checkpoint"):
        load_checkpoint(file)


def test_weights_that_are_not_the_networks_are_refused_without_making_it(
    file: Path,
) -> None:
    rewrite(file, lambda header: header.update(image_shape=[1, 30_000, 30_000]))
    with pytest.raises(WorkbenchError, match=r"1.weight has shape \(24, 64\) in the"):
        load_checkpoint(file).load_model()


def test_settings_of_another_version_do_not_go_on_unseen(file: Path) -> None:
    rewrite(file, lambda header: header["settings"].update(warmup=3, epochs=9))
    loaded = load_checkpoint(file)
    with pytest.raises(WorkbenchError, match=r"settings .*warmup.* TrainConfig"):
        train(loaded)
    assert train(loaded, config=config(epochs=5)).run["epochs"] == 5


class Own(nn.Module):
    """A network of the user's; two layers share one weight."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(64, width, bias=False)
        self.second = nn.Linear(64, width, bias=False)
        self.second.weight = self.first.weight
        self.last = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.second(self.first(x.flatten(1)).relu()))
        return logits


def test_a_network_of_your_own_is_filled_from_its_file(tmp_path: Path) -> None:
    data = load_data("digits", per_class=30)
    done = train(Own(), data, config())
    assert done.run["model"] == "Own"
    expected = done.load_model()(data.images)
    path = done.save(tmp_path / "own.ckpt")
    with pytest.raises(
        WorkbenchError,
        match=r"network Own is your own, .*the page cannot measure it. In Python, .*"
        r"load_checkpoint\(path, model=",
    ):
        load_checkpoint(path).load_model()
    loaded = load_checkpoint(path, model=Own())
    found = loaded.load_model()
    assert torch.equal(found(data.images), expected)
    assert isinstance(found, Own)
    assert found.first.weight is found.second.weight
    assert train(loaded, config=config(epochs=5)).run["epochs"] == 5


def test_a_network_that_was_not_trained_is_refused_with_the_first_difference(
    tmp_path: Path,
) -> None:
    data = load_data("digits", per_class=3)
    path = train(Own(), data, config()).save(tmp_path / "own.ckpt")
    with pytest.raises(
        WorkbenchError,
        match=r"first.weight has shape \(64, 64\) .* 'Own' and \(32, 64\) in the",
    ):
        load_checkpoint(path, model=Own(32))
    with pytest.raises(WorkbenchError, match="none in the checkpoint"):
        load_checkpoint(path, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def test_own_tensors_must_be_given_again(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 1, 4, 4, generator=generator)
    data = Dataset.from_tensors(images, torch.arange(20) % 2, name="noise")
    done = train(build_model("linear", data), data, config())
    assert done.load_data() is data
    path = done.save(tmp_path / "run.ckpt")
    with pytest.raises(
        WorkbenchError, match=r"'noise', tensors .*load_checkpoint\(path, data=\.\.\.\)"
    ):
        load_checkpoint(path).load_data()
    assert load_checkpoint(path, data=data).load_data() is data
    fewer = Dataset.from_tensors(images[:10], torch.arange(10) % 2)
    with pytest.raises(WorkbenchError, match=r"has 10 examples .* trained on 20"):
        load_checkpoint(path, data=fewer)


def test_a_folder_that_has_changed_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n in range(3):
            pixels = np.full((8, 8), 80 * n, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{n}.png")
    data = load_data(f"folder:{tmp_path}")
    path = train(build_model("linear", data), data, config()).save(tmp_path / "x.ckpt")
    assert torch.equal(load_checkpoint(path).load_data().images, data.images)
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(WorkbenchError, match=r"has 5 examples .* trained on 6"):
        load_checkpoint(path).load_data()


def test_an_old_file_stays_when_the_new_one_cannot_be_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WorkbenchError, match=r"cannot write .*No space left on device"):
        trained().save(file)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == ["run.ckpt"]


def test_a_place_that_cannot_hold_a_file_is_named(tmp_path: Path) -> None:
    done = trained(epochs=0)
    with pytest.raises(
        WorkbenchError, match=r"folder .*nowhere does not exist; create"
    ):
        done.save(tmp_path / "nowhere" / "run.ckpt")
    (tmp_path / "taken").mkdir()
    with pytest.raises(WorkbenchError, match=r"cannot write .*taken"):
        done.save(tmp_path / "taken")
