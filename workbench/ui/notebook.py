"""A study in the last line of a notebook's cell draws itself."""

from __future__ import annotations

from typing import Any

from workbench.study.records import Study
from workbench.ui.bridge import widget
from workbench.ui.views.linked import LinkedView


def pictures(study: Study) -> dict[str, Any]:
    """What the cell shows: the linked pictures, and words where no widget is drawn.

    A front end takes the best that it can draw: JupyterLab, Notebook and Voila the
    widget, a saved page the table, a console the text.
    """
    drawn = widget(LinkedView(study).layout)
    shown: dict[str, Any] = drawn._repr_mimebundle_()
    card = study.card()
    return {**shown, "text/html": card.html(), "text/plain": card.text()}
