"""The files that the page offers for download: the page, the tables, the study."""

from __future__ import annotations

import base64
import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.study.records import Study
from workbench.study.tables import csv_tables
from workbench.ui.export import page_html
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.words import stem


def make_page(view: LinkedView, study: Study) -> tuple[str, str, bytes]:
    """The page that works without a kernel, including the pinned study."""
    page = page_html(
        study,
        weighting=view.weighting,
        pinned=view.pinned,
        compare=view.state.compare,
    )
    return "html", "text/html", page.encode("utf-8", "backslashreplace")


def make_tables(view: LinkedView, study: Study) -> tuple[str, str, bytes]:
    """All tables in one archive, with every convention."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in csv_tables(study).items():
            file.writestr(f"{stem(study)}-{name}.csv", text)
    return "zip", "application/zip", archive.getvalue()


def make_study(view: LinkedView, study: Study) -> tuple[str, str, bytes]:
    """The study itself, as written by `workbench measure`."""
    with tempfile.TemporaryDirectory() as folder:
        data = study.save(Path(folder) / "study").read_bytes()
    return "study", "application/octet-stream", data


# Label of the button -> suffix, type and bytes of the file.
_MAKE: Mapping[str, Callable[[LinkedView, Study], tuple[str, str, bytes]]] = {
    "This page (HTML)": make_page,
    "Tables (CSV)": make_tables,
    "The study": make_study,
}
FILES: Mapping[str, str] = {  # label -> tooltip
    "This page (HTML)": "The pictures as one file that opens in any browser",
    "Tables (CSV)": "Eigenvalues, points and overlaps, for a spreadsheet",
    "The study": "All that was measured: Open takes it, here and elsewhere",
}


def answer(view: LinkedView) -> None:
    """Make the requested file, if any, and send it to the browser.

    If that fails, a download without data makes the browser say so.

    Raises:
        WorkbenchError: If there is no such file.
    """
    state, study = view.state, view.study
    wanted = state.wanted
    if not wanted or study is None:
        return
    state.wanted = ""  # first: a change may arrive twice, also after a failure
    state.download = {}  # else the same file again would not count as a change
    try:
        if wanted not in FILES:
            raise WorkbenchError(
                f"Download: {wanted!r} is not one of {', '.join(FILES)}."
            )
        suffix, kind, data = _MAKE[wanted](view, study)
    except Exception:
        state.download = {"name": wanted}
        raise
    state.download = {
        "name": f"{stem(study)}.{suffix}",
        "type": kind,
        "data": base64.b64encode(data).decode(),
    }
