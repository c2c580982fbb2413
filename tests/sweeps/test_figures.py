"""Figures: drawn from shipped numbers alone, and every sentence from its numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.studies import make_study
from workbench.cli.main import main
from workbench.errors import WorkbenchError
from workbench.figures.figure import (
    collect,
    draw,
    rounded,
    runs_in,
    settings_path,
    shipped_numbers,
    verdict,
)
from workbench.figures.map import explained, held_out
from workbench.figures.registry import FIGURES, find_figure
from workbench.sweeps.settings import Cell, read_sweep


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_from_its_shipped_numbers(name: str, tmp_path: Path) -> None:
    figure, numbers = find_figure(name), shipped_numbers(name)
    paths = draw(figure, numbers, tmp_path)
    assert {path.suffix for path in paths} == {".html", ".svg", ".png", ".csv", ".md"}
    with (tmp_path / f"{name}.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(numbers["rows"]) > 0
    page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("</script>")[-1]
    for sentence in figure.sentences(numbers):
        assert sentence.endswith(".")
        assert "nan" not in sentence.split()


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_committed_is_drawn_from_the_shipped_numbers(name: str) -> None:
    said = (ROOT / "docs" / "figures" / f"{name}.md").read_text(encoding="utf-8")
    for sentence in find_figure(name).sentences(shipped_numbers(name)):
        assert sentence in said


@pytest.mark.parametrize("name", FIGURES)
def test_no_place_on_a_machine_is_in_the_numbers(name: str) -> None:
    text = json.dumps(shipped_numbers(name))
    assert "folder:" not in text
    assert "/tmp" not in text


def test_drawing_twice_gives_the_same_pictures(tmp_path: Path) -> None:
    figure, numbers = find_figure("lecun1998"), shipped_numbers("lecun1998")
    for folder in ("a", "b"):
        draw(figure, numbers, tmp_path / folder)
    for kind in ("svg", "png", "csv", "md"):
        first, second = (tmp_path / f / f"lecun1998.{kind}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("path", sorted(settings_path("map").parent.glob("*.toml")))
def test_the_settings_that_are_shipped_are_valid(path: Path) -> None:
    assert read_sweep(path).cells


@pytest.mark.parametrize("name", FIGURES)
def test_a_figures_sweep_is_shipped(name: str) -> None:
    sweep = find_figure(name).sweep
    assert sweep == "" or settings_path(sweep).is_file()


def test_a_figure_is_made_of_a_folder_of_studies(tmp_path: Path) -> None:
    for seed in (1, 0):
        study = make_study(4, num_gradients=60)
        cell = Cell(num_classes=4, per_class=5, seed=seed)
        study.run["sweep"] = cell.values
        study.save(tmp_path / f"{cell.name}.study")
    runs = runs_in(tmp_path)
    assert [run.cell.seed for run in runs] == [0, 1]
    numbers = collect(find_figure("spectra"), runs)
    assert len(numbers["panels"]) == len(numbers["rows"]) == 2
    with pytest.raises(WorkbenchError, match="no study of a sweep"):
        runs_in(tmp_path / "none")


def test_the_verdict_follows_the_numbers() -> None:
    def row(overlap: float, ratio: float) -> dict[str, float]:
        return {
            "overlap_icml": overlap,
            "overlap_null_icml": 0.1,
            "ratio_icml": ratio,
            "ratio_jmlr": ratio,
        }

    good, small, off = row(0.95, 0.8), row(0.95, 0.2), row(0.5, 0.2)
    assert "claim holds here: in 2 of 2 runs" in verdict([good, good], "runs")
    assert "holds only in part here" in verdict([good, small], "runs")
    told = verdict([small, small], "runs")
    assert "holds in directions but not in sizes here: in 2 of 2 runs" in told
    assert "holds only in part here" in verdict([small, off], "runs")
    assert "does not hold here: 50%" in verdict([off], "runs")
    assert "holds here: 95%" in verdict([good], "runs")
    assert "nothing was measured" in verdict([], "runs")


def test_the_variance_explained_is_that_of_runs_that_were_not_fitted() -> None:
    draw_ = np.random.default_rng(0)
    cause, noise = draw_.normal(size=(2, 400))
    assert explained(cause, cause) == 1
    assert explained(cause, np.full(400, cause.mean())) == pytest.approx(0)
    assert held_out(cause + noise, [cause]) == pytest.approx(0.5, abs=0.1)
    useless = [draw_.normal(size=400) for _ in range(100)]
    assert (
        held_out(noise, useless) < 0
    )  # where fitting its own runs would give about 0.5


def test_numbers_are_rounded_and_what_is_none_stays_none() -> None:
    given = {"a": np.array([1.234567, np.nan]), "b": (1, True, None, "x", np.int64(3))}
    assert rounded(given) == {"a": [1.2346, None], "b": [1, True, None, "x", 3]}


def test_the_command_lists_draws_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figure"]) == 0
    assert "dauphin2014" in capsys.readouterr().out
    assert main(["figure", "map", "--settings"]) == 0
    assert "[[grid]]" in capsys.readouterr().out
    assert main(["figure", "mapp", "--out", str(tmp_path)]) == 2
    assert "did you mean map?" in capsys.readouterr().err
    assert main(["figure", "lecun1998", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "lecun1998.png").stat().st_size > 10_000
