"""A scene: everything the views draw, from a study, a convention and a theme."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.study.null import band
from workbench.study.records import Levels, Study
from workbench.ui.theme import Theme
from workbench.ui.views.parts import Part, parts_of


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything drawn of one study, computed once and used by every view."""

    study: Study
    levels: Levels  # in the chosen convention
    theme: Theme
    parts: tuple[Part, ...]  # of G, in the order of the hierarchy
    overlap: NDArray[np.float64]  # by leading eigenvector and class mean
    span: NDArray[np.float64]  # by leading eigenvector, in the span of all class means
    chance: tuple[NDArray[np.float64], NDArray[np.float64]]  # of the same with
    # shuffled labels, mean and spread; NaN if labels were not shuffled
    kept: tuple[float, ...]  # share of G's trace that each level keeps
    moments: tuple[Scene, ...]  # earlier epochs, in the same convention and theme

    @property
    def weighting(self) -> str:
        """The convention of the averages."""
        return self.levels.weighting

    @property
    def film(self) -> tuple[Scene, ...]:
        """The snapshots, with this scene as the last."""
        return (*self.moments, self)

    @property
    def num_rows(self) -> int:
        """The number of leading eigenvectors with known overlaps: rows of the table."""
        return len(self.overlap)


def make_scene(study: Study, theme: Theme, weighting: str | None = None) -> Scene:
    """Make the scene of a study.

    Args:
        study: What was measured.
        theme: Its colours and sizes.
        weighting: Which convention of averages; by default the study's own.

    Raises:
        WorkbenchError: If the study does not contain that convention.
    """
    chosen = weighting or study.weighting
    if chosen not in study.levels:
        raise WorkbenchError(
            f"show: this study was not measured with weighting {chosen!r}; choose one "
            f"of {', '.join(study.levels)}."
        )
    levels = study.levels[chosen]
    rows = min(study.num_leading, len(levels.overlap))
    drawn = np.empty((0, rows))
    if levels.null is not None:
        drawn = levels.null.overlap[:, :rows]
    return Scene(
        study=study,
        levels=levels,
        theme=theme,
        parts=parts_of(study, levels, theme),
        overlap=np.nan_to_num(levels.class_overlap[:rows]),
        span=np.nan_to_num(levels.overlap[:rows]),
        chance=band(drawn),
        kept=tuple(np.clip(np.nan_to_num(levels.kept), 0, 1).tolist()),
        moments=tuple(make_scene(moment, theme, chosen) for moment in study.moments),
    )
