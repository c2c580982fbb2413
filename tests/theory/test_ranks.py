"""The ranks of G and H of linear networks, against their exact spectra."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench import exact_spectrum, operators
from workbench.errors import WorkbenchError
from workbench.theory import gauss_newton_rank, residual_rank

# rank of the data, hidden widths, classes
NETWORKS = [
    (4, (), 3), (2, (), 5), (4, (3,), 3), (4, (1,), 4), (2, (5,), 4), (5, (2,), 5),
    (3, (4,), 2), (4, (3, 2), 4), (5, (2, 3), 5), (3, (4, 5), 3), (4, (3, 2, 3), 4),
]  # fmt: skip


def network(
    data_rank: int, widths: tuple[int, ...], num_classes: int
) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A linear network in general position, and data of this rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = (data_rank + 1, *widths, num_classes)
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
        model = nn.Sequential(*layers).double()
        left = torch.randn(15, data_rank, dtype=torch.float64)
        right = torch.randn(data_rank, data_rank + 1, dtype=torch.float64)
    return model, (left @ right, torch.arange(15) % num_classes)


def rank(values: Tensor) -> int:
    """Eigenvalues that are no rounding."""
    sizes = values.abs()
    return int((sizes > 1e-11 * sizes.max()).sum()) if sizes.max() > 1e-14 else 0


@pytest.mark.parametrize("case", NETWORKS)
def test_g_has_as_many_eigenvalues_as_the_formula_says(case: Any) -> None:
    found = exact_spectrum(*network(*case))
    assert rank(found.values) == gauss_newton_rank(*case)


@pytest.mark.parametrize("case", NETWORKS)
def test_h_has_as_many_eigenvalues_as_the_formula_says(case: Any) -> None:
    H = operators(*network(*case))["H"].to_dense()
    assert rank(torch.linalg.eigvalsh(H)) == residual_rank(*case)


@pytest.mark.parametrize("formula", [gauss_newton_rank, residual_rank])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0, (3,), 4), "data_rank is 0; give a whole number, at least 1"),
        ((2, (3, 0), 4), "a width is 0; give"),
        ((2, (3,), 1), "num_classes is 1; give a whole number, at least 2"),
        ((2, (3.5,), 4), "a width is 3.5; give"),
    ],
)
def test_what_cannot_be_is_one_sentence(formula: Any, given: Any, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        formula(*given)
