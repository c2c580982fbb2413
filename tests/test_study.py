"""A study file: read back as it was written, or refused in a sentence."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.full_disk import fill
from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.files.container import checksum
from workbench.study.records import SCHEMA, Study, load_study


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(num_classes=4, num_gradients=60, exact=False)


@pytest.fixture(scope="module")
def content(study: Study, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return study.save(tmp_path_factory.mktemp("study") / "run.study").read_bytes()


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything that a record holds, by its name."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}/{key}")
    else:
        yield name, value


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write a study file again, with another header but the same arrays."""
    with safe_open(path, framework="np") as file:
        metadata = dict(file.metadata())
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["workbench.study"])
    change(header)
    metadata["workbench.study"] = json.dumps(header)
    save_file(arrays, path, metadata)
    return path


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("weighting", ["slide", "icml", "jmlr"])
def test_a_study_is_read_back_bit_by_bit(
    tmp_path: Path, exact: bool, weighting: str
) -> None:
    written = make_study(3, 40, weighting, exact=exact)
    read = load_study(written.save(tmp_path / "run.study"))
    before, after = dict(leaves(written)), dict(leaves(read))
    assert list(before) == list(after)
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == after[name].dtype, name
            assert value.shape == after[name].shape, name
            assert value.tobytes() == after[name].tobytes(), name
        else:
            assert type(value) is type(after[name]), name
            assert value == after[name], name


def test_moments_are_read_back_in_single_precision(tmp_path: Path) -> None:
    written = make_study(3, 40, num_moments=3)
    read = load_study(written.save(tmp_path / "run.study"))
    assert [moment.run["epochs"] for moment in read.film] == [0, 1, 4, 30]
    for before, after in zip(written.film, read.film, strict=True):
        found = dict(leaves(after))
        for name, value in leaves(before):
            if name == "/moments" or not isinstance(value, np.ndarray):
                assert name == "/moments" or value == found[name], name
                continue
            assert found[name].dtype == value.dtype, name
            if after is not read and value.dtype.kind == "f":
                value = value.astype(np.float32)
            assert np.array_equal(value, found[name].astype(value.dtype)), name


def test_a_moment_takes_a_fraction_of_the_bytes(tmp_path: Path) -> None:
    alone = make_study(10, 1500).save(tmp_path / "alone.study").stat().st_size
    study = make_study(10, 1500, num_moments=4)
    more = study.save(tmp_path / "film.study").stat().st_size - alone
    assert more / 4 < 0.5 * alone


def test_a_study_of_the_first_schema_is_read(tmp_path: Path, study: Study) -> None:
    path = study.save(tmp_path / "old.study")
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["workbench.study"])
    header["schema"] = 1
    del header["study"]["moments"], header["study"]["last_layer"]
    text = json.dumps(header)
    crc = checksum(text, arrays)
    save_file(arrays, path, {"workbench.study": text, "workbench.crc32": crc})
    found = load_study(path)
    assert found.film[-1].moments == ()
    assert found.last_layer is None


MISFITS: dict[str, Callable[[Study], Study]] = {
    "rows of a moment by example": lambda moment: replace(
        moment,
        embedding=replace(moment.embedding, example=moment.embedding.example + 1),
    ),
    "spectra of a moment": lambda moment: replace(
        moment, spectra={**moment.spectra, "H": moment.spectra["G"]}
    ),
    "moments at epochs": lambda moment: replace(
        moment, run={**moment.run, "epochs": 99}
    ),
    "a moment of another study": lambda moment: replace(
        moment, class_names=("a", "b", "c")
    ),
    "conventions of a moment": lambda moment: replace(
        moment, levels={"icml": moment.levels["icml"]}
    ),
}


@pytest.mark.parametrize("said", MISFITS)
def test_a_moment_that_does_not_fit_its_study_is_refused(
    tmp_path: Path, said: str
) -> None:
    study = make_study(3, 40, num_moments=1, with_hess=False)
    study = replace(study, moments=(MISFITS[said](study.moments[0]),))
    with pytest.raises(WorkbenchError, match=f"damaged.*{said}"):
        load_study(study.save(tmp_path / "odd.study"))


