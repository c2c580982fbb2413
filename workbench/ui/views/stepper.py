"""The stepper: three averages, i then c′ then c, and what each keeps of G."""

from __future__ import annotations

from dataclasses import dataclass

from bokeh.models import Button, Div, RadioButtonGroup, Slider
from bokeh.models.dom import HTML

from workbench.study import Levels, Study
from workbench.ui.views.words import DELTA_C, DELTA_CK, DELTA_G, DELTA_ICK, percent

SPEEDS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class StepperView:
    """Its controls; ``linked.js`` gives them their work."""

    stations: tuple[Button, ...]  # one a level; each goes there
    back: Button
    play: Button
    step: Button
    position: Slider  # between the levels, to be dragged
    speed: RadioButtonGroup
    now: Div  # one sentence on the level that is shown
    sentences: tuple[str, ...]  # one a level


def build_stepper(study: Study, levels: Levels) -> StepperView:
    """Make the stations with formula, count and share, and the controls."""
    sentences = _sentences(study, levels)
    return StepperView(
        stations=tuple(
            Button(
                label=HTML(html=html),
                name=f"station {n}",
                css_classes=["wb-station", *(["wb-on"] if n == 0 else [])],
            )
            for n, html in enumerate(_stations(study, levels))
        ),
        back=Button(label="‹ Back", name="back", css_classes=["wb-button"]),
        play=Button(label="Play", name="play", css_classes=["wb-button", "wb-primary"]),
        step=Button(label="Step ›", name="step", css_classes=["wb-button"]),
        position=Slider(
            start=0,
            end=3,
            step=0.01,
            value=0,
            title="averaged so far",
            show_value=False,
            tooltips=False,
            name="position",
            css_classes=["wb-position"],
            sizing_mode="stretch_width",
        ),
        speed=RadioButtonGroup(
            labels=[f"{s:g}×" for s in SPEEDS],
            active=SPEEDS.index(1.0),
            name="speed",
            css_classes=["wb-switch"],
        ),
        now=Div(
            text=sentences[0],
            name="now",
            css_classes=["wb-now"],
            disable_math=True,
            sizing_mode="stretch_width",
        ),
        sentences=sentences,
    )


def _stations(study: Study, levels: Levels) -> tuple[str, ...]:
    ave = "weighted Ave" if levels.weighting == "jmlr" else "Ave"
    others = "" if levels.weighting == "slide" else "≠c"
    C = study.num_classes
    rows = (
        ("every gradient", DELTA_ICK, study.embedding.num_total),
        (
            "average over examples",
            f"{DELTA_CK} = {ave}<sub class=i>i</sub> "
            "δ<sub><span class=i>i</span>,c,c′</sub>",
            C * C,
        ),
        (
            "average over potential classes",
            f"{DELTA_C} = {ave}<sub class=i>c′{others}</sub> "
            "δ<sub>c,<span class=i>c′</span></sub>",
            C,
        ),
        (
            "average over classes",
            f"{DELTA_G} = Ave<sub class=i>c</sub> δ<sub class=i>c</sub>",
            1,
        ),
    )
    return tuple(
        f"<span class=wb-title>{title}</span><span class=wb-formula>{formula}</span>"
        f"<span class=wb-count>{number:,}</span>"
        f"<span class=wb-kept>{percent(kept)} of trace G</span>"
        f'<span class=wb-bar><span style="width:{100 * min(max(kept, 0), 1):.1f}%">'
        f"</span></span>"
        for (title, formula, number), kept in zip(rows, levels.kept, strict=True)
    )


def _sentences(study: Study, levels: Levels) -> tuple[str, ...]:
    """One sentence a level, with the numbers of this study."""
    C, kept = study.num_classes, levels.kept
    total = study.embedding.num_total
    left_out = (
        ""
        if levels.weighting == "slide"
        else f" (the {C} means of the true class, {DELTA_CK} with c = c′, are left out)"
    )
    return (
        f"{DELTA_ICK} = √p<sub>c′</sub> (y<sub>c′</sub> − p)ᵀ ∂f/∂θ: the gradient of "
        "example i of class c, as if its label were c′. Together they are all of "
        f"G = Ave<sub>i,c</sub> Σ<sub>c′</sub> {DELTA_ICK} {DELTA_ICK}ᵀ.",
        f"{total:,} gradients became {C * C:,} means: the examples of a class no longer "
        f"differ. {percent(kept[1])} of the trace of G is left.",
        f"{C * C:,} means became {C} class means{left_out}. {percent(kept[2])} of the "
        "trace of G is left, and these few directions are where the outliers point.",
        f"{C} class means became one, the mean of all. {percent(kept[3])} of the trace "
        "of G is left.",
    )
