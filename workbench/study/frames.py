"""A study for pandas and xarray, from the rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.study.records import Study
from workbench.study.tables import table

if TYPE_CHECKING:
    import pandas
    import xarray

CLASSES = ("true_class", "potential_class")  # of a mark


def to_frame(study: Study, name: str) -> pandas.DataFrame:
    """One of the tables of `csv_tables` as a frame.

    Raises:
        WorkbenchError: If there is no such table, or no pandas.
    """
    pd = _library("pandas", "to_frame")
    head, rows = table(study, name)
    frame = pd.DataFrame.from_records(rows, columns=list(head))
    for at, column in enumerate(zip(*rows, strict=True)):
        if {type(value) for value in column} == {int, type(None)}:  # else floats
            frame.isetitem(at, pd.array(column, dtype="Int64"))
    return frame


def to_xarray(study: Study) -> xarray.Dataset:
    """All numbers of a study with their coordinates; see `Study.to_xarray`.

    Raises:
        WorkbenchError: If there is no xarray.
    """
    xr = _library("xarray", "to_xarray")
    found = xr.concat(
        [_moment(replace(moment, moments=())) for moment in study.film],
        dim="epoch",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
    )
    epochs = [moment.run.get("epochs") for moment in study.film]
    history, about = to_frame(study, "history"), to_frame(study, "about")
    marks = to_frame(replace(study, moments=()), "embedding")
    found = found.assign_coords(
        {
            "epoch": [np.nan if epoch is None else epoch for epoch in epochs],
            "trained": history["epoch"].to_numpy(float),
            "level": ("mark", marks["level"].to_numpy(int)),
            "example": ("mark", marks["example"].fillna(-1).to_numpy(int)),
            **{k: ("mark", marks[k].fillna("").to_numpy(str)) for k in CLASSES},
        }
    )
    curves = {k: ("trained", history[k].to_numpy(float)) for k in ("loss", "accuracy")}
    words = dict(zip(about["name"], about["value"], strict=True))
    return found.assign(curves).assign_attrs(words)


def _moment(study: Study) -> xarray.Dataset:
    """The numbers of one epoch."""
    xr = _library("xarray", "to_xarray")
    values, traces = to_frame(study, "eigenvalues"), to_frame(study, "traces")
    traces = traces.rename(columns={"error": "trace_error"})
    density, points = to_frame(study, "density"), to_frame(study, "embedding")
    density["number"] = density.groupby(["of", "probe"]).cumcount() + 1
    overlaps = to_frame(study, "overlaps")
    shares = overlaps.iloc[:, 3:-1].to_numpy(float)
    num, C = shares.shape
    overlaps = overlaps.iloc[:, :3].loc[np.repeat(np.arange(num), C)]
    overlaps["class"] = np.tile(np.arange(C), num)
    overlaps["overlap"] = shares.ravel()
    whole = values["weighting"].isna(), traces["weighting"].isna()
    operators = {"of": "operator"}
    parts = {"of": "part", "rank": "part_rank"}
    parts |= {k: f"part_{k}" for k in ("eigenvalue", "residual", "trace")}
    parts["trace_error"] = "part_trace_error"
    pairs = ["eigenvalue", "residual"]
    errors = ["trace", "trace_error"]
    spread = overlaps.drop_duplicates(["weighting", "eigenvector"])
    cubes = [
        _cube(values[whole[0]], ["of", "rank"], pairs, operators),
        _cube(values[~whole[0]], ["weighting", "of", "rank"], pairs, parts),
        _cube(traces[whole[1]], ["of"], errors, operators),
        _cube(traces[~whole[1]], ["weighting", "of"], errors, parts),
        _cube(density, ["of", "probe", "number"], ["node", "weight"], operators),
        _cube(spread, ["weighting", "eigenvector"], ["in_span"], {}),
        _cube(overlaps, ["weighting", "eigenvector", "class"], ["overlap"], {}),
        xr.Dataset({xy: ("mark", points[xy].to_numpy(float)) for xy in ("x", "y")}),
    ]
    found = xr.merge(cubes, join="outer", compat="no_conflicts")
    return found.assign_coords({"class": list(study.class_names)})


def _cube(
    rows: pandas.DataFrame,
    index: list[str],
    values: list[str],
    names: Mapping[str, str],
) -> xarray.Dataset:
    """Rows as arrays over some columns, whose values stay in the order they come in."""
    if not len(rows):
        return _library("xarray", "to_xarray").Dataset()
    order = {name: list(dict.fromkeys(rows[name])) for name in index}
    found = rows.set_index(index)[values].to_xarray().reindex(order)
    return found.rename({k: v for k, v in names.items() if k in found.variables})


def _library(name: str, who: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise WorkbenchError(
            f"{who}: {name} is not installed; install it (pip install {name}), or take "
            "`workbench export --csv`."
        ) from error
