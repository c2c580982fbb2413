"""A folder of images, counted before it is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from workbench import imagefolder
from workbench.errors import WorkbenchError
from workbench.imagefolder import SUFFIXES, class_names, count_images, list_images
from workbench.training.data import load_data


def add(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_images_are_listed_as_torchvision_lists_them(tmp_path: Path) -> None:
    assert SUFFIXES == IMG_EXTENSIONS
    names = ("b.png", "a.JPG", "x/1.png", "x-y/1.png", "x.z/1.png", "notes.txt")
    add(tmp_path / "cat", *names)
    add(tmp_path / "dog", "1.webp")
    assert class_names(tmp_path) == ("cat", "dog")
    listed = [(p, c) for c in (0, 1) for p in list_images(tmp_path / ("cat", "dog")[c])]
    index = {"cat": 0, "dog": 1}
    assert listed == make_dataset(tmp_path, index, IMG_EXTENSIONS)
    add(tmp_path / "cat", ".hidden.png")
    assert len(list_images(tmp_path / "cat")) == 5


def test_classes_and_images_are_counted_those_of_train_where_there_are_two(
    tmp_path: Path,
) -> None:
    add(tmp_path / "train", "cat/1.png", "cat/2.png", "dog/x/1.png", "dog/notes.txt")
    add(tmp_path / "test", "cat/1.png", "dog/1.png")
    assert count_images(tmp_path) == (2, 3)


def test_a_folder_that_will_not_do_is_refused_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(sentence: str) -> None:
        with pytest.raises(WorkbenchError, match=sentence):
            count_images(tmp_path)

    refused("holds no folder")
    add(tmp_path, "cat/1.png")
    refused("holds 1 folder; give one with 2 to 1,000")
    add(tmp_path, "dog/notes.txt")
    refused("dog holds no image; images end in .jpg")
    add(tmp_path, "dog/1.png")
    monkeypatch.setattr(imagefolder, "MOST_FILES", 2)
    refused("holds more than 2 files; give one with fewer")
    monkeypatch.setattr(imagefolder, "MOST_CLASSES", 1)
    refused("holds 2 folders; give one with 2 to 1,")


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "cat/1.png", "dog/1.png")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for look in (count_images, lambda path: load_data(f"folder:{path}")):
        with pytest.raises(
            WorkbenchError, match=r"dog cannot be read \(Permission denied"
        ):
            look(tmp_path)


@pytest.mark.parametrize("path", ["~nobody-here/x", "a" * 300])
def test_a_path_that_leads_nowhere_is_refused_in_a_sentence(path: str) -> None:
    with pytest.raises(WorkbenchError, match="cannot be read"):
        load_data(f"folder:{path}")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        load_data("fashion", root=path)
