"""Relations that must hold between the numbers of a study, however measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workbench.study.records import Levels
from workbench.study.spectrum import Spectrum

TIGHTER = 10.0  # factor on the tolerance when a breach is measured again
FAR = 2.0  # times the 95 % intervals of traces: still due to chance
ROUNDING = 1e-5  # of the largest eigenvalue: error of products in float32
Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Breach:
    """An eigenvalue that contradicts another one beyond both their errors."""

    of: str  # an operator: "G", "Hess" or "H"
    row: int  # of the eigenvalue that is too low or, at the low end, too high
    by: float  # by how much, beyond the errors
    rule: str


def breaches(
    spectra: Mapping[str, Spectrum], levels: Mapping[str, Levels]
) -> tuple[Breach, ...]:
    r"""Find eigenvalues that violate an inequality by more than their errors.

    .. math:: \lambda_j(H) \le \lambda_j(Hess), \quad
        \lambda_j(G) + \lambda_P(H) \le \lambda_j(Hess) \le \lambda_j(G) + \lambda_1(H)

    by Weyl, since ``Hess = G + H`` and ``G >= 0``; at the low end, ranks count from
    below. Also no eigenvalue of G is negative, and ``lam_j(A) <= lam_j(G)`` for a part
    ``A <= G``, which may be a part of the means or the result of a knock-out. Ritz
    values lie inside the spectrum: at the high end the smaller side is in doubt, at the
    low end the larger.

    Args:
        spectra: Spectra of G and, if measured, Hess and H.
        levels: The parts of G, by convention.

    Reference:
        Horn and Johnson (2013), Matrix Analysis, theorem 4.3.1 and corollary 4.3.12.
    """
    found: list[Breach] = []
    size = max(float(np.abs(s.eigenvalues).max(initial=0.0)) for s in spectra.values())
    slack = ROUNDING * size

    def check(of: str, rows: Rows, gaps: Array, rule: str) -> None:
        for j in np.flatnonzero(gaps > slack):
            found.append(Breach(of, int(rows[j]), float(gaps[j]), rule))

    g = spectra["G"]
    rows = np.arange(len(g.eigenvalues))
    check("G", rows, -(g.eigenvalues + g.residuals), "no eigenvalue of G is negative")
    for one in levels.values():
        for name in (one.convention.class_part, one.convention.means_part):
            part, errors = one.parts.get(name, np.empty(0)), one.residuals.get(name)
            gaps = _above(part, errors, g.eigenvalues, g.residuals)
            check("G", rows, gaps, f"G is at least its part {name}")
    if {"Hess", "H"} <= set(spectra):
        hess, h = spectra["Hess"], spectra["H"]
        top, bottom = _ends(hess), _ends(h)
        gaps = _above(*_values(h, bottom[0]), *_values(hess, top[0]))
        check("Hess", top[0], gaps, "Hess is at least H (Weyl)")
        gaps = _above(*_values(h, bottom[1]), *_values(hess, top[1]))
        check("H", bottom[1], gaps, "H is at most Hess (Weyl)")
        if len(bottom[0]) and len(bottom[1]):
            most, least = bottom[0][0], bottom[1][0]
            own, error = _values(g, rows)
            low = own + h.eigenvalues[least]
            gaps = _above(low, error + h.residuals[least], *_values(hess, top[0]))
            check("Hess", top[0], gaps, "Hess is at least G plus H's lowest (Weyl)")
            high = own + h.eigenvalues[most]
            gaps = _above(*_values(hess, top[0]), high, error + h.residuals[most])
            check("G", rows, gaps, "Hess is at most G plus H's highest (Weyl)")
    return tuple(found)


def established(
    spectra: Mapping[str, Spectrum],
    levels: Mapping[str, Levels],
    measure_again: Callable[[str], Spectrum],
) -> dict[str, Spectrum]:
    """Return consistent spectra: others are measured again, then marked as in doubt.

    Args:
        spectra: The measured spectra.
        levels: The parts of G.
        measure_again: Measures one of them with a smaller tolerance; called at most
            once.
    """
    sound = dict(spectra)
    found, off = breaches(sound, levels), traces_apart(sound)
    doubted = {breach.of for breach in found} | ({"Hess", "H"} if off else set())
    for name in sorted(name for name in doubted if not sound[name].complete):
        sound[name] = measure_again(name)
    if doubted:
        found, off = breaches(sound, levels), traces_apart(sound)
    sound = in_doubt(sound, found)
    if off:
        for name in ("Hess", "H"):
            told = sound[name]
            sound[name] = replace(
                told,
                trace_error=told.trace_error + off,
                method=f"{told.method}; trace not established: tr Hess = tr G + tr H",
            )
    return sound


def traces_apart(spectra: Mapping[str, Spectrum]) -> float:
    """How far ``tr Hess`` is from ``tr G + tr H``, beyond all errors; else 0."""
    if not {"Hess", "H"} <= set(spectra):
        return 0.0
    g, hess, h = (spectra[name] for name in ("G", "Hess", "H"))
    errors = FAR * (g.trace_error + hess.trace_error + h.trace_error)
    size = max(abs(s.eigenvalues).max(initial=0.0) * s.dim for s in (g, hess, h))
    gap = abs(hess.trace - g.trace - h.trace) - errors - ROUNDING * size
    return max(float(gap), 0.0)


def in_doubt(
    spectra: Mapping[str, Spectrum], found: tuple[Breach, ...]
) -> dict[str, Spectrum]:
    """Widen the error bars of values in doubt, and mention them in ``method``."""
    marked = dict(spectra)
    for name in dict.fromkeys(breach.of for breach in found):
        spectrum = marked[name]
        residuals, rows = spectrum.residuals.copy(), set()
        for breach in (b for b in found if b.of == name):
            least = spectrum.residuals[breach.row] + breach.by
            residuals[breach.row] = max(residuals[breach.row], least)
            rows.add(breach.row)
            rule = breach.rule
        said = f"{len(rows)} not established: {rule}"
        method = f"{spectrum.method}; {said}"
        marked[name] = replace(spectrum, residuals=residuals, method=method)
    return marked


def _ends(spectrum: Spectrum) -> tuple[Rows, Rows]:
    """Rows of the high end downwards and of the low end upwards, of any sign."""
    num = len(spectrum.eigenvalues)
    if spectrum.num_low is None:
        zeros = spectrum.dim - num  # if some are left out there is no low end
        return np.arange(num), np.arange(num if not zeros else 0)[::-1]
    return np.arange(num - spectrum.num_low), np.arange(num - spectrum.num_low, num)[
        ::-1
    ]


def _values(spectrum: Spectrum, rows: Rows) -> tuple[Array, Array]:
    return spectrum.eigenvalues[rows], spectrum.residuals[rows]


def _above(less: Array, errors: Array | None, more: Array, bars: Array) -> Array:
    """How far ``less`` exceeds ``more``, beyond both errors, by rank."""
    num = min(len(less), len(more))
    own = np.zeros(num) if errors is None else errors[:num]
    gaps: Array = (less[:num] - own) - (more[:num] + bars[:num])
    return gaps
