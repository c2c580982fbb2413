"""Downloads: only when asked, watched, and never half a file taken for a whole one.

torchvision's own classes run here, pointed at small archives on this machine.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control, Progress
from workbench.training.data import load_data

COUNTS = {"train": 4, "t10k": 2}  # images of each class


def idx(values: np.ndarray) -> bytes:
    """Return an array of bytes in the format of MNIST."""
    head = bytes([0, 0, 8, values.ndim])
    head += b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + values.astype(np.uint8).tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that serves a small Fashion-MNIST to torchvision."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for split, count in COUNTS.items():
        labels = np.tile(np.arange(10), count)
        images = (25 * labels[:, None, None] + np.arange(28)).repeat(28, 1)
        images = images.reshape(-1, 28, 28)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            packed = gzip.compress(idx(values))
            file = folder / f"{split}-{kind}-ubyte.gz"
            file.write_bytes(packed)
            resources.append((file.name, md5(packed)))
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [folder.as_uri() + "/"])
    return folder


def raw(root: Path) -> Path:
    return root / "FashionMNIST" / "raw"


def test_missing_data_are_not_fetched_unasked(mirror: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with pytest.raises(
        WorkbenchError,
        match=r"Fashion-MNIST is not in .*data .*tick Download if missing on the "
        r"page, pass download=True in Python, or --download",
    ):
        load_data("fashion", root=root)
    assert not root.exists()


def test_a_download_gives_the_images_of_each_split_and_prints_nothing(
    mirror: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    train = load_data("fashion", root=root, download=True)
    test = load_data("fashion", root=root, split="test")
    assert train.labels.bincount().tolist() == [4] * 10
    assert test.labels.bincount().tolist() == [2] * 10
    assert train.image_shape == (1, 28, 28)
    assert train.class_names[9] == "Ankle boot"
    pixels = train.images[train.labels == 3] * train.std[0] + train.mean[0]
    assert (pixels[0, 0, 0] * 255).round().int().tolist() == list(range(75, 103))
    assert capfd.readouterr() == ("", "")


def test_the_variable_says_where_data_lie(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_data("fashion", root=tmp_path / "data", download=True)
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "data"))
    data = load_data("fashion", per_class=2)
    assert data.num_examples == 20
    assert data.root is None


def test_whole_data_are_not_fetched_again(mirror: Path, tmp_path: Path) -> None:
    load_data("fashion", root=tmp_path, download=True)
    for file in mirror.iterdir():
        file.unlink()
    assert load_data("fashion", root=tmp_path, download=True).num_examples == 40


def test_a_download_tells_how_far_it_is(mirror: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    load_data("fashion", root=tmp_path, download=True, progress=events.append)
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {event.stage for event in events} == {"Downloading Fashion-MNIST"}
    assert "train-images" in events[0].detail


@pytest.mark.parametrize("length", [0, 10, 300], ids=["empty", "in header", "cut"])
def test_an_unpacked_file_that_is_not_whole_is_noticed_and_fetched_anew(
    mirror: Path, tmp_path: Path, length: int
) -> None:
    whole = load_data("fashion", root=tmp_path, download=True)
    file = raw(tmp_path) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(
        WorkbenchError, match=r"ubyte is damaged or incomplete. To download"
    ):
        load_data("fashion", root=tmp_path)
    again = load_data("fashion", root=tmp_path, download=True)
    assert torch.equal(again.images, whole.images)


def test_an_archive_that_is_not_whole_is_fetched_anew(
    mirror: Path, tmp_path: Path
) -> None:
    archive = raw(tmp_path) / "train-images-idx3-ubyte.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes((mirror / archive.name).read_bytes()[:50])
    load_data("fashion", root=tmp_path, download=True)
    assert archive.read_bytes() == (mirror / archive.name).read_bytes()


def test_a_second_address_is_asked_when_the_first_gives_the_wrong_file(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in mirror.iterdir():
        (bad / file.name).write_bytes(file.read_bytes()[:-1] + b"?")
    addresses = [bad.as_uri() + "/", mirror.as_uri() + "/"]
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", addresses)
    data = load_data("fashion", root=tmp_path / "data", download=True)
    assert data.num_examples == 40


def test_a_corrupt_download_is_refused_and_leaves_nothing_that_passes(
    mirror: Path, tmp_path: Path
) -> None:
    spoilt = mirror / "t10k-labels-idx1-ubyte.gz"
    content = spoilt.read_bytes()
    spoilt.write_bytes(content[:-9] + b"corrupted")
    root = tmp_path / "data"
    with pytest.raises(WorkbenchError, match=r"could not be downloaded .*t10k-labels"):
        load_data("fashion", root=root, download=True)
    assert not (raw(root) / spoilt.name).exists()
    spoilt.write_bytes(content)
    assert load_data("fashion", root=root, download=True).num_examples == 40


def test_no_connection_is_said_in_one_line(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = (tmp_path / "nowhere").as_uri() + "/"
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [nowhere])
    with pytest.raises(WorkbenchError, match="check the connection") as caught:
        load_data("fashion", root=tmp_path / "data", download=True)
    assert "\n" not in str(caught.value)


def test_a_cancelled_download_can_be_started_over(mirror: Path, tmp_path: Path) -> None:
    control = Control()
    with pytest.raises(Cancelled):
        load_data(
            "fashion",
            root=tmp_path / "data",
            download=True,
            progress=lambda event: control.cancel(),
            control=control,
        )
    left = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert [file.name for file in left] in ([], ["train-images-idx3-ubyte.gz"])
    assert load_data("fashion", root=tmp_path / "data", download=True).num_examples


@pytest.fixture
def breaking(mirror: Path) -> Iterator[str]:
    """A web server that breaks each answer off in the middle."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (mirror / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_an_interrupted_download_is_noticed(
    breaking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [breaking])
    with pytest.raises(
        WorkbenchError, match=r"bytes, not the expected file|IncompleteRead"
    ):
        load_data("fashion", root=tmp_path / "data", download=True)
    left = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert left == []


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[datasets.CIFAR10]:
    """Point torchvision's CIFAR-10 at a small archive of the same build."""
    kind = datasets.CIFAR10
    labels = list(range(10)) * 2

    def batch() -> bytes:
        pixels = np.repeat(np.array(labels, np.uint8), 3072).reshape(20, 3072)
        return pickle.dumps({"data": pixels, "labels": labels})

    names = [f"class {c}" for c in range(10)]
    files = {name: batch() for name, _ in (*kind.train_list, *kind.test_list)}
    files[kind.meta["filename"]] = pickle.dumps({"label_names": names})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    served = tmp_path / kind.filename
    served.write_bytes(packed.getvalue())
    for listed in ("train_list", "test_list"):
        old = getattr(kind, listed)
        monkeypatch.setattr(kind, listed, [[n, md5(files[n])] for n, _ in old])
    meta = {**kind.meta, "md5": md5(files[kind.meta["filename"]])}
    monkeypatch.setattr(kind, "meta", meta)
    monkeypatch.setattr(kind, "tgz_md5", md5(packed.getvalue()))
    monkeypatch.setattr(kind, "url", served.as_uri())
    return kind


def test_cifar_comes_in_one_archive_and_a_damaged_batch_is_noticed(
    cifar: type[datasets.CIFAR10], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    data = load_data("cifar10", root=root, download=True)
    assert data.image_shape == (3, 32, 32)
    assert data.labels.bincount().tolist() == [10] * 10
    assert load_data("cifar10", root=root, split="test").num_examples == 20
    shown = data.images[-1, :, 0, 0] * torch.tensor(data.std) + torch.tensor(data.mean)
    assert (shown * 255).round().tolist() == [9.0] * 3
    spoilt = root / cifar.base_folder / "data_batch_3"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"?")
    with pytest.raises(WorkbenchError, match=r"data_batch_3 is damaged"):
        load_data("cifar10", root=root)
    assert load_data("cifar10", root=root, download=True).num_examples == 100
