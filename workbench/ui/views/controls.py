"""Buttons, switches and texts around the pictures; they write the `LinkState`."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bokeh.models import Button, CheckboxButtonGroup, Div, RadioButtonGroup

from workbench.study import Study
from workbench.ui.theme import plain
from workbench.ui.views.spectrum import OPERATORS, describe_spectrum
from workbench.ui.views.words import number

SCALES = ("linear", "log")
KNOCKOUTS = ("none", "subtracted", "projected")


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """What can be pressed, and the two texts that answer."""

    classes: CheckboxButtonGroup
    outliers: CheckboxButtonGroup
    clear: Button
    operator: RadioButtonGroup
    scale: RadioButtonGroup
    knockout: RadioButtonGroup
    message: Div  # what is selected, in words
    note: Div  # how the spectrum was measured


def build_controls(study: Study, num_rows: int) -> Controls:
    """Make the controls for a study whose overlap table has so many rows."""
    return Controls(
        classes=CheckboxButtonGroup(
            labels=[plain(name, 20) for name in study.class_names],
            name="classes",
            css_classes=["wb-chips", "wb-classes"],
        ),
        outliers=CheckboxButtonGroup(
            labels=[_outlier_label(study, j, num_rows) for j in range(num_rows)],
            name="outliers",
            css_classes=["wb-chips"],
        ),
        clear=Button(
            label="Clear", name="clear", css_classes=["wb-button"], disabled=True
        ),
        operator=RadioButtonGroup(
            labels=[name for name in OPERATORS if name in study.spectra],
            active=0,
            name="operator",
            css_classes=["wb-switch"],
        ),
        scale=RadioButtonGroup(
            labels=list(SCALES), active=0, name="scale", css_classes=["wb-switch"]
        ),
        knockout=RadioButtonGroup(
            labels=["nothing", "the class part", "all its directions"],
            active=0,
            name="knockout",
            css_classes=["wb-switch"],
        ),
        message=_text("message", hint(study), "wb-message"),
        note=_text("note", escape(describe_spectrum(study, "G")), "wb-caption"),
    )


def hint(study: Study) -> str:
    """What to do while nothing is selected."""
    kind = "outlier" if study.num_outliers else "eigenvector"
    return (
        f"Pick a class or an {kind}, here or in the pictures, to see which belong "
        "together. Picking it again, or Escape, clears."
    )


def _outlier_label(study: Study, j: int, num_rows: int) -> str:
    value = number(study.spectra["G"].eigenvalues[j])
    return f"{j + 1}   λ {value}" if num_rows <= 30 else str(j + 1)


def _text(name: str, text: str, css_class: str) -> Div:
    return Div(
        text=text,
        name=name,
        css_classes=[css_class],
        disable_math=True,
        html_attributes={"aria-live": "polite"},
        sizing_mode="stretch_width",
    )
