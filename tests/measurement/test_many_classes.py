"""More means of pairs than are formed: as for a hundred classes, on twelve."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from workbench.curvature.means.class_means import class_means
from workbench.measurement import MeasureSettings, measure, picture, plan
from workbench.measurement import cost as counting
from workbench.measurement.ways.streamed import StreamedWay
from workbench.study.records import load_study
from workbench.study.summary import summary
from workbench.training.data import load_data
from workbench.training.train import TrainConfig, train
from workbench.ui.views.explain import explain

C = 12


@pytest.mark.parametrize("width", [5, C], ids=["largest_pairs", "all_pairs"])
def test_without_the_means_of_pairs_all_is_measured_with_its_error_stated(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WAYS", (StreamedWay,))
    for module in (picture, counting, plan):
        monkeypatch.setattr(module, "MAX_PAIRS", width * C)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * C) % C
    images = torch.randn(C, 1, 2, 2, generator=generator)[labels]
    images += 0.3 * torch.randn(images.shape, generator=generator)
    names = tuple(map(str, range(C)))
    digits = load_data("digits", per_class=1)
    data = replace(digits, images=images, labels=labels, class_names=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, C))
    config = TrainConfig(epochs=20, lr=0.5, device="cpu", snapshots=(10,))
    done = train(model, data, config)
    chosen = MeasureSettings(
        embedding="pca",
        device="cpu",
        exact_limit=0,
        num_eigenvalues=6,
        num_steps=2,
        num_drawn=0,
    )
    study = measure(done, chosen, parts=tmp_path)
    assert "pair means through their products only" in study.plan
    means = class_means(done.load_model().double(), data, level="ck").eigenvalues()
    levels = study.levels["icml"]
    top = float(study.spectra["G"].eigenvalues[0])
    for part, values in means.items():
        ours = levels.parts[part][:6]
        np.testing.assert_allclose(ours, values[: len(ours)], rtol=0, atol=2e-3 * top)
        error = abs(levels.trace[part] - float(values.sum()))
        assert error <= 4 * levels.trace_error.get(part, 1e-9 * top), part
    assert set(levels.trace_error) == {"G2", "G3", "G12"}
    assert list(study.levels) == ["icml"]
    note = study.embedding.note
    assert np.bincount(study.embedding.level).tolist() == [width * C, width * C, C, 1]
    left_out = "84 of 144 pairs of classes are left out" in note
    assert left_out == (width < C)
    assert "error of an inner product is 1.6% of the lengths" in note
    assert len(study.moments) == 1
    again = load_study(study.save(tmp_path / "run.study"))
    assert again.embedding.note == note
    assert again.levels["icml"].trace_error == levels.trace_error
    found = summary(again)
    assert found["picture"] == note
    assert found["levels"]["trace_error"] == levels.trace_error
    assert "too many pair means to form" in explain(again)
    assert escape(note) in explain(again)
    resumed = measure(done, chosen, parts=tmp_path)
    assert resumed.levels["icml"].trace == levels.trace
