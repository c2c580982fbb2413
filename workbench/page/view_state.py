"""What the pictures of a page show: every property of it in one table.

The model that talks to the browser (`ui.views.state`), the links (`link`) and the
session's ``view`` are made of it, so that a property has one default, one set of values
and one name in links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of what the pictures show."""

    name: str
    default: bool | int | float | str
    help: str
    choices: tuple[Any, ...] = ()  # what it can be; (): any of the default's type
    several: bool = False  # some of the choices, joined by commas
    link: str = ""  # its name in links; "": it is in none
    # Whether it stays when another study is drawn, or the same one anew.
    stays: Literal["never", "same study", "any study"] = "never"


PROPERTIES = (  # in the order of a link
    Property(
        name="level",
        default=0,
        help="Level the stepper is at, or on its way to; 0 to 3.",
        link="level",
        stays="same study",
    ),
    Property(
        name="moment",
        default=-1,
        help="Moment of the film, by index; -1: the last epoch.",
        link="moment",
        stays="same study",
    ),
    Property(
        name="selected_class",
        default=-1,
        help="Class c that is picked; -1: none.",
        link="class",
        stays="same study",
    ),
    Property(
        name="selected_outlier",
        default=-1,
        help="Outlier j that is picked; -1: none.",
        link="outlier",
        stays="same study",
    ),
    Property(
        name="num_outliers",
        default=-1,
        help="Outliers that the person counts; -1: those of the rule.",
        link="count",
        stays="same study",
    ),
    Property(
        name="knockout",
        default="none",
        help="G without what: the class part, or all along its directions.",
        choices=("none", "subtracted", "projected"),
        link="knockout",
        stays="same study",
    ),
    Property(
        name="operator",
        default="G",
        help="Whose spectrum is drawn.",
        choices=("G", "Hess", "H", "all"),
        link="operator",
        stays="any study",
    ),
    Property(
        name="scale",
        default="linear",
        help="Eigenvalue axis.",
        choices=("linear", "log"),
        link="scale",
        stays="any study",
    ),
    Property(
        name="parts",
        default="class",
        help="Parts of G, and what collapse predicts, drawn as sticks, by commas.",
        choices=("diag", "within", "cross", "class", "means", "collapse"),
        several=True,
        link="parts",
        stays="any study",
    ),
    Property(
        name="compare",
        default="ghost",
        help="Where a pinned study is: behind, or beside.",
        choices=("ghost", "beside"),
        link="compare",
        stays="any study",
    ),
    Property(
        name="speed",
        default=1.0,
        help="1: one step takes 1.6 seconds.",
        choices=(0.25, 0.5, 1.0, 2.0, 4.0),
        link="speed",
        stays="any study",
    ),
    Property(
        name="theme",
        default="auto",
        help="auto: as the host; else the name of a theme.",
        stays="any study",  # the browser reads its name from the link
    ),
    Property(
        name="playing",
        default=False,
        help="Whether the stepper goes on by itself.",
    ),
    Property(
        name="rolling",
        default=False,
        help="Whether the film goes on by itself.",
    ),
)
BY_NAME: Mapping[str, Property] = {one.name: one for one in PROPERTIES}
BY_LINK: Mapping[str, Property] = {one.link: one for one in PROPERTIES if one.link}
DEFAULTS: Mapping[str, Any] = {one.name: one.default for one in PROPERTIES}
OF_ANY_STUDY = tuple(one.name for one in PROPERTIES if one.stays == "any study")
OF_THE_SAME_STUDY = tuple(one.name for one in PROPERTIES if one.stays != "never")
