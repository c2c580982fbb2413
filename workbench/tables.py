"""A study as CSV: its eigenvalues, points and overlaps, at full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from workbench.study import Study

Row = tuple[Any, ...]
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
            ("weighting", "eigenvector", "in_span", *study.class_names),
            _overlaps(study),
        ),
    )
    return dict(zip(TABLES, texts, strict=True))


def _table(head: Row, rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


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
    names = (*study.class_names, "")  # -1: averaged over
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
