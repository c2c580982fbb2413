"""Why the class part is as large as it is, in sentences; each has its number."""

from __future__ import annotations

import math

from workbench.study.convention import Convention
from workbench.study.records import Levels, Study
from workbench.study.size import HOLDS, Predicted, Size, predicted_of, size_of
from workbench.ui.views.words import count, number, percent, symbol

# Switches the predicted marks on in the spectrum: see browser/said.js.
SHOW = (
    '<button type="button" class="wb-show" data-shows="collapse">'
    "Show it in the spectrum</button>"
)


def missing(study: Study, levels: Levels) -> str:
    """What the rest of the leading eigenvalues is, where the class part is not all."""
    size = size_of(study, levels)
    if size is None:
        return ""
    convention = levels.convention
    text = (
        f"<b>Where the size comes from:</b> the first {count(size.num, 'eigenvalue')} "
        f"of G sum to a whole. The class part makes up {percent(size.class_part)} of it"
    )
    if math.isnan(size.within):
        return f"{text}; what makes up the rest was not measured."
    return (
        f"{text}, the cross part ({_crossing(convention)}) adds {percent(size.cross)}, "
        f"and the variation within classes ({symbol(convention.within_part)}) "
        f"{percent(size.within)}."
    )


def predicted(study: Study, levels: Levels) -> str:
    """What collapse predicts from the class means, and whether it is so."""
    size, found = size_of(study, levels), predicted_of(study, levels)
    if size is None or found is None:
        return ""
    return (
        "<b>Predicted by collapse:</b> if all images of a class had the same features, "
        f"the class part would make up {percent(found.size)} of that sum in the last "
        f"layer, where the class means have a mean cosine r of {number(found.cosine)}. "
        f"{_verdict(size, found)} {SHOW} The last layer alone has eigenvalues "
        f"{percent(found.share)} as large as G's. The prediction of these is off by "
        f"{percent(found.error)} at most."
    )


def _verdict(size: Size, found: Predicted) -> str:
    gap = found.size - size.class_part
    measured = f"measured in all layers are {percent(size.class_part)}"
    if abs(gap) <= HOLDS:
        return f"The prediction holds: {measured}."
    text = f"<b>The prediction fails here</b>: {measured}."
    if math.isnan(size.within):
        return text
    return (
        f"{text} It leaves out the variation within classes "
        f"({percent(size.within)} of the sum), and has a cross part of "
        f"{percent(1 - found.size)} where {percent(size.cross)} were measured."
    )


def _crossing(convention: Convention) -> str:
    """The parts that are means of pairs, and not the class part."""
    parts = [convention.cross_part]
    if convention.diagonal_part in convention.parts:
        parts.append(convention.diagonal_part)
    return " and ".join(map(symbol, parts))
