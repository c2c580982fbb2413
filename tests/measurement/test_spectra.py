"""Hess from a random vector: no copy of a multiple eigenvalue is missed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles import apart
from tests.spectra import Counting, orthogonal, symmetric_matrix
from workbench.linalg.lanczos import top_eigenpairs
from workbench.linalg.operator import Dense
from workbench.measurement import solver as probe_module
from workbench.measurement import spectra
from workbench.measurement.settings import MeasureSettings
from workbench.measurement.solver import IterativeSolver
from workbench.measurement.spectra import both_ends

CLASSES = 4
APART = torch.tensor([9.0, 8.0, 6.0, 5.0]).double()
# What lies apart below them is found before the copies come out of the rounding.
BULK = torch.cat(
    [
        torch.tensor([3.0, 2.6, 2.2]).double(),
        torch.linspace(0.1, -0.1, 388, dtype=torch.float64),
        torch.tensor([-1.0, -1.2, -1.4, -1.6, -1.8]).double(),
    ]
)


def hess_of(outliers: Tensor) -> tuple[Counting, Any, Any]:
    """Hess = G + H with the outliers in G: it, G's pairs, and the risk's sizes."""
    matrix = symmetric_matrix(torch.cat([outliers, BULK]))
    turn = orthogonal(len(matrix))[:, :CLASSES]
    pairs = SimpleNamespace(values=outliers, vectors=turn)
    risk = SimpleNamespace(dtype=torch.float64, num_classes=CLASSES)
    return Counting(matrix), pairs, risk


def measured(outliers: Tensor) -> tuple[Tensor, int]:
    hess, pairs, risk = hess_of(outliers)
    settings = MeasureSettings(num_steps=2, num_probes=1)
    probe = IterativeSolver(settings, CLASSES, torch.Generator().manual_seed(0))
    _, found = both_ends(risk, hess, lambda v: v, pairs, probe, lambda share: None)
    return torch.from_numpy(found.eigenvalues[:CLASSES].copy()), hess.count


def test_equal_outliers_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    outliers = torch.full((CLASSES,), 7.0).double()
    values, _ = measured(outliers)
    assert apart(values, outliers) < 1e-3
    monkeypatch.setattr(spectra, "_missed", lambda *args: None)
    values, _ = measured(outliers)  # by the look outside of the subspace
    assert apart(values, outliers) < 1e-3


def test_outliers_that_lie_apart_cost_no_second_search() -> None:
    values, count = measured(APART)
    assert float((values - APART).abs().max()) < 1e-2
    hess, _, _ = hess_of(APART)
    tol = MeasureSettings().tol
    once = top_eigenpairs(
        Dense(hess.matrix), CLASSES + 2, k_low=7, which="BE", tol=tol, block_size=1,
        tol_low=spectra.EDGE * tol, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert count == once.num_matvecs + 2


def test_a_subspace_does_not_outgrow_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hess, _, _ = hess_of(APART)
    settings = MeasureSettings(num_steps=2, num_probes=1)
    few = IterativeSolver(settings, CLASSES, torch.Generator().manual_seed(0))
    room = 2 * 16 * 2 * 8 * hess.dim  # half of it: 16 vectors and their images
    monkeypatch.setattr(probe_module, "device_memory", lambda device: room)
    found = few.pairs(hess, "BE", None)
    assert found.basis.shape[1] <= few.num + 5 + 2 * few.spare + 2 * 1 + 2
    assert hess.count == found.num_matvecs > 16  # it went on, from fewer vectors
    assert found.status == "converged"
    rest = hess.matrix @ found.vectors - found.vectors * found.values
    assert float((rest.norm(dim=0) - found.residuals).abs().max()) < 1e-12
