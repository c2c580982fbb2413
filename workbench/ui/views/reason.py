"""Why the class part is as large as it is, in sentences; each has its number."""

from __future__ import annotations

import math

from workbench.study.convention import Convention
from workbench.study.records import Levels, Study
from workbench.study.size import Predicted, Size, predicted_of, size_of
from workbench.ui.views.words import count, number, percent, symbol

# Switches the predicted marks on in the spectrum: see browser/said.js.
SHOW = (
    '<button type="button" class="wb-show" data-shows="collapse">Show it above</button>'
)


def missing(study: Study, levels: Levels) -> str:
    """What the leading eigenvalues of G are made of, beside the class part."""
    size = size_of(study, levels)
    if size is None:
        return ""
    convention = levels.convention
    text = (
        "<b>Where the size comes from:</b> take the sum of the first "
        f"{count(size.num, 'eigenvalue')} of G. {percent(size.class_part)} of it is "
        "the class part"
    )
    if math.isnan(size.within):
        return f"{text}; the rest was not split up."
    return (
        f"{text}, {percent(size.cross)} the cross part ({_crossing(convention)}), "
        f"{percent(size.within)} variation within classes "
        f"({symbol(convention.within_part)})."
    )


def predicted(study: Study, levels: Levels) -> str:
    """What collapse predicts from the class means, and whether it is so."""
    size, found = size_of(study, levels), predicted_of(study, levels)
    if size is None or found is None:
        return ""
    return (
        "<b>Predicted by collapse:</b> if all images of a class had the same features, "
        f"{percent(found.size)} of that sum would be the class part. This follows from "
        "the class means in the last layer, whose mean cosine is r = "
        f"{number(found.cosine)}. {_verdict(size, found)} {SHOW} The eigenvalues of "
        f"the last layer alone add up to {percent(found.share)} of that sum; the rest "
        "needs the other layers. They are predicted with an error of at most "
        f"{percent(found.error)}."
    )


def _verdict(size: Size, found: Predicted) -> str:
    measured = f"{percent(size.class_part)} was measured"
    if found.holds(size):
        return f"The prediction holds: {measured}."
    text = f"<b>The prediction fails here</b>: {measured}."
    if math.isnan(size.within):
        return text
    return (
        f"{text} It leaves out the variation within classes "
        f"({percent(size.within)}), and expects a cross part of "
        f"{percent(1 - found.size)} where {percent(size.cross)} was measured."
    )


def _crossing(convention: Convention) -> str:
    """The parts that are means of pairs, and not the class part."""
    parts = [convention.cross_part]
    if convention.diagonal_part in convention.parts:
        parts.append(convention.diagonal_part)
    return " and ".join(map(symbol, parts))
