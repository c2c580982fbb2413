"""Export a study: as one HTML page that works without kernel or network, and as tables.

The page shows what the app draws, by the same code: stepper, film, linked selection,
knock-out and a pinned study all run in the browser alone (``views/browser``).
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
from workbench.ui.views.words import QUESTION, run_in_words


def page_html(
    study: Study,
    *,
    weighting: str | None = None,
    title: str = QUESTION,
    pinned: Study | None = None,
    compare: str = MODES[0],
) -> str:
    """Return a study as one stand-alone HTML page.

    Args:
        study: What to draw.
        weighting: Convention of averaging; by default the study's own.
        title: Heading of the page.
        pinned: Another study to draw for comparison, see `LinkedView.compare`.
        compare: Where it is drawn at first: ``"ghost"`` (behind) or ``"beside"``.

    Raises:
        WorkbenchError: If the study does not contain that convention.
    """
    view = LinkedView(study, weighting=weighting)
    if pinned is not None:
        view.compare(pinned, mode=compare)
    about = run_in_words(study.run)
    template = (files("workbench.ui") / "export.html").read_text(encoding="utf-8")
    words = {
        "style": page_style(),
        "about": about,
        "seen": seen_html(study, view.weighting),
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
    """List the versions and settings with which a study was measured, as HTML."""
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
    title: str = QUESTION,
    pinned: Study | None = None,
) -> Path:
    """Write a study as one HTML page, which opens from a file and loads nothing else.

    Use it to send a study to somebody who has not installed anything. Stepper, film,
    linked selection and knock-out work as in the app. About 2 MB, most of which is
    Bokeh's own script.

    Args:
        study: What to draw.
        path: The file to write.
        weighting: Convention of averaging; by default the study's own.
        title: Heading of the page.
        pinned: Another study to draw for comparison, on the same axes.

    Raises:
        WorkbenchError: If it cannot be written, or the convention was not measured.
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
    """Export studies from their files, one or several; see `workbench export`.

    Args:
        sources: Files of studies; if several, their names without suffix name the
            pages.
        html: The page to write. For several studies, or if it is a folder or has no
            suffix, the folder for the pages, created if missing.
        csv: The folder for the tables, created if missing.
        weighting: Convention of averaging; by default each study's own.
        pinned: File of another study, which each page draws for comparison.
        force: Whether to overwrite existing files.

    Raises:
        WorkbenchError: Before anything is written, if neither output is given, a study
            cannot be read or a file already exists.
    """
    if html is None and csv is None:
        raise WorkbenchError(
            "export: nothing to write; give --html PAGE or --csv FOLDER."
        )
    studies = {source.stem: load_study(source) for source in sources}
    beside = None if pinned is None else load_study(pinned)
    if len(studies) < len(sources):
        raise WorkbenchError(
            "export: two of these studies have the same name, so their pages would "
            "too; export them one by one."
        )
    pages: dict[str, Path] = {}
    if html is not None:
        one = len(sources) == 1 and html.suffix != "" and not html.is_dir()
        pages = {stem: html if one else html / f"{stem}.html" for stem in studies}
    tables = [_table(csv, stem, name) for stem in studies for name in TABLES if csv]
    there = [path for path in (*pages.values(), *tables) if path.exists()]
    if there and not force:
        raise WorkbenchError(
            f"export: {there[0]} already exists; choose another name, or --force to "
            "overwrite it."
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
    """Write text, escaping characters that cannot be encoded (surrogates)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"export: cannot write {path}: {error.strerror}; choose another place."
        ) from error
    content = text.encode("utf-8", "backslashreplace")
    return write_whole(path, [content], "export")
