"""The stepper: averages over i, then c′, then c, and the share of G each keeps."""

from __future__ import annotations

from dataclasses import dataclass

from bokeh.models import Button, Div, RadioButtonGroup, Slider
from bokeh.models.dom import HTML

from workbench.page.view_state import BY_NAME
from workbench.study.convention import Convention
from workbench.study.records import Study
from workbench.ui.views.scene import Scene
from workbench.ui.views.words import (
    DELTA_C,
    DELTA_CK,
    DELTA_G,
    DELTA_ICK,
    G_ICK,
    percent,
)

# Shown by the browser's own code: where that is forbidden, Play does nothing.
PLAY = "Press <b>Play</b>: do their averages point along the needles that tower?"
SPEEDS = BY_NAME["speed"].choices
CLOSE = 0.1  # of the trace: G is nearly all of the Hessian


@dataclass(frozen=True, slots=True, eq=False)
class StepperView:
    """Its controls, which ``browser/stepper.js`` handles."""

    stations: tuple[Button, ...]  # one per level, to go there
    left: Div  # curve of the remaining share of G's trace, above the rail
    position: Slider  # the rail between the levels, draggable
    back: Button
    play: Button
    step: Button
    speed: RadioButtonGroup
    maths: Button  # shows and hides the formulas
    now: Div  # a sentence on the level shown
    sentences: tuple[str, ...]  # one per level
    todo: str  # said of the first level
    doing: tuple[str, ...]  # one per level: the average that leads to it
    counts: tuple[int, ...]  # number of gradients or means at each level
    kept: tuple[float, ...]  # share of G's trace that each level keeps


def build_stepper(scene: Scene) -> StepperView:
    """Build the controls, and the stations with formula, count and share."""
    study, kept = scene.study, scene.kept
    sentences = describe_levels(scene)
    C = study.num_classes
    return StepperView(
        stations=tuple(
            Button(
                label=HTML(html=html),
                name=f"station {n}",
                css_classes=["wb-station", *(["wb-on"] if n == 0 else [])],
                margin=0,
            )
            for n, html in enumerate(_stations(scene))
        ),
        left=Div(
            text=_left(),
            name="left",
            css_classes=["wb-left"],
            disable_math=True,
            sizing_mode="stretch_width",
        ),
        position=Slider(
            start=0,
            end=3,
            step=0.01,
            value=0,
            title="",
            show_value=False,
            tooltips=False,
            name="position",
            css_classes=["wb-position"],
            sizing_mode="stretch_width",
        ),
        back=Button(label="‹ Back", name="back", css_classes=["wb-button"]),
        play=Button(label="Play", name="play", css_classes=["wb-button", "wb-primary"]),
        step=Button(label="Step ›", name="step", css_classes=["wb-button"]),
        speed=RadioButtonGroup(
            labels=[f"{s:g}×" for s in SPEEDS],
            active=SPEEDS.index(BY_NAME["speed"].default),
            name="speed",
            css_classes=["wb-switch"],
        ),
        maths=Button(label="Show the maths", name="maths", css_classes=["wb-chip"]),
        now=Div(
            text=sentences[0],
            name="now",
            css_classes=["wb-now"],
            disable_math=True,
            html_attributes={"aria-live": "polite"},
        ),
        sentences=sentences,
        todo=PLAY,
        doing=_doing(scene.levels.convention),
        counts=(study.embedding.num_total, C * C, C, 1),
        kept=kept,
    )


def _left() -> str:
    """The share of trace G along the rail, filled in by the browser."""
    svg = (
        '<svg viewBox="0 0 300 100" preserveAspectRatio="none" aria-hidden="true">'
        "<path/></svg>"
    )
    return (
        '<div class="wb-curve-left" style="--at:0%;--share:1">'
        f'{svg}<div class="wb-gone">{svg}</div><span class="wb-ball"></span>'
        '<span class="wb-told"><b>100\u00a0%</b> of G’s trace is left</span></div>'
    )


def _doing(convention: Convention) -> tuple[str, ...]:
    """Describe the average that leads to each level, in a sentence."""
    others = "" if convention.includes_true else ", all but c itself"
    weighted = " weighted by p" if convention.weighted else ""
    return (
        "",
        f"Averaging over the examples <b>i</b>{weighted}: each gradient travels to the "
        "mean of its pair of true class c and potential class c′.",
        f"Averaging over the potential classes <b>c′</b>{weighted}{others}: each mean "
        "of a pair travels to the mean of its class c.",
        "Averaging over the classes <b>c</b>: the class means travel to the mean of "
        "everything.",
    )


