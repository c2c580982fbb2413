"""A study as tables and as CSV, complete and at full precision.

Spreadsheets treat a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, so
text that begins like that and is not a number gets a leading apostrophe. A table with
characters beyond ASCII begins with a byte order mark, by which Excel recognises UTF-8.
Other tables have none, so that every tool can read the name of the first column.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError, printable
from workbench.study.null import Null, band
from workbench.study.records import Study

Row = tuple[Any, ...]
FORMULA = ("=", "+", "-", "@")
LAST = "G of the last layer"


def csv_tables(study: Study) -> dict[str, str]:
    """Return a study as CSV tables.

    Returns:
        Name -> text of the table, its first line naming the columns. ``eigenvalues``:
        of each operator, of G of the last layer, of each part of G and of what each
        knock-out leaves, with residuals. ``embedding``: one row a mark, with the level
        it belongs to (0: one gradient, 1: mean over examples, 2: class mean, 3: mean of
        all). ``overlaps``: how much of each class mean points along each leading
        eigenvector of G, and how much of that eigenvector lies in the span of all of
        them. ``layers``: of each module that owns parameters the number of parameters,
        the trace of its diagonal block of G and its share, and the share of the squared
        length of each of G's first eigenvectors. ``layer_eigenvalues``: leading
        eigenvalues of its blocks of G, Hess and the class part. ``traces``: of each
        operator and part, of G of the last layer, and of the mean of all, with errors.
        ``density``: nodes and weights of each probe. ``last_layer``: the measures of
        neural collapse and other numbers of the last layer, a name and a value a row;
        ``class_pairs``: of any two classes the cosine of their mean features, and the
        mean probability of the second among examples of the first; ``class_features``:
        the mean features. ``history``: of the training. ``about``: all else, a name and
        a value a row. All but ``history`` and ``about`` have the epoch as their last
        column: a study with earlier ones has its rows for each.
    """
    return {name: _text(*table(study, name)) for name in TABLES}


def table(study: Study, name: str) -> tuple[Row, list[Row]]:
    """Return the column names and rows of a table; None marks an empty cell.

    Raises:
        WorkbenchError: If there is no such table.
    """
    if name not in _TABLES:
        raise WorkbenchError(
            f"study: there is no table {name!r}; choose one of {', '.join(_TABLES)}."
        )
    head, rows = _TABLES[name]
    return head(study), list(rows(study))


def _text(head: Row, rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, head))
    writer.writerows(map(_cell, row) for row in rows)
    written = text.getvalue()
    return written if written.isascii() else f"\ufeff{written}"


def _cell(value: Any) -> Any:
    """Make sure that every program reads text as text."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.lstrip().startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _each(rows: Callable[[Study], Iterator[Row]]) -> Callable[[Study], Iterator[Row]]:
    """Yield the rows of all measured epochs, in order, with the epoch."""

    def all_of(study: Study) -> Iterator[Row]:
        for moment in study.film:
            for row in rows(moment):
                yield *row, moment.run.get("epochs")

    return all_of


def _eigenvalues(study: Study) -> Iterator[Row]:
    spectra = dict(study.spectra)
    if study.last_layer is not None:
        spectra[LAST] = study.last_layer.spectrum
    for name, spectrum in spectra.items():
        pairs = zip(spectrum.eigenvalues, spectrum.residuals, strict=True)
        for j, (value, residual) in enumerate(pairs):
            yield name, None, j + 1, float(value), float(residual)
    for convention, levels in study.levels.items():
        left = {"G subtracted": levels.subtracted, "G projected": levels.projected}
        for name, values in (levels.parts | left).items():
            residuals = levels.residuals.get(name.removeprefix("G "), ())
            for j, value in enumerate(values):
                error = float(residuals[j]) if j < len(residuals) else None
                yield name, convention, j + 1, float(value), error


def _embedding(study: Study) -> Iterator[Row]:
    embedding = study.embedding
    names = (*study.class_names, None)  # -1: averaged over
    columns = (
        embedding.level,
        embedding.example,
        embedding.true_class,
        embedding.potential_class,
        embedding.points,
    )
    for level, example, c, k, (x, y) in zip(*columns, strict=True):
        who = int(example) if example >= 0 else None
        yield int(level), who, names[c], names[k], float(x), float(y)


