"""Fewer classes and shuffled labels: what changes, and what does not."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.training.data import load_data
from workbench.training.relabelled import first_classes, shuffled_labels

DATA = load_data("digits", per_class=20)


def test_the_first_classes_keep_their_images() -> None:
    some = first_classes(DATA, 3)
    assert some.class_names == ("0", "1", "2")
    assert torch.equal(some.images, DATA.images[:60])
    assert first_classes(DATA, 10) is DATA


def test_shuffling_keeps_the_size_of_each_class_and_all_images() -> None:
    found = shuffled_labels(DATA, 0.5, seed=1)
    assert torch.equal(found.labels, DATA.labels)
    assert not torch.equal(found.images, DATA.images)
    assert found.images.sum() == pytest.approx(float(DATA.images.sum()), rel=1e-4)
    again = shuffled_labels(DATA, 0.5, seed=1)
    assert torch.equal(found.images, again.images)
    assert shuffled_labels(DATA, 0.0) is DATA


@pytest.mark.parametrize(("share", "low", "high"), [(0.1, 10, 20), (1.0, 160, 195)])
def test_as_many_images_get_another_label_as_were_asked_for(
    share: float, low: int, high: int
) -> None:
    found = shuffled_labels(DATA, share)
    before, after = (
        {x.numpy().tobytes(): int(c) for x, c in zip(d.images, d.labels, strict=True)}
        for d in (DATA, found)
    )
    assert low <= sum(before[image] != label for image, label in after.items()) <= high


@pytest.mark.parametrize("num", [1, 11, 2.0, True])
def test_a_number_of_classes_that_is_not_there_is_refused(num: object) -> None:
    with pytest.raises(WorkbenchError, match="from 2 to that"):
        first_classes(DATA, num)


@pytest.mark.parametrize("share", [-0.1, 1.1, "1"])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(WorkbenchError, match="from 0 to 1"):
        shuffled_labels(DATA, share)
