"""Training and measuring on a GPU, end to end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
pytest.importorskip("sklearn", reason="digits and PCA are scikit-learn's")


def checkpoint(model: str, epochs: int, device: str = "cuda") -> wb.Checkpoint:
    data = wb.load_data("digits", per_class=20)
    config = wb.TrainConfig(epochs=epochs, device=device)
    return wb.train(wb.build_model(model, data), data, config)


def test_training_in_mixed_precision_learns_and_yields_single_precision() -> None:
    found = checkpoint("cnn", 20)
    assert float(found.run["train_accuracy"]) > 0.95
    weights = [
        v for v in found.load_model().state_dict().values() if v.is_floating_point()
    ]
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in weights)


def test_a_study_is_the_same_from_the_gpu_and_from_the_cpu() -> None:
    trained = checkpoint("mlp", 10, "cpu")
    found = {
        device: wb.measure(trained, wb.MeasureSettings(embedding="pca", device=device))
        for device in ("cpu", "cuda")
    }
    for kind in ("G", "Hess", "H"):
        ours, theirs = (found[d].spectra[kind] for d in ("cuda", "cpu"))
        scale = abs(theirs.eigenvalues[0])
        np.testing.assert_allclose(
            ours.eigenvalues[:10], theirs.eigenvalues[:10], atol=1e-7 * scale
        )
    for weighting, levels in found["cpu"].levels.items():
        other = found["cuda"].levels[weighting]
        np.testing.assert_allclose(other.overlap[:9], levels.overlap[:9], atol=1e-6)


def test_a_network_too_large_for_the_dense_way_is_measured() -> None:
    settings = wb.MeasureSettings(embedding="pca", device="cuda", exact_limit=0)
    study = wb.measure(checkpoint("cnn", 10), settings)
    g = study.spectra["G"]
    assert g.residuals.max() <= settings.tol * g.eigenvalues[0]
