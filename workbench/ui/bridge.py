"""Bokeh layouts as ipywidgets: the only file that uses jupyter_bokeh.

``BokehModel`` draws with the page's BokehJS and does not bring its own. So the first
widget of a cell also puts BokehJS into the cell's output: inline, so nothing is
fetched, and only the two parts that the views need. A page that already has it keeps
it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import bokeh
from bokeh.core.json_encoder import serialize_json
from bokeh.core.serialization import Serializer
from bokeh.document.events import DocumentPatchedEvent
from bokeh.models import LayoutDOM
from bokeh.protocol.messages.patch_doc import patch_doc
from bokeh.settings import settings
from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data
from ipywidgets import DOMWidget
from jupyter_bokeh import BokehModel

from workbench.ui.views.script import script

BESIDE = ("copy.js", "sight.js", "upload.js")
COMPONENTS = ("bokeh", "bokeh-widgets")


class Picture(BokehModel):
    """A ``BokehModel`` that sends a change in three messages.

    The base class sends two more for every array, hundreds for a new study. The kernel
    drops messages once more than a thousand are queued, and a picture that is only half
    sent is never drawn.
    """

    def _document_patched(self, event: DocumentPatchedEvent) -> None:
        if event.setter is self:
            return
        models = event.document.models
        serializer = Serializer(references=models.synced_references, deferred=False)
        content: Any = {"events": serializer.encode([event])}
        models.flush_synced(lambda model: not serializer.has_ref(model))
        message = patch_doc(patch_doc.create_header(), {}, content)
        for part in (message.header, message.metadata, message.content):
            self.send({"msg": "patch", "payload": serialize_json(part)})


_loaded_by: object = None  # the cell that last received BokehJS


def widget(layout: LayoutDOM) -> DOMWidget:
    """Wrap a layout as a widget, and have the page load BokehJS if needed.

    Call it while a cell runs. Later changes of the layout reach the browser by
    themselves.
    """
    load_bokehjs()
    return Picture(layout)


def refresh(made: DOMWidget, layout: LayoutDOM) -> None:
    """Reset a widget that nobody has seen yet to the current layout."""
    made.update_from_model(layout)


def load_bokehjs() -> None:
    """Put BokehJS into the output of the running cell, once per cell."""
    global _loaded_by
    shell = get_ipython()
    cell = None if shell is None else (id(shell), shell.execution_count)
    if cell is None or cell == _loaded_by:
        return
    publish_display_data({"application/javascript": bokehjs(), "text/plain": ""})
    _loaded_by = cell


@cache
def bokehjs() -> str:
    """Return the source of BokehJS, run unless loaded, and of what every host needs.

    The latter fixes its memory leaks, makes the buttons of `share` copy, and refuses
    files that the server would not accept.
    """
    folder = Path(settings.bokehjs_path()) / "js"
    parts = "\n".join(
        (folder / f"{name}.min.js").read_text(encoding="utf-8") for name in COMPONENTS
    )
    version = bokeh.__version__
    here = Path(__file__).parent
    beside = "\n".join((here / name).read_text(encoding="utf-8") for name in BESIDE)
    return (
        f'if (window.Bokeh?.version !== "{version}") {{\n'
        f"(function () {{\n{parts}\n}}).call(window)\n}}\n"
        f"{script('bokeh.js')}.letGo()\n{beside}"
    )
