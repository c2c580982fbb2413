"""A study: all results of one measurement, in one file. NumPy only, no torch.

The file is a safetensors file: flat named arrays, and a JSON header in its metadata.
Opening one never runs code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.errors import printable
from workbench.files.container import Format, read_container, write_container
from workbench.study.card import (
    Card,
    Described,
    fit_in_words,
    give_or_take,
    listed,
    numbers,
    of_all,
)
from workbench.study.convention import CONVENTIONS, Convention
from workbench.study.layers import Layers
from workbench.study.null import Null
from workbench.study.schema import (
    LastLayerFile,
    LayersFile,
    LevelsFile,
    NullFile,
    StudyFile,
    WalkFile,
    read_study,
)
from workbench.study.spectrum import Spectrum
from workbench.study.walk import Walk
from workbench.theory.collapsed import SUM_TO_1, Collapse, collapse_of

if TYPE_CHECKING:
    import pandas
    import xarray

SCHEMA = 7  # 2: moments, which a reader of before would not show; 3: stated errors;
# 4: residuals of parts and knock-outs, and which eigenvalues are of the low end;
# 5: the last layer; 6: nulls, walks, and what Hess shares with G; 7: layers
_FORM = Format("study", SCHEMA, "load_study", "workbench measure", "measure again")
Record = TypeVar("Record")

# Leading eigenvalues of G that are shown one by one: for at most this many classes,
MAX_LEADING = 20
SPARE = 2  # and a few more, to allow for another count

# Columns of an embedding that identify a row; the same in every snapshot of a study.
ROWS = ("level", "example", "true_class", "potential_class")


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The parts of G carried by the three averages, in one convention."""

    weighting: str  # the convention's name
    parts: dict[
        str, NDArray[np.float64]
    ]  # part, and the means' sum -> eigenvalues, descending
    trace: dict[str, float]  # part, the means' sum, and "G" -> trace
    kept: NDArray[
        np.float64
    ]  # (4,) share of trace G: gradients, after i, after c', after c
    overlap: NDArray[
        np.float64
    ]  # (m,) ||Q^T u_j||^2 of G's eigenvector u_j, Q = span{delta_c}
    class_overlap: NDArray[np.float64]  # (m, C) (u_j . delta_c)^2 / ||delta_c||^2
    subtracted: NDArray[np.float64]  # leading eigenvalues of G - class part
    projected: NDArray[np.float64]  # leading eigenvalues of (I - QQ^T) G (I - QQ^T)
    trace_error: dict[str, float] = field(
        default_factory=dict
    )  # half the 95 % interval of each estimated trace; of such a part, as of the last,
    # `parts` holds the leading eigenvalues
    residuals: dict[str, NDArray[np.float64]] = field(
        default_factory=dict
    )  # error bars of eigenvalues that were computed by iteration: by part, and for
    # "subtracted" and "projected"; older files have none
    null: Null | None = None  # of all these, labels shuffled; older files have none

    @property
    def convention(self) -> Convention:
        """The convention of the averages."""
        return CONVENTIONS[self.weighting]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The picture: all levels in one plane, one row per gradient drawn."""

    points: NDArray[np.float32]  # (n, 2)
    level: NDArray[
        np.int64
    ]  # (n,) 0 delta_{i,c,c'}, 1 delta_{c,c'}, 2 delta_c, 3 delta_G
    example: NDArray[np.int64]  # (n,) index i in the data; -1 where averaged
    true_class: NDArray[np.int64]  # (n,) c; -1 for delta_G
    potential_class: NDArray[np.int64]  # (n,) c'; -1 where averaged
    method: str  # umap, tsne, pca
    metric: str  # cosine, euclidean
    weighting: str  # the convention's name
    num_total: int  # number of delta_{i,c,c'}; those drawn are the rows of level 0
    note: str = ""  # what was left out and how exact the rest is; "": all, exact


# Measures of neural collapse: each falls to 0 as a network collapses.
NEURAL_COLLAPSE: Mapping[str, str] = {
    "NC1": "within-class over between-class variation, tr(S_W pinv(S_B)) / C",
    "NC2 equinorm, means": "spread of the lengths of the class means over their mean",
    "NC2 equinorm, weights": "the same for the rows of the weight",
    "NC2 equiangular, means": "spread of the cosines of the class means",
    "NC2 equiangular, weights": "the same for the rows of the weight",
    "NC2 maximal angle, means": "mean of |cosine + 1 / (C - 1)| of the class means",
    "NC2 maximal angle, weights": "the same for the rows of the weight",
    "NC3": "squared distance of the weight and the class means, both of length 1",
    "NC4": "share of examples that the nearest class mean puts into another class",
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LastLayer(Described):
    r"""The linear layer that outputs the logits, and its input features.

    Features are its inputs h(x_i); ``S_W`` is their covariance within the classes,
    ``S_B`` that of the class means, both weighted by the shares of the classes. The
    class means of `NEURAL_COLLAPSE` are relative to the mean of all examples.
    """

    name: str  # of the module
    bias: bool  # whether it has a bias, which acts like a feature that is always 1
    class_means: NDArray[np.float64]  # (C, q) mean features of each class
    probabilities: NDArray[np.float64]  # (C, C) mean probabilities, by true class
    shares: NDArray[np.float64]  # (C,) n_c / N
    within: float  # tr S_W
    between: float  # tr S_B
    neural_collapse: dict[str, float]  # by the names in NEURAL_COLLAPSE
    spectrum: Spectrum  # of G restricted to this layer's weights

    @property
    def inputs(self) -> NDArray[np.float64]:
        """The class means, with a constant feature for a bias; (C, q) or (C, q + 1)."""
        if not self.bias:
            return self.class_means
        return np.c_[self.class_means, np.ones(len(self.class_means))]

    @property
    def cosines(self) -> NDArray[np.float64]:
        """Between the `inputs` of any two classes, (C, C)."""
        length = np.linalg.norm(self.inputs, axis=1, keepdims=True)
        tiny = np.finfo(np.float64).tiny
        unit = self.inputs / np.maximum(length, tiny)
        return unit @ unit.T

    @property
    def cosine(self) -> float:
        """r, the mean of the cosines between different classes."""
        apart = ~np.eye(len(self.shares), dtype=bool)
        return float(self.cosines[apart].mean()) if apart.any() else float("nan")

    def collapsed(self, convention: str = "icml") -> Collapse:
        """Return what G of this layer would be, had its features fully collapsed.

        Applies `workbench.theory.collapse_of` to the measured class means. Where the
        `spectrum` exceeds it, that is variation within the classes.

        Args:
            convention: Of the class part: ``"icml"``, ``"slide"`` or ``"jmlr"``.

        Raises:
            WorkbenchError: If there is no such convention, or there are too many
                classes to solve for.
        """
        return _collapsed(self, convention)

    @property
    def in_words(self) -> str:
        """The number of features, and how similar those of different classes are."""
        bias = " and a bias" if self.bias else ""
        num = self.class_means.shape[1]
        return f"{num:,} features{bias}, mean cosine of classes {self.cosine:.4g}"

    def card(self) -> Card:
        """What it is, in a few lines."""
        values, measured = self.spectrum.eigenvalues, self.neural_collapse
        lines = {
            "takes": self.in_words,
            "classes": f"{len(self.shares):,}",
            "variation": f"{self.within:.4g} within, {self.between:.4g} between",
            "collapse": ", ".join(
                f"{name} {measured[name]:.4g}"
                for name in ("NC1", "NC3", "NC4")
                if name in measured
            ),
            "G": f"of its weights alone: {numbers(values)}, "
            f"trace {self.spectrum.trace:.4g}",
        }
        return Card(f"Last layer {self.name}".rstrip(), lines)


@lru_cache(maxsize=64)  # the page asks for the same ones several times
def _collapsed(layer: LastLayer, convention: str) -> Collapse:
    return collapse_of(
        layer.inputs, layer.probabilities, layer.shares, convention=convention
    )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Study(Described):
    """One measurement of one checkpoint."""

    run: dict[
        str, Any
    ]  # data, per_class, model, num_params, ... as `show --json` prints
    settings: dict[str, Any]  # MeasureSettings as plain values
    class_names: tuple[str, ...]
    history: dict[str, NDArray[np.float64]]  # epoch, loss, accuracy; (num_epochs,) each
    spectra: dict[str, Spectrum]  # "G", "Hess", "H"
    levels: dict[str, Levels]  # by convention; always contains settings["weighting"]
    num_outliers: int
    outlier_rule: str  # in words, with its numbers
    embedding: Embedding
    plan: str = ""  # how it was measured, and what the alternatives would have cost
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""  # ISO 8601, UTC
    moments: tuple[Study, ...] = ()  # earlier epochs, by epoch; see `as_snapshot`
    last_layer: LastLayer | None = None  # None: no linear layer outputs the logits, or
    # the file is older
    random: Null | None = None  # of random combinations of the gradients; as above
    shared: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0)
    )  # (w,) of G's first w eigenvectors, the share in the span of Hess's first w
    walk: Walk | None = None  # None: not measured, as in moments, or the file is older
    layers: Layers | None = None  # as above

    @property
    def film(self) -> tuple[Study, ...]:
        """All measured epochs in order; the last is this study itself."""
        return (*self.moments, self)

    @property
    def weighting(self) -> str:
        """The name of the requested convention, which the embedding uses."""
        return str(self.settings["weighting"])

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def num_leading(self) -> int:
        """How many eigenvalues of G are shown one by one.

        The outliers, or C if that is more, and a few beyond. If the rule counts fewer
        outliers than classes, the next eigenvalues are still worth a look, as the gap
        is often unclear.
        """
        wanted = max(self.num_outliers, min(self.num_classes, MAX_LEADING)) + SPARE
        return min(wanted, len(self.spectra["G"].eigenvalues))

    def card(self) -> Card:
        """What it is, in a few lines."""
        run, picture, layer = self.run, self.embedding, self.last_layer
        names = ", ".join(self.levels)
        lines = {
            "network": f"{run.get('num_params', 0):,} {of_all(run)}parameters",
            "data": f"{run.get('num_examples', 0):,} examples",
            "classes": f"{self.num_classes:,}: {listed(self.class_names)}",
            "fit": fit_in_words(run),
        }
        for name, found in self.spectra.items():
            values = found.eigenvalues
            how = "all" if found.complete else "leading"
            top = f"largest {values[0]:.4g}, " if len(values) else ""
            trace = give_or_take(found.trace, found.trace_error)
            lines[name] = (
                f"{len(values):,} eigenvalues, {how} ({found.method}), {top}"
                f"trace {trace}"
            )
        lines |= {
            "last layer": "" if layer is None else layer.in_words,
            "layers": "" if self.layers is None else listed(self.layers.labels),
            "outliers": f"{self.num_outliers}, {self.outlier_rule}",
            "averages": f"{names} (picture: {self.weighting})",
            "picture": f"{len(picture.points):,} points, {picture.method}, "
            f"{picture.metric}",
            "epochs": listed(one.run.get("epochs") for one in self.film)
            if self.moments
            else "",
            "made": self.created,
        }
        epochs = run.get("epochs")
        after = "" if epochs is None else f", epoch {epochs}"
        model, data = run.get("model", "a network"), run.get("data", "data")
        return Card(f"Study of {model} on {data}{after}", lines)

    def to_frame(self, table: str = "eigenvalues") -> pandas.DataFrame:
        """Return one of its tables as a pandas ``DataFrame``; requires pandas.

        The rows are those of the CSV tables that `workbench export` writes. Empty cells
        are missing values (``NaN``, ``None`` or ``<NA>``).

        Args:
            table: ``"eigenvalues"``, ``"embedding"``, ``"overlaps"``, ``"traces"``,
                ``"null"``, ``"shared"``, ``"walk"``, ``"layers"``,
                ``"layer_eigenvalues"``, ``"density"``, ``"last_layer"``,
                ``"class_pairs"``, ``"class_features"``, ``"history"`` or
                ``"about"``; see `csv_tables` for their contents.

        Raises:
            WorkbenchError: If there is no such table, or pandas is not installed.
        """
        from workbench.study.frames import to_frame

        return to_frame(self, table)

    def to_xarray(self) -> xarray.Dataset:
        """Return all of its numbers as an xarray ``Dataset``; requires xarray.

        The dimension ``epoch`` runs over the measured epochs. The others are: for
        eigenvalues ``[operator, rank]``, for those of the parts of G ``[weighting,
        part, part_rank]``, for overlaps ``[weighting, eigenvector, class]``, for losses
        of a walk ``[walked, distance, class]``, for layers ``[layer, eigenvector]`` and
        ``[layer, block_rank]``, for points ``[mark]``, for the density
        ``[operator, probe, number]`` and for losses ``[trained]``. For the last layer:
        cosines and probabilities ``[class, other_class]``, mean features ``[class,
        feature]``, single numbers ``[measure]``. Missing numbers are NaN; an average
        has example -1 and class ``""``. Text is in ``attrs``.

        Raises:
            WorkbenchError: If xarray is not installed.
        """
        from workbench.study.frames import to_xarray

        return to_xarray(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the study to one file; an old file stays until the new one is complete.

        Raises:
            WorkbenchError: If the folder does not exist or cannot be written.
        """
        header, arrays = _flatten(self)
        return write_container(path, _FORM.kind, header, arrays)


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read a study written by `Study.save`. Never runs code from the file.

    Everything is checked (`workbench.study.schema`), so code that shows a study can
    rely on it. Text is made printable.

    Raises:
        WorkbenchError: If the file is missing, damaged, not a study, or written by a
            later version.
    """
    return read_container(path, _FORM, "np", _unflatten)


def _flatten(study: Study) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Split a study into a JSON header and flat named arrays; narrow its snapshots."""
    arrays: dict[str, NDArray[Any]] = {}
    header = {"schema": SCHEMA, "study": _pack(study, "", arrays)}
    small = {k: narrowed(v) if _of_moment(k) else v for k, v in arrays.items()}
    return header, small


