r"""Why the class part is as large as it is: what the rest of G's leading part is.

For every j ``lam_j(G) >= lam_j(G_means) >= lam_j(G_class)``, as the differences of
these matrices are positive semidefinite. So the sum of the leading eigenvalues of G
falls into three: what the class means carry, what the means of the pairs c, c' add, and
what the variation of the examples within those pairs adds. None of the three is
negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.study.records import MAX_LEADING, LastLayer, Levels, Study

HOLDS = 0.15  # a prediction holds where the two differ by this share of the larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The first eigenvalues of G, as shares of their sum."""

    num: int  # eigenvalues summed: the outliers, and at least C - 1
    class_part: float  # those of the class part
    cross: float  # what the means of pairs add to them; NaN: not measured
    within: float  # what the examples add to those; NaN: not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What collapse predicts from the last layer, beside what was measured of it."""

    cosine: float  # r, mean cosine of the class means
    size: float  # the class part's eigenvalues over G's, both sums: see `Size`
    error: float  # largest error of the leading eigenvalues of the last layer's G, as
    # a share of the exact ones
    share: float  # eigenvalues of the last layer's G alone over all of G's, both sums

    def holds(self, size: Size) -> bool:
        """Whether the measured size is as predicted."""
        larger = max(self.size, size.class_part)
        return abs(self.size - size.class_part) <= HOLDS * larger


def num_told(study: Study, levels: Levels) -> int:
    """How many leading eigenvalues words are about: the outliers, at least C - 1."""
    wanted = max(study.num_outliers, study.num_classes - 1)
    return min(wanted, len(levels.overlap), len(study.spectra["G"].eigenvalues))


def size_of(study: Study, levels: Levels) -> Size | None:
    """Split the sum of the leading eigenvalues of G; None where there is none."""
    num = num_told(study, levels)
    convention = levels.convention
    total = float(study.spectra["G"].eigenvalues[:num].sum())
    part = levels.parts[convention.class_part][:num]
    if num == 0 or not total > 0 or len(part) < min(num, study.num_classes):
        return None
    own = float(part.sum()) / total
    means = levels.parts.get(convention.means_part)
    if means is None or len(means) < num:
        return Size(num=num, class_part=own, cross=math.nan, within=math.nan)
    held = float(means[:num].sum()) / total
    return Size(num=num, class_part=own, cross=held - own, within=1 - held)


def predicted_of(study: Study, levels: Levels) -> Predicted | None:
    """What collapse predicts of these eigenvalues; None without a last layer."""
    layer = study.last_layer
    if layer is None or not can_predict(study):
        return None
    num = num_told(study, levels)
    found = layer.collapsed(levels.weighting)
    whole, part = found.G.all[:num], found.class_part.all[:num]
    total = float(study.spectra["G"].eigenvalues[:num].sum())
    exact = layer.spectrum.eigenvalues[:num]
    if num == 0 or not whole.sum() > 0 or not total > 0 or not exact.sum() > 0:
        return None
    return Predicted(
        cosine=layer.cosine,
        size=float(part.sum() / whole.sum()),
        error=_largest_error(whole, exact),
        share=float(exact.sum()) / total,
    )


def can_predict(study: Study) -> bool:
    """Whether there is a last layer, and not too many classes to solve for."""
    return study.last_layer is not None and 1 < study.num_classes <= MAX_LEADING


def predicted_class_part(study: Study, levels: Levels) -> NDArray[np.float64]:
    """Where the eigenvalues of the class part would be, were the network collapsed.

    The j-th of G times the predicted ratio of the last layer, so that it can be seen
    beside the measured class part, whatever the other layers add to both.

    Returns:
        At most C eigenvalues; none where nothing is predicted.
    """
    layer: LastLayer | None = study.last_layer
    if layer is None or not can_predict(study):
        return np.empty(0)
    ratio = layer.collapsed(levels.weighting).ratio
    own = study.spectra["G"].eigenvalues[: len(ratio)]
    return np.nan_to_num(own * ratio[: len(own)])


def _largest_error(found: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    many = min(len(found), len(exact))
    apart = np.abs(found[:many] - exact[:many])
    return float((apart / exact[:many].clip(min=np.finfo(float).tiny)).max())
