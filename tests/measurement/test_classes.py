"""Some classes measured by themselves: the restricted problem, or a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import oracles
from tests.cases import Problem
from workbench.cli.commands import _chosen
from workbench.curvature.problem.class_subset import choose_classes
from workbench.errors import WorkbenchError
from workbench.measurement.measurement import MeasureSettings, measure
from workbench.measurement.plan import plan
from workbench.measurement.settings import chosen_classes
from workbench.study.records import load_study
from workbench.training.checkpoint import Checkpoint
from workbench.training.data import load_data
from workbench.training.train import TrainConfig, train


def settings(**values: Any) -> MeasureSettings:
    return MeasureSettings(**{"device": "cpu", "embedding": "pca", **values})


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
    data = load_data("digits", per_class=4)
    data = replace(data, class_names=tuple("abcdefghij"))
    config = TrainConfig(epochs=4, device="cpu", snapshots=(1,))
    return train(model, data, config)


@pytest.mark.parametrize("limit", [5000, 0])
def test_a_study_of_some_classes_is_that_of_the_restricted_problem(
    checkpoint: Checkpoint, limit: int, tmp_path: Path
) -> None:
    data, chosen = checkpoint.load_data(), (7, 2, 4)
    asked = settings(classes=["h", "c", "e"], exact_limit=limit)
    study = measure(checkpoint, asked)
    model, (inputs, labels) = choose_classes(
        checkpoint.load_model().double(), data, chosen
    )
    problem = Problem(model, inputs.double(), labels)
    expected = oracles.eigenvalues(oracles.gauss_newton(problem)).numpy()
    found = study.spectra["G"].eigenvalues
    np.testing.assert_allclose(found[:5], expected[:5], rtol=1e-5 if limit else 5e-3)
    assert study.class_names == ("h", "c", "e")
    assert study.levels["icml"].class_overlap.shape[1] == 3
    assert study.embedding.num_total == 3 * 12
    drawn = study.embedding.level == 0
    of = data.labels.numpy()[study.embedding.example[drawn]]
    np.testing.assert_array_equal(
        of, np.array(chosen)[study.embedding.true_class[drawn]]
    )
    assert (study.embedding.example[~drawn] == -1).all()
    again = load_study(study.save(tmp_path / "some.study"))
    assert again.settings == study.settings
    assert again.settings["classes"] == ["h", "c", "e"]
    assert [moment.class_names for moment in again.film] == 2 * [("h", "c", "e")]
    MeasureSettings(**again.settings)


def test_so_many_classes_are_drawn_by_the_seed() -> None:
    names = tuple(map(str, range(100)))
    first, second = (
        chosen_classes(settings(classes=10, seed=seed), names) for seed in (0, 1)
    )
    assert first is not None
    assert len(set(first)) == 10
    assert first == chosen_classes(settings(classes=10, seed=0), names)
    assert first != second


def test_a_word_is_a_name_before_it_is_a_number() -> None:
    names = ("2", "1", "0")
    assert chosen_classes(settings(classes=("2", "0")), names) == (0, 2)
    assert chosen_classes(settings(classes=(2, 0)), names) == (2, 0)
    assert chosen_classes(settings(classes=("1", "2")), ("a", "b", "c")) == (1, 2)
    assert _chosen("10") == 10
    assert _chosen("cat, dog") == ("cat", "dog")


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (1, "classes is 1; choose from 2 to 10"),
        (11, "classes is 11; choose from 2 to 10"),
        (("a", "cat"), "there is no class 'cat'; choose by name from a, b"),
        ((0, 10), "there is no class 10; choose by name"),
        ((0, -1), "there is no class -1; choose by name"),
        (("a", 0), "at least two different"),
        (("a",), "at least two different"),
        ("ab", "classes is 'ab'; give a number"),
        ((), "classes is (); give a number"),
        (True, "classes is True; give a number"),
    ],
)
def test_a_bad_choice_of_classes_gets_a_sentence(
    checkpoint: Checkpoint, classes: Any, says: str
) -> None:
    with pytest.raises(WorkbenchError) as error:
        measure(checkpoint, settings(classes=classes))
    assert says in str(error.value)


def test_a_network_and_its_batches_are_planned_for_some_classes() -> None:
    inputs, labels = torch.randn(12, 4), torch.arange(12) % 4
    made = plan(nn.Linear(4, 4), (inputs, labels), settings(classes=[0, 3]))
    assert made.sizes.num_classes == 2
    assert made.sizes.num_examples == 6