def _of_moment(name: str) -> bool:
    """Whether an array is stored narrowed; points are single precision anyway."""
    return name.startswith("moments/") and not name.endswith("embedding/points")


def narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """Use fewer bytes: single precision, and the smallest integers that fit."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    low, high = array.min(initial=0), array.max(initial=0)
    kinds: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32)
    for kind in kinds:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    """Undo `narrowed`, except for the lost digits."""
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _pack(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Replace each array below ``value`` by its name, and put it into ``arrays``."""
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {
            k: _pack(v, f"{name}/{k}" if name else k, arrays) for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_pack(v, f"{name}/{n}", arrays) for n, v in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _unflatten(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Study:
    wide = {k: _widened(v) if _of_moment(k) else v for k, v in arrays.items()}
    study = _study(read_study(_readable(header["study"]), wide))
    _check(study)
    return study


def _readable(value: Any) -> Any:
    """The same plain values with all text printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(k): _readable(v) for k, v in value.items()}
    return [_readable(v) for v in value] if isinstance(value, list) else value


def _study(found: StudyFile) -> Study:
    return _made(
        Study,
        found,
        spectra={k: _made(Spectrum, v) for k, v in found.spectra.items()},
        levels={k: _levels(v) for k, v in found.levels.items()},
        embedding=_made(Embedding, found.embedding),
        class_names=tuple(found.class_names),
        moments=tuple(map(_study, found.moments)),  # none in schema 1
        last_layer=_last_layer(found.last_layer),
        random=_null(found.random),
        walk=_walk(found.walk),
        layers=_layers(found.layers),
    )


def _levels(found: LevelsFile) -> Levels:
    return _made(Levels, found, null=_null(found.null))


def _null(found: NullFile | None) -> Null | None:
    return None if found is None else _made(Null, found)


def _walk(found: WalkFile | None) -> Walk | None:
    if found is None:
        return None
    return _made(Walk, found, operator=tuple(found.operator))


def _layers(found: LayersFile | None) -> Layers | None:
    if found is None:
        return None
    owned = tuple(map(tuple, found.parameters))
    names, kinds = tuple(found.names), tuple(found.kinds)
    return _made(Layers, found, names=names, kinds=kinds, parameters=owned)


def _last_layer(found: LastLayerFile | None) -> LastLayer | None:
    if found is None:
        return None
    return _made(LastLayer, found, spectrum=_made(Spectrum, found.spectrum))


def _made(kind: type[Record], found: Any, **inner: Any) -> Record:
    """Make a record from the checked one's fields, replacing some."""
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(found, name) for name in names} | inner)


