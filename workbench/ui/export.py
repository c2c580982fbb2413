"""A study to take away: one HTML page that needs no kernel and no network, and tables.

The page holds what the app draws, by the same code: stepper, film, linked selection and
knock-out run in the browser alone (``views/browser``), and so does a pinned study.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from bokeh.embed import file_html
from bokeh.resources import Resources
from jinja2 import Template

from workbench import __version__
from workbench.errors import WorkbenchError
from workbench.files.container import write_whole
from workbench.study.records import Study, load_study
from workbench.study.tables import TABLES, csv_tables
from workbench.ui.theme import page_style
from workbench.ui.views.compare import MODES
from workbench.ui.views.glossary import glossary_html
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.seen import seen_html
from workbench.ui.views.words import run_in_words

TITLE = "Three-level structure of the Hessian"


def page_html(
    study: Study,
    *,
    weighting: str | None = None,
    title: str = TITLE,
    pinned: Study | None = None,
    compare: str = MODES[0],
) -> str:
    """Return a study as one stand-alone HTML page.

    Args:
        study: What to draw.
        weighting: Which convention of averages; by default the study's own.
        title: What stands at its head.
        pinned: Another study to draw along, see `LinkedView.compare`.
        compare: Where that is drawn at first: ``"ghost"``, behind, or ``"beside"``.

    Raises:
        WorkbenchError: If the study does not hold that weighting.
    """
    view = LinkedView(study, weighting=weighting)
    if pinned is not None:
        view.compare(pinned, mode=compare)
    about = run_in_words(study.run)
    template = (files("workbench.ui") / "export.html").read_text(encoding="utf-8")
    words = {
        "style": page_style(),
        "about": about,
        "seen": seen_html(study, view.weighting, pinned=pinned),
        "glossary": glossary_html(),
        "made": made_in_words(study),
        "version": __version__,
    }
    return file_html(
        view.layout,
        Resources(mode="inline"),
        title=title,
        template=Template(template),
        template_variables=words,
        suppress_callback_warning=True,
    )


def made_in_words(study: Study) -> str:
    """Say by which versions and settings a study was measured, as HTML."""
    settings = ", ".join(f"{k} {v}" for k, v in study.settings.items() if v is not None)
    versions = ", ".join(f"{name} {v}" for name, v in study.versions.items())
    return " · ".join(
        f"<b>{name}</b> {escape(said)}"
        for name, said in (
            ("Measured", study.created),
            ("Settings", settings),
            ("Versions", versions),
        )
        if said
    )


def export_html(
    study: Study,
    path: str | os.PathLike[str],
    *,
    weighting: str | None = None,
    title: str = TITLE,
    pinned: Study | None = None,
) -> Path:
    """Write a study as one HTML page: it opens from a file, and fetches nothing.

    Stepper, film, linked selection and knock-out work in it as in the app. About 2 MB,
    most of them Bokeh's own script.

    Args:
        study: What to draw.
        path: The file to write.
        weighting: Which convention of averages; by default the study's own.
        title: What stands at its head.
        pinned: Another study to draw along, on the same axes.

    Raises:
        WorkbenchError: If it cannot be written, or the weighting was not measured.
    """
    page = page_html(study, weighting=weighting, title=title, pinned=pinned)
    return _write(Path(path), page)


def export_csv(
    study: Study, folder: str | os.PathLike[str], *, stem: str = "study"
) -> tuple[Path, ...]:
    """Write ``STEM-eigenvalues.csv``, ``-embedding.csv`` and the other tables.

    Raises:
        WorkbenchError: If they cannot be written.
    """
    place = Path(folder)
    return tuple(
        _write(_table(place, stem, name), text)
        for name, text in csv_tables(study).items()
    )


def _table(folder: Path, stem: str, name: str) -> Path:
    return folder / f"{stem}-{name}.csv"


def export_all(
    sources: Sequence[Path],
    *,
    html: Path | None = None,
    csv: Path | None = None,
    weighting: str | None = None,
    pinned: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Export studies from their files, one or in bulk; see `workbench export`.

    Args:
        sources: Files of studies; in bulk their names, less the suffix, name the pages.
        html: The page to write; of several studies, or where it is a folder or has no
            suffix, the folder of the pages, made if it is not there.
        csv: The folder of the tables, made if it is not there.
        weighting: Which convention of averages; by default each study's own.
        pinned: File of another study, which each page draws along.
        force: Whether to write over what is there.

    Raises:
        WorkbenchError: Before anything is written, if nothing is asked for, a study
            cannot be read or a file is there already.
    """
    if html is None and csv is None:
        raise WorkbenchError("export: say what to write: --html PAGE or --csv FOLDER.")
    studies = {source.stem: load_study(source) for source in sources}
    beside = None if pinned is None else load_study(pinned)
    if len(studies) < len(sources):
        raise WorkbenchError(
            "export: two of these studies have one name, and so would their pages; "
            "export them one by one."
        )
    pages: dict[str, Path] = {}
    if html is not None:
        one = len(sources) == 1 and html.suffix != "" and not html.is_dir()
        pages = {stem: html if one else html / f"{stem}.html" for stem in studies}
    tables = [_table(csv, stem, name) for stem in studies for name in TABLES if csv]
    there = [path for path in (*pages.values(), *tables) if path.exists()]
    if there and not force:
        raise WorkbenchError(
            f"export: {there[0]} exists; choose another name, or --force to write over "
            "it."
        )
    written = []
    for stem, study in studies.items():
        if stem in pages:
            page = export_html(study, pages[stem], weighting=weighting, pinned=beside)
            written.append(page)
        if csv is not None:
            written += export_csv(study, csv, stem=stem)
    return written


def _write(path: Path, text: str) -> Path:
    """Write a text; what no coding can say, such as half a code point, is escaped."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"export: cannot write {path}: {error.strerror}; choose another place."
        ) from error
    content = text.encode("utf-8", "backslashreplace")
    return write_whole(path, [content], "export")
