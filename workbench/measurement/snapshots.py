"""Earlier epochs of a training, as moments of its study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.measurement.settings import MeasureSettings
from workbench.study.records import Study
from workbench.study.spectrum import Spectrum

COST = 0.5  # of one moment, about, where the whole measurement costs 1
PER_DECADE = 25  # bins of a kept density: two or three a width of its smoothing
PER_TOP = 200  # bins up to the largest size, likewise on the linear axis
SMALLEST = 1e-12  # of the largest size; below it an eigenvalue counts as zero
Record = TypeVar("Record")


def snapshot_settings(settings: MeasureSettings) -> MeasureSettings:
    """How a moment is measured: as the study, but Hess and H by their leading ends.

    All their eigenvalues would take more than half of the time of a small network, and
    nothing in the film needs them: sticks and density are there either way. Walks are
    those of the last epoch alone.
    """
    return replace(settings, moments=False, exact_hessian=False, walk=False)


def thinned_out(epochs: tuple[int, ...], num: int) -> tuple[int, ...]:
    """At most ``num`` of these, evenly by their place in the list; the first stays."""
    if num >= len(epochs):
        return epochs
    places = np.unique(np.linspace(0, len(epochs) - 1, num).round().astype(int))
    return tuple(epochs[n] for n in places)


def as_snapshot(study: Study) -> Study:
    """What a film shows of a study, in single precision.

    A complete spectrum of thousands keeps its leading eigenvalues, and all of them as
    a density: neighbours closer than a tenth of a decade, or than 1/200 of the largest,
    become one node with their weight. A tenth of the file, and the same picture.
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
    """Keep the leading eigenvalues at both ends, and a density of all of them."""
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
        method=f"{spectrum.method}, kept in {len(nodes)} bins",
    )


def _rounded(record: Record) -> Record:
    """A record whose arrays lose no more when they are stored in single precision."""
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
