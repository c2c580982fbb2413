"""Convert a study to pandas and xarray, from the rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.study.records import LastLayer, Study
from workbench.study.tables import LAST, table
from workbench.study.walk import Walk

if TYPE_CHECKING:
    import pandas
    import xarray

CLASSES = ("true_class", "potential_class")  # of a mark


def to_frame(study: Study, name: str) -> pandas.DataFrame:
    """Return one of the tables of `csv_tables` as a data frame.

    Raises:
        WorkbenchError: If there is no such table, or pandas is not installed.
    """
    pd = _library("pandas", "to_frame")
    head, rows = table(study, name)
    frame = pd.DataFrame.from_records(rows, columns=list(head))
    for at, column in enumerate(zip(*rows, strict=True)):
        if {type(value) for value in column} == {int, type(None)}:  # else floats
            frame.isetitem(at, pd.array(column, dtype="Int64"))
    return frame


def to_xarray(study: Study) -> xarray.Dataset:
    """Return all numbers of a study with their coordinates; see `Study.to_xarray`.

    Raises:
        WorkbenchError: If xarray is not installed.
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
    there = found.indexes["operator"]  # in another order, where one has no density
    order = [name for name in (*study.spectra, LAST) if name in there]
    epochs = [moment.run.get("epochs") for moment in study.film]
    history, about = to_frame(study, "history"), to_frame(study, "about")
    marks = to_frame(replace(study, moments=()), "embedding")
    found = found.reindex(operator=order).assign_coords(
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
    shares = overlaps.iloc[:, 5:-1].to_numpy(float)
    num, C = shares.shape
    overlaps = overlaps.iloc[:, :5].loc[np.repeat(np.arange(num), C)]
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
        _cube(
            spread.astype({"shuffled": float, "spread": float}),
            ["weighting", "eigenvector"],
            ["in_span", "shuffled", "spread"],
            {},
        ),
        _cube(overlaps, ["weighting", "eigenvector", "class"], ["overlap"], {}),
        xr.Dataset({xy: ("mark", points[xy].to_numpy(float)) for xy in ("x", "y")}),
    ]
    if study.walk is not None:
        cubes.append(_walked(study.walk))
    if study.layers is not None:
        cubes.append(_by_layer(study))
    if study.last_layer is not None:
        cubes.append(_last_layer(study.last_layer, to_frame(study, "last_layer")))
    found = xr.merge(cubes, join="outer", compat="no_conflicts")
    names = list(study.class_names)
    found = found.assign_coords({"class": names})
    return found.assign_coords(other_class=names) if study.last_layer else found


def _walked(walk: Walk) -> xarray.Dataset:
    """The loss along each eigenvector, by class."""
    along = ("walked", "distance")
    return _library("xarray", "to_xarray").Dataset(
        {
            "walk_loss": (along, walk.loss),
            "walk_class_loss": ((*along, "class"), walk.class_loss),
        },
        {
            "walked": walk.names,
            "distance": walk.distance,
            "class": list(range(len(walk.shares))),
        },
    )


def _by_layer(study: Study) -> xarray.Dataset:
    """Shares and traces of each layer, and the leading eigenvalues of its blocks."""
    layers = study.layers
    assert layers is not None
    made: dict[str, Any] = {
        "layer_share": (("layer", "eigenvector"), layers.share),
        "layer_trace": ("layer", layers.trace),
        "layer_parameters": ("layer", layers.num_parameters),
    }
    num = max((v.shape[1] for v in layers.eigenvalues.values()), default=0)
    for name, values in layers.eigenvalues.items():
        found = np.pad(
            values, ((0, 0), (0, num - values.shape[1])), constant_values=np.nan
        )
        made[f"layer_{name}"] = (("layer", "block_rank"), found)
    ranks = {"block_rank": np.arange(1, num + 1)} if layers.eigenvalues else {}
    return _library("xarray", "to_xarray").Dataset(
        made,
        {
            "layer": list(layers.names),
            "eigenvector": np.arange(1, layers.share.shape[1] + 1),
            **ranks,
        },
    )


def _last_layer(layer: LastLayer, measures: pandas.DataFrame) -> xarray.Dataset:
    """The last layer's numbers by class, and its single numbers by name."""
    pair = ("class", "other_class")
    classes = range(len(layer.shares))
    return _library("xarray", "to_xarray").Dataset(
        {
            "cosine": (pair, layer.cosines),
            "probability": (pair, layer.probabilities),
            "class_share": ("class", layer.shares),
            "class_feature": (("class", "feature"), layer.class_means),
            "last_layer": ("measure", measures["value"].to_numpy(float)),
        },
        {"class": list(classes), "measure": list(measures["name"])},
    )


def _cube(
    rows: pandas.DataFrame,
    index: list[str],
    values: list[str],
    names: Mapping[str, str],
) -> xarray.Dataset:
    """Turn rows into arrays indexed by some columns, in order of first appearance."""
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
            f"{who}: {name} is not installed; install it (pip install {name}), or use "
            "`workbench export --csv`."
        ) from error
