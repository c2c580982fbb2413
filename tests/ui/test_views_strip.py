"""The strip of layers without a browser: what the picture is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from tests.views import data, find
from workbench.study.layers import Layers
from workbench.ui.views.explain import explain
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.words import percent, run_in_words

STUDY = make_study()


def given(view: LinkedView):
    return find(view, "act").args["models"].get("strip")


def with_layers(names: list[str]) -> Layers:
    """As many layers as there are names, alike."""
    num = len(names)
    return Layers(
        names=tuple(names),
        kinds=("Conv2d",) * num,
        parameters=tuple((f"{name}.weight",) for name in names),
        num_parameters=np.full(num, 7),
        share=np.full((num, 3), 1 / num),
        share_error=np.array([0.0, 0.02, 1.0]),
        trace=np.ones(num),
        eigenvalues={},
        residuals={},
        class_part={},
    )


def test_each_cell_has_a_share_and_says_it():
    layers = STUDY.layers
    cells = data(LinkedView(STUDY), "strip cells")
    np.testing.assert_array_equal(cells["value"], layers.share.ravel())
    share, size = percent(layers.share[2, 4]), layers.num_parameters[2]
    wanted = (
        f"{share} of eigenvector 5 of G lies in head (Linear) ({size:,} parameters)"
    )
    assert cells["told"][2 * layers.share.shape[1] + 4] == wanted


def test_an_error_that_matters_is_told():
    study = replace(STUDY, layers=with_layers(["a", "b"]))
    told = data(LinkedView(study), "strip cells")["told"]
    assert told[0].startswith("50\u00a0% of eigenvector 1")
    assert told[1].startswith("50\u00a0% ± 2.0\u00a0% of eigenvector 2")


@pytest.mark.parametrize("layers", [None, with_layers(["alone"])])
def test_without_layers_or_with_one_nothing_is_drawn(layers):
    study = replace(STUDY, layers=layers)
    assert given(LinkedView(study)) is None
    assert "<b>Layers:</b>" not in explain(study)


MANY = [f"layer{n}.{b}.{k}" for n in range(1, 5) for b in range(3) for k in ("c", "n")]
DEEP = {
    "by module": (["stem", *MANY, "fc"], 6, "layer1"),
    "by neighbours": ([f"features.{n}" for n in range(28)], 12, "features.0 to "),
    "flat": ([str(n) for n in range(30)], 12, "0 to 2"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_many_layers_are_joined_and_it_is_said(kind):
    names, num, label = DEEP[kind]
    layers = with_layers(names)
    rows = layers.rows(12)
    assert sorted(n for _, at in rows for n in at) == list(range(len(names)))
    assert len(rows) == num
    assert any(row.startswith(label) for row, _ in rows)
    view = LinkedView(replace(STUDY, layers=layers))
    strip = given(view)
    np.testing.assert_allclose(np.sum(strip["shares"], axis=0), 1.0)
    assert f"{len(names)} layers are joined to {num}" in strip["caption"]


def test_the_sentence_has_the_numbers_of_the_largest_layer():
    layers, num = STUDY.layers, STUDY.num_outliers
    share = layers.share[:, :num].mean(axis=1)
    n = int(share.argmax())
    trace = percent(layers.trace[n] / layers.trace.sum())
    text = explain(STUDY)
    assert (
        f"<b>Layers:</b> {layers.labels[n]} carries {percent(share[n])} of the {num} "
        f"outliers’ squared length, {trace} of G’s trace"
    ) in text


def test_what_was_measured_of_some_parameters_is_said_to_be_that():
    run = {**STUDY.run, "num_network_params": 5000}
    settings = {**STUDY.settings, "parameters": ["fc.*", "<b>"]}
    study = replace(STUDY, run=run, settings=settings)
    size = STUDY.run["num_params"]
    assert f"{size:,} of 5,000 parameters" in run_in_words(run)
    text = explain(study)
    assert f"{size:,} of the network's 5,000 parameters" in text
    assert "<code>fc.*, &lt;b&gt;</code>" in text
    assert "Some parameters" not in explain(STUDY)
