"""The film: earlier epochs of the run, which can take the last one's place.

Every snapshot has the same rows as the study, so the browser (``film.js``) can
substitute its numbers, or a mixture of two neighbours, and draw as usual: stepper,
selection and knock-out work in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import Button, Div, RadioButtonGroup, Slider
from numpy.typing import NDArray

from workbench.study.records import Levels, Study
from workbench.ui.views.axis import (
    SCALES,
    Frame,
    density_sides,
    draw_curve,
    joined,
    without_leading,
)
from workbench.ui.views.controls import describe_rule
from workbench.ui.views.overlap import OverlapView, chance_bands
from workbench.ui.views.scene import Scene
from workbench.ui.views.spectrum import (
    ALL,
    SpectrumView,
    describe_spectrum,
    padded,
)
from workbench.ui.views.stepper import describe_levels
from workbench.ui.views.titles import moment_titles
from workbench.ui.views.words import count, number, percent

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FilmView:
    """Its controls, and the contents of each snapshot."""

    roll: Button
    rail: Slider  # from the first snapshot to the last, draggable
    stops: RadioButtonGroup  # one per epoch
    when: Div  # the epoch shown, its loss and accuracy
    moments: list[dict[str, Any]]  # earlier snapshots, by epoch; see `content`
    texts: list[dict[str, Any]]  # texts of each snapshot, including the last


def build_film(scene: Scene, spectrum: SpectrumView, overlap: OverlapView) -> FilmView:
    """Build rail, stops and snapshots; extends log axes to include all of them."""
    names = [str(moment.study.run.get("epochs", 0)) for moment in scene.film]
    last = len(names) - 1
    moments = [
        content(moment, spectrum) | {"homes": _homes(moment.study)}
        for moment in scene.moments
    ]
    for key in spectrum.frames:
        if key.endswith("/log"):  # the axis is fixed, and the outliers move along it
            frames = [spectrum.frames[key], *(m["frames"][key] for m in moments)]
            for frame in frames:
                frame |= joined(frames)
    texts = [_texts(moment, spectrum, overlap) for moment in scene.film]
    return FilmView(
        roll=Button(
            label="Play training", name="roll", css_classes=["wb-button", "wb-roll"]
        ),
        rail=Slider(
            start=0,
            end=max(last, 1),
            step=0.01,
            value=last,
            title="",
            show_value=False,
            tooltips=False,
            name="rail",
            css_classes=["wb-rail"],
            sizing_mode="stretch_width",
        ),
        stops=RadioButtonGroup(
            labels=names,
            active=last,
            name="stops",
            css_classes=["wb-stops"],
            sizing_mode="stretch_width",
        ),
        when=Div(
            text=texts[-1]["when"],
            name="when",
            css_classes=["wb-when"],
            disable_math=True,
            html_attributes={"aria-live": "polite"},
        ),
        moments=moments,
        texts=texts if scene.moments else [],
    )


def content(scene: Scene, spectrum: SpectrumView) -> dict[str, Any]:
    """Return the spectra of a snapshot, on the rows and log axis of the study's.

    Returns:
        ``eigenvalues``: operator -> columns, NaN where there is none; ``parts``: role
            -> eigenvalues; ``curves`` and ``frames``: see `densities`.
    """
    eigenvalues = {
        name: _rows(scene.study, scene.levels, name, np.asarray(source.data["value"]))
        for name, source in spectrum.eigenvalues.items()
    }
    values = {name: columns["value"] for name, columns in eigenvalues.items()}
    parts = {part.role: part.eigenvalues for part in scene.parts}
    return {
        "eigenvalues": eigenvalues,
        "parts": {
            role: padded(parts.get(role, np.empty(0)), len(source.data["value"]))
            for role, source in spectrum.parts.items()
        },
        **densities(
            scene.study,
            values,
            parts.get("class", np.empty(0)),
            spectrum,
            num_sticks=len(values["G"]),
        ),
    }


def densities(
    other: Study,
    values: dict[str, Array],
    orange: Array,
    spectrum: SpectrumView,
    *,
    num_sticks: int = 0,
) -> dict[str, Any]:
    """Return the densities of another study on the log axis of the one drawn.

    Args:
        other: The other study.
        values: Operator -> eigenvalues that its frame must contain.
        orange: Eigenvalues of the class part, which it must contain too.
        spectrum: The view of the study itself.
        num_sticks: Number of leading eigenvalues of G whose bumps move in a knock-out.

    Returns:
        ``curves``: ``"G/log"`` -> ``spans``, the ends of its grid per side; ``y``,
            ``low``, ``high``; and for G ``rest``, if known, see `without_leading`.
            ``frames``: as in `SpectrumView`.
    """
    curves: dict[str, Any] = {}
    frames: dict[str, Frame] = {}
    for scale in SCALES:
        for name in spectrum.eigenvalues:
            key = f"{name}/{scale}"
            if name not in other.spectra:
                curves[key] = {"spans": [], "y": [], "low": [], "high": []}
                frames[key] = dict(spectrum.frames[key])
                continue
            found = other.spectra[name]
            held = np.concatenate([values[name], orange])
            held = held[np.isfinite(held)]
            curve, frame = draw_curve(
                density_sides(found), scale, spectrum.floor, held, found
            )
            curves[key] = _packed(curve.data)
            if name == "G" and num_sticks:
                rest = without_leading(
                    found, num_sticks, curve, scale, spectrum.floor, frame["width"]
                )
                if rest is not None:
                    curves[key]["rest"] = rest.astype(np.float32)
            frames[key] = spectrum.frames[key] | frame
        frames[f"{ALL}/{scale}"] = spectrum.frames[f"{ALL}/{scale}"] | joined(
            [frames[f"{name}/{scale}"] for name in spectrum.eigenvalues]
        )
    return {"curves": curves, "frames": frames}


def _rows(moment: Study, levels: Levels, name: str, own: Array) -> dict[str, Array]:
    """Leading eigenvalues at both ends, by rank, to match those of the study."""
    if name not in moment.spectra:
        nothing = np.full(len(own), np.nan)
        return {"value": nothing, "residual": nothing}
    spectrum = moment.spectra[name]
    values, errors = spectrum.eigenvalues, spectrum.residuals
    if name == "G":
        many = len(own)
        return {
            "value": padded(values, many),
            "residual": padded(errors, many),
            "subtracted": padded(levels.subtracted, many),
            "projected": padded(levels.projected, many),
        }
    many, below = int((own > 0).sum()), int((own <= 0).sum())

    def ends(column: Array) -> Array:
        low = column[values < 0][::-1]
        top = padded(column[values > 0], many)
        return np.concatenate([top, padded(low, below)[::-1]])

    return {"value": ends(values), "residual": ends(errors)}


def _packed(curve: Any) -> dict[str, Any]:
    """A curve without its grid, which is evenly spaced on each side."""
    x = np.asarray(curve["x"], dtype=np.float64)
    ends = np.flatnonzero(np.isnan(x))
    starts = np.r_[0, ends + 1][:-1]  # none if there is no side
    spans = [[float(x[a]), float(x[b - 1])] for a, b in zip(starts, ends, strict=True)]
    columns = {name: np.asarray(curve[name]) for name in ("y", "low", "high")}
    if np.array_equal(columns["low"], columns["high"], equal_nan=True):
        columns["low"] = columns["high"] = columns["y"]  # sent once
    return {"spans": spans} | {n: c.astype(np.float32) for n, c in columns.items()}


def _homes(moment: Study) -> list[dict[str, NDArray[np.float32]]]:
    """The positions of the marks of each level."""
    embedding = moment.embedding
    by_level = [embedding.points[embedding.level == level] for level in range(4)]
    return [{"x": p[:, 0].copy(), "y": p[:, 1].copy()} for p in by_level]


def _texts(
    scene: Scene, spectrum: SpectrumView, overlap: OverlapView
) -> dict[str, Any]:
    """The page's texts about a snapshot."""
    moment, levels = scene.study, scene.levels
    run = moment.run
    words = [f"<b>epoch {run.get('epochs', 0)}</b>"]
    if isinstance(run.get("train_loss"), float):
        words.append(f"loss {number(run['train_loss'])}")
    if isinstance(run.get("train_accuracy"), float):
        words.append(f"accuracy {percent(run['train_accuracy'])}")
    words.append(count(moment.num_outliers, "outlier"))
    rows = min(len(spectrum.eigenvalues["G"].data["value"]), len(levels.overlap))
    return {
        "when": " · ".join(words),
        "automatic": moment.num_outliers,
        "rule": describe_rule(moment),
        "notes": {
            name: describe_spectrum(moment, name)
            if name in moment.spectra
            else f"{name} was not measured at this epoch."
            for name in spectrum.eigenvalues
        },
        "overlap": np.nan_to_num(levels.class_overlap[:rows]).tolist(),
        "span": np.nan_to_num(levels.overlap[:rows]).tolist(),
        "bands": chance_bands(scene.chance, overlap.left, overlap.width),
        "sentences": describe_levels(scene),
        "kept": list(scene.kept),
        "titles": moment_titles(scene),
        "chips": [number(v) for v in moment.spectra["G"].eigenvalues[:rows]],
    }
