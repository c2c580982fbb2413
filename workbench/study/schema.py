"""The schema of our files: types, shapes and ranges, one line per field.

Each class has the fields of the record that it checks; a test compares the two, so a
new field needs a line here. It uses msgspec: strict, without conversions or
dependencies, and loaded in 30 ms, which matters because page kernels start often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, get_args, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

MOST_NAME = 255  # characters of a class name, as for a folder
MOST_ROWS = 200_000  # marks in a picture
MOST_CELLS = 2_000_000  # in a table of overlaps
MOST_LAYERS = 100_000
LARGEST = 1e37  # for any number; fits into single precision

Count = Annotated[int, Meta(ge=0, le=2**53)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Real = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Name = Annotated[str, Meta(max_length=MOST_NAME)]
Line = Annotated[str, Meta(max_length=8192)]
Names = Annotated[list[Name], Meta(min_length=1, max_length=10_000)]
ConventionName = Literal["slide", "icml", "jmlr"]
Side = Annotated[int, Meta(ge=1, le=2**30)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = None | bool | Whole | float | Line
Few = Annotated[list[Scalar], Meta(max_length=10_000)]
Plain = Scalar | Few | Annotated[dict[Name, Scalar | Few], Meta(max_length=200)]
Settings = Annotated[dict[Name, Plain], Meta(max_length=200)]


@dataclass(frozen=True, slots=True)
class Axes:
    """Shape and range of an array.

    A capital letter names a length shared by the whole study, a small letter one of its
    record; the axis ``"*"`` may have any length.
    """

    names: str  # one letter per axis
    low: float = -LARGEST
    high: float = LARGEST
    nan: bool = False  # whether NaN is allowed
    kind: str = "f"  # "i": integers
    store: type[Any] = np.float64


class TrainingFile(TypedDict, total=False):
    """The known fields of `TrainConfig` in a run."""

    epochs: Count
    lr: Real
    momentum: Real
    weight_decay: Real
    batch_size: Count
    seed: Seed
    device: Name
    mixed_precision: bool
    snapshots: list[Count]


class RunFile(TypedDict, total=False):
    """The known fields of a run; other plain values are allowed."""

    data: Line
    per_class: Count | None
    split: Name
    root: Line | None
    data_seed: Seed
    reloadable: bool
    given: bool
    held_out: bool
    loss: Real
    accuracy: Real
    model: Name
    num_params: Count | None
    num_network_params: Count
    num_classes: Count | None
    num_examples: Count | None
    num_available: Count | None
    epochs: Count | None
    epochs_planned: Count | None
    seed: Seed | None
    device: Name | None
    train_loss: float | None
    train_accuracy: float | None
    num_evaluated: Count | None
    training: TrainingFile


class _Weighted(TypedDict):
    weighting: ConventionName


class SettingsFile(_Weighted, total=False):
    """The known fields of `MeasureSettings`."""

    embedding: Name
    metric: Name
    classes: Count | list[Count | Name] | None
    parameters: Line | Few | None
    num_drawn: Count
    num_eigenvalues: Count | None
    tol: Real
    num_steps: Count
    num_probes: Count
    exact_limit: Count
    exact_hessian: bool
    moments: bool
    walk: bool
    layers: bool
    max_minutes: float | None
    method: Name | None
    seed: Seed
    device: Name


class Record(Struct, forbid_unknown_fields=True, kw_only=True):
    """A record of a study, in which arrays replace their names."""


class SpectrumFile(Record):
    """`workbench.study.spectrum.Spectrum`."""

    eigenvalues: Annotated[np.ndarray, Axes("m")]
    residuals: Annotated[np.ndarray, Axes("m", low=0.0, nan=True)]
    nodes: Annotated[np.ndarray, Axes("pq")]
    weights: Annotated[np.ndarray, Axes("pq", low=-1e-6, high=1.001)]
    dim: Annotated[int, Meta(ge=1, le=2**53)]
    trace: Real
    trace_error: float
    complete: bool
    method: Line
    num_matvecs: Count
    num_low: Count | None = None


class NullFile(Record):
    """`workbench.study.null.Null`."""

    overlap: Annotated[np.ndarray, Axes("sm", low=-1.0, high=2.0, nan=True)]
    class_part: Annotated[np.ndarray, Axes("**")]
    subtracted: Annotated[np.ndarray, Axes("*q")]
    projected: Annotated[np.ndarray, Axes("**")]
    error: Real = 0.0
    note: Line = ""


class WalkFile(Record):
    """`workbench.study.walk.Walk`."""

    operator: Annotated[list[Literal["G", "H"]], Meta(max_length=1000)]
    rank: Annotated[np.ndarray, Axes("d", -1, 2**31 - 1, kind="i", store=np.int64)]
    eigenvalue: Annotated[np.ndarray, Axes("d")]
    distance: Annotated[np.ndarray, Axes("n")]
    class_loss: Annotated[np.ndarray, Axes("dnC", nan=True)]
    shares: Annotated[np.ndarray, Axes("C", low=0.0, high=1.001)]


class LayersFile(Record):
    """`workbench.study.layers.Layers`."""

    names: Annotated[list[Line], Meta(max_length=MOST_LAYERS)]
    kinds: Annotated[list[Name], Meta(max_length=MOST_LAYERS)]
    parameters: Annotated[list[list[Line]], Meta(max_length=MOST_LAYERS)]
    num_parameters: Annotated[np.ndarray, Axes("l", 1, 2**53, kind="i", store=np.int64)]
    share: Annotated[np.ndarray, Axes("ld", low=0.0, high=1.001)]
    share_error: Annotated[np.ndarray, Axes("d", low=0.0, high=1.0)]
    trace: Annotated[np.ndarray, Axes("l", low=0.0)]
    eigenvalues: dict[Literal["G", "Hess"], Annotated[np.ndarray, Axes("l*", nan=True)]]
    residuals: dict[
        Literal["G", "Hess"], Annotated[np.ndarray, Axes("l*", low=0.0, nan=True)]
    ]
    class_part: dict[ConventionName, Annotated[np.ndarray, Axes("l*", nan=True)]]
    note: Line = ""


class LevelsFile(Record):
    """`workbench.study.records.Levels`."""

    weighting: ConventionName
    parts: dict[Name, Annotated[np.ndarray, Axes("*")]]
    trace: dict[Name, float]
    kept: Annotated[np.ndarray, Axes("4", nan=True)]
    overlap: Annotated[np.ndarray, Axes("m", low=-1.0, high=2.0, nan=True)]
    class_overlap: Annotated[np.ndarray, Axes("mC", low=-1.0, high=2.0, nan=True)]
    subtracted: Annotated[np.ndarray, Axes("*")]
    projected: Annotated[np.ndarray, Axes("*")]
    trace_error: dict[Name, Real] = {}
    residuals: dict[Name, Annotated[np.ndarray, Axes("*", low=0.0, nan=True)]] = {}
    null: NullFile | None = None


class EmbeddingFile(Record):
    """`workbench.study.records.Embedding`."""

    points: Annotated[np.ndarray, Axes("n2", nan=True, store=np.float32)]
    level: Annotated[np.ndarray, Axes("n", 0, 3, kind="i", store=np.int64)]
    example: Annotated[np.ndarray, Axes("n", -1, 2**31 - 1, kind="i", store=np.int64)]
    true_class: Annotated[np.ndarray, Axes("n", -1, kind="i", store=np.int64)]
    potential_class: Annotated[np.ndarray, Axes("n", -1, kind="i", store=np.int64)]
    method: Name
    metric: Name
    weighting: ConventionName
    num_total: Count
    note: Line = ""


class LastLayerFile(Record):
    """`workbench.study.LastLayer`."""

    name: Line
    bias: bool
    class_means: Annotated[np.ndarray, Axes("Cq")]
    probabilities: Annotated[np.ndarray, Axes("CC", low=0.0, high=1.001)]
    shares: Annotated[np.ndarray, Axes("C", low=0.0, high=1.001)]
    within: float
    between: float
    neural_collapse: Annotated[dict[Name, float], Meta(max_length=100)]
    spectrum: SpectrumFile


class StudyFile(Record):
    """`workbench.study.records.Study`."""

    run: Settings
    settings: Settings
    class_names: Names
    history: dict[
        Literal["epoch", "loss", "accuracy"], Annotated[np.ndarray, Axes("e", nan=True)]
    ]
    spectra: dict[Literal["G", "Hess", "H"], SpectrumFile]
    levels: dict[ConventionName, LevelsFile]
    num_outliers: Count
    outlier_rule: Line
    embedding: EmbeddingFile
    plan: Line = ""
    versions: Annotated[dict[Name, Name], Meta(max_length=100)] = {}
    created: Name = ""
    moments: Annotated[list[StudyFile], Meta(max_length=1000)] = []
    last_layer: LastLayerFile | None = None
    random: NullFile | None = None
    shared: Annotated[np.ndarray, Axes("*", low=-1.0, high=2.0, nan=True)] = np.empty(0)
    walk: WalkFile | None = None
    layers: LayersFile | None = None


class CheckpointRun(TypedDict):
    """The facts that a checkpoint must hold about its run."""

    data: Line
    per_class: Count | None
    split: Name
    root: Line | None
    data_seed: Seed
    reloadable: bool
    model: Name
    num_params: Count
    num_classes: Annotated[int, Meta(ge=2, le=2**31)]
    num_examples: Count
    epochs: Annotated[int, Meta(ge=0, le=10**6)]
    epochs_planned: Count
    seed: Seed
    device: Name
    train_loss: float
    train_accuracy: float
    num_evaluated: Count


class BatchFile(Record):
    """`workbench.training.loop.Tally`, within an epoch."""

    num_batches: Annotated[int, Meta(ge=1, le=2**53)]
    num_examples: Annotated[int, Meta(ge=1, le=2**53)]
    loss: Real
    correct: Count


class SnapshotRun(Record):
    """Loss and accuracy of the weights of an epoch."""

    train_loss: float
    train_accuracy: float
    num_evaluated: Count


class CheckpointFile(Record):
    """The plain values of `workbench.training.checkpoint.Checkpoint`."""

    schema: int
    run: Settings
    settings: Settings
    class_names: Annotated[list[Name], Meta(min_length=2, max_length=10**6)]
    image_shape: tuple[Side, Side, Side]
    history: dict[Literal["epoch", "loss", "accuracy"], list[Real]]
    status: Literal["finished", "cancelled"]
    batch: dict[Name, Real]
    snapshot_runs: dict[Count, SnapshotRun]
    versions: Annotated[dict[Name, Name], Meta(max_length=100)]
    created: Name


def _convert(value: Any, kind: Any, **options: Any) -> Any:
    """Check a value; raise ValueError with every version of msgspec."""
    try:
        return msgspec.convert(value, kind, **options)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def check_checkpoint(header: Any) -> None:
    """Check the plain values of a checkpoint.

    Raises:
        ValueError: Saying what is wrong and where.
    """
    found = _convert(header, CheckpointFile, str_keys=True)
    run = _convert(found.run, CheckpointRun)
    _convert(found.run, RunFile)
    _convert(found.settings, TrainingFile)
    if header["batch"]:
        _convert(header["batch"], BatchFile)
    if len(found.class_names) != run["num_classes"]:
        raise ValueError(f"{len(found.class_names)} class names")
    if math.prod(found.image_shape) > 2**30:
        raise ValueError(f"image_shape {found.image_shape}")
    lengths = {len(found.history[key]) for key in ("epoch", "loss", "accuracy")}
    if lengths != {run["epochs"]}:
        raise ValueError(f"history of {sorted(lengths)} epochs")


def read_study(header: Any, arrays: Mapping[str, NDArray[Any]]) -> StudyFile:
    """Check the plain values of a study, insert its arrays, and check those.

    Raises:
        ValueError: Saying what is wrong and where.
    """

    def resolve(kind: type, value: Any) -> Any:
        if kind is not np.ndarray or not isinstance(value, dict):
            raise ValueError(f"not an array but {type(value).__name__}")
        return arrays[value["array"]]

    try:
        study = _convert(header, StudyFile, dec_hook=resolve)
    except KeyError as error:
        raise ValueError(f"the array {error} is missing") from error
    sizes = {"C": len(study.class_names), "4": 4, "2": 2}
    for moment in (study, *study.moments):
        _convert(moment.run, RunFile)
        _convert(moment.settings, SettingsFile)
        _fit(moment, "", sizes)
        for levels in moment.levels.values():
            if levels.class_overlap.size > MOST_CELLS:
                raise ValueError(f"an overlap table of {levels.class_overlap.shape}")
    return study


def _fit(record: Record, of: str, sizes: Mapping[str, int]) -> None:
    """Check the arrays of a record and its inner records; store them as declared."""
    own = dict(sizes)  # lengths of the record's own axes, in small letters
    for field, hint in _hints(type(record)).items():
        value = getattr(record, field)
        if isinstance(value, np.ndarray):
            setattr(record, field, _checked(value, _axes(hint), f"{field}{of}", own))
        elif isinstance(value, Record):
            _fit(value, f" of {field}", sizes)
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, Record):
                    _fit(item, f" of {key}", sizes)
                elif isinstance(item, np.ndarray):
                    axes = _axes(get_args(hint)[1])
                    value[key] = _checked(item, axes, f"{field} {key}{of}", own)


@cache
def _hints(kind: type[Record]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _axes(hint: Any) -> Axes:
    return next(extra for extra in get_args(hint) if isinstance(extra, Axes))


def _checked(
    array: NDArray[Any], axes: Axes, place: str, sizes: dict[str, int]
) -> NDArray[Any]:
    """Return the array as stored; raise ValueError if it does not fit."""
    if array.dtype.kind != axes.kind or array.ndim != len(axes.names):
        raise ValueError(f"{place}: {array.dtype} of {array.ndim} axes")
    for letter, length in zip(axes.names, array.shape, strict=True):
        if letter != "*" and sizes.setdefault(letter, length) != length:
            raise ValueError(f"{place}: shape {array.shape}")
    missing = np.isnan(array)
    if missing.any() and not axes.nan:
        raise ValueError(f"{place}: not a number")
    if ((array < axes.low) | (array > axes.high)).any():
        raise ValueError(f"{place}: beyond {axes.low:g} to {axes.high:g}")
    return array.astype(axes.store, copy=False)
