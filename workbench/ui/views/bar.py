"""The guided tour, and a menu with themes, speeds and downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from bokeh.models import Button, Column, Div, RadioButtonGroup, Row, UIElement

from workbench.ui.theme import AUTO, THEMES

THEME_NAMES = (AUTO, *THEMES)
PICTURES = ("embedding", "spectrum", "overlap")
_PICTURE_WORDS = ("Gradients", "Spectrum", "Overlaps")
TYPES = ("png", "svg")


@dataclass(frozen=True, slots=True, eq=False)
class BarView:
    """Its controls, which ``browser/bar.js`` handles."""

    theme: RadioButtonGroup  # in the menu
    tour: Button
    more: Button  # toggles the menu
    menu: Column
    chips: tuple[Button, ...]  # in the menu: the pictures, then the files
    status: Div  # the file being made


def build_bar(files: Mapping[str, str], speed: RadioButtonGroup) -> BarView:
    """Build the bar.

    Args:
        files: Files that a kernel makes on demand: label and tooltip of each button;
            empty without a kernel. Pictures are made in the browser.
        speed: Of the stepper, which the menu holds.
    """
    pictures = [f"{words} {kind.upper()}" for words in _PICTURE_WORDS for kind in TYPES]
    status = Div(
        text="",
        visible=False,
        disable_math=True,
        css_classes=["wb-caption"],
        html_attributes={"role": "status"},
    )
    offered = {"Download the pictures as they stand": _chips("picture", pictures)}
    if files:
        offered["Download files"] = _chips("file", list(files))
    theme = RadioButtonGroup(
        labels=[name.capitalize() for name in THEME_NAMES],
        active=0,
        name="theme",
        css_classes=["wb-switch"],
    )
    rows = [
        _row("Theme", [theme]),
        _row("Speed of Play", [speed]),
        *(_row(title, chips) for title, chips in offered.items()),
    ]
    return BarView(
        theme=theme,
        tour=Button(label="Tour", name="tour", css_classes=["wb-button"]),
        more=Button(label="More", name="more", css_classes=["wb-button"]),
        menu=Column(
            children=[*rows, status],
            visible=False,
            name="menu",
            css_classes=["wb-menu"],
            sizing_mode="stretch_width",
        ),
        chips=tuple(chain(*offered.values())),
        status=status,
    )


def _chips(name: str, labels: Sequence[str]) -> list[Button]:
    return [
        Button(label=label, name=f"{name} {n}", css_classes=["wb-chip"])
        for n, label in enumerate(labels)
    ]


def _row(title: str, chips: Sequence[UIElement]) -> Row:
    return Row(
        children=[
            Div(text=title, disable_math=True, css_classes=["wb-label"]),
            *chips,
        ],
        css_classes=["wb-buttons"],
    )
