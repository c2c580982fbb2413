"""Settings of a sweep: read, checked and spread into cells."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.measurement.embedding import METHODS, METRICS
from workbench.sweeps.settings import Cell, SweepSettings, read_sweep
from workbench.training.data import DATA
from workbench.training.models import MODELS, POOLINGS


def refused(text: str, tmp_path: Path) -> str:
    path = tmp_path / "grid.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorkbenchError) as caught:
        read_sweep(path)
    return str(caught.value)


def test_lists_are_axes_and_single_values_are_constant(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(
        "[grid]\nmodel = ['mlp', 'cnn']\nweight_decay = [0, 2e-2]\nper_class = 5\n"
    )
    cells = read_sweep(path).cells
    assert [(c.model, c.weight_decay) for c in cells] == [
        ("mlp", 0.0), ("mlp", 0.02), ("cnn", 0.0), ("cnn", 0.02)
    ]  # fmt: skip
    assert {c.per_class for c in cells} == {5}


def test_several_grids_follow_one_another_and_no_cell_is_there_twice(
    tmp_path: Path,
) -> None:
    path = tmp_path / "grid.toml"
    path.write_text("[[grid]]\nseed = [0, 1]\n[[grid]]\nseed = [1, 2]\n")
    assert [cell.seed for cell in read_sweep(path).cells] == [0, 1, 2]


def test_a_sample_depends_only_on_its_seed_and_keeps_the_order() -> None:
    grid = {"seed": list(range(100))}
    first, again, other = (
        [c.seed for c in SweepSettings(grid=grid, sample=10, sample_seed=s).cells]
        for s in (0, 0, 1)
    )
    assert first == again == sorted(first)
    assert len(set(first)) == 10
    assert other != first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[grid]\nweigth_decay = 1", "did you mean weight_decay?"),
        ("seed = 1\n[grid]\n", "put it below [grid]"),
        ("sampel = 1\n[grid]\n", "did you mean sample?"),
        ("sample = 0\n[grid]\n", "sample is 0; give a whole number, at least 1"),
        ("model = ", "not valid TOML"),
        ("", "has no table [grid]"),
        ("grid = 3", "give a table of settings"),
        ("[grid]\nseed = []", "seed is an empty list"),
        ("[grid]\nseed = '1'", "seed is '1'; give a whole number, at least 0"),
        ("[grid]\nseed = [0, -1]", "seed is -1; give a whole number, at least 0"),
        ("[grid]\nseed = true", "seed is True; give a whole number, at least 0"),
        ("[grid]\nwidth = 0", "width is 0; give a whole number, at least 1"),
        ("[grid]\nlabel_noise = 2", "label_noise is 2; give a number from 0 to 1"),
        ("[grid]\nmodel = 'cnm'", "model is 'cnm'; give linear, mlp, cnn"),
        ("[grid]\ndata = 'digit'", "data is 'digit'; give digits, mnist"),
        ("[grid]\nbatch_norm = 1", "batch_norm is 1; give true or false"),
        ("[grid]\nsnapshots = '1;2'", "epochs in quotes, separated by commas"),
        ("[grid]\nepochs = 3\nsnapshots = '0,9'", "names epoch 9 of a run of 3"),
        ("[grid]\nnum_classes = 1", "num_classes is 1; give a whole number, at least"),
        ("[grid]\nbatch_size = 1", "batch_size is 1; give a whole number, at least 2"),
        ("[grid]\nseed = " + str(list(range(400))) + "\nepochs = "
         + str(list(range(400))), "160,000 cells and the limit is 100,000"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_one_sentence(
    text: str, words: str, tmp_path: Path
) -> None:
    said = refused(text, tmp_path)
    assert words in said
    assert "\n" not in said
    assert said.startswith("sweep: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=re.escape("none.toml cannot be read")):
        read_sweep(tmp_path / "none.toml")


def test_names_are_unique_and_stable_and_safe_for_files() -> None:
    cells = SweepSettings(
        grid={"data": ["digits", "folder:/a b/ä"], "seed": [0, 1], "lr": [0.1, 1e-5]}
    ).cells
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(cells)
    assert names == [cell.name for cell in cells]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name) for name in names)
    assert Cell(lr=1.0) == SweepSettings(grid={"lr": 1}).cells[0]  # 1 is 1.0


def test_every_choice_is_one_that_training_and_measuring_know() -> None:
    for name, known in (
        ("model", MODELS),
        ("pooling", POOLINGS),
        ("embedding", METHODS),
        ("metric", METRICS),
        ("data", [d for d in DATA if d != "folder:PATH"]),
    ):
        SweepSettings(grid={name: list(known)})
    assert {f.name for f in fields(Cell)} == set(Cell().values)
