"""What a figure is, and how it is drawn: from studies to numbers, then to files.

The numbers of each figure are shipped, so that it can be drawn anywhere in seconds;
the sweep that they came from can be run again by the settings beside them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.figures.panels import Rows
from workbench.files.container import make_folder, write_whole
from workbench.study.records import Study, load_study
from workbench.sweeps.cells import RUN, network_name
from workbench.sweeps.rows import numbers_of
from workbench.sweeps.settings import Cell, read_sweep

DIGITS = 5  # significant ones of shipped numbers
DATA = {
    "digits": "Digits",
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}
CLAIM_OVERLAP, CLAIM_RATIO = 0.9, 0.7  # from which on the talk's claim is said to hold
Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A finished cell of a sweep."""

    cell: Cell
    study: Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure. Its functions depend on nothing but their argument."""

    name: str  # on the command line, and of its files
    title: str
    sweep: str  # name of its settings; "": drawn from a shipped study
    numbers: Callable[[Sequence[Run]], dict[str, Any]]  # besides ``rows``
    panels: Callable[[Numbers], Rows]
    sentences: Callable[[Numbers], tuple[str, str]]
    more: Callable[[Numbers], Any] | None = None  # a Bokeh model below the panels


def runs_in(folder: str | os.PathLike[str]) -> list[Run]:
    """Return the finished cells of a sweep, ordered by their settings.

    Raises:
        WorkbenchError: If there are none.
    """
    found = []
    for path in sorted(Path(folder).glob("*.study")):
        study = load_study(path)
        if RUN in study.run:
            found.append(Run(Cell(**study.run[RUN]), study))
    if not found:
        raise WorkbenchError(
            f"figure: there is no study of a sweep in {folder}; run 'workbench sweep' "
            "with --out that folder first."
        )
    return sorted(found, key=lambda run: _order(run.cell))


def _order(cell: Cell) -> tuple[Any, ...]:
    """Data sets as listed, image folders last; then every setting, None first."""
    place = next((n for n, name in enumerate(DATA) if name == cell.data), len(DATA))
    return place, *((value is not None, value or 0) if not isinstance(value, str)
                    else (True, value) for value in cell.values.values())  # fmt: skip


def data_name(cell: Cell) -> str:
    """The data in words; an image folder by its name, not by its place."""
    if cell.data in DATA:
        return DATA[cell.data]
    name = cell.data.removeprefix("folder:").rpartition("/")[2]
    return f"{DATA.get(name, name)} (image folder)"


def collect(figure: Figure, runs: Sequence[Run]) -> dict[str, Any]:
    """Return the numbers of a figure, rounded, with one row per run."""
    found = figure.numbers(runs)
    rows = [
        {
            "data": data_name(run.cell),
            "network": network_name(run.cell),
            **{
                name: getattr(run.cell, name)
                for name in ("per_class", "num_classes", "epochs", "weight_decay")
            },
            "seed": run.cell.seed,
            **numbers_of(run.study),
            "rule": run.study.outlier_rule,
        }
        for run in runs
    ]
    plain: dict[str, Any] = rounded({"rows": rows, **found})
    return plain


def rounded(value: Any) -> Any:
    """The same plain values, each number with a few digits; NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "tolist"):
        return rounded(value.tolist())
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def shipped_numbers(name: str) -> dict[str, Any]:
    """Return the numbers of a figure that come with the package.

    Raises:
        WorkbenchError: If there are none.
    """
    path = files("workbench.figures") / "numbers" / f"{name}.json"
    if not path.is_file():
        raise WorkbenchError(
            f"figure: no numbers of {name} are shipped, as nobody has run it yet; run "
            "its sweep, and draw it with --runs FOLDER."
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def settings_path(name: str) -> Path:
    """Where the settings of a sweep are, as a file."""
    return Path(str(files("workbench.figures") / "settings" / f"{name}.toml"))


def draw(figure: Figure, numbers: Numbers, out: Path) -> list[Path]:
    """Write page, pictures, table and sentences of a figure.

    Raises:
        WorkbenchError: If they cannot be written, or matplotlib is not installed.
    """
    from workbench.figures.page import page_html
    from workbench.figures.picture import pictures

    rows, sentences = figure.panels(numbers), list(figure.sentences(numbers))
    more = figure.more(numbers) if figure.more else None
    drawn = pictures(figure.title, rows)
    page = page_html(figure.title, rows, sentences, more)
    contents = {
        "html": page.encode(),
        **drawn,
        "csv": table_csv(numbers["rows"]).encode(),
        "md": _note(figure, sentences, len(numbers["rows"])).encode(),
    }
    make_folder(out, "figure")
    return [
        write_whole(out / f"{figure.name}.{kind}", [content], "figure")
        for kind, content in contents.items()
    ]


def table_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of a figure: one line per run."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _note(figure: Figure, sentences: Sequence[str], num_rows: int) -> str:
    """Title, sentences and picture, as Markdown."""
    sweep = "a shipped study"
    if figure.sweep:
        num = len(read_sweep(settings_path(figure.sweep)).cells)
        of = "all" if num_rows == num else f"{num_rows} of"
        sweep = f"{of} {counted(num, 'run')} of `{figure.sweep}.toml`"
    return (
        f"# {figure.title}\n\n" + "\n\n".join(sentences) + f"\n\n![{figure.title}]"
        f"({figure.name}.png)\n\nNumbers: [{figure.name}.csv]({figure.name}.csv), from "
        f"{sweep}.\n"
    )


def write_index(figures: Sequence[Figure], out: Path) -> Path:
    """Write ``README.md``: all notes of a folder on one page, as `draw` wrote them."""
    notes = [
        (out / f"{one.name}.md").read_text(encoding="utf-8").replace("# ", "## ", 1)
        for one in figures
    ]
    head = (
        "# Figures\n\n`make figures` draws these from the numbers in "
        "`workbench/figures/numbers`; `make figures\nFULL=1` trains and measures them "
        "again by the settings beside those.\n\n"
    )
    text = head + "\n".join(notes)
    return write_whole(out / "README.md", [text.encode()], "figure")


def verdict(rows: Sequence[Mapping[str, Any]], what: str) -> str:
    """Say whether the talk's claim holds: in how many runs, and by which numbers.

    The claim, that the class part of G causes its outliers, is taken as two: their
    directions lie in span{delta_c}, and their sizes are those of the class part.
    """
    told = [r for r in rows if r["overlap_icml"] is not None and r["ratio_icml"]]
    if not told:
        return f"Of {what}, nothing was measured that tests the talk's claim."
    along = [r["overlap_icml"] for r in told]
    chance = [r["overlap_null_icml"] or 0.0 for r in told]
    size = [r["ratio_icml"] for r in told]
    weighted = [r["ratio_jmlr"] or 0.0 for r in told]
    directions = sum(value >= CLAIM_OVERLAP for value in along)
    sizes = sum(value >= CLAIM_RATIO for value in size)
    if directions == sizes == len(told):
        holds = "holds"
    elif directions == len(told) and not sizes:
        holds = "holds in directions but not in sizes"
    elif not directions and not sizes:
        holds = "does not hold"
    else:
        holds = "holds only in part"
    if len(told) == 1:
        return (
            f"The talk's claim {holds} here: {span(along)} of the leading eigenvectors "
            f"of G (the outliers, at least C - 1) lies in the span of the class means, "
            f"with shuffled labels {span(chance)}, and the class part has {span(size)} "
            f"of their size in icml and {span(weighted)} in jmlr; it is said to "
            f"hold from {CLAIM_OVERLAP:.0%} and {CLAIM_RATIO:.0%} on."
        )
    return (
        f"The talk's claim {holds} here: in {directions} of {len(told)} {what} at "
        f"least {CLAIM_OVERLAP:.0%} of the leading eigenvectors of G lies in the span "
        f"of the class means (mean over the outliers, at least C - 1: {span(along)}; "
        f"with shuffled labels {span(chance)}), and in {sizes} the class part has at "
        f"least {CLAIM_RATIO:.0%} of their size ({span(size)} in icml, "
        f"{span(weighted)} in jmlr)."
    )


def span(values: Sequence[float]) -> str:
    """The smallest and largest of some shares, in percent."""
    low, high = f"{min(values):.0%}", f"{max(values):.0%}"
    return low if low == high else f"{low} to {high}"


def counted(num: int, word: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "run"), counted(3, "run")
        ('1 run', '3 runs')
    """
    return f"{num:,} {word}{'' if num == 1 else 's'}"
