"""Small networks at random, measured by Krylov subspaces: no value beyond its error."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.measurement import MeasureSettings, measure, plan
from workbench.study.records import Study
from workbench.study.spectrum import Spectrum
from workbench.training.checkpoint import Checkpoint
from workbench.training.data import Dataset
from workbench.training.train import TrainConfig, train

NUM_TRIALS = int(os.environ.get("STRESS", "6"))


class Added(nn.Module):
    """A residual block."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


def network(seed: int, num_classes: int) -> nn.Module:
    """One of six kinds, of 300 to 600 parameters."""
    act = [nn.ReLU, nn.Tanh, nn.GELU][seed % 3]
    flat = [nn.Flatten(), nn.Linear(36, 8), act()]
    kinds = [
        [*flat, nn.Linear(8, num_classes)],
        [*flat, nn.BatchNorm1d(8), nn.Linear(8, 8), act(), nn.Linear(8, num_classes)],
        [*flat, nn.LayerNorm(8), nn.Linear(8, num_classes)],
        [
            *flat, Added(nn.Sequential(nn.Linear(8, 8), act())),
            nn.Linear(8, num_classes),
        ],
        [
            nn.Conv2d(1, 4, 3), act(), nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 3),
            act(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, num_classes),
        ],
        [
            nn.Conv2d(1, 4, 3, stride=2), Added(nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1), act()
            )), nn.Flatten(), nn.Linear(16, num_classes),
        ],
    ]  # fmt: skip
    return nn.Sequential(*kinds[seed % len(kinds)])


def checkpoint(seed: int) -> Checkpoint:
    """Of unequal classes, trained for a few epochs or not at all."""
    random = np.random.default_rng(seed)
    num_classes = int(random.integers(2, 7))
    counts = random.integers(8, 40, num_classes)
    labels = torch.repeat_interleave(torch.arange(num_classes), torch.tensor(counts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        centres = torch.randn(num_classes, 1, 6, 6)
        images = centres[labels] + 0.7 * torch.randn(len(labels), 1, 6, 6)
        model = network(seed, num_classes)
    epochs = int(random.choice([0, 2, 10, 40]))
    config = TrainConfig(epochs=epochs, lr=0.1, device="cpu")
    return train(model, Dataset.from_tensors(images, labels), config)


def beyond(found: Spectrum, true: Spectrum) -> list[str]:
    """Values that are further than their error from the one of their rank."""
    whole = np.append(true.eigenvalues, np.zeros(true.dim - len(true.eigenvalues)))
    whole = np.sort(whole)[::-1]
    num_low = found.num_low or 0
    num_high = len(found.eigenvalues) - num_low
    expected = np.r_[whole[:num_high], whole[len(whole) - num_low :]]
    apart = np.abs(found.eigenvalues - expected)
    rounding = 2e-6 * np.abs(whole).max()
    far = apart > found.residuals + rounding
    return [
        f"{j}: {found.eigenvalues[j]:.4g} +- {found.residuals[j]:.1g}, true "
        f"{expected[j]:.4g}"
        for j in np.flatnonzero(far)
    ]


def both(seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Study]:
    done = checkpoint(seed)
    chosen = {"embedding": "pca", "device": "cpu", "num_drawn": 0, "seed": seed}
    exact = measure(done, MeasureSettings(**chosen))
    if seed % 2:
        monkeypatch.setattr(plan, "DOUBLE_LIMIT", 0)
    return exact, measure(done, MeasureSettings(**chosen, exact_limit=0))


@pytest.mark.parametrize("seed", range(NUM_TRIALS))
def test_no_value_lies_beyond_its_error(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, found = both(seed, monkeypatch)
    wrong = {
        name: far
        for name, spectrum in found.spectra.items()
        if (far := beyond(spectrum, exact.spectra[name]))
    }
    assert not wrong
