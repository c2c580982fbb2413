"""What a file says is checked once, at load: nothing later falls over it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from tests.fuzz.damage import opened
from tests.fuzz.run import fuzz
from tests.fuzz.use import show, use_study
from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.files.container import CHECKSUM, checksum
from workbench.measurement.settings import MeasureSettings
from workbench.study.layers import Layers
from workbench.study.null import Null
from workbench.study.records import Embedding, LastLayer, Levels, Study, load_study
from workbench.study.schema import (
    CheckpointFile,
    EmbeddingFile,
    LastLayerFile,
    LayersFile,
    LevelsFile,
    NullFile,
    SettingsFile,
    SpectrumFile,
    StudyFile,
    TrainingFile,
    WalkFile,
)
from workbench.study.spectrum import Spectrum
from workbench.study.walk import Walk
from workbench.training.checkpoint import _PLAIN, load_checkpoint
from workbench.training.settings import TrainConfig


@pytest.mark.parametrize(
    ("checked", "record"),
    [
        (SpectrumFile, Spectrum),
        (LevelsFile, Levels),
        (NullFile, Null),
        (WalkFile, Walk),
        (LayersFile, Layers),
        (EmbeddingFile, Embedding),
        (LastLayerFile, LastLayer),
        (StudyFile, Study),
    ],
)
def test_every_field_of_a_record_is_in_the_schema(checked: Any, record: Any) -> None:
    assert list(checked.__struct_fields__) == [field.name for field in fields(record)]


def test_every_setting_is_in_the_schema() -> None:
    assert set(SettingsFile.__annotations__) | {"weighting"} == {
        field.name for field in fields(MeasureSettings)
    }
    assert set(TrainingFile.__annotations__) == {f.name for f in fields(TrainConfig)}
    assert set(CheckpointFile.__struct_fields__) == {"schema", *_PLAIN}


def written(path: Path, header: Any, arrays: Any, kind: str = "study") -> Path:
    """Write a file with a right checksum."""
    text = json.dumps(header)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {f"workbench.{kind}": text, CHECKSUM: checksum(text, whole)}
    path.write_bytes(save(whole, metadata))
    return path


Change = Callable[[dict[str, Any], dict[str, Any]], object]
FORGED: dict[str, Change] = {
    "a number for a name": lambda h, a: h["run"].update(model=7),
    "words for a number": lambda h, a: h["run"].update(epochs="1); import os #"),
    "true for a count": lambda h, a: h.update(num_outliers=True),
    "more outliers than eigenvalues": lambda h, a: h.update(num_outliers=10**6),
    "a seed that is code": lambda h, a: h["run"].update(seed="0); x ("),
    "a nested run": lambda h, a: h["run"].update(a={"b": {"c": 1}}),
    "an unknown field": lambda h, a: h["spectra"]["G"].update(more=1),
    "an unknown operator": lambda h, a: h["spectra"].update(x=h["spectra"]["G"]),
    "no G": lambda h, a: h["spectra"].pop("G"),
    "no trace of G": lambda h, a: h["levels"]["icml"]["trace"].pop("G"),
    "a part that is missing": lambda h, a: h["levels"]["icml"]["parts"].pop("G12"),
    "a convention under another name": lambda h, a: h["levels"].update(
        icml=h["levels"]["jmlr"]
    ),
    "a megabyte for a class": lambda h, a: h.update(class_names=["x" * 10**6] * 3),
    "fewer classes": lambda h, a: h["class_names"].pop(),
    "infinite eigenvalues": lambda h, a: a.update(
        {"spectra/G/eigenvalues": a["spectra/G/eigenvalues"] * np.inf}
    ),
    "weights that sum to 2": lambda h, a: a.update(
        {"spectra/G/weights": a["spectra/G/weights"] * 2}
    ),
    "a level 4": lambda h, a: a.update(
        {"embedding/level": a["embedding/level"] + 4}
    ),
    "a class -2": lambda h, a: a.update(
        {"embedding/true_class": a["embedding/true_class"] - 2}
    ),
    "whole numbers for eigenvalues": lambda h, a: a.update(
        {"spectra/G/eigenvalues": a["spectra/G/eigenvalues"].astype(int)}
    ),
    "an array for a text": lambda h, a: h.update(plan={"array": "embedding/level"}),
    "a text for an array": lambda h, a: h["embedding"].update(points="x"),
    "an array that is not there": lambda h, a: a.pop("embedding/points"),
    "columns of unequal length": lambda h, a: a.update(
        {"history/loss": a["history/loss"][:-1]}
    ),
    "a dimension of 0": lambda h, a: h["spectra"]["G"].update(dim=0),
    "a trace that is no number": lambda h, a: h["spectra"]["G"].update(trace=None),
    "probabilities of a last layer that sum to half": lambda h, a: a.update(
        {"last_layer/probabilities": a["last_layer/probabilities"] * 0.5}
    ),
    "features of fewer classes": lambda h, a: a.update(
        {"last_layer/class_means": a["last_layer/class_means"][:-1]}
    ),
    "no features": lambda h, a: a.update(
        {"last_layer/class_means": a["last_layer/class_means"][:, :0]}
    ),
    "more eigenvalues of a last layer than parameters": lambda h, a: h["last_layer"][
        "spectrum"
    ].update(dim=2),
    "a null of fewer eigenvectors": lambda h, a: a.update(
        {"levels/icml/null/overlap": a["levels/icml/null/overlap"][:, 1:]}
    ),
    "a walk that starts elsewhere": lambda h, a: a.update(
        {"walk/distance": a["walk/distance"] + 1}
    ),
    "a layer without a name": lambda h, a: h["layers"]["names"].pop(),
    "two layers of one name": lambda h, a: h["layers"].update(names=["a", "a", "b"]),
    "layers of another network": lambda h, a: a["layers/num_parameters"].__iadd__(1),
    "shares of layers above one": lambda h, a: a["layers/share"].__imul__(0.5),
    "blocks without error bars": lambda h, a: h["layers"]["residuals"].clear(),
    "a walk along an unknown operator": lambda h, a: h["walk"].update(
        operator=["x"] * len(h["walk"]["operator"])
    ),
    "a walk of fewer eigenvectors than losses": lambda h, a: a.update(
        {"walk/rank": a["walk/rank"][1:]}
    ),
    "shares of a walk that sum to half": lambda h, a: a.update(
        {"walk/shares": a["walk/shares"] * 0.5}
    ),
    "ten million classes of settings": lambda h, a: h["settings"].update(
        classes=["x"] * 20_000
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_study_is_refused_at_load(tmp_path: Path, name: str) -> None:
    path = make_study(3, 20, exact=False).save(tmp_path / "x.study")
    header, arrays = opened(path, "study")
    written(path, header, arrays)
    assert use_study(path)
    FORGED[name](header["study"], arrays)
    written(path, header, arrays)
    with pytest.raises(WorkbenchError, match="is damaged or not a study") as caught:
        load_study(path)
    assert len(str(caught.value)) - len(str(path)) < 300


def test_texts_of_a_study_are_printable_once_it_is_loaded(tmp_path: Path) -> None:
    bad = "\x1b[2J\n\ud800\u202e"
    study = make_study(2, 8, class_names=(bad, "b"))
    study = replace(study, plan=bad, run={**study.run, "data": bad, bad: [bad]})
    found = load_study(study.save(tmp_path / "x.study"))
    texts = [*found.class_names, found.plan, *map(str, found.run), found.run["data"]]
    assert all(text.isprintable() for text in texts)
    assert found.class_names[0] == r"\x1b[2J\n\ud800\u202e"
    show(found)


def test_what_stands_in_a_run_beside_what_is_known_stays(tmp_path: Path) -> None:
    more = {"note": "mine", "rates": [0.1, 0.2], "deep": {"a": 1}, "none": None}
    study = make_study(2, 8)
    study = replace(study, run={**study.run, **more, "train_loss": float("nan")})
    found = load_study(study.save(tmp_path / "x.study"))
    assert {key: found.run[key] for key in more} == more
    show(found)


def test_a_tensor_of_an_absurd_shape_is_a_sentence(tmp_path: Path) -> None:
    tensors = {"weights/w": torch.zeros(0, 2)}
    run = {"model": "mlp", "epochs": 0}
    path = written(
        tmp_path / "x.ckpt",
        {"schema": 1, "run": run},
        {name: t.numpy() for name, t in tensors.items()},
        "checkpoint",
    )
    content = path.read_bytes().replace(b"[0,2]", b"[0,%d]" % 2**62)
    length = len(content) - len(path.read_bytes())
    head = int.from_bytes(content[:8], "little") + length
    path.write_bytes(head.to_bytes(8, "little") + content[8:])
    with pytest.raises(WorkbenchError, match=r"damaged or not a checkpoint .*shape"):
        load_checkpoint(path)


HUGE = """
import json, resource, sys
from pathlib import Path
from workbench.errors import WorkbenchError
from workbench.study.records import load_study
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(Path, sys.argv[1:]):
    try:
        load_study(path)
    except WorkbenchError as error:
        print(str(error)[:200])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_no_header_takes_much_memory(tmp_path: Path) -> None:
    header, arrays = opened(make_study(2, 8).save(tmp_path / "x.study"), "study")
    paths = []
    for n, much in enumerate(([[]] * 1_300_000, [1] * 2_000_000, ["x" * 3_000_000])):
        header["study"]["run"]["much"] = much
        paths.append(written(tmp_path / f"{n}.study", header, arrays))
    header["study"]["run"]["much"] = [[]] * 7_000_000
    paths.append(written(tmp_path / "long.study", header, arrays))
    done = subprocess.run(
        [sys.executable, "-c", HUGE, *map(str, paths)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *refused, taken = done.stdout.splitlines()
    assert len(refused) == 4
    assert int(taken) < 300, "MB above the start"


def test_damaged_and_forged_files_end_in_a_sentence_or_can_be_used() -> None:
    counts = fuzz(80, pictures=10)
    assert not {"failed", "slow", "too much memory"} & set(counts), counts
    assert counts["study forged opened"] > 5
    assert counts["study forged refused"] > 10
    assert counts["checkpoint forged opened"] > 0
