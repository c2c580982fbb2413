"""Files are written whole or not at all, and those of other tools are named."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save
from safetensors.torch import save_file
from torch import nn

from tests.studies import make_study
from workbench.cli.main import main
from workbench.errors import WorkbenchError, printable
from workbench.files.atomic import kind_of
from workbench.files.container import (
    LITTER,
    make_folder,
    remove_litter,
    write_container,
    write_whole,
)
from workbench.study.records import load_study
from workbench.training import loop
from workbench.training.checkpoint import load_checkpoint
from workbench.training.data import load_data
from workbench.training.train import TrainConfig, train
from workbench.ui.export import export_csv, export_html


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.name != "posix" or not shutil.which("mount"):
        pytest.skip("no disks are mounted here")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disks are mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_keeps_every_older_file_and_nothing_half(small_disk: Path) -> None:
    study = make_study(10, 1500)
    place = small_disk / "run.study"
    page = small_disk / "run.html"
    for path in (place, page):
        path.write_text("older")
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    with pytest.raises(WorkbenchError, match=r"cannot write .*run\.study: No space"):
        study.save(place)
    with pytest.raises(WorkbenchError, match=r"cannot write .*run\.html: No space"):
        export_html(study, page)
    with pytest.raises(
        WorkbenchError, match=r"cannot write .*embedding\.csv: No space"
    ):
        export_csv(study, small_disk)
    assert place.read_text() == page.read_text() == "older"
    names = {path.name for path in small_disk.iterdir()}
    assert not [name for name in names if name.startswith(LITTER)]
    assert "study-embedding.csv" not in names


def test_the_commands_lose_nothing_on_a_full_disk(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(loop, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (small_disk / "ballast").write_bytes(bytes(1_040_000))
    out = small_disk / "run.ckpt"
    small = ["--per-class", "6", "--epochs", "3", "--device", "cpu"]
    assert main(["train", *small, "--out", str(out)]) == 0
    said = capsys.readouterr().err
    (found,) = tmp_path.glob("workbench-*/run.ckpt")
    assert "Training continues; nothing is saved until it ends." in said
    assert (
        f"cannot write {out}: No space left on device. It was saved as {found} " in said
    )
    assert load_checkpoint(found).run["epochs"] == 3
    measured = ["measure", str(found), "--embedding", "pca", "--device", "cpu", "--out"]
    assert main([*measured, str(small_disk / "run.study")]) == 0
    assert "Finished stages cannot be stored in" in capsys.readouterr().err
    (study,) = [*tmp_path.glob("workbench-*/run.study"), *small_disk.glob("run.study")]
    load_study(study)
    assert {path.name for path in small_disk.iterdir()} <= {"ballast", "run.study"}


@pytest.mark.skipif(os.name != "posix", reason="devices of POSIX")
def test_devices_and_pipes_are_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for special in (pipe, Path("/dev/full"), Path("/dev/null")):
        with pytest.raises(WorkbenchError, match="a device or a pipe, not a file"):
            write_whole(special, [b"x"], "export")
        assert not special.is_file()


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_stays_and_its_file_is_replaced_with_its_rights(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "page.html", tmp_path / "page.html"
    real.write_text("older")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, [b"new"], "export")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_only_old_litter_of_ours_is_removed(tmp_path: Path) -> None:
    old, fresh = tmp_path / f"{LITTER}a", tmp_path / f"{LITTER}b"
    other = tmp_path / ".other"
    for path in (old, fresh, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_litter(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {fresh.name, ".other"}
    remove_litter(tmp_path / "nowhere")


class Network(torch.nn.Module):
    """A network of someone's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map."""
        found: torch.Tensor = self.layer(x)
        return found


def _zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return content.getvalue()