def _overlaps(study: Study) -> Iterator[Row]:
    for convention, levels in study.levels.items():
        null: tuple[Any, Any] = (repeat(None), repeat(None))
        if levels.null is not None and len(levels.null.overlap):
            null = band(levels.null.overlap)
        rows = zip(levels.overlap, *null, levels.class_overlap, strict=False)
        for j, (*numbers, shares) in enumerate(rows):
            told = (None if number is None else float(number) for number in numbers)
            yield convention, j + 1, *told, *map(float, shares)


def _null(study: Study) -> Iterator[Row]:
    nulls: dict[str | None, Null | None] = {n: v.null for n, v in study.levels.items()}
    for convention, null in {**nulls, None: study.random}.items():
        if null is None:
            continue
        kind = "random" if convention is None else "shuffled"
        columns = {
            "overlap": null.overlap,
            "class part": null.class_part,
            "G subtracted": null.subtracted,
            "G projected": null.projected,
        }
        for name, draws in columns.items():
            for (draw, rank), value in np.ndenumerate(draws):
                yield kind, convention, name, draw + 1, rank + 1, float(value)


def _shared(study: Study) -> Iterator[Row]:
    for j, share in enumerate(study.shared):
        yield j + 1, float(share)


def _walk(study: Study) -> Iterator[Row]:
    if (walk := study.walk) is None:
        return
    names = (None, *study.class_names)
    losses = np.concatenate([walk.loss[..., None], walk.class_loss], axis=2)
    for (d, n, c), loss in np.ndenumerate(losses):
        who = walk.operator[d], int(walk.rank[d]), float(walk.eigenvalue[d])
        yield *who, float(walk.distance[n]), names[c], float(loss)


def _layers(study: Study) -> Iterator[Row]:
    if (layers := study.layers) is None:
        return
    columns = (
        layers.names,
        layers.kinds,
        layers.num_parameters,
        layers.trace,
        layers.trace_share,
        layers.share,
    )
    for name, kind, num, trace, part, shares in zip(*columns, strict=True):
        yield name, kind, int(num), float(trace), float(part), *map(float, shares)


