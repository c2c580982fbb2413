"""Settings of a sweep: a grid, read from TOML or given in Python, and its cells."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta

from workbench.errors import WorkbenchError, readable

MOST_CELLS = 100_000
SLUG = 80  # characters of a file's name, without its hash

Count = Annotated[int, Meta(ge=1, description="a whole number, at least 1")]
Whole = Annotated[int, Meta(ge=0, description="a whole number, at least 0")]
Size = Annotated[float, Meta(ge=0, description="a number, at least 0")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Switch = Annotated[bool, Meta(description="true or false")]
Words = Annotated[str, Meta(description="text in quotes")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The settings of one run: trained and measured on one core."""

    data: Annotated[
        str,
        Meta(
            pattern=r"^(digits|mnist|fashion|cifar10|cifar100|folder:.+)$",
            description="digits, mnist, fashion, cifar10, cifar100 or folder:PATH",
        ),
    ] = "digits"
    per_class: Count | None = None  # examples per class; None: all
    num_classes: Count | None = None  # only the first so many; None: all
    label_noise: Share = 0.0  # share of the labels that are shuffled before training
    model: Annotated[
        Literal[
            "linear", "mlp", "cnn", "vgg11", "vgg16", "resnet18", "resnet50",
            "densenet40",
        ],
        Meta(
            description="linear, mlp, cnn, vgg11, vgg16, resnet18, resnet50 or "
            "densenet40"
        ),
    ] = "mlp"  # fmt: skip
    width: Count | None = None  # of mlp or cnn, as the next three; None: its own
    depth: Count | None = None
    batch_norm: Switch = True
    pooling: Annotated[
        Literal["max", "mean", "none"], Meta(description="max, mean or none")
    ] = "max"
    epochs: Whole = 30
    lr: Size = 0.05
    momentum: Share = 0.9
    weight_decay: Size = 5e-4
    batch_size: Count = 128
    seed: Whole = 0  # of sample, noise, initial weights, batch order and measurement
    snapshots: Annotated[
        str,
        Meta(
            pattern=r"^(\d+(,\d+)*)?$",
            description="epochs in quotes, separated by commas, such as '0,1,3,10'",
        ),
    ] = ""  # epochs whose weights are kept and measured too
    weighting: Annotated[
        Literal["icml", "slide", "jmlr"], Meta(description="icml, slide or jmlr")
    ] = "icml"
    embedding: Annotated[
        Literal["umap", "tsne", "pca"], Meta(description="umap, tsne or pca")
    ] = "pca"
    metric: Annotated[
        Literal["cosine", "euclidean"], Meta(description="cosine or euclidean")
    ] = "cosine"
    num_drawn: Whole = 0  # single gradients in the picture; none, as they take longest
    method: Annotated[
        Literal["dense", "dual", "krylov", "streamed"] | None,
        Meta(description="dense, dual, krylov or streamed"),
    ] = None  # None: as the plan chooses
    exact_hessian: Switch = False  # all eigenvalues of Hess and H, where that is quick
    walk: Switch = False  # the loss along the leading eigenvectors too
    device: Annotated[
        Literal["cpu", "cuda", "auto"], Meta(description="cpu, cuda or auto")
    ] = "cpu"  # other devices round differently

    @property
    def values(self) -> dict[str, Any]:
        """The settings by name, as plain values."""
        return asdict(self)

    @property
    def changed(self) -> dict[str, Any]:
        """Those that are not the default."""
        return {
            f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default
        }

    @property
    def name(self) -> str:
        """A readable name with a short hash of all settings, unique and stable.

        Example:
            >>> Cell(model="cnn", seed=3).name
            'model-cnn_seed-3_04c1bfda'
        """
        text = json.dumps(self.values, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        said = "_".join(f"{k}-{v}" for k, v in self.changed.items()) or "defaults"
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", said)[:SLUG].rstrip("-_.")
        return f"{slug}_{digest}"


_HINTS = get_type_hints(Cell, include_extras=True)
_OPTIONS = ("sample", "sample_seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """A grid of runs. Invalid values raise WorkbenchError.

    Example:
        >>> settings = SweepSettings(grid={"model": ["mlp", "cnn"], "seed": [0, 1]})
        >>> [(cell.model, cell.seed) for cell in settings.cells]
        [('mlp', 0), ('mlp', 1), ('cnn', 0), ('cnn', 1)]
    """

    grid: Mapping[str, Any] | Sequence[Mapping[str, Any]]  # setting of `Cell` -> value,
    # or list of values; several grids follow one another
    sample: int | None = None  # so many cells, drawn at random; None: all
    sample_seed: int = 0  # of that draw
    cells: tuple[Cell, ...] = field(init=False)

    def __post_init__(self) -> None:
        grids = [self.grid] if isinstance(self.grid, Mapping) else self.grid
        if not (
            isinstance(grids, (list, tuple))
            and grids
            and all(isinstance(grid, Mapping) for grid in grids)
        ):
            raise WorkbenchError(
                f"sweep: the grid is {self.grid!r}; give a table of settings, each "
                "with a value or a list of values, such as [grid] seed = [0, 1]."
            )
        cells = dict.fromkeys(cell for grid in grids for cell in _cells(grid))
        for name, least in (("sample", 1), ("sample_seed", 0)):
            value = getattr(self, name)
            if not (type(value) is int and value >= least) and not (
                name == "sample" and value is None
            ):
                raise WorkbenchError(
                    f"sweep: {name} is {value!r}; give a whole number, at least "
                    f"{least}."
                )
        chosen = tuple(cells)
        if self.sample is not None and self.sample < len(chosen):
            draw = np.random.default_rng(self.sample_seed)
            rows = draw.choice(len(chosen), self.sample, replace=False)
            chosen = tuple(chosen[row] for row in sorted(rows))
        object.__setattr__(self, "cells", chosen)


def read_sweep(path: str | os.PathLike[str]) -> SweepSettings:
    """Read the settings of a sweep from a TOML file.

    The table ``[grid]`` has a line for each setting of `Cell` that is not left at its
    default; a list spans an axis of the grid. Several ``[[grid]]`` follow one another.
    Above them, ``sample = 100`` takes so many cells at random.

    Raises:
        WorkbenchError: If the file cannot be read, or a name or value is not valid.
    """
    with readable("sweep", path):
        text = Path(path).expanduser().read_text(encoding="utf-8")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorkbenchError(
            f"sweep: {path} is not valid TOML ({error}); write lines such as "
            "model = ['mlp', 'cnn'] below a line [grid]."
        ) from error
    for name in found:
        if name not in ("grid", *_OPTIONS):
            where = f"; put it below [grid] in {path}." if name in _HINTS else None
            raise _unknown(name, ("grid", *_OPTIONS), where)
    if "grid" not in found:
        raise WorkbenchError(
            f"sweep: {path} has no table [grid]; add that line, and below it settings "
            "such as seed = [0, 1]."
        )
    return SweepSettings(**found)


def as_settings(
    given: SweepSettings | Mapping[str, Any] | str | os.PathLike[str],
) -> SweepSettings:
    """Return the settings, made from a grid or read from a file where necessary."""
    if isinstance(given, SweepSettings):
        return given
    if isinstance(given, Mapping):
        return SweepSettings(grid=given)
    return read_sweep(given)


def _cells(grid: Mapping[str, Any]) -> Iterable[Cell]:
    """All combinations of a grid, the last axis running fastest, each checked."""
    axes = {}
    num = 1
    for name, given in grid.items():
        if name not in _HINTS:
            raise _unknown(name, tuple(_HINTS))
        listed = isinstance(given, (list, tuple))
        axes[name] = [_value(name, one) for one in (given if listed else [given])]
        if not axes[name]:
            raise WorkbenchError(
                f"sweep: {name} is an empty list; give at least one value, or leave "
                "it out."
            )
        num *= len(axes[name])
    if num > MOST_CELLS:
        raise WorkbenchError(
            f"sweep: the grid has {num:,} cells and the limit is {MOST_CELLS:,}; "
            "shorten some lists."
        )
    for values in itertools.product(*axes.values()):
        cell = Cell(**dict(zip(axes, values, strict=True)))
        _check(cell)
        yield cell


def _value(name: str, given: Any) -> Any:
    """Check one value against the type of its setting."""
    try:
        return msgspec.convert(given, _HINTS[name], strict=True)
    except msgspec.ValidationError as error:
        raise WorkbenchError(
            f"sweep: {name} is {given!r}; give {_expected(_HINTS[name])}, or a list "
            "of such values."
        ) from error


def _expected(hint: Any) -> str:
    """The words for a type; those of the first part of a union that has some."""
    for meta in getattr(hint, "__metadata__", ()):
        return str(meta.description)
    return next(filter(None, map(_expected, getattr(hint, "__args__", ()))), "")


def _check(cell: Cell) -> None:
    """Raise if values do not go together."""
    if cell.batch_size < 2:
        raise WorkbenchError(
            f"sweep: batch_size is {cell.batch_size}; give a whole number, at least 2."
        )
    if cell.num_classes == 1:
        raise WorkbenchError(
            "sweep: num_classes is 1; give a whole number, at least 2."
        )
    late = [e for e in epochs_of(cell) if e > cell.epochs]
    if late:
        raise WorkbenchError(
            f"sweep: snapshots names epoch {late[0]} of a run of {cell.epochs} epochs; "
            "name epochs from 0 to that."
        )


def epochs_of(cell: Cell) -> tuple[int, ...]:
    """The epochs whose weights are kept."""
    return tuple(int(word) for word in cell.snapshots.split(",") if word)


def _unknown(
    name: str, known: tuple[str, ...], advice: str | None = None
) -> WorkbenchError:
    """The error for a name that does not exist, with the nearest one that does."""
    near = get_close_matches(name, known, 1)
    guess = f"; did you mean {near[0]}?" if near else f"; use {', '.join(known)}."
    return WorkbenchError(f"sweep: there is no setting {name!r}{advice or guess}")