LINES = (
    r"In Python: model\.load_state_dict\(.*\); c = wb\.train\(model, data, "
    r"wb\.TrainConfig\(epochs=0\)\); wb\.measure\(c\)"
)
STATE = Network().state_dict()
FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "net.pth": (lambda p: torch.save(STATE, p), rf"a PyTorch file .*{LINES}"),
    "old.pt": (
        lambda p: torch.save(STATE, p, _use_new_zipfile_serialization=False),
        rf"a PyTorch file .*{LINES}",
    ),
    "lightning.ckpt": (
        lambda p: torch.save(
            {"state_dict": STATE, "pytorch-lightning_version": "2.4.0"}, p
        ),
        rf"a Lightning checkpoint; its \['state_dict'\] .*{LINES}",
    ),
    "script.pt": (
        lambda p: p.write_bytes(_zipped("script/code/x.py", "script/data.pkl")),
        "a TorchScript file",
    ),
    "model.h5": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        r"an HDF5 file, as Keras .* only PyTorch networks can be measured",
    ),
    "model.keras": (
        lambda p: p.write_bytes(_zipped("model.weights.h5")),
        "a Keras file",
    ),
    "images.zip": (
        lambda p: p.write_bytes(_zipped("cat/1.png")),
        "a zip archive; unpack it",
    ),
    "cut.pth": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(9)), "a damaged zip"),
    "run.tar.gz": (
        lambda p: p.write_bytes(gzip.compress(b"x")),
        "a gzip archive; unpack it first",
    ),
    "weights.safetensors": (
        lambda p: save_file(STATE, p),
        r"safetensors file but not a checkpoint.*load_file\(F\)\); c = wb\.train",
    ),
    "net.pkl": (lambda p: p.write_bytes(pickle.dumps([1])), "a Python pickle"),
    "x.npy": (lambda p: np.save(p, np.zeros(3)), "a NumPy file"),
    "x.npz": (lambda p: np.savez(p, a=np.zeros(3)), "a NumPy archive"),
    "net.onnx": (lambda p: p.write_bytes(b"\x08\x07" + bytes(99)), "another framework"),
    "lfs.ckpt": (
        lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "a Git LFS pointer: run 'git lfs pull' first",
    ),
    "page.ckpt": (lambda p: p.write_bytes(b"<!DOCTYPE html><html>"), "a web page"),
    "run.study": (
        lambda p: make_study(2, 8).save(p),
        "is a study, not a checkpoint; 'workbench show' prints it",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_tool_is_named_with_what_works(
    tmp_path: Path, name: str
) -> None:
    make, said = FOREIGN[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(WorkbenchError, match=said) as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) <= 300
    assert "copy the file again" not in str(caught.value)
    if name not in ("weights.safetensors", "run.study"):
        for look in (load_study, kind_of):
            with pytest.raises(WorkbenchError, match=said):
                look(path)


def test_the_three_lines_measure_weights_of_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "wb.Dataset.from_tensors(torch.randn(8, 1, 1, 3), torch.arange(8) % 2)"
    model = "torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))"
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"F": "net.pth"}
    exec(f"import torch; import workbench as wb; data = {data}; model = {model}", scope)
    torch.save(scope["model"].state_dict(), "net.pth")  # type: ignore[attr-defined]
    with pytest.raises(WorkbenchError) as caught:
        load_checkpoint("net.pth")
    lines = str(caught.value).split("In Python: ")[1]
    exec(lines.replace("(c)", "(c, wb.MeasureSettings(embedding='pca'))"), scope)
    assert load_study("run.study").run["epochs"] == 0


def test_texts_of_files_are_printable_and_letters_of_all_scripts_stay() -> None:
    assert (
        printable("bağ シャツ café \N{ZERO WIDTH JOINER}") == "bağ シャツ café \u200d"
    )
    for bad in ("\x1b[2J", "\x9b31m", "\r", "\n", "\x00", "\ud800", "\u202e", "\u2028"):
        assert printable(f"a{bad}b").isprintable()


def test_an_error_repeats_no_text_that_is_not_printable() -> None:
    error = WorkbenchError("load: \x1b[2J\u202e \ud800 is\n  no name;  a  b.")
    assert str(error) == r"load: \x1b[2J\u202e \ud800 is no name;  a  b."
    assert pickle.loads(pickle.dumps(error)).args == error.args


def test_files_of_other_tools_are_named_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workbench.files.foreign import "
        "foreign_kind; foreign_kind(Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    (tmp_path / "x.zip").write_bytes(_zipped("data.pkl"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.zip")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_what_is_written_is_what_safetensors_writes(tmp_path: Path) -> None:
    arrays = {
        "b": np.arange(6.0).reshape(2, 3).T,
        "a": np.float32(1.5),
        "c": np.array([True, False, True]),
        "empty": np.zeros((0, 4)),
        "d": np.arange(5, dtype=np.int16),
    }
    path = write_container(tmp_path / "x", "part", {"é": [1, 2.5]}, arrays)
    with safe_open(path, framework="np") as opened:
        metadata = opened.metadata()
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    expected, found = save(plain, metadata), path.read_bytes()

    def head(content: bytes) -> object:  # of its plain values the order is by chance
        return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    assert head(found) == head(expected)
    assert len(found) == len(expected)
    data = sum(array.nbytes for array in plain.values())
    assert found[-data:] == expected[-data:]
    tensors = {name: torch.from_numpy(array) for name, array in plain.items()}
    again = write_container(tmp_path / "y", "part", {"é": [1, 2.5]}, tensors)
    assert again.read_bytes() == found


def test_numbers_that_numpy_lacks_are_written_and_read(tmp_path: Path) -> None:
    data = load_data("digits", per_class=2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    done = train(model, data, TrainConfig(epochs=1, device="cpu"))
    half = {name: tensor.bfloat16() for name, tensor in done.weights.items()}
    half["one"] = torch.tensor(1.5, dtype=torch.bfloat16)
    half["none"] = torch.zeros((0, 3), dtype=torch.bfloat16)
    path = replace(done, weights=half).save(tmp_path / "a")
    found = load_checkpoint(path).weights
    with safe_open(path, framework="pt") as opened:
        for name, tensor in half.items():
            assert torch.equal(found[name], tensor)
            assert torch.equal(opened.get_tensor(f"weights/{name}"), tensor)
    assert found.keys() == half.keys()
    strange = {"a\n": torch.zeros(2, dtype=torch.complex128)}
    with pytest.raises(WorkbenchError, match=r"save: .*complex128.*float32"):
        write_container(tmp_path / "b", "part", {}, strange)


def test_a_file_is_written_without_a_copy_of_it_in_memory(tmp_path: Path) -> None:
    arrays = {"large": np.ones(2**22), "other": np.ones(2**20)}
    tracemalloc.start()
    write_container(tmp_path / "x", "part", {}, arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * arrays["large"].nbytes


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", "sweep")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match=r"^figure: the folder .*x cannot be made"):
        make_folder(tmp_path / "file" / "x", "figure")
