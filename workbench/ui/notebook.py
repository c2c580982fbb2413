"""Draws a study that is the last line of a notebook cell."""

from __future__ import annotations

from typing import Any

from workbench.study.records import Study
from workbench.ui.bridge import widget
from workbench.ui.views.linked import LinkedView


def pictures(study: Study) -> dict[str, Any]:
    """Return the output of the cell: linked pictures, with text as a fallback.

    A front end shows the best form it can: JupyterLab, Notebook and Voila the widget, a
    saved page the table, a console the text.
    """
    drawn = widget(LinkedView(study).layout)
    shown: dict[str, Any] = drawn._repr_mimebundle_()
    card = study.card()
    return {**shown, "text/html": card.html(), "text/plain": card.text()}
