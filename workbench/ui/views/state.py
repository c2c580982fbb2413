"""The selection and view of the linked pair: the single source of truth."""

from __future__ import annotations

from typing import Any

from bokeh.core.properties import Bool, Dict, Float, Int, String
from bokeh.model import DataModel

from workbench.page.view_state import BY_NAME

_TYPES = {bool: Bool, int: Int, float: Float, str: String}


def _property(name: str) -> Any:
    """Return the Bokeh property for one of `page.view_state`."""
    found = BY_NAME[name]
    return _TYPES[type(found.default)](default=found.default, help=found.help)


class LinkState(DataModel):
    """The only model of the pair that exchanges data with Python.

    Controls write to it, and everything is redrawn from it, in the browser alone
    (``browser/*.js``). Python can also set each property, and observe it with
    ``on_change``.
    """

    selected_class = _property("selected_class")
    selected_outlier = _property("selected_outlier")
    level = _property("level")
    playing = _property("playing")
    speed = _property("speed")
    operator = _property("operator")
    scale = _property("scale")
    parts = _property("parts")
    num_outliers = _property("num_outliers")
    knockout = _property("knockout")
    moment = _property("moment")
    rolling = _property("rolling")
    compare = _property("compare")
    theme = _property("theme")
    wanted = String(default="", help="File requested from Python; empty: none.")
    download = Dict(
        String, String, help="The requested file: name, type, data (base64)."
    )
