"""A study as CSV: its eigenvalues, points and overlaps, at full precision.

Spreadsheets take a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula:
names of classes that do, and are no numbers, get an apostrophe before them. A table
with letters beyond ASCII begins with the mark by which Excel knows UTF-8; without, it
has none, so that every tool reads its first column's name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from workbench.errors import printable
from workbench.study import Study

Row = tuple[Any, ...]
FORMULA = ("=", "+", "-", "@")
TABLES = ("eigenvalues", "embedding", "overlaps")


def csv_tables(study: Study) -> dict[str, str]:
    """Write a study out as tables.

    Returns:
        Name -> text of the table, its first line naming the columns. ``eigenvalues``:
        of each operator, of each part of G and of what each knock-out leaves.
        ``embedding``: one row a mark, with the level it belongs to (0: one gradient,
        1: mean over examples, 2: class mean, 3: mean of all). ``overlaps``: how much of
        each class mean points along each leading eigenvector of G, and how much of that
        eigenvector lies in the span of all of them.
    """
    texts = (
        _table(
            ("of", "weighting", "rank", "eigenvalue", "residual"), _eigenvalues(study)
        ),
        _table(
            ("level", "example", "true_class", "potential_class", "x", "y"),
            _embedding(study),
        ),
        _table(
            ("weighting", "eigenvector", "in_span", *_names(study)),
            _overlaps(study),
        ),
    )
    return dict(zip(TABLES, texts, strict=True))


def _table(head: Row, rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    written = text.getvalue()
    return written if written.isascii() else f"\ufeff{written}"


def _names(study: Study) -> tuple[str, ...]:
    """Names of the classes as cells that are texts in every program."""
    return tuple(_cell(printable(name)) for name in study.class_names)


def _cell(text: str) -> str:
    if not text.lstrip().startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _eigenvalues(study: Study) -> Iterator[Row]:
    for name, spectrum in study.spectra.items():
        pairs = zip(spectrum.eigenvalues, spectrum.residuals, strict=True)
        for j, (value, residual) in enumerate(pairs):
            yield name, "", j + 1, float(value), float(residual)
    for weighting, levels in study.levels.items():
        left = {"G subtracted": levels.subtracted, "G projected": levels.projected}
        for name, values in (levels.parts | left).items():
            for j, value in enumerate(values):
                yield name, weighting, j + 1, float(value), ""


def _embedding(study: Study) -> Iterator[Row]:
    embedding = study.embedding
    names = (*_names(study), "")  # -1: averaged over
    columns = (
        embedding.level,
        embedding.example,
        embedding.true_class,
        embedding.potential_class,
        embedding.points,
    )
    for level, example, c, k, (x, y) in zip(*columns, strict=True):
        who = int(example) if example >= 0 else ""
        yield int(level), who, names[c], names[k], float(x), float(y)


def _overlaps(study: Study) -> Iterator[Row]:
    for weighting, levels in study.levels.items():
        pairs = zip(levels.overlap, levels.class_overlap, strict=True)
        for j, (span, shares) in enumerate(pairs):
            yield weighting, j + 1, float(span), *map(float, shares)