def _check(study: Study) -> None:
    """Raise ValueError if the parts of a study do not fit together."""
    if study.weighting not in study.levels:
        raise ValueError(f"weighting {study.weighting!r}")
    if "G" not in study.spectra:
        raise ValueError(f"spectra {sorted(study.spectra)}")
    measured = dict(study.spectra)
    if (layer := study.last_layer) is not None:
        measured["the last layer"] = layer.spectrum
        for name, rows in (
            ("probabilities", layer.probabilities),
            ("shares", layer.shares[None]),
        ):
            if not np.allclose(rows.sum(axis=1), 1.0, atol=SUM_TO_1):
                raise ValueError(f"{name} of the last layer")
        if not layer.class_means.size:
            raise ValueError("no features of the last layer")
    for name, spectrum in measured.items():
        if len(spectrum.eigenvalues) > spectrum.dim:
            raise ValueError(f"eigenvalues of {name}")
        if not np.allclose(spectrum.weights.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError(f"density of {name}")
    if study.num_outliers > len(study.spectra["G"].eigenvalues):
        raise ValueError(f"num_outliers {study.num_outliers}")
    for name, levels in study.levels.items():
        parts = {*levels.convention.parts, levels.convention.means_part}
        if levels.weighting != name or parts - set(levels.parts):
            raise ValueError(f"parts of {name}")
        if {*parts, "G"} - set(levels.trace):
            raise ValueError(f"traces of {name}")
        for null in filter(None, (levels.null, study.random)):
            if null.overlap.shape[1] != len(levels.overlap):
                raise ValueError(f"null of {name}")
    if (walk := study.walk) is not None:
        _check_walk(walk)
    if (layers := study.layers) is not None:
        _check_layers(layers, study)
    if len(study.shared) > len(study.spectra["G"].eigenvalues):
        raise ValueError("shared directions")
    if len({len(column) for column in study.history.values()}) > 1:
        raise ValueError("history")
    embedding = study.embedding
    classes = (embedding.true_class, embedding.potential_class)
    if len(embedding.level) and max(c.max() for c in classes) >= study.num_classes:
        raise ValueError("embedding classes")
    for moment in study.moments:
        _check(moment)
        if moment.moments or moment.class_names != study.class_names:
            raise ValueError("a moment of another study")
        if set(moment.spectra) - set(study.spectra):
            raise ValueError("spectra of a moment")
        if set(moment.levels) != set(study.levels):
            raise ValueError("conventions of a moment")
        for column in ROWS:
            mine, its = getattr(embedding, column), getattr(moment.embedding, column)
            if not np.array_equal(mine, its):
                raise ValueError(f"rows of a moment by {column}")
    epochs = [moment.run["epochs"] for moment in study.film] if study.moments else []
    if epochs != sorted(set(epochs)):
        raise ValueError(f"moments at epochs {epochs}")


def _check_walk(walk: Walk) -> None:
    """Raise ValueError if it is no walk through the network itself."""
    num, steps = len(walk.distance), np.diff(walk.distance)
    middle = walk.distance[num // 2] if num else np.nan
    if num < 3 or num % 2 == 0 or middle != 0.0 or not (steps > 0).all():
        raise ValueError("distances of a walk")
    if len(walk.operator) != len(walk.rank):
        raise ValueError("eigenvectors of a walk")
    if not np.allclose(walk.shares.sum(), 1.0, atol=SUM_TO_1):
        raise ValueError("shares of a walk")


def _check_layers(layers: Layers, study: Study) -> None:
    """Raise ValueError if the layers are not those of this study's G."""
    g, num = study.spectra["G"], len(layers.num_parameters)
    columns = (layers.names, layers.kinds, layers.parameters)
    if not num or {len(column) for column in columns} != {num}:
        raise ValueError("names of layers")
    if len(set(layers.names)) != num:
        raise ValueError("two layers of one name")
    if layers.num_parameters.sum() != g.dim:
        raise ValueError("parameters of layers")
    if not layers.share.shape[1] or layers.share.shape[1] > len(g.eigenvalues):
        raise ValueError("eigenvectors of layers")
    if not np.allclose(layers.share.sum(axis=0), 1.0, atol=SUM_TO_1):
        raise ValueError("shares of layers")
    if not layers.trace.sum() > 0.0:
        raise ValueError("traces of layers")
    if set(layers.eigenvalues) != set(layers.residuals):
        raise ValueError("eigenvalues of layers")
    for name, values in layers.eigenvalues.items():
        if values.shape != layers.residuals[name].shape:
            raise ValueError(f"eigenvalues of {name} in layers")
