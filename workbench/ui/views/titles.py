"""Tooltips and labels of the controls: one sentence per button."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.ui.views.scene import Scene
from workbench.ui.views.spectrum import ALL
from workbench.ui.views.stepper import SPEEDS
from workbench.ui.views.words import number

# Labels of groups of buttons and sliders for screen readers, by model name.
LABELS: Mapping[str, str] = {
    "classes": "Classes",
    "outliers": "Leading eigenvectors of G",
    "operator": "Matrix whose spectrum is drawn",
    "scale": "Eigenvalue axis",
    "parts": "Parts of G drawn as sticks",
    "knockout": "Take away from G",
    "speed": "Speed",
    "position": "Averages taken so far, from none to three",
    "theme": "Theme",
    "compare": "Where the pinned study is drawn",
    "stops": "Epoch of the training",
    "rail": "Training, from its first epoch to its last",
    "count": "How many eigenvalues of G count as outliers",
}

_OPERATORS = {
    "G": "Gauss-Newton matrix: the part of the Hessian that the gradients make up",
    "Hess": "Hessian: all second derivatives of the training loss; Hess = G + H",
    "H": "What G leaves of the Hessian: the curvature of the network itself",
    ALL: "All of these in one picture; the sticks are G’s",
}


def build_titles(scene: Scene, files: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Return a tooltip for each button, or each of a group, by model name."""
    study = scene.study
    operators = [
        _OPERATORS[name] for name in ("G", "Hess", "H") if name in study.spectra
    ]
    values = study.spectra["G"].eigenvalues
    return {
        "classes": [f"Show what belongs to class {name}" for name in study.class_names],
        "outliers": [
            f"Eigenvalue {j + 1} of G, λ = {number(value)}: show whose class means "
            "point along its eigenvector"
            for j, value in enumerate(values[:200])
        ],
        "operator": [*operators, *[_OPERATORS[ALL]] * (len(operators) > 1)],
        "scale": [
            "Equal steps of λ: shows how far out the outliers are",
            "Powers of ten: shows the bulk near zero too",
        ],
        **moment_titles(scene),
        "knockout": [
            "G as it is",
            "G minus its class part: do the outliers go?",
            "G without all that lies along the directions of the class means",
        ],
        "speed": [f"One average takes {1.6 / speed:.3g} seconds" for speed in SPEEDS],
        "station": [
            "Show every gradient by itself",
            "Go to the means of the pairs c, c′",
            "Go to the class means",
            "Go to the mean of everything",
        ],
        "back": "Undo the last average (←)",
        "play": "Average three times, one step at a time (space)",
        "step": "Take the next average (→)",
        "maths": "Each level's formula, or words alone",
        "compare": [
            "As dashed outlines behind this study",
            "As a pair of pictures of its own, on the same axes",
        ],
        "roll": "Watch the training: points and eigenvalues travel from epoch to epoch",
        "clear": "Select nothing (Escape)",
        "theme": [
            "As the browser, or JupyterLab, has it",
            "Dark on light",
            "Light on dark",
            "Larger type and thicker marks, for a lecture hall",
        ],
        "tour": "A guided look around the page (Esc to leave)",
        "more": "Themes, speed, and downloads: pictures, tables, this page as a file",
        "picture": [
            f"Save the {words}, as drawn now, as {kind}"
            for words in ("gradients and their averages", "spectrum", "overlaps")
            for kind in ("pixels (PNG)", "lines, sharp at any size (SVG)")
        ],
        "file": list(files.values()),
    }


def moment_titles(scene: Scene) -> dict[str, str | list[str]]:
    """Return the tooltips whose numbers depend on the epoch."""
    return {
        "parts": [part.about for part in scene.parts],
        "automatic": f"Count as the rule does: {scene.study.num_outliers}",
    }
