"""The state of a page's pictures: every property in one table.

The model that talks to the browser (`ui.views.state`), the links (`link`) and the
session's ``view`` are built from it, so that a property has one default, one set of
values and one name in links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of the pictures."""

    name: str
    default: bool | int | float | str
    help: str
    choices: tuple[Any, ...] = ()  # allowed values; (): any of the default's type
    several: bool = False  # several of the choices, joined by commas
    link: str = ""  # its name in links; "": not in links
    # Whether it stays when the same study is redrawn, or another one drawn.
    stays: Literal["never", "same study", "any study"] = "never"


PROPERTIES = (  # in the order of a link
    Property(
        name="level",
        default=0,
        help="Level that the stepper shows or moves to; 0 to 3.",
        link="level",
        stays="same study",
    ),
    Property(
        name="moment",
        default=-1,
        help="Snapshot of the film, by index; -1: the last epoch.",
        link="moment",
        stays="same study",
    ),
    Property(
        name="selected_class",
        default=-1,
        help="Selected class c; -1: none.",
        link="class",
        stays="same study",
    ),
    Property(
        name="selected_outlier",
        default=-1,
        help="Selected outlier j; -1: none.",
        link="outlier",
        stays="same study",
    ),
    Property(
        name="num_outliers",
        default=-1,
        help="Number of outliers as counted by the user; -1: by the rule.",
        link="count",
        stays="same study",
    ),
    Property(
        name="knockout",
        default="none",
        help="What is removed from G: the class part, or all along its directions.",
        choices=("none", "subtracted", "projected"),
        link="knockout",
        stays="same study",
    ),
    Property(
        name="operator",
        default="G",
        help="The operator whose spectrum is drawn.",
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
        help="Parts of G drawn as sticks, joined by commas.",
        choices=("diag", "within", "cross", "class", "means"),
        several=True,
        link="parts",
        stays="any study",
    ),
    Property(
        name="compare",
        default="ghost",
        help="Where the pinned study is drawn: behind or beside.",
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
        help="auto: follow the host; else the name of a theme.",
        stays="any study",  # the browser reads its name from the link
    ),
    Property(
        name="playing",
        default=False,
        help="Whether the stepper plays by itself.",
    ),
    Property(
        name="rolling",
        default=False,
        help="Whether the film plays by itself.",
    ),
)
BY_NAME: Mapping[str, Property] = {one.name: one for one in PROPERTIES}
BY_LINK: Mapping[str, Property] = {one.link: one for one in PROPERTIES if one.link}
DEFAULTS: Mapping[str, Any] = {one.name: one.default for one in PROPERTIES}
OF_ANY_STUDY = tuple(one.name for one in PROPERTIES if one.stays == "any study")
OF_THE_SAME_STUDY = tuple(one.name for one in PROPERTIES if one.stays != "never")
