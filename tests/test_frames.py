"""A study as frames and arrays: the rows of its tables, and numbers by coordinates."""

from __future__ import annotations

import sys
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.study.tables import LAST, TABLES, csv_tables

NAMES = ("=1+1", "été", "-1", "d")
FILM = make_study(4, 60, num_moments=2, exact=False, class_names=NAMES)
ONE = make_study(3, 40)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("study", [FILM, ONE], ids=["film", "one"])
def test_a_frame_holds_what_the_csv_table_does(study, name):
    pd = pytest.importorskip("pandas")
    frame = study.to_frame(name)
    text = csv_tables(study)[name].removeprefix("\ufeff").replace("'=", "=")
    read = pd.read_csv(StringIO(text), dtype=dict.fromkeys(frame.columns, object))
    assert list(read.columns) == list(frame.columns)
    assert len(read) == len(frame)
    assert len(frame) or (study, name) == (ONE, "density")  # which needed no probe
    for at, column in enumerate(frame.columns):
        ours, theirs = frame.iloc[:, at], read.iloc[:, at]
        if name == "about":  # where the plan of a study may be nothing
            theirs = theirs.fillna("")
        assert ours.isna().tolist() == theirs.isna().tolist(), column
        there = ours.notna()
        if pd.api.types.is_numeric_dtype(ours.dtype):
            assert [*map(float, ours[there])] == [*map(float, theirs[there])], column
        else:
            assert ours[there].tolist() == theirs[there].tolist(), column


def test_whole_numbers_stay_whole_where_some_are_missing():
    pytest.importorskip("pandas")
    marks = FILM.to_frame("embedding")
    assert str(marks["example"].dtype) == "Int64"
    assert marks["example"].isna().sum() == 3 * (4 * 4 + 4 + 1)
    without = replace(ONE, run={**ONE.run, "epochs": None})
    assert without.to_frame("traces")["epoch"].isna().all()


def test_the_arrays_are_those_of_the_study():
    pytest.importorskip("xarray")
    found = FILM.to_xarray()
    assert found["epoch"].values.tolist() == [0, 1, 30]
    assert found["operator"].values.tolist() == ["G", "Hess", "H", LAST]
    assert found["class"].values.tolist() == list(NAMES)
    for moment in FILM.film:
        now = found.sel(epoch=moment.run["epochs"])
        for name, spectrum in moment.spectra.items():
            one = now.sel(operator=name)
            m = len(spectrum.eigenvalues)
            assert one["eigenvalue"].values[:m].tolist() == [*spectrum.eigenvalues]
            assert one["residual"].values[:m].tolist() == [*spectrum.residuals]
            assert np.isnan(one["eigenvalue"].values[m:]).all()
            assert one["trace"].item() == spectrum.trace
            assert one["trace_error"].item() == spectrum.trace_error
            np.testing.assert_array_equal(one["node"], spectrum.nodes)
            np.testing.assert_array_equal(one["weight"], spectrum.weights)
        for name, levels in moment.levels.items():
            one = now.sel(weighting=name)
            np.testing.assert_array_equal(one["overlap"], levels.class_overlap)
            np.testing.assert_array_equal(one["in_span"], levels.overlap)
            for part, values in levels.parts.items():
                row = one["part_eigenvalue"].sel(part=part).values
                assert row[: len(values)].tolist() == [*values]
                assert one["part_trace"].sel(part=part).item() == levels.trace[part]
        layer = moment.last_layer
        one = now.sel(operator=LAST)
        m = len(layer.spectrum.eigenvalues)
        assert one["eigenvalue"].values[:m].tolist() == [*layer.spectrum.eigenvalues]
        assert one["trace"].item() == layer.spectrum.trace
        assert now["other_class"].values.tolist() == list(NAMES)
        np.testing.assert_array_equal(now["cosine"], layer.cosines)
        np.testing.assert_array_equal(now["probability"], layer.probabilities)
        np.testing.assert_array_equal(now["class_share"], layer.shares)
        np.testing.assert_array_equal(now["class_feature"], layer.class_means)
        for name, value in layer.neural_collapse.items():
            assert now["last_layer"].sel(measure=name).item() == value
        points = np.stack([now["x"], now["y"]], axis=1)
        np.testing.assert_array_equal(
            points.astype(np.float32), moment.embedding.points
        )
    last, layers = found.sel(epoch=30), FILM.layers
    assert found["layer"].values.tolist() == list(layers.names)
    many = slice(layers.share.shape[1])
    np.testing.assert_array_equal(last["layer_share"][:, many], layers.share)
    np.testing.assert_array_equal(last["layer_trace"], layers.trace)
    np.testing.assert_array_equal(last["layer_Hess"], layers.eigenvalues["Hess"])
    assert np.isnan(found.sel(epoch=0)["layer_trace"]).all()
    marks = FILM.embedding
    assert found["level"].values.tolist() == [*marks.level]
    assert found["example"].values.tolist() == [*marks.example]
    words = [NAMES[c] if c >= 0 else "" for c in marks.true_class]
    assert found["true_class"].values.tolist() == words
    np.testing.assert_array_equal(found["loss"], FILM.history["loss"])
    assert found["trained"].values.tolist() == [*FILM.history["epoch"]]
    assert found.attrs["outlier_rule"] == FILM.outlier_rule
    assert found.attrs["run.model"] == "linear"


def test_a_study_of_one_epoch_that_is_unknown_has_arrays_too():
    pytest.importorskip("xarray")
    study = replace(
        ONE, run={**ONE.run, "epochs": None}, history={"epoch": np.empty(0)}
    )
    found = study.to_xarray()
    assert np.isnan(found["epoch"].item())
    assert found.sizes["trained"] == 0
    assert "node" not in found  # it is exact: no probe was needed
    top = found["eigenvalue"].sel(operator="G").squeeze().values[0]
    assert top == study.spectra["G"].eigenvalues[0]


def test_a_table_that_does_not_exist_gets_a_sentence():
    pytest.importorskip("pandas")
    with pytest.raises(
        WorkbenchError, match="no table 'spectra'; choose one of eigenv"
    ):
        ONE.to_frame("spectra")


@pytest.mark.parametrize("name", ["pandas", "xarray"])
def test_without_the_library_a_sentence_says_what_to_do(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    call = ONE.to_frame if name == "pandas" else ONE.to_xarray
    with pytest.raises(
        WorkbenchError, match=rf"{name} is not installed; .*pip install"
    ):
        call()
