"""How to measure."""

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
WISH = 30.0  # minutes up to which all of G is had exactly, where nothing is asked for
MAX_PAIRS = 1500  # means of pairs in a picture; of more the largest of each class


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """How a checkpoint is measured."""

    weighting: str = "icml"  # convention of the averages: slide, icml or jmlr
    embedding: str = "umap"  # umap, tsne or pca
    metric: str = "cosine"  # distance of two gradients: cosine or euclidean
    classes: int | Sequence[int | str] | None = None  # so many, by seed; or which
    num_drawn: int = 1500  # single gradients in the picture, about
    num_eigenvalues: int | None = None  # leading ones of G and Hess; None: C + 7, of
    # up to 20 classes never fewer, as the rule for outliers sees so many
    tol: float = 1e-3  # largest residual over the largest eigenvalue; for H 20 times it
    num_steps: int = 16  # Lanczos steps a probe of the density
    num_probes: int = 3  # probes of the density: their spread is its error bar
    method: str | None = None  # dense, dual, krylov or streamed; None: as planned
    exact_limit: int = 5_000  # min(P, N (C - 1)) up to which all of G is had exactly if
    # it takes up to max_minutes, or half an hour; beyond it where cheaper; 0: never
    exact_hessian: bool = True  # all of Hess and H too, where it takes seconds
    moments: bool = True  # the earlier epochs too, where their weights were kept
    walk: bool = True  # the loss along the leading eigenvectors too
    max_minutes: float | None = None  # refuse what would take longer; None: nothing is
    # refused, and exact ways are taken up to half an hour
    seed: int = 0  # of probes, start vectors, embedding, drawn sample and classes
    device: str | None = "auto"  # auto, cpu or cuda; mps has no float64 and becomes
    # cpu; None: where the network is

    @property
    def convention(self) -> Convention:
        """That of the averages."""
        return CONVENTIONS[self.weighting]


def settled(
    settings: MeasureSettings | None, options: Mapping[str, Any]
) -> tuple[MeasureSettings, dict[str, Any]]:
    """The settings, with those given by name, and the options that are none of them.

    Raises:
        WorkbenchError: If a value is of no use.
    """
    names = {one.name for one in fields(MeasureSettings)}
    named = {name: value for name, value in options.items() if name in names}
    if isinstance(named.get("device"), torch.device):
        named["device"] = str(named["device"])  # as a study can say it
    settings = replace(settings or MeasureSettings(), **named)
    check_settings(settings)
    return settings, {k: v for k, v in options.items() if k not in names}


def check_settings(settings: MeasureSettings) -> None:
    """Raise a `WorkbenchError` where a value is of no use."""
    convention_of(settings.weighting, "measure")
    check_names(settings.embedding, settings.metric)
    if settings.method is not None and str(settings.method) not in METHODS:
        raise WorkbenchError(
            f"measure: there is no method {settings.method!r}; choose one of "
            f"{', '.join(METHODS)}, or None for the one that is planned."
        )
    asked = settings.classes
    words = asked if isinstance(asked, (list, tuple)) else ()
    if not (
        asked is None
        or type(asked) is int
        or (words and all(type(word) in (int, str) for word in words))
    ):
        raise WorkbenchError(
            f"measure: classes is {asked!r}; give how many, or a list of their names "
            "or numbers, or None for all."
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
                f"measure: {name} is {value!r}; give a whole number from {least}."
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
    """The numbers of the classes that are measured; None where all are.

    So many are drawn by the seed, in their order; named ones are in the order given.
    A word is a name, or the number of a class where none bears it as its name.

    Args:
        settings: What was asked for.
        names: Of all classes.

    Raises:
        WorkbenchError: If there are no such classes, or fewer than two different ones.
    """
    asked, num = settings.classes, len(names)
    if asked is None:
        return None
    if isinstance(asked, int):
        if not 2 <= asked <= num:
            raise WorkbenchError(
                f"measure: {asked} classes are asked for; give from 2 to {num}."
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
                f"measure: there is no class {word!r}; choose by name from {known}, or "
                f"by number from 0 to {num - 1}."
            )
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise WorkbenchError(
            f"measure: classes {', '.join(map(str, asked))} are asked for; give at "
            "least two different ones."
        )
    return tuple(chosen)