def _stations(scene: Scene) -> tuple[str, ...]:
    """Average, formula, count and remaining share of G, for each level."""
    study, convention = scene.study, scene.levels.convention
    ave = "wAve" if convention.weighted else "Ave"
    one = "g" if convention.weighted else "δ"
    others = "" if convention.includes_true else " ≠ c"
    C = study.num_classes
    drawn = int((study.embedding.level == 0).sum())
    of_all = f"every gradient ({drawn:,} drawn)" if drawn else "every gradient"
    over = "δ<sub>{}</sub>".format
    mark = '<span class="wb-index">{}</span>'.format
    rows = (
        (of_all, f"{one}<sub>i,c,c′</sub>", study.embedding.num_total),
        (
            "average over examples",
            f"{over('c,c′')} = {_op(ave, mark('i'))} {one}<sub>{mark('i')},c,c′</sub>",
            C * C,
        ),
        (
            "average over potential classes",
            f"{over('c')} = {_op(ave, mark('c′') + others)} {over('c,' + mark('c′'))}",
            C,
        ),
        (
            "average over classes",
            f"{over('G')} = {_op(ave, mark('c'))} {over(mark('c'))}",
            1,
        ),
    )
    return tuple(
        f'<span class="wb-title">{title}</span>'
        f'<span class="wb-formula">{formula}</span>'
        f'<span class="wb-count">{number:,}</span>'
        f'<span class="wb-kept">{percent(share)} of G’s trace</span>'
        f'<span class="wb-bar"><span style="width:{100 * share:.1f}%"></span></span>'
        for (title, formula, number), share in zip(rows, scene.kept, strict=True)
    )


def _op(name: str, below: str) -> str:
    return f'<span class="wb-op">{name}</span><sub>{below}</sub>'


def _share_of_hess(study: Study) -> str:
    """What G is of the Hessian, as far as the traces tell."""
    if (hess := study.spectra.get("Hess")) is None or hess.trace <= hess.trace_error:
        return "a part of the loss's curvature"
    share = study.spectra["G"].trace / hess.trace
    error = hess.trace_error / hess.trace
    if abs(share - 1) + error <= CLOSE:
        return "nearly all of the loss's curvature"
    if share < 1:
        return f"{percent(share)} of the loss's curvature, by its trace"
    return "a part of the loss's curvature"


def describe_levels(scene: Scene) -> tuple[str, ...]:
    """Return a sentence per level, with the numbers of this study."""
    study, convention = scene.study, scene.levels.convention
    C, total, kept = study.num_classes, study.embedding.num_total, scene.levels.kept
    left_out = ""
    if not convention.includes_true:
        left_out = f" (the {C} with c′ = c are left out)"
    one, root, weight = DELTA_ICK, "√p<sub>c′</sub> ", ""
    by_p = by_w = ""
    if convention.weighted:
        one, root, weight = G_ICK, "", "p<sub>c′</sub> "
        by_p = " Averages are weighted (wAve) by the predicted probability p."
        by_w = (
            " Each class weighs w<sub>c</sub>, the share of the probability that its "
            "examples give to other classes."
        )
    return (
        f"<b>{total:,} gradients</b>, one for each image under each label, make up G, "
        f"{_share_of_hess(study)}."
        f'<span class="wb-maths">{one} = {root}(y<sub>c′</sub> − p)ᵀ ∂f/∂θ, '
        f"G = Ave<sub>i,c</sub> Σ<sub>c′</sub> {weight}{one}ᵀ {one}</span>",
        f"<b>{total:,} gradients became {C * C:,} means {DELTA_CK}</b>: what sets the "
        f"examples of a class apart is gone; {percent(kept[1])} of G’s trace remains."
        f"{by_p}",
        f"<b>{C * C:,} means became {C} class means {DELTA_C}</b>{left_out}: "
        f"{percent(kept[2])} of G’s trace remains, in these few directions.",
        f"<b>{C} class means became one, {DELTA_G}</b>: {percent(kept[3])} of G’s "
        f"trace remains. What distinguished the classes has been averaged out.{by_w}",
    )
