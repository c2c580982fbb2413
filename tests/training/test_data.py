"""The choice of images: balanced, sorted, fixed by the seed, and refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.training.data import DATA, Dataset, data_folder, load_data

PAPYAN = [
    *(10, 13, 19, 26, 37, 51, 71, 98, 136, 189),
    *(263, 365, 506, 702, 974, 1351, 1874, 2599, 3605, 5000),
]
LARGEST_DIGITS = 174  # images of the rarest digit, 8


def test_digits_are_all_the_images_that_scikit_learn_bundles() -> None:
    from sklearn.datasets import load_digits

    data, bunch = load_data("digits"), load_digits()
    assert data.image_shape == (1, 8, 8)
    assert data.images.dtype == torch.float32
    assert data.labels.dtype == torch.int64
    assert data.labels.bincount().tolist() == np.bincount(bunch.target).tolist()
    assert data.class_names == tuple("0123456789")
    assert (data.name, data.split, data.per_class, data.seed) == (
        *("digits", "train", None, 0),
    )
    raw = data.images.double() * data.std[0] + data.mean[0]
    assert raw.sum().item() == pytest.approx(bunch.images.sum() / 16, rel=1e-5)


def test_digits_are_normalised_by_the_whole_set_whatever_is_chosen() -> None:
    whole, some = load_data("digits"), load_data("digits", per_class=10)
    assert whole.images.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert whole.images.std().item() == pytest.approx(1.0, abs=1e-3)
    rows = {tuple(image.flatten().tolist()) for image in whole.images}
    assert all(tuple(image.flatten().tolist()) in rows for image in some.images)


@pytest.mark.parametrize("per_class", [n for n in PAPYAN if n <= LARGEST_DIGITS])
def test_each_class_gives_as_many_examples_as_asked_in_order(per_class: int) -> None:
    data = load_data("digits", per_class=per_class)
    expected = torch.arange(10).repeat_interleave(per_class)
    assert torch.equal(data.labels, expected)
    assert len(data.images) == 10 * per_class


@pytest.mark.parametrize("per_class", [n for n in PAPYAN if n > LARGEST_DIGITS])
def test_too_many_examples_a_class_names_the_class_and_the_most_that_works(
    per_class: int,
) -> None:
    with pytest.raises(
        WorkbenchError,
        match=rf"class '8' of digits has only 174 .* per_class={per_class}.*"
        "at most per_class=174",
    ):
        load_data("digits", per_class=per_class)
    assert load_data("digits", per_class=174).num_examples == 1740


def test_the_seed_fixes_the_choice() -> None:
    first, again = (load_data("digits", per_class=20, seed=3) for _ in range(2))
    other = load_data("digits", per_class=20, seed=4)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_smaller_choice_is_part_of_a_larger() -> None:
    small, large = (load_data("digits", per_class=n, seed=1) for n in (13, 51))
    for c in range(10):
        rows = {tuple(x.flatten().tolist()) for x in large.images[large.labels == c]}
        mine = small.images[small.labels == c]
        assert all(tuple(x.flatten().tolist()) in rows for x in mine)


def test_loading_leaves_the_random_numbers_of_the_caller_alone() -> None:
    state = torch.get_rng_state()
    load_data("digits", per_class=10, seed=7)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("digit", {}, r"no data set 'digit'; use one of digits, mnist, fashion"),
        ("digits:x", {}, r"no data set 'digits:x'"),
        ("folder", {}, r"write folder:PATH"),
        ("folder:", {}, r"write folder:PATH"),
        ("digits", {"split": "test"}, r"digits has no test split"),
        ("digits", {"split": "valid"}, r"no split 'valid'; use 'train' or 'test'"),
        (
            "digits",
            {"per_class": 0},
            r"per_class is 0; give a whole number, at least 1",
        ),
        ("digits", {"per_class": 1.5}, r"per_class is 1.5"),
        ("digits", {"per_class": True}, r"per_class is True"),
        ("digits", {"seed": -1}, r"the seed is -1; give a whole number, at least 0"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(
    name: str, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(WorkbenchError, match=sentence) as caught:
        load_data(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_refusal_of_a_name_lists_every_name_that_works() -> None:
    with pytest.raises(WorkbenchError) as caught:
        load_data("imagenet")
    assert all(name in str(caught.value) for name in DATA)


def test_root_goes_before_the_variable_and_the_variable_before_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "variable"))
    assert data_folder(tmp_path / "root") == tmp_path / "root"
    assert data_folder() == tmp_path / "variable"
    monkeypatch.delenv("WORKBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "hessian-workbench" in str(data_folder())


def test_own_tensors_are_sorted_by_class_and_kept_as_they_are() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 3, 5)
    data = Dataset.from_tensors(images, torch.tensor([1, 0, 1, 0]), ["cat", "dog"])
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.images[:, 0, 0, 0].tolist() == [1.0, 3.0, 0.0, 2.0]
    assert (data.image_shape, data.num_classes, data.per_class) == ((2, 3, 5), 2, 2)
    assert data.class_names == ("cat", "dog")
    assert not data.reloadable
    assert load_data("digits", per_class=1).reloadable


def test_own_arrays_without_channels_get_one() -> None:
    data = Dataset.from_tensors(
        np.zeros((3, 4, 4)),  # type: ignore[arg-type]
        np.array([0, 1, 1]),  # type: ignore[arg-type]
    )
    assert data.image_shape == (1, 4, 4)
    assert data.per_class is None
    assert data.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("images", "labels", "names", "sentence"),
    [
        (torch.zeros(2, 9), [0, 1], None, r"images have shape \(2, 9\)"),
        (torch.zeros(0, 1, 2, 2), [], None, r"images have shape \(0, 1, 2, 2\)"),
        (torch.zeros(2, 1, 2, 2), [0], None, r"labels have shape \(1,\) for 2 images"),
        (torch.zeros(2, 2, 2), [0.0, 1.0], None, r"labels are torch.float32"),
        (torch.full((2, 2, 2), torch.nan), [0, 1], None, r"8 values .* NaN or inf"),
        (torch.zeros(2, 2, 2), [0, -1], ["a", "b"], r"labels range from -1 to 0"),
        (torch.zeros(2, 2, 2), [0, 2], ["a", "b"], r"must be from 0 to 1"),
        (torch.zeros(2, 2, 2), [0, 2], None, r"no example of 1;"),
        (torch.zeros(2, 2, 2), [0, 0], ["a", "b"], r"no example of b;"),
        (torch.zeros(2, 2, 2), [0, 0], None, r"1 class found; at least 2"),
    ],
)
def test_own_tensors_that_do_not_fit_are_refused_in_words(
    images: torch.Tensor, labels: list[int], names: list[str] | None, sentence: str
) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        Dataset.from_tensors(images, torch.tensor(labels), names)


def test_no_data_library_is_imported_before_data_are_asked_for() -> None:
    code = (
        "import sys, workbench.training.train;"
        "print([m for m in ('torchvision', 'sklearn', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert found.stdout.strip() == "[]"
