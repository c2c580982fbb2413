"""What is selected and shown in the linked pair: the one source of truth."""

from __future__ import annotations

from bokeh.core.properties import Bool, Dict, Float, Int, String
from bokeh.model import DataModel


class LinkState(DataModel):
    """The only model of the pair that talks to Python; all others are drawn from it.

    A control writes here, and all is redrawn from here (``browser/*.js``), in the
    browser alone. Python may set each property too, and observe it with ``on_change``.
    """

    selected_class = Int(default=-1, help="Class c that is picked; -1: none.")
    selected_outlier = Int(default=-1, help="Outlier j that is picked; -1: none.")
    level = Int(default=0, help="Level the stepper is at, or on its way to; 0 to 3.")
    playing = Bool(default=False, help="Whether the stepper goes on by itself.")
    speed = Float(default=1.0, help="1: one step takes 1.6 seconds.")
    operator = String(default="G", help="Whose spectrum is drawn: G, Hess, H, all.")
    scale = String(default="linear", help="Eigenvalue axis: linear, log.")
    parts = String(
        default="class", help="Parts of G drawn as sticks: class,cross,within,..."
    )
    num_outliers = Int(
        default=-1, help="Outliers that the person counts; -1: those of the rule."
    )
    knockout = String(
        default="none", help="G without what: none, subtracted, projected."
    )
    moment = Int(default=-1, help="Moment of the film, by index; -1: the last epoch.")
    rolling = Bool(default=False, help="Whether the film goes on by itself.")
    compare = String(default="ghost", help="Where a pinned study is: ghost, beside.")
    theme = String(default="auto", help="auto: as the host; else the name of a theme.")
    wanted = String(default="", help="File that is asked of Python; empty: none.")
    parcel = Dict(
        String, String, help="The file that was asked for: name, type, data (base64)."
    )
