"""Buttons, switches and texts around the pictures; they write the `LinkState`."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bokeh.models import Button, CheckboxButtonGroup, Div, RadioButtonGroup, Slider

from workbench.study.records import Study
from workbench.ui.theme import plain
from workbench.ui.views.axis import SCALES
from workbench.ui.views.scene import Scene
from workbench.ui.views.spectrum import ALL, OPERATORS, describe_spectrum
from workbench.ui.views.words import count, number, typeset


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """What can be pressed or dragged, and the texts that answer."""

    classes: CheckboxButtonGroup
    outliers: CheckboxButtonGroup
    clear: Button
    operator: RadioButtonGroup
    scale: RadioButtonGroup
    parts: CheckboxButtonGroup
    count: Slider  # how many outliers one counts
    automatic: Button  # ... and the rule's count again
    knockout: RadioButtonGroup
    message: Div  # what is selected, in words
    note: Div  # how the spectrum was measured
    rule: Div  # who counted the outliers, and how


def build_controls(scene: Scene) -> Controls:
    """Make the controls of a scene."""
    study, num_rows, parts = scene.study, scene.num_rows, scene.parts
    operators = [name for name in OPERATORS if name in study.spectra]
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
            labels=operators + [ALL] * (len(operators) > 1),
            active=0,
            name="operator",
            css_classes=["wb-switch"],
        ),
        scale=RadioButtonGroup(
            labels=list(SCALES), active=0, name="scale", css_classes=["wb-switch"]
        ),
        parts=CheckboxButtonGroup(
            labels=[part.label for part in parts],
            active=[n for n, part in enumerate(parts) if part.role == "class"],
            name="parts",
            css_classes=["wb-chips", "wb-parts"],
        ),
        count=Slider(
            start=0,
            end=max(1, study.num_outliers, study.num_leading - 1),
            step=1,
            value=study.num_outliers,
            title="",
            show_value=False,
            tooltips=False,
            name="count",
            css_classes=["wb-count-slider"],
            width=150,
        ),
        automatic=Button(
            label="Automatic",
            name="automatic",
            css_classes=["wb-button"],
            disabled=True,
        ),
        knockout=RadioButtonGroup(
            labels=["nothing", "the class part", "all its directions"],
            active=0,
            name="knockout",
            css_classes=["wb-switch"],
        ),
        message=_text("message", hint(study), "wb-message"),
        note=_text("note", escape(describe_spectrum(study, "G")), "wb-caption"),
        rule=_text("rule", describe_rule(study), "wb-caption"),
    )


def hint(study: Study) -> str:
    """What to do while nothing is selected."""
    kind = "outlier" if study.num_outliers else "eigenvector"
    return (
        f"Pick a class or an {kind}, here or in the pictures, to see which belong "
        "together. Picking it again, or Escape, clears."
    )


def describe_rule(study: Study) -> str:
    """Say in HTML how many outliers there are, and by which rule."""
    outliers = count(study.num_outliers, "outlier")
    return f"{outliers} of G, by this rule: {escape(typeset(study.outlier_rule))}."


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
