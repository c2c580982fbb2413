"""What the README shows is true."""

from __future__ import annotations

import doctest
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from workbench.study.records import load_study

README = (ROOT / "README.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_code_cell_is_at_most_eight_lines() -> None:
    assert 1 < len(CODE.splitlines()) <= 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is shown on a CPU")
def test_the_session_gives_what_it_shows() -> None:
    (session,) = re.findall(r"```pycon\n(.*?)```", README, re.S)
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", None, 0)
    assert len(test.examples) > 5
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


@pytest.mark.slow
def test_the_code_cell_gives_the_study_that_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(CODE, {})
    found = load_study(tmp_path / "run.study")
    shipped = load_study(str(files("workbench") / "examples" / "training.study"))
    assert found.run["num_examples"] == shipped.run["num_examples"]
    assert found.num_outliers == shipped.num_outliers
    for name in ("G", "Hess"):
        ours, theirs = (s.spectra[name].eigenvalues[:9] for s in (found, shipped))
        np.testing.assert_allclose(ours, theirs, rtol=0.02)
