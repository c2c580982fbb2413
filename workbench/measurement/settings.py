"""Settings of a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from workbench.errors import WorkbenchError
from workbench.measurement.embedding import check_names
from workbench.study.convention import CONVENTIONS, Convention, convention_of

METHODS = ("dense", "dual", "krylov", "streamed")  # each a class in `ways`
WISH = 30.0  # minutes that an exact method may take by default
MAX_PAIRS = 1500  # most pair means in a picture; beyond it the largest of each class


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """Settings of a measurement."""

    weighting: str = "icml"  # convention of the averages: slide, icml or jmlr
    embedding: str = "umap"  # umap, tsne or pca
    metric: str = "cosine"  # distance between gradients: cosine or euclidean
    classes: int | Sequence[int | str] | None = None  # how many (by seed), or which
    parameters: str | Sequence[str] | None = None  # globs of names, or modules: only
    # their block of G, Hess and H; None: all
    num_drawn: int = 1500  # approximate number of single gradients in the picture
    num_eigenvalues: int | None = (
        None  # leading ones of G and Hess; None: C + 7, and up
    )
    # to 20 classes never fewer, as the rule for outliers needs them
    tol: float = 1e-3  # largest residual over the largest eigenvalue; for H 20 times
    num_steps: int = 16  # Lanczos steps per probe of the density
    num_probes: int = 3  # probes of the density; more give smaller error bars
    method: str | None = None  # dense, dual, krylov or streamed; None: by the plan
    exact_limit: int = (
        5_000  # min(P, N (C - 1)) up to which all of G is computed, if in
    )
    # max_minutes, or half an hour by default; beyond it only if cheaper; 0: never
    exact_hessian: bool = True  # all of Hess and H too, if that takes seconds
    moments: bool = True  # earlier epochs too, if their weights were kept
    walk: bool = True  # the loss along the leading eigenvectors too
    layers: bool = True  # where G and its eigenvectors lie too, layer by layer
    max_minutes: float | None = None  # refuse plans that take longer; None: no limit,
    # but exact methods only up to half an hour
    seed: int = 0  # of probes, start vectors, embedding, sample and classes
    device: str | None = "auto"  # auto, cpu or cuda; mps has no float64 and becomes
    # cpu; None: the network's device

    @property
    def convention(self) -> Convention:
        """The convention of averaging."""
        return CONVENTIONS[self.weighting]


def settled(
    settings: MeasureSettings | None, options: Mapping[str, Any]
) -> tuple[MeasureSettings, dict[str, Any]]:
    """Merge settings given by name; return them and the remaining options.

    Raises:
        WorkbenchError: If a value is invalid.
    """
    names = {one.name for one in fields(MeasureSettings)}
    named = {name: value for name, value in options.items() if name in names}
    if isinstance(named.get("device"), torch.device):
        named["device"] = str(named["device"])  # so that a study can store it
    settings = replace(settings or MeasureSettings(), **named)
    check_settings(settings)
    return settings, {k: v for k, v in options.items() if k not in names}


def check_settings(settings: MeasureSettings) -> None:
    """Raise a `WorkbenchError` if a value is invalid."""
    convention_of(settings.weighting, "measure")
    check_names(settings.embedding, settings.metric)
    if settings.method is not None and str(settings.method) not in METHODS:
        raise WorkbenchError(
            f"measure: there is no method {settings.method!r}; choose one of "
            f"{', '.join(METHODS)}, or None to let the plan choose."
        )
    asked = settings.classes
    words = asked if isinstance(asked, (list, tuple)) else ()
    if not (
        asked is None
        or type(asked) is int
        or (words and all(type(word) in (int, str) for word in words))
    ):
        raise WorkbenchError(
            f"measure: classes is {asked!r}; give a number of classes, a list of "
            "names or indices, or None for all."
        )
    globs = settings.parameters
    if globs is not None and not (
        isinstance(globs, (str, list, tuple))
        and globs
        and all(isinstance(word, str) and word for word in globs)
    ):
        raise WorkbenchError(
            f"measure: parameters is {globs!r}; give a name or glob such as "
            "'layer4.*', a list of some, or None for all."
        )
    for name, least in (
        ("num_drawn", 0),
        ("num_eigenvalues", 1),
        ("num_steps", 2),
        ("num_probes", 2),
        ("exact_limit", 0),
        ("seed", 0),
    ):
        value = getattr(settings, name)
        if name == "num_eigenvalues" and value is None:
            continue
        if not isinstance(value, int) or value < least:
            raise WorkbenchError(
                f"measure: {name} is {value!r}; give a whole number, at least {least}."
            )
    limit = settings.max_minutes
    if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
        raise WorkbenchError(
            f"measure: max_minutes is {limit!r}; give a number above 0, or None."
        )
    if not isinstance(settings.tol, (int, float)) or not 0 < settings.tol < 1:
        raise WorkbenchError(
            f"measure: tol is {settings.tol!r}; give a number between 0 and 1."
        )


def chosen_classes(
    settings: MeasureSettings, names: Sequence[str]
) -> tuple[int, ...] | None:
    """Return the indices of the classes to measure; None for all.

    A number of classes is drawn by the seed, in their order; listed classes keep the
    order given. A word is a class name or, if no class has that name, an index.

    Args:
        settings: The settings of the measurement.
        names: Names of all classes.

    Raises:
        WorkbenchError: If a class does not exist, or fewer than two different ones
            remain.
    """
    asked, num = settings.classes, len(names)
    if asked is None:
        return None
    if isinstance(asked, int):
        if not 2 <= asked <= num:
            raise WorkbenchError(
                f"measure: classes is {asked}; choose from 2 to {num}."
            )
        drawn = np.random.default_rng(settings.seed).permutation(num)[:asked]
        return tuple(sorted(drawn.tolist()))
    chosen = []
    for word in asked:
        if word in names:
            chosen.append(list(names).index(str(word)))
        elif str(word).isdecimal() and int(word) < num:
            chosen.append(int(word))
        else:
            known = ", ".join(names[:10]) + (", ..." if num > 10 else "")
            raise WorkbenchError(
                f"measure: there is no class {word!r}; choose by name from {known}, "
                f"or by index from 0 to {num - 1}."
            )
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise WorkbenchError(
            f"measure: classes is {', '.join(map(str, asked))}; give at least two "
            "different ones."
        )
    return tuple(chosen)
