"""The closed forms, against a hundred digits, where probabilities are near 0 and 1."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.curvature.problem.cross_entropy import (
    combined_cotangents,
    delta_cotangents,
    hessian_product,
    hessian_root,
    log_prob_cotangents,
    loss_gradient,
    probabilities,
)

LOGITS = {
    "even": [0.0, 0.0, 0.0],
    "two": [1.0, -0.5],
    "unsure": [0.3, -1.2, 0.8, 0.1],
    "sure": [-3.0, 50.0, 1.0, 0.0],
    "first": [50.0, 0.0, 2.0],
    "last": [0.0, -7.0, 50.0],
    "two_sure": [0.0, 50.0],
    "spread": [100.0, 50.0, 0.0, -50.0],
}


@pytest.fixture(params=LOGITS)
def logits(request: pytest.FixtureRequest) -> list[float]:
    return LOGITS[request.param]


def exactly(logits: list[float]) -> list[Decimal]:
    """Probabilities to a hundred digits."""
    getcontext().prec = 100
    sizes = [Decimal(f).exp() for f in logits]
    return [size / sum(sizes) for size in sizes]


def relative(found: Tensor, expected: list[Decimal]) -> float:
    """The largest error of an entry, over the size of that entry."""
    pairs = zip(found.flatten().tolist(), expected, strict=True)
    return float(max(abs(Decimal(a) - b) / abs(b) for a, b in pairs))


def test_probabilities_are_in_double_precision_for_float32_logits() -> None:
    probs = probabilities(torch.tensor([[0.0, 40.0]], dtype=torch.float32))
    assert probs.dtype == torch.float64
    assert relative(probs, exactly([0.0, 40.0])) < 1e-14


def test_the_loss_gradient_keeps_all_digits(logits: list[float]) -> None:
    p = exactly(logits)
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    for label in range(len(p)):
        others = sum(p) - p[label]
        expected = [-others if k == label else p[k] for k in range(len(p))]
        found = loss_gradient(probs, torch.tensor([label]))
        assert relative(found, expected) < 1e-13


def test_the_loss_gradient_is_that_of_cross_entropy() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, generator=seeded())
    labels = torch.tensor([0, 1, 2, 3, 1, 1])
    logits.requires_grad_()
    loss = cross_entropy(logits, labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, logits)
    found = loss_gradient(probabilities(logits.detach()), labels)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)


def test_the_hessian_product_keeps_all_digits(logits: list[float]) -> None:
    p = exactly(logits)
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    vector = torch.randn(1, len(p), dtype=torch.float64, generator=seeded())
    v = [Decimal(entry) for entry in vector[0].tolist()]
    mean = sum(a * b for a, b in zip(p, v, strict=True))
    expected = [p[k] * (v[k] - mean) for k in range(len(p))]
    assert relative(hessian_product(probs, vector), expected) < 1e-12


def test_cotangents_of_log_probabilities_keep_all_digits(logits: list[float]) -> None:
    p = exactly(logits)
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    expected, scaled = [], []
    for k in range(len(p)):
        row = [sum(p) - p[k] if j == k else -p[j] for j in range(len(p))]
        expected += row
        scaled += [p[k].sqrt() * entry for entry in row]
    assert relative(log_prob_cotangents(probs), expected) < 1e-13
    assert relative(delta_cotangents(probs), scaled) < 1e-13


@pytest.mark.parametrize("without", [None, 0, -1])
def test_combinations_of_the_cotangents_keep_all_digits(
    logits: list[float], without: int | None
) -> None:
    p = exactly(logits)
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    factors, s = probs.sqrt(), [entry.sqrt() for entry in p]
    if without is not None:
        factors[:, without], s[without] = 0.0, Decimal(0)
    found = combined_cotangents(probs, factors)[0].tolist()
    for j, ours in enumerate(found):
        others = sum(p) - p[j], sum(s) - s[j]
        theirs = s[j] * others[0] - p[j] * others[1]
        size = s[j] * others[0] + p[j] * others[1]
        assert abs(Decimal(ours) - theirs) < Decimal("1e-13") * size


def test_outer_products_of_the_cotangents_sum_to_the_hessian(
    logits: list[float],
) -> None:
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    rows = delta_cotangents(probs)[0]
    assert scaled_error(rows.T @ rows, logits) < 1e-13


def test_the_root_times_its_transpose_is_the_hessian(logits: list[float]) -> None:
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    root = hessian_root(probs)
    assert root.shape == (1, len(logits), len(logits) - 1)
    assert scaled_error(root[0] @ root[0].T, logits) < 1e-13


def test_the_cotangents_of_an_example_are_dependent(logits: list[float]) -> None:
    probs = probabilities(torch.tensor([logits], dtype=torch.float64))
    rows = delta_cotangents(probs)[0]
    total = (probs[0].sqrt()[:, None] * rows).sum(0)
    size = (probs[0].sqrt()[:, None] * rows).abs().sum(0)
    assert float((total.abs() / size).max()) < 1e-14


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_network_that_is_certain_gets_zeros_and_not_nan(place: int) -> None:
    probs = torch.zeros(1, 3, dtype=torch.float64)
    probs[0, place] = 1.0
    vector = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    for found in (
        hessian_root(probs),
        delta_cotangents(probs),
        hessian_product(probs, vector),
        loss_gradient(probs, torch.tensor([place])),
    ):
        assert float(found.abs().max()) == 0.0


def scaled_error(found: Tensor, logits: list[float]) -> float:
    """Error of each entry over the roots of the two diagonal entries."""
    p = exactly(logits)
    diagonal = [p[k] * (sum(p) - p[k]) for k in range(len(p))]
    worst = Decimal(0)
    for k in range(len(p)):
        for j in range(len(p)):
            entry = diagonal[k] if j == k else -p[k] * p[j]
            error = abs(Decimal(float(found[k, j])) - entry)
            worst = max(worst, error / (diagonal[k] * diagonal[j]).sqrt())
    return float(worst)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
