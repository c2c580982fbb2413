"""Snapshots: earlier epochs of a training, as part of its study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.measurement.settings import MeasureSettings
from workbench.study.records import Study
from workbench.study.spectrum import Spectrum

COST = 0.5  # approximate cost of a snapshot relative to the whole measurement
PER_DECADE = 25  # bins of a stored density: two or three per smoothing width
PER_TOP = 200  # the same for the linear axis, up to the largest size
SMALLEST = 1e-12  # times the largest size: smaller eigenvalues count as zero
Record = TypeVar("Record")


def snapshot_settings(settings: MeasureSettings) -> MeasureSettings:
    """Return the settings of a snapshot: the study's, with only the ends of Hess and H.

    All their eigenvalues would take more than half of the time for a small network, and
    the film does not need them: it has sticks and density either way. Walks and
    layers are measured at the last epoch only.
    """
    return replace(
        settings, moments=False, exact_hessian=False, walk=False, layers=False
    )


def thinned_out(epochs: tuple[int, ...], num: int) -> tuple[int, ...]:
    """Return at most ``num`` of these, evenly spaced in the list, with the first."""
    if num >= len(epochs):
        return epochs
    places = np.unique(np.linspace(0, len(epochs) - 1, num).round().astype(int))
    return tuple(epochs[n] for n in places)


def as_snapshot(study: Study) -> Study:
    """Reduce a study to what the film shows, in single precision.

    A complete spectrum of thousands keeps its leading eigenvalues, and a density of
    all: eigenvalues in the same bin become one weighted node. A bin is 1/25 of a decade
    or 1/200 of the largest, whichever is finer. This takes a tenth of the space and
    gives the same picture.
    """
    leading = 2 * len(study.levels[study.weighting].overlap)
    spectra = {
        name: _rounded(_binned(spectrum, leading))
        for name, spectrum in study.spectra.items()
    }
    last = study.last_layer
    if last is not None:
        one = _rounded(_binned(last.spectrum, leading))
        last = replace(_rounded(last), spectrum=one)
    return replace(
        study,
        last_layer=last,
        spectra=spectra,
        levels={
            name: replace(_rounded(one), null=one.null and _rounded(one.null))
            for name, one in study.levels.items()
        },
        random=study.random and _rounded(study.random),
        shared=_single(study.shared),
        history={name: _single(values) for name, values in study.history.items()},
        versions={},
        created="",
        moments=(),
    )


def _binned(spectrum: Spectrum, leading: int) -> Spectrum:
    """Keep the leading eigenvalues at both ends, and a density of all eigenvalues."""
    values = spectrum.eigenvalues
    if not spectrum.complete or len(values) <= 2 * leading:
        return spectrum
    top = float(np.abs(values).max()) or 1.0
    size = np.abs(values) / top
    decade = np.floor(PER_DECADE * np.log10(np.maximum(size, SMALLEST))).astype(int)
    linear = np.floor(PER_TOP * values / top).astype(int)
    keys = np.stack([np.sign(values).astype(int) * (size > SMALLEST), decade, linear])
    _, where, counts = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    nodes = np.bincount(where.ravel(), weights=values) / counts
    zeros = spectrum.dim - len(values)
    below = np.flatnonzero(values < -SMALLEST * top)[-leading:]
    kept = np.r_[np.arange(leading), below]
    return replace(
        spectrum,
        eigenvalues=values[kept],
        residuals=spectrum.residuals[kept],
        nodes=np.append(nodes, 0.0)[None],
        weights=np.append(counts, zeros)[None] / spectrum.dim,
        complete=False,
        num_low=len(below),
        method=f"{spectrum.method}, stored in {len(nodes)} bins",
    )


def _rounded(record: Record) -> Record:
    """Round a record's arrays, so that storing them in single precision is lossless."""
    arrays: dict[str, Any] = {}
    for name in record.__dataclass_fields__:  # type: ignore[attr-defined]
        value = getattr(record, name)
        if isinstance(value, np.ndarray):
            arrays[name] = _single(value)
        elif isinstance(value, dict) and name == "parts":
            arrays[name] = {key: _single(array) for key, array in value.items()}
    return replace(record, **arrays)  # type: ignore[type-var]


def _single(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64)