def test_names_in_any_script_and_empty_arrays_survive(tmp_path: Path) -> None:
    names = ("bağ", "シャツ", "a/b", "<b>")
    study = make_study(4, with_dots=False, with_hess=False, class_names=names)
    read = load_study(study.save(tmp_path / "ünï.study"))
    assert read.class_names == names
    assert read.spectra["G"].nodes.shape == study.spectra["G"].nodes.shape
    assert not (read.embedding.level == 0).any()


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cut.study"
    header = 8 + int.from_bytes(content[:8], "little")
    spread = np.linspace(0, len(content) - 1, 40, dtype=int).tolist()
    for length in sorted({0, 1, 7, 8, 9, header - 1, header, header + 1, *spread}):
        path.write_bytes(content[:length])
        with pytest.raises(WorkbenchError, match="damaged or not a study"):
            load_study(path)


def test_a_changed_byte_anywhere_is_noticed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "changed.study"
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 200, replace=False).tolist():
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(WorkbenchError):
            load_study(path)


@pytest.mark.parametrize(
    ("foreign", "said"),
    [
        (b"", "damaged or not a study"),
        (b"\x80\x04N.", "a Python pickle"),
        (b"PK\x03\x04" + bytes(99), "a damaged zip archive"),
        (b"{}", "damaged or not a study"),
        (os.urandom(4096), "damaged or not a study"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, foreign: bytes, said: str) -> None:
    path = tmp_path / "foreign.study"
    path.write_bytes(foreign)
    with pytest.raises(WorkbenchError, match=rf"foreign\.study is {said}"):
        load_study(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_something_else_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": np.zeros(3)}, path, metadata)
    with pytest.raises(WorkbenchError, match="not a study"):
        load_study(path)


def test_a_file_of_a_later_version_says_so(tmp_path: Path, study: Study) -> None:
    path = study.save(tmp_path / "future.study")
    rewritten(path, lambda header: header.update(schema=SCHEMA + 1, study={"new": 1}))
    with pytest.raises(WorkbenchError, match=f"schema {SCHEMA + 1}.*update"):
        load_study(path)


@pytest.mark.parametrize(
    "header", ["[]", "7", "null", '{"schema": "x"}', "{", "[" * 9999]
)
def test_a_header_of_another_kind_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "odd.study"
    save_file({"w": np.zeros(3)}, path, {"workbench.study": header})
    with pytest.raises(WorkbenchError, match="damaged"):
        load_study(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"no file .*nowhere\.study"):
        load_study(tmp_path / "nowhere.study")
    with pytest.raises(WorkbenchError, match="no file"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("embedding", {"points": np.zeros((5, 2), np.float32)}, "embedding"),
        ("embedding", {"points": np.zeros(5, np.float32)}, "points of embedding"),
        ("spectrum", {"residuals": np.zeros(1)}, "residuals of G"),
        ("spectrum", {"nodes": np.zeros(4), "weights": np.zeros(4)}, "nodes of G"),
        ("levels", {"overlap": np.zeros(1)}, "class_overlap of icml"),
        ("levels", {"parts": {}}, "parts of icml"),
        ("settings", {"weighting": "other"}, "weighting"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, study: Study, part: str, change: dict[str, Any], said: str
) -> None:
    if part == "embedding":
        study = replace(study, embedding=replace(study.embedding, **change))
    elif part == "spectrum":
        found = replace(study.spectra["G"], **change)
        study = replace(study, spectra={**study.spectra, "G": found})
    elif part == "levels":
        levels = replace(study.levels["icml"], **change)
        study = replace(study, levels={**study.levels, "icml": levels})
    else:
        study = replace(study, settings={**study.settings, **change})
    with pytest.raises(WorkbenchError, match=f"damaged.*{said}"):
        load_study(study.save(tmp_path / "odd.study"))


def test_a_study_that_cannot_be_written_says_why_and_leaves_nothing(
    tmp_path: Path, study: Study
) -> None:
    with pytest.raises(WorkbenchError, match="does not exist"):
        study.save(tmp_path / "missing" / "run.study")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WorkbenchError, match=r"cannot write .*folder"):
        study.save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study.save(tmp_path / "run.study")
    before = path.read_bytes()

    fill(monkeypatch, lambda file: file.parent == tmp_path)
    with pytest.raises(WorkbenchError, match="No space left on device"):
        study.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_study_can_be_read_by_whom_the_umask_lets(
    tmp_path: Path, study: Study
) -> None:
    before = os.umask(0o022)
    try:
        path = study.save(tmp_path / "run.study")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_study_is_read_without_torch(tmp_path: Path, study: Study) -> None:
    path = study.save(tmp_path / "run.study")
    code = (
        "import sys; from workbench.study.records import load_study; "
        "from workbench.study.spectrum import density_curve; "
        f"density_curve(load_study({str(path)!r}).spectra['G']); "
        "print(sorted({'torch', 'torchvision', 'umap', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
