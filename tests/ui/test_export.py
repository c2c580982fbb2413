"""Pages and tables to take away."""

from __future__ import annotations

import csv
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.studies import make_study
from workbench.cli.main import main
from workbench.errors import WorkbenchError
from workbench.study.tables import TABLES, csv_tables
from workbench.ui.export import export_csv, export_html, page_html

NASTY = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", 'a,"b"')


class Tags(HTMLParser):
    """The tags of a page as a browser reads them: what is in a script is none."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.places: list[str] = []  # that are loaded or led to
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.places += [v or "" for name, v in attrs if name in ("src", "href")]


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    return make_study(3, 40).save(tmp_path / "run.study")


def test_a_page_names_no_other_place_and_forbids_to_fetch() -> None:
    page = page_html(make_study(3, 40))
    assert Tags(page).places == []
    assert "default-src 'none'" in page


def test_a_page_stays_below_four_megabytes_with_film_pin_and_5000_gradients() -> None:
    study, pinned = make_study(10, 5000, num_moments=8), make_study(10, 5000, seed=1)
    assert len(page_html(study, pinned=pinned).encode()) < 4e6


def test_a_page_says_what_was_trained_what_is_seen_and_by_which_versions() -> None:
    study = make_study(3, 40)
    page = page_html(study, weighting="jmlr", title="Lesson <3>")
    assert "<h1>Lesson &lt;3&gt;</h1>" in page
    assert "synthetic · linear" in page
    assert "in the median (<i>jmlr</i>" in page
    assert "Outlier 2 (λ =" in page
    assert "workbench 0.1.0" in page
    assert study.created in page


def test_what_a_study_says_of_itself_is_never_markup() -> None:
    study = make_study(3, 40, class_names=NASTY)
    study.run["data"] = "folder:" + NASTY[0]
    study.versions["torch"] = NASTY[1]
    assert Tags(page_html(study)).found == Tags(page_html(make_study(3, 40))).found


def test_the_tables_hold_the_numbers_of_the_study_at_full_precision(
    tmp_path: Path,
) -> None:
    study = make_study(3, 40, class_names=NASTY)
    paths = export_csv(study, tmp_path / "new", stem="run")
    assert [path.name for path in paths] == [
        "run-eigenvalues.csv",
        "run-embedding.csv",
        "run-overlaps.csv",
        "run-null.csv",
        "run-shared.csv",
        "run-walk.csv",
        "run-layers.csv",
        "run-layer_eigenvalues.csv",
        "run-traces.csv",
        "run-density.csv",
        "run-last_layer.csv",
        "run-class_pairs.csv",
        "run-class_features.csv",
        "run-history.csv",
        "run-about.csv",
    ]
    eigenvalues, embedding, overlaps, *_ = (
        list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for path in paths
    )
    for name, weighting, values in (
        ("H", "", study.spectra["H"].eigenvalues),
        ("G1", "icml", study.levels["icml"].parts["G1"]),
        ("G projected", "slide", study.levels["slide"].projected),
    ):
        found = [
            float(row["eigenvalue"])
            for row in eigenvalues
            if (row["of"], row["weighting"]) == (name, weighting)
        ]
        np.testing.assert_array_equal(found, values)
    assert len(embedding) == len(study.embedding.points)
    points = [[float(row["x"]), float(row["y"])] for row in embedding]
    np.testing.assert_array_equal(np.float32(points), study.embedding.points)
    assert embedding[0]["true_class"] == NASTY[study.embedding.true_class[0]]
    assert embedding[-1]["true_class"] == embedding[-1]["example"] == ""
    jmlr = [row for row in overlaps if row["weighting"] == "jmlr"]
    np.testing.assert_array_equal(
        [[float(row[name]) for name in NASTY] for row in jmlr],
        study.levels["jmlr"].class_overlap,
    )


def test_the_tables_hold_errors_densities_and_earlier_epochs() -> None:
    study = make_study(3, 40, exact=False, num_moments=2)
    levels = study.levels["icml"]
    errors = {"G3": np.full(9, 0.25), "projected": np.full(9, 0.5)}
    levels = replace(levels, residuals=errors, trace_error={"G3": 0.125})
    study = replace(study, levels={**study.levels, "icml": levels})
    tables = {
        name: list(csv.DictReader(text.splitlines()))
        for name, text in csv_tables(study).items()
    }
    for name, error in (("G3", 0.25), ("G projected", 0.5)):
        found = {
            row["residual"]
            for row in tables["eigenvalues"]
            if (row["of"], row["weighting"], row["epoch"]) == (name, "icml", "30")
        }
        assert found == {str(error)}
    for name in ("eigenvalues", "embedding", "overlaps", "traces", "density"):
        assert {row["epoch"] for row in tables[name]} == {"0", "1", "30"}
    told = {
        (row["of"], row["weighting"]): row["error"]
        for row in tables["traces"]
        if row["epoch"] == "30"
    }
    assert float(told["Hess", ""]) == study.spectra["Hess"].trace_error > 0
    assert told["G3", "icml"] == "0.125"
    nodes = [float(r["node"]) for r in tables["density"] if r["epoch"] == "30"]
    assert len(nodes) == sum(s.nodes.size for s in study.spectra.values())
    assert len(tables["history"]) == 30
    about = {row["name"]: row["value"] for row in tables["about"]}
    assert about["run.model"] == "linear"
    assert about["outlier_rule"] == study.outlier_rule


def test_every_weighting_and_operator_is_in_the_tables() -> None:
    study = make_study(4, 40)
    eigenvalues = csv_tables(study)["eigenvalues"]
    for name in ("G", "Hess", "H"):
        assert f"\n{name},,1," in eigenvalues
    for weighting in study.levels:
        assert f"\nG subtracted,{weighting},1," in eigenvalues


def test_the_command_writes_a_page_and_tables_and_says_so(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, tables = tmp_path / "page.html", tmp_path / "tables"
    arguments = ["export", str(study_file), "--html", str(page), "--csv", str(tables)]
    assert main(arguments) == 0
    assert f"Wrote {page}" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert len(list(tables.glob("run-*.csv"))) == len(TABLES)
    before = page.stat().st_mtime_ns
    assert main(arguments) == 2
    assert f"{page} already exists" in capsys.readouterr().err
    page.unlink()
    assert main(arguments) == 2  # because of the tables
    assert not page.exists()
    assert main([*arguments, "--force"]) == 0
    assert page.stat().st_mtime_ns != before


def test_several_studies_are_exported_in_bulk_under_their_names(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_study(2, 30).save(tmp_path / "other.study")
    folder = tmp_path / "pages"
    assert main(["export", str(study_file), str(other), "--html", str(folder)]) == 0
    assert sorted(page.name for page in folder.iterdir()) == ["other.html", "run.html"]
    assert main(["export", str(study_file), str(study_file), "--html", "x"]) == 2
    assert "have the same name" in capsys.readouterr().err
    assert main(["export", str(study_file), "--html", str(folder), "--force"]) == 0
    text = (folder / "run.html").read_text(encoding="utf-8")
    assert "Pinned:" not in text
    pin = ["--pin", str(other), "--force"]
    assert main(["export", str(study_file), "--html", str(folder), *pin]) == 0
    assert "Pinned:" in (folder / "run.html").read_text(encoding="utf-8")
    assert main(["export", str(study_file)]) == 2
    assert "--html PAGE or --csv FOLDER" in capsys.readouterr().err


def test_what_cannot_be_exported_is_one_sentence(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkbenchError, match="not measured with weighting 'no'"):
        export_html(make_study(3, 40), tmp_path / "page.html", weighting="no")
    (tmp_path / "file").touch()
    page = str(tmp_path / "file" / "page.html")
    assert main(["export", str(study_file), "--html", page]) == 2
    assert "cannot write" in capsys.readouterr().err
