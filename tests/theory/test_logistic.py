"""Logistic regression: the theorem against its finite design, and against a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench import exact_spectrum, gram
from workbench.errors import WorkbenchError
from workbench.theory import logistic_regression

CASES = [(10, 20, 6.0, 0.05), (2, 2, 3.0, 0.1), (2, 5, 1.0, 0.5), (4, 7, 2.0, 0.3)]


def design(num_classes: int, num_features: int, mean: float) -> np.ndarray:
    """``x = t e_c +- sqrt(D) e_j``, all j and both signs: (C, 2 D, D)."""
    eye = np.eye(num_features)
    around = np.r_[eye, -eye] * num_features**0.5
    return mean * eye[:num_classes, None] + around


def probabilities(num_classes: int, error: float) -> np.ndarray:
    p = np.full((num_classes, num_classes), error / (num_classes - 1))
    np.fill_diagonal(p, 1 - error)
    return p


@pytest.mark.parametrize(("C", "D", "t", "alpha"), CASES)
def test_the_theorem_holds_on_its_finite_design(
    C: int, D: int, t: float, alpha: float
) -> None:
    x, p = design(C, D, t), probabilities(C, alpha)
    num = 2 * D
    delta = np.einsum("ck,ckl,cid->cikld", p**0.5, np.eye(C) - p[:, None], x)
    delta = delta.reshape(C, num, C, C * D)
    mean = delta.mean(1)
    off = ~np.eye(C, dtype=bool)
    classes = np.array([mean[c][off[c]].mean(0) for c in range(C)])
    own = mean[np.arange(C), np.arange(C)]
    spread = (mean - classes[:, None])[off]
    within = (delta - mean[:, None]).reshape(-1, C * D)
    flat = delta.reshape(-1, C * D)
    matrices = {
        "G": flat.T @ flat / (C * num),
        "G0": own.T @ own / C,
        "G1": (C - 1) / C * classes.T @ classes,
        "G2": spread.T @ spread / C,
        "G3": within.T @ within / (C * num),
    }
    found = logistic_regression(C, D, t, alpha)
    assert set(found) == set(matrices)
    for name, matrix in matrices.items():
        expected = np.linalg.eigvalsh(matrix)[::-1]
        np.testing.assert_allclose(found[name].all, expected, atol=1e-12)


class Fixed(nn.Module):
    """Logits that its weights, which are zero, do not move, but would."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, num_classes, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.num_features = num_features

    def forward(self, inputs: Tensor) -> Tensor:
        x, logits = inputs.tensor_split([self.num_features], dim=1)
        return self.linear(x) + logits


@pytest.mark.parametrize(("C", "D", "t", "alpha"), CASES[1:])
def test_the_theorem_holds_for_a_network_through_the_whole_package(
    C: int, D: int, t: float, alpha: float
) -> None:
    x = torch.from_numpy(design(C, D, t))
    logits = torch.from_numpy(np.log(probabilities(C, alpha)))
    inputs = torch.cat([x, logits[:, None].expand(-1, 2 * D, -1)], dim=2).flatten(0, 1)
    labels = torch.arange(C).repeat_interleave(2 * D)
    model, data = Fixed(D, C).double(), (inputs, labels)
    expected = logistic_regression(C, D, t, alpha)
    found = exact_spectrum(model, data)
    whole = np.r_[found.values.numpy(), np.zeros(found.num_zeros)]
    np.testing.assert_allclose(whole, expected["G"].all, atol=1e-12)
    inner = gram(model, data)
    for name in ("G0", "G1", "G2", "G3"):
        part = inner.part(name).numpy()[: C * D]
        np.testing.assert_allclose(part, expected[name].all[: len(part)], atol=1e-11)


def test_the_numbers_of_the_paper() -> None:
    """C = 10, D = 20, t = 6, alpha = .05."""
    found = logistic_regression(10, 20, 6.0, 0.05)
    np.testing.assert_allclose(
        found["G"].values, [0.200802, 0.030802, 0.010802, 0.0], atol=1e-6
    )
    assert found["G"].counts.tolist() == [10, 80, 90, 20]
    assert found["G1"].values[0] == pytest.approx(0.1805, abs=1e-12)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((1, 5, 1.0, 0.1), "num_classes is 1"),
        ((4, 3, 1.0, 0.1), "num_features is 3; give a whole number, at least 4"),
        ((4, 5, -1.0, 0.1), "mean is -1.0"),
        ((4, 5, 1.0, 0.8), "error is 0.8; give a number from 0 to 0.75"),
    ],
)
def test_what_cannot_be_is_one_sentence(given: tuple[float, ...], said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        logistic_regression(*given)  # type: ignore[arg-type]
