"""What stands above the pictures: the look of the page, and what to take away of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bokeh.models import Button, Column, Div, RadioButtonGroup, Row

from workbench.ui.theme import AUTO, THEMES

THEME_NAMES = (AUTO, *THEMES)
PICTURES = ("embedding", "spectrum", "overlap")
_PICTURE_WORDS = ("Gradients", "Spectrum", "Overlaps")
TYPES = ("png", "svg")


@dataclass(frozen=True, slots=True, eq=False)
class BarView:
    """Its controls; ``browser/bar.js`` gives them their work."""

    theme: RadioButtonGroup
    tour: Button
    download: Button  # opens and closes the menu
    menu: Column
    status: Div  # what is being made


def build_bar(files: Sequence[str]) -> BarView:
    """Make the bar.

    Args:
        files: What a kernel makes on demand, as the words on the buttons; empty where
            there is none. The pictures are made in the browser.
    """
    pictures = [f"{words} {kind.upper()}" for words in _PICTURE_WORDS for kind in TYPES]
    status = Div(
        text="",
        visible=False,
        disable_math=True,
        css_classes=["wb-caption"],
        html_attributes={"role": "status"},
    )
    rows = [_row("The pictures as they stand", "picture", pictures)]
    if files:
        rows.append(_row("From the kernel", "file", files))
    return BarView(
        theme=RadioButtonGroup(
            labels=[name.capitalize() for name in THEME_NAMES],
            active=0,
            name="theme",
            css_classes=["wb-switch"],
        ),
        tour=Button(label="Tour", name="tour", css_classes=["wb-button"]),
        download=Button(label="Download", name="download", css_classes=["wb-button"]),
        menu=Column(
            children=[*rows, status],
            visible=False,
            name="menu",
            css_classes=["wb-menu"],
            sizing_mode="stretch_width",
        ),
        status=status,
    )


def _row(title: str, name: str, labels: Sequence[str]) -> Row:
    buttons = [
        Button(label=label, name=f"{name} {n}", css_classes=["wb-chip"])
        for n, label in enumerate(labels)
    ]
    return Row(
        children=[
            Div(text=title, disable_math=True, css_classes=["wb-label"]),
            *buttons,
        ],
        css_classes=["wb-buttons"],
    )
