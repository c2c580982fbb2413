"""A folder of images, counted before it is taken."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.files import image_folder as imagefolder
from workbench.files.image_folder import (
    SUFFIXES,
    class_names,
    count_images,
    describe_choice,
    find_classes,
    list_images,
)
from workbench.study.records import load_study
from workbench.study.tables import csv_tables
from workbench.training.checkpoint import load_checkpoint
from workbench.training.data import load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train
from workbench.ui.export import export_html


def add(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_images_are_listed_as_torchvision_lists_them(tmp_path: Path) -> None:
    assert set(SUFFIXES) > set(IMG_EXTENSIONS)
    names = ("b.png", "a.JPG", "x/1.png", "x-y/1.png", "x.z/1.png", "notes.txt")
    add(tmp_path / "cat", *names)
    add(tmp_path / "dog", "1.webp")
    assert class_names(tmp_path) == ("cat", "dog")
    listed = [(p, c) for c in (0, 1) for p in list_images(tmp_path / ("cat", "dog")[c])]
    index = {"cat": 0, "dog": 1}
    assert listed == make_dataset(tmp_path, index, SUFFIXES)
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

    refused("contains no folders")
    add(tmp_path, "cat/1.png")
    refused("contains 1 folder; give one with 2 to 1,000")
    add(tmp_path, "dog/notes.txt")
    refused("dog contains no image; images end in .jpg")
    add(tmp_path, "dog/1.png")
    monkeypatch.setattr(imagefolder, "MOST_FILES", 2)
    refused("contains more than 2 files; give one with fewer")
    monkeypatch.setattr(imagefolder, "MOST_CLASSES", 1)
    refused("contains 2 folders; give one with 2 to 1,")


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


PAIRS = (
    ("train", "test"), ("Training", "Testing"), ("Train", "Test"), ("TRAIN", "VAL"),
    ("training_set", "test_set"), ("train_set", "test_set"), ("trainset", "testset"),
    ("seg_train", "seg_test"), ("train", "val"), ("train", "valid"),
    ("train-set", "dev"), ("imgs_train", "pred"),
    ("Train Images", "Validation Images"), ("train_data", "test_data"),
    ("TrainingData", "EvaluationData"), ("train2017", "val2017"),
)  # fmt: skip


@pytest.mark.parametrize("wrapped", ["", "archive/", "archive/ours/"])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_training_split_is_taken_by_whatever_name_and_said(
    tmp_path: Path, pair: tuple[str, str], wrapped: str
) -> None:
    train, test = (f"{wrapped}{name}" for name in pair)
    if wrapped == "archive/ours/":  # as some archives are packed
        train, test = (f"archive/{name}/{name}" for name in pair)
    add(tmp_path, f"{train}/cat/1.png", f"{train}/dog/1.png", f"{train}/dog/2.png")
    add(tmp_path, f"{test}/cat/3.png", f"{test}/dog/4.png", "archive/readme.txt")
    add(tmp_path, "__MACOSX/x/1.png")
    assert count_images(tmp_path) == (2, 3)
    note = describe_choice(tmp_path)
    assert str(tmp_path / train) in note
    assert f"{pair[1]} is not used" in note
    held = find_classes(tmp_path, "test").folder
    assert held == tmp_path / test


WORDS = (
    ("my_train", "my_test"), ("cats_train", "cats_val"), ("01_train", "02_test"),
    ("trn", "tst"), ("TR", "TE"), ("train (1)", "test (1)"), ("myTrain", "myHoldout"),
    ("train.zip_FILES", "test.zip_FILES"),
)  # fmt: skip


@pytest.mark.parametrize("pair", WORDS)
def test_folders_that_hold_the_same_folders_are_splits_by_any_word(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    add(tmp_path, *(f"{pair[0]}/{name}/1.png" for name in ("cat", "dog", "fox")))
    add(tmp_path, *(f"{pair[1]}/{name}/1.png" for name in ("cat", "dog")))
    assert count_images(tmp_path) == (3, 3)
    assert f"{pair[0]}; {pair[1]} is not used" in describe_choice(tmp_path)
    for name in pair:  # what holds images is a class, whatever it is called
        add(tmp_path, f"{name}/2.png")
    assert count_images(tmp_path) == (2, 7)


@pytest.mark.parametrize(
    ("outer", "inner", "said"),
    [
        (("fold1", "fold2"), ("cat", "dog"), "fold1 and fold2, each of which contains"),
        (("images", "labels"), ("cat", "dog"), ". If the latter are the classes, give"),
        (("cat", "dog"), ("test", "train"), "Each class contains test and train: the"),
        (
            ("cat", "dog"),
            ("left", "front"),
            "cat and dog, each of which contains front",
        ),
    ],
)
def test_folders_of_which_nobody_can_know_what_they_are_are_classes_and_it_is_said(
    tmp_path: Path, outer: tuple[str, str], inner: tuple[str, str], said: str
) -> None:
    add(tmp_path, *(f"{a}/{b}/1.png" for a in outer for b in inner))
    assert count_images(tmp_path) == (2, 4)
    assert said in describe_choice(tmp_path)
    assert find_classes(tmp_path).folder == tmp_path


def test_an_exact_name_of_a_split_comes_before_a_word(tmp_path: Path) -> None:
    for top in ("train", "train_labels", "extra"):
        add(tmp_path, f"{top}/cat/1.png", f"{top}/dog/1.png")
    assert find_classes(tmp_path).folder == tmp_path / "train"
    assert "extra and train_labels are not used" in describe_choice(tmp_path)


def test_folders_around_it_do_not_matter_however_many_they_are(tmp_path: Path) -> None:
    add(tmp_path, *(f"a/b/c/train/{name}/1.png" for name in ("cat", "dog")))
    assert count_images(tmp_path) == (2, 2)
    assert find_classes(tmp_path).folder == tmp_path / "a" / "b" / "c" / "train"


def test_of_three_splits_test_is_for_testing(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        add(tmp_path, f"{split}/cat/1.png", f"{split}/dog/1.png")
    assert find_classes(tmp_path).folder.name == "train"
    assert "test and val are not used" in describe_choice(tmp_path)
    assert find_classes(tmp_path, "test").folder.name == "test"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("val/a/1.png", "val/b/1.png", "test/a/1.png", "test/b/1.png"),
            "test and val, the splits of a data set, and none for training; give",
        ),
        (("train/1.png", "test/1.png"), "test and train, .* hold no class folders"),
        (
            ("Training/1.png", "Testing/1.png", "labels/x.csv"),
            "Testing and Training, .* hold no class folders; put the images",
        ),
        (
            ("train_1/a/1.png", "train_2/a/1.png"),
            "train_1 and train_2, each of which could be the train split",
        ),
    ],
)
def test_splits_are_not_taken_for_classes(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    add(tmp_path, *names)
    for look in (count_images, lambda path: load_data(f"folder:{path}")):
        with pytest.raises(WorkbenchError, match=said) as caught:
            look(tmp_path)
        assert len(str(caught.value).replace(str(tmp_path), "")) < 250


def test_words_that_only_begin_like_splits_are_classes(tmp_path: Path) -> None:
    names = (
        "trainer",
        "tester",
        "value",
        "device",
        "evil",
        "testament",
        "set",
        "image",
    )
    add(tmp_path, *(f"{name}/1.png" for name in names))
    assert count_images(tmp_path) == (len(names), len(names))
    assert describe_choice(tmp_path) == ""
    add(tmp_path, "train/1.png", "test/1.png")  # beside others these are classes too
    assert count_images(tmp_path) == (len(names) + 2, len(names) + 2)


def test_what_is_passed_over_is_counted_by_its_kind(tmp_path: Path) -> None:
    add(
        tmp_path / "cat", "1.png", "2.HEIC", "3.heic", "Thumbs.db", ".hidden", "x/4.mov"
    )
    add(tmp_path / "dog", "1.gif", "README")
    note = describe_choice(tmp_path)
    assert "2 .heic, 1 .mov and 1 without an ending." in note
    assert count_images(tmp_path) == (2, 2)


def test_what_is_not_taken_is_said_by_the_page_and_by_the_command_line(
    tmp_path: Path,
) -> None:
    frames = [Image.new("L", (8, 8), 50 * n) for n in range(4)]
    for n, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        first, *rest = frames[n:] + frames[:n]
        first.save(tmp_path / name / "1.gif", save_all=True, append_images=rest)
        frames[2 + n].save(tmp_path / name / "2.png")
        frames[n].save(tmp_path / f"{name}.png")
    note = "2 images lie outside the class folders, unused."
    assert describe_choice(tmp_path) == note
    source = load_data(f"folder:{tmp_path}").source
    assert source.endswith(
        f"{note} 2 files hold several images, of which the first is taken."
    )


def test_a_folder_of_photographs_that_cannot_be_read_says_what_they_are(
    tmp_path: Path,
) -> None:
    add(tmp_path, "cat/1.HEIC", "cat/2.heic", "dog/1.heic")
    with pytest.raises(
        WorkbenchError, match=r"cat contains no .*, and there is 2 \.heic"
    ):
        count_images(tmp_path)
    with pytest.raises(WorkbenchError, match=r"2 folders .*, and there is 3 \.heic"):
        load_data(f"folder:{tmp_path}")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_each_real_folder_is_walked_once_and_a_pipe_is_no_image(tmp_path: Path) -> None:
    add(tmp_path, "cat/1.png", "dog/1.png", "dog/deep/2.png")
    (tmp_path / "cat" / "loop").symlink_to(tmp_path)
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "dog" / "self").symlink_to("self")
    (tmp_path / "dog" / "deep" / "again").symlink_to(tmp_path / "dog")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "round2").symlink_to(tmp_path.parent)
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    assert class_names(tmp_path) == ("cat", "dog")
    assert count_images(tmp_path) == (2, 3)


@pytest.mark.skipif(
    os.name != "posix" or sys.platform == "darwin", reason="UTF-8 names"
)
def test_a_class_named_in_latin_1_can_be_trained_shown_and_exported(
    tmp_path: Path,
) -> None:
    folder = os.fsencode(tmp_path / "pets")
    for n, name in enumerate((b"caf\xe9", b"th\xe9")):
        os.makedirs(folder + b"/" + name)
        for k in range(2):
            pixels = np.full((8, 8), 100 * n + 20 * k, np.uint8)
            Image.fromarray(pixels).save(folder + b"/" + name + b"/%d.png" % k)
    data = load_data(f"folder:{tmp_path / 'pets'}")
    assert data.class_names == (r"caf\udce9", r"th\udce9")
    path = train(
        build_model("linear", data), data, TrainConfig(epochs=1, device="cpu")
    ).save(tmp_path / "run.ckpt")
    assert load_checkpoint(path).load_data().num_examples == 4
    study = replace(make_study(2, 8), class_names=("caf\udce9", "th\udce9"))
    study = load_study(study.save(tmp_path / "old.study"))  # as they were written once
    assert study.class_names == data.class_names
    export_html(study, tmp_path / "x.html").read_text(encoding="utf-8")
    csv_tables(study)["overlaps"].encode()
