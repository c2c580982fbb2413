"""Folders of images: what is read, how it is cut, and what is said of bad ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.progress.control import Cancelled, Control, Progress
from workbench.training.data import Dataset, load_data

Sizes = Callable[[int, int], tuple[int, int]]


def write_images(
    folder: Path,
    counts: dict[str, int],
    *,
    mode: str = "RGB",
    size: Sizes = lambda c, n: (12, 12),
) -> Path:
    """Write noisy images, each class of another brightness."""
    noise = np.random.default_rng(0)
    for c, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            width, height = size(c, n)
            pixels = noise.integers(60 * c, 60 * c + 60, (height, width, 3))
            image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
            image.save(folder / name / f"{n}.png")
    return folder


def test_a_folder_a_class_becomes_sorted_normalised_images(tmp_path: Path) -> None:
    write_images(tmp_path, {"dog": 5, "ant": 4, "cat": 6})
    data = load_data(f"folder:{tmp_path}", per_class=4)
    assert data.class_names == ("ant", "cat", "dog")
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.image_shape == (3, 12, 12)
    channels = data.images.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        channels.std(1, correction=0), torch.ones(3), atol=1e-5, rtol=0
    )
    # Classes were written in the order dog, ant, cat, each brighter than the last.
    brightness = [data.images[data.labels == c].mean().item() for c in range(3)]
    assert brightness[2] < brightness[0] < brightness[1]


def test_pixels_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1, "b": 1})
    data = load_data(f"folder:{tmp_path}")
    shown = data.images[1] * torch.tensor(data.std).view(3, 1, 1)
    shown = (shown + torch.tensor(data.mean).view(3, 1, 1)) * 255
    expected = np.asarray(Image.open(tmp_path / "b" / "0.png"), dtype=np.float32)
    np.testing.assert_allclose(shown.permute(1, 2, 0), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (lambda c, n: (64, 64), 64),
        (lambda c, n: (65, 65), 32),
        (lambda c, n: (20, 30), 32),
        (lambda c, n: (16, 16) if n else (40, 50), 32),
    ],
    ids=["alike and small", "alike and large", "not square", "unlike"],
)
def test_images_keep_a_small_common_size_and_else_become_32_wide(
    tmp_path: Path, size: Sizes, expected: int
) -> None:
    write_images(tmp_path, {"a": 2, "b": 2}, size=size)
    data = load_data(f"folder:{tmp_path}")
    assert data.image_shape == (3, expected, expected)


def test_the_middle_of_an_oblong_image_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((64, 192), np.uint8)
    pixels[:, 64:128] = 255
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    Image.fromarray(255 - pixels).save(tmp_path / "b" / "0.png")
    data = load_data(f"folder:{tmp_path}")
    inner = data.images[:, 0, :, 2:-2]
    assert inner[0].min() == inner[0].max() > inner[1].max()


def test_images_are_grey_only_if_all_chosen_are(tmp_path: Path) -> None:
    write_images(tmp_path / "grey", {"a": 2, "b": 2}, mode="L")
    write_images(tmp_path / "mixed", {"a": 2, "b": 2}, mode="L")
    write_images(tmp_path / "mixed", {"c": 2}, mode="RGB")
    assert load_data(f"folder:{tmp_path / 'grey'}").image_shape[0] == 1
    assert load_data(f"folder:{tmp_path / 'mixed'}").image_shape[0] == 3


def test_test_images_are_cut_and_normalised_as_those_of_training(
    tmp_path: Path,
) -> None:
    write_images(tmp_path / "train", {"a": 3, "b": 3}, size=lambda c, n: (10, 10))
    write_images(tmp_path / "test", {"a": 3, "b": 3}, size=lambda c, n: (20, 40))
    name = f"folder:{tmp_path}"
    train, test = load_data(name), load_data(name, split="test")
    assert test.image_shape == train.image_shape == (3, 10, 10)
    assert (test.mean, test.std) == (train.mean, train.std)
    assert not torch.equal(test.images, train.images)
    assert str(tmp_path / "test") in test.source


def test_test_classes_must_be_those_of_training(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 1, "b": 1})
    write_images(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(
        WorkbenchError, match=r"different classes in test .*\(a, c; a, b\)"
    ):
        load_data(f"folder:{tmp_path}", split="test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_images(tmp_path, {"train": 1, "ship": 1})
    assert load_data(f"folder:{tmp_path}").class_names == ("ship", "train")
    with pytest.raises(WorkbenchError, match="no 'test' folder"):
        load_data(f"folder:{tmp_path}", split="test")


def test_only_chosen_images_are_opened(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 9, "b": 9})
    chosen = load_data(f"folder:{tmp_path}", per_class=2, seed=5)
    pixels = {tuple(x.flatten().tolist()) for x in chosen.images}
    # Spoil one file after the other: all but the four chosen may be unreadable.
    needed = 0
    for file in sorted(tmp_path.glob("*/*.png")):
        content = file.read_bytes()
        file.write_bytes(b"spoilt")
        try:
            load_data(f"folder:{tmp_path}", per_class=2, seed=5)
        except WorkbenchError:
            needed += 1
            file.write_bytes(content)
    assert needed == 4
    again = load_data(f"folder:{tmp_path}", per_class=2, seed=5)
    assert {tuple(x.flatten().tolist()) for x in again.images} == pixels


def test_files_of_other_programs_are_no_images_and_no_classes(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "a" / "._0.png").write_bytes(b"\0")
    (tmp_path / "a" / "notes.txt").write_text("hello")
    data = load_data(f"folder:{tmp_path}")
    assert (data.class_names, data.num_examples) == (("a", "b"), 4)


def test_a_folder_that_cannot_be_used_is_refused_with_its_path(tmp_path: Path) -> None:
    def refused(sentence: str, **options: object) -> None:
        with pytest.raises(WorkbenchError, match=sentence) as caught:
            load_data(f"folder:{tmp_path / 'pets'}", **options)  # type: ignore[arg-type]
        assert str(tmp_path / "pets") in str(caught.value)

    refused("does not exist; give the path")
    (tmp_path / "pets").mkdir()
    refused("contains no folders; put the images of each class")
    (tmp_path / "pets" / "cat").mkdir()
    (tmp_path / "pets" / "dog").mkdir()
    refused("2 folders of .* contain no image; images end in .jpg")
    write_images(tmp_path / "pets", {"emu": 3})
    refused("no example of cat, dog;")
    (tmp_path / "pets" / "cat").rmdir()
    (tmp_path / "pets" / "dog").rmdir()
    refused("1 class found; at least 2 are needed")
    write_images(tmp_path / "pets", {"yak": 7})
    refused("class 'emu' .* has only 3 examples, .* at most per_class=3", per_class=5)
    refused("no 'test' folder", split="test")


def test_a_file_in_place_of_a_folder_is_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(WorkbenchError, match=r"pets.zip is a file; give the path"):
        load_data(f"folder:{tmp_path / 'pets.zip'}")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    whole = (tmp_path / "b" / "1.png").read_bytes()
    (tmp_path / "b" / "1.png").write_bytes(whole[:200])  # header whole, pixels not
    with pytest.raises(WorkbenchError, match=r"b/1.png cannot be read .* replace it"):
        load_data(f"folder:{tmp_path}")


def plain(data: Dataset) -> Tensor:
    """Return the images as they were before they were normalised, 0 to 255."""
    std, mean = (torch.tensor(v).view(-1, 1, 1) for v in (data.std, data.mean))
    return (data.images * std + mean) * 255


def test_deep_images_are_scaled_and_not_clipped_in_either_split(tmp_path: Path) -> None:
    values = {"a": (0, 1000), "b": (40_000, 65_535)}
    for split in ("train", "test"):
        for name, pair in values.items():
            (tmp_path / split / name).mkdir(parents=True)
            for n, value in enumerate(pair):
                pixels = np.full((8, 8), value, np.uint16)
                file = tmp_path / split / name / f"{n}.{('png', 'tif')[n]}"
                Image.fromarray(pixels).save(file)
    expected = torch.tensor([0.0, 1000, 40_000, 65_535]) / 257
    for split in ("train", "test"):
        data = load_data(f"folder:{tmp_path}", split=split)
        assert data.image_shape == (1, 8, 8)
        torch.testing.assert_close(
            plain(data)[:, 0, 0, 0], expected, atol=2e-4, rtol=1e-5
        )


def test_images_of_32_bits_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1, "b": 1}, mode="L")
    for pixels in (np.full((8, 8), 0.5, np.float32), np.full((8, 8), 2**30, np.int32)):
        Image.fromarray(pixels).save(tmp_path / "a" / "1.tif")
        with pytest.raises(WorkbenchError, match=r"a/1.tif has more than 16 bits"):
            load_data(f"folder:{tmp_path}")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L with a key", "WebP", "GIF"])
def test_transparent_images_are_put_on_white(tmp_path: Path, mode: str) -> None:
    """A black shape on nothing, another for each image, colours alike everywhere."""
    for c, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for n in range(2):
            alpha = np.zeros((8, 8), np.uint8)
            alpha[: 2 + 2 * c + n] = 255
            black = Image.fromarray(np.zeros((8, 8), np.uint8))
            image = Image.merge("LA", (black, Image.fromarray(alpha)))
            options: dict[str, object] = {}
            if mode in ("RGBA", "WebP"):
                image = image.convert("RGBA")
                options = {"lossless": True, "exact": True} if mode == "WebP" else {}
            elif mode in ("P", "L with a key", "GIF"):
                image = Image.fromarray(np.uint8(alpha == 0))
                if mode != "L with a key":
                    image.putpalette([0, 0, 0, 0, 0, 0])
                options = {"transparency": 1}
            suffix = {"WebP": "webp", "GIF": "gif"}.get(mode, "png")
            image.save(tmp_path / name / f"{n}.{suffix}", **options)
    data = load_data(f"folder:{tmp_path}")
    shown = plain(data)[:, 0, :, 0].round()
    rows = torch.tensor([2, 3, 4, 5])
    expected = torch.where(torch.arange(8) < rows[:, None], 0.0, 255.0)
    torch.testing.assert_close(shown, expected, atol=0.01, rtol=0)


def test_photographs_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    left = np.zeros((8, 8), np.uint8)
    left[:, :4] = 255
    for c, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        exif = Image.Exif()
        exif[0x0112] = (6, 3)[c]  # a quarter clockwise; a half
        Image.fromarray(left).save(tmp_path / name / "0.png", exif=exif)
    shown = plain(load_data(f"folder:{tmp_path}"))[:, 0].round()
    assert shown[0, :4].min() == 255  # above
    assert shown[1, :, 4:].min() == 255  # right
    spoilt = Image.Exif()
    spoilt[0x0112] = 6
    content = spoilt.tobytes()[:-6] + b"\xff" * 6
    Image.fromarray(left).save(tmp_path / "a" / "1.png", exif=content)
    assert load_data(f"folder:{tmp_path}").num_examples == 3


@pytest.mark.parametrize("suffix", ["gif", "bmp", "tif", "webp", "jp2", "tga", "jfif"])
def test_other_kinds_of_images_are_read(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    for file in sorted(tmp_path.glob("*/1.png")):
        kind = "jpeg" if suffix == "jfif" else None
        Image.open(file).save(file.with_suffix(f".{suffix}"), kind)
        file.unlink()
    assert load_data(f"folder:{tmp_path}").num_examples == 4


def test_mostly_identical_images_are_refused_and_some_are_said(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 4, "b": 4})
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "9.png")
    told: list[Progress] = []
    data = load_data(f"folder:{tmp_path}", progress=told.append)
    said = "The same image is in two classes 1 time: "
    assert said in told[-1].note
    assert said in data.source
    assert all(str(tmp_path / file) in data.source for file in ("a/0.png", "b/9.png"))
    for n in range(10):
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / f"copy{n}.png")
    with pytest.raises(
        WorkbenchError, match=r"of 19 images .* only 8 differ .* identical. Check"
    ):
        load_data(f"folder:{tmp_path}")


def test_what_was_taken_and_passed_over_is_said(tmp_path: Path) -> None:
    write_images(tmp_path / "Training", {"a": 2, "b": 2})
    write_images(tmp_path / "Testing", {"a": 2, "b": 2})
    (tmp_path / "Training" / "a" / "1.heic").write_bytes(b"x")
    told: list[Progress] = []
    data = load_data(f"folder:{tmp_path}", progress=told.append)
    assert data.class_names == ("a", "b")
    assert "Testing is not used. Skipped, because they cannot" in told[-1].note
    assert "1 .heic" in data.source
    test = load_data(f"folder:{tmp_path}", split="test")
    assert str(tmp_path / "Testing") in test.source


def test_a_path_from_here_is_kept_as_one_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "pets", {"a": 1, "b": 1})
    monkeypatch.chdir(tmp_path)
    data = load_data("folder:pets")
    assert data.name == f"folder:{tmp_path / 'pets'}"
    monkeypatch.chdir("/")
    assert torch.equal(load_data(data.name).images, data.images)


def test_reading_can_be_watched_and_cancelled(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 3, "b": 3})
    events: list[Progress] = []
    load_data(f"folder:{tmp_path}", progress=events.append)
    assert events[0].stage == "Reading images"
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        load_data(f"folder:{tmp_path}", control=control)