def _layer_eigenvalues(study: Study) -> Iterator[Row]:
    if (layers := study.layers) is None:
        return
    found: list[tuple[str, str | None, Any, Any]] = [
        (name, None, values, layers.residuals[name])
        for name, values in layers.eigenvalues.items()
    ]
    found += [
        (study.levels[convention].convention.class_part, convention, values, None)
        for convention, values in layers.class_part.items()
        if convention in study.levels
    ]
    for of, convention, values, errors in found:
        for (n, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                error = None if errors is None else float(errors[n, j])
                yield layers.names[n], of, convention, j + 1, float(value), error


def _layer_columns(study: Study) -> Row:
    num = 0 if study.layers is None else study.layers.share.shape[1]
    vectors = (f"eigenvector {j + 1}" for j in range(num))
    head = ("layer", "kind", "num_parameters", "trace", "trace_share")
    return (*head, *vectors, "epoch")


def _traces(study: Study) -> Iterator[Row]:
    for name, spectrum in study.spectra.items():
        yield name, None, spectrum.trace, spectrum.trace_error
    if (layer := study.last_layer) is not None:
        yield LAST, None, layer.spectrum.trace, layer.spectrum.trace_error
    for convention, levels in study.levels.items():
        parts = levels.convention.parts
        for name in (*parts, *(p for p in levels.trace if p not in parts)):
            error = levels.trace_error.get(name, 0.0)
            yield name, convention, levels.trace[name], error
        yield "delta_G", convention, float(levels.kept[3]) * levels.trace["G"], 0.0


def _last_layer(study: Study) -> Iterator[Row]:
    if (layer := study.last_layer) is not None:
        yield "bias", int(layer.bias)
        yield "num_features", layer.class_means.shape[1]
        yield "mean cosine", layer.cosine
        yield "within-class variation", layer.within
        yield "between-class variation", layer.between
        yield from layer.neural_collapse.items()


def _class_pairs(study: Study) -> Iterator[Row]:
    if (layer := study.last_layer) is not None:
        names, cosines = study.class_names, layer.cosines
        for c, row in enumerate(layer.probabilities):
            for k, probability in enumerate(row):
                yield names[c], names[k], float(cosines[c, k]), float(probability)


def _class_features(study: Study) -> Iterator[Row]:
    if (layer := study.last_layer) is not None:
        rows = zip(study.class_names, layer.shares, layer.class_means, strict=True)
        for name, share, features in rows:
            yield name, float(share), *map(float, features)


def _density(study: Study) -> Iterator[Row]:
    for name, spectrum in study.spectra.items():
        for probe, (nodes, weights) in enumerate(
            zip(spectrum.nodes, spectrum.weights, strict=True)
        ):
            for node, weight in zip(nodes, weights, strict=True):
                yield name, probe + 1, float(node), float(weight)


def _feature_columns(study: Study) -> Row:
    layer = study.last_layer
    num = 0 if layer is None else layer.class_means.shape[1]
    return ("true_class", "share", *(f"feature {n + 1}" for n in range(num)), "epoch")


def _history(study: Study) -> Iterator[Row]:
    columns = (study.history.get(name, ()) for name in ("epoch", "loss", "accuracy"))
    for row in zip(*columns, strict=True):
        yield tuple(map(float, row))


def _about(study: Study) -> Iterator[Row]:
    whole: dict[str, Any] = {
        "num_outliers": study.num_outliers,
        "outlier_rule": study.outlier_rule,
        "plan": study.plan,
        "picture": study.embedding.note,
        "created": study.created,
    }
    for name, levels in study.levels.items():
        if levels.null is not None and levels.null.note:
            whole[f"null.{name}"] = levels.null.note
    if study.random is not None and study.random.note:
        whole["null.random"] = study.random.note
    if study.last_layer is not None:
        whole["last_layer"] = study.last_layer.name
    if study.layers is not None and study.layers.note:
        whole["layers"] = study.layers.note
    for group in ("run", "settings", "versions"):
        values = getattr(study, group)
        whole |= {f"{group}.{key}": value for key, value in values.items()}
    for name, value in whole.items():
        plain = value if isinstance(value, str) else json.dumps(value, default=str)
        yield name, plain


# Name -> columns and rows.
_TABLES: dict[str, tuple[Callable[[Study], Row], Callable[[Study], Iterator[Row]]]] = {
    "eigenvalues": (
        lambda _: ("of", "weighting", "rank", "eigenvalue", "residual", "epoch"),
        _each(_eigenvalues),
    ),
    "embedding": (
        lambda _: (
            "level", "example", "true_class", "potential_class", "x", "y", "epoch"
        ),
        _each(_embedding),
    ),
    "overlaps": (
        lambda study: (
            "weighting", "eigenvector", "in_span", "shuffled", "spread",
            *study.class_names, "epoch",
        ),
        _each(_overlaps),
    ),
    "null": (
        lambda _: ("draws", "weighting", "of", "draw", "rank", "value", "epoch"),
        _each(_null),
    ),
    "shared": (lambda _: ("eigenvector", "in_span_of_hess", "epoch"), _each(_shared)),
    "walk": (
        lambda _: (
            "of", "rank", "eigenvalue", "distance", "true_class", "loss", "epoch"
        ),
        _each(_walk),
    ),
    "layers": (_layer_columns, _each(_layers)),
    "layer_eigenvalues": (
        lambda _: (
            "layer", "of", "weighting", "rank", "eigenvalue", "residual", "epoch"
        ),
        _each(_layer_eigenvalues),
    ),
    "traces": (
        lambda _: ("of", "weighting", "trace", "error", "epoch"), _each(_traces)
    ),
    "density": (
        lambda _: ("of", "probe", "node", "weight", "epoch"), _each(_density)
    ),
    "last_layer": (lambda _: ("name", "value", "epoch"), _each(_last_layer)),
    "class_pairs": (
        lambda _: ("true_class", "other_class", "cosine", "probability", "epoch"),
        _each(_class_pairs),
    ),
    "class_features": (_feature_columns, _each(_class_features)),
    "history": (lambda _: ("epoch", "loss", "accuracy"), _history),
    "about": (lambda _: ("name", "value"), _about),
}  # fmt: skip
TABLES = tuple(_TABLES)
