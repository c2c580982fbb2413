"""The public names: lazy at run time, and typed for editors and mypy."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench
from tests.conftest import ROOT

SCRIPT = """\
import numpy as np
import torch
import workbench as wb

data = wb.load_data("digits", per_class=20)
model = wb.build_model("mlp", data)
checkpoint = wb.train(model, data, wb.TrainConfig(epochs=3))
study = wb.measure(checkpoint, wb.MeasureSettings(embedding="pca"))
reveal_type(study)
reveal_type(study.spectra["G"].eigenvalues)
reveal_type(checkpoint.load_data())
G = wb.operators(model, data)["G"]
reveal_type(G)
v = torch.ones(G.dim)
reveal_type(G @ v)
reveal_type(G @ np.ones(G.dim))
pairs = wb.top_eigenpairs(G, 3)
reveal_type(pairs.values)
reveal_type(wb.gram(model, data).eigenvalues())
reveal_type(wb.class_means(model, data).classes)
reveal_type(wb.plan(checkpoint).line)
try:
    study.save("run.study")
except wb.WorkbenchError as error:
    print(error)
"""
FOUND = {
    "study": "workbench.study.records.Study",
    'study.spectra["G"].eigenvalues': "numpy.ndarray[tuple[Any, ...], "
    "numpy.dtype[numpy.float64]]",
    "checkpoint.load_data()": "workbench.training.data.Dataset",
    "G": "workbench.curvature.products.operators.Curvature",
    "G @ v": "torch._tensor.Tensor",
    "G @ np.ones(G.dim)": "numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]]",
    "pairs.values": "torch._tensor.Tensor",
    "wb.gram(model, data).eigenvalues()": "torch._tensor.Tensor",
    "wb.class_means(model, data).classes": "torch._tensor.Tensor | None",
    "wb.plan(checkpoint).line": "str",
}


def stub() -> dict[str, str]:
    """Name -> module of what the stub re-exports."""
    tree = ast.parse((ROOT / "workbench/__init__.pyi").read_text(encoding="utf-8"))
    return {
        alias.asname: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname == alias.name
    }


def test_type_checkers_see_the_names_that_are_loaded_from_where_they_are() -> None:
    assert stub() == workbench._HOME


@pytest.mark.parametrize("name", workbench.__all__)
def test_each_public_name_is_there_and_has_a_docstring(name: str) -> None:
    found = getattr(workbench, name)
    assert found is getattr(importlib.import_module(workbench._HOME[name]), name)
    assert found.__doc__


@pytest.mark.parametrize(
    "names",
    [
        "workbench.study import Study, load_study",
        "workbench.measurement import MeasureSettings, measure",
    ],
)
def test_a_room_that_loads_its_names_late_can_be_the_first_import(names: str) -> None:
    run = [sys.executable, "-c", f"from {names}"]
    subprocess.run(run, check=True, cwd=ROOT, timeout=60, capture_output=True)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'workbench' has no attribute 'mesure'"):
        workbench.mesure  # noqa: B018


def test_importing_it_loads_neither_torch_nor_a_screen() -> None:
    code = (
        "import sys, workbench; dir(workbench); "
        "sys.exit(bool({'torch', 'numpy', 'bokeh', 'IPython'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def mypy(folder: Path, script: str) -> list[str]:
    """What ``mypy --strict`` says of a user's script, with nothing configured."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    cache = ROOT / ".mypy_cache" / "script"
    flags = ["--strict", "--follow-imports=silent", "--cache-dir", str(cache)]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *flags, "script.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.mark.slow
def test_mypy_knows_what_a_script_gets(tmp_path: Path) -> None:
    lines = SCRIPT.splitlines()
    *said, last = mypy(tmp_path, SCRIPT)
    assert last == "Success: no issues found in 1 source file"
    found = {}
    for line in said:
        number, kind = re.findall(r'py:(\d+): note: Revealed type is "(.*)"', line)[0]
        found[lines[int(number) - 1].removeprefix("reveal_type(")[:-1]] = kind
    assert found == FOUND


@pytest.mark.slow
def test_mypy_refuses_what_does_not_exist(tmp_path: Path) -> None:
    wrong = "import workbench as wb\nwb.mesure\nwb.load_data(3)\n"
    said = "\n".join(mypy(tmp_path, wrong))
    assert 'Module has no attribute "mesure"' in said
    assert 'Argument 1 to "load_data" has incompatible type "int"' in said
