"""What a folder of images holds, one folder per class. Opens no image; no torch.

The page counts images by the same rules by which training later reads them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import WorkbenchError, printable, readable

SUFFIXES = (  # torchvision's, and others that Pillow always reads
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp",
    ".gif", ".jpe", ".jfif", ".jp2", ".tga", ".pbm", ".pnm",
)  # fmt: skip
MOST_LABEL = 255  # characters of the name of a class
MOST_CLASSES = 1000
MOST_FILES = 200_000  # counting these takes a second

# Names of splits in real data sets: Training, train_set, seg_train, test_images.
_WORDS = (
    r"(?:sets?|data(?:sets?)?|ims?|imgs?|images?|pictures?|splits?|folder|files|seg)"
)
_SPLIT = re.compile(
    rf"(?:{_WORDS}[\W_]*)*"
    r"(?:(?P<train>train(?:ing|val)?)|(?P<test>test(?:ing|s)?)"
    r"|(?P<val>val(?:id(?:ation)?)?|dev|eval(?:uation)?|pred(?:iction)?s?))"
    rf"(?:[\W_]*(?:{_WORDS}|\d+))*"
)
# Where all folders hold the same folders, one word of the name is enough: my_train.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SHORT = {"tr": "train", "trn": "train", "te": "test", "ts": "test", "tst": "test",
          "holdout": "val", "heldout": "val"}  # fmt: skip
MOST_SPLITS = 12  # splits in a data set
_NOT_OURS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"))
_NO_IMAGES = frozenset(("thumbs.db", "desktop.ini"))


@dataclass(frozen=True, slots=True)
class Classes:
    """The folder that holds the class folders."""

    folder: Path
    note: str  # which images were chosen; "" if that is obvious


def find_classes(path: Path, split: str = "train") -> Classes:
    """Find the folder with the class folders of this split.

    This is the folder itself, or a folder in it named after the split, in upper or
    lower case: train, Training, train_set, seg_train, ... beside test, Testing, val,
    ... An outer folder that holds nothing else is skipped.

    Raises:
        WorkbenchError: If there is none, it cannot be read, or the folders are splits
            but none is for training.
    """
    with readable("load_data", path):
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise WorkbenchError(
                f"load_data: {path} {what}; give the path of a folder that contains "
                "one folder of images per class."
            )
        top = _unwrapped(path, splits=True)
        names = _class_folders(top)
        inner = _same_folders(top, names)
        roles = {name: role for name in names if (role := _role(name))}
        if "train" not in roles.values() and inner and not any(map(_role, inner)):
            roles = {name: role for name in names if (role := _role_by_word(name))}
        # A class may be called "train"; its folder then holds images and no folders.
        whole = {
            name: role for name, role in roles.items() if _class_folders(top / name)
        }
        training = [name for name, role in whole.items() if role == "train"]
        if not training:
            _expect_no_splits(top, names, roles, whole)
            if split == "train":
                where = "" if top == path else f"The classes are in {top}."
                return Classes(top, where or _ambiguity(names, inner))
        elif wanted := training if split == "train" else _held_out(whole):
            if len(wanted) > 1:
                raise WorkbenchError(
                    f"load_data: {top} contains {_listed(wanted)}, each of which "
                    f"could be the {split} split; give the path of one of them."
                )
            folder = _unwrapped(top / wanted[0], splits=False)
            others = [
                name
                for name in names
                if name != wanted[0] and (name in roles or _has_image(top / name))
            ]
            unused = f"; {_listed(others)} {_are(others)} not used" if others else ""
            return Classes(folder, f"The {split} images are those in {folder}{unused}.")
    raise WorkbenchError(
        f"load_data: {path} has no {split!r} folder with class folders in it; use "
        "split='train', or create one."
    )


def _unwrapped(path: Path, *, splits: bool) -> Path:
    """The folder itself or, if it holds a single folder, that one; and so on."""
    names = _class_folders(path)
    if len(names) != 1 or _has_image(path, deep=False):
        return path
    inner = path / names[0]
    if splits and _role(names[0]) == "train":
        return path
    if not _class_folders(inner) or _has_image(inner, deep=False):
        return path
    return _unwrapped(inner, splits=splits)


def _same_folders(top: Path, names: list[str]) -> list[str]:
    """The folders found in each of these, if they make up most of the contents."""
    if not 2 <= len(names) <= MOST_SPLITS:
        return []
    if any(_has_image(top / name, deep=False) for name in names):
        return []
    held = [set(_class_folders(top / name)) for name in names]
    shared = set.intersection(*held)
    most = max(map(len, held))
    return sorted(shared) if len(shared) >= 2 and 2 * len(shared) >= most else []


def _ambiguity(names: list[str], inner: list[str]) -> str:
    """Say how to read folders that all hold the same folders."""
    if not inner:
        return ""
    if any(map(_role, inner)):
        return (
            f"Each class contains {_listed(inner)}: the images in all of them are used."
        )
    return (
        f"The classes are {_listed(names)}, each of which contains {_listed(inner)}. "
        "If the latter are the classes, give the path of one of the former."
    )


def _role(name: str) -> str:
    """Return the split that a folder name stands for: train, test or val; else ""."""
    found = _SPLIT.fullmatch(name.lower())
    return found.lastgroup or "" if found else ""


def _role_by_word(name: str) -> str:
    """The same, by any word in the name."""
    words = (word.lower() for word in _WORD.findall(name))
    roles = {_SHORT.get(word) or _role(word) for word in words} - {""}
    return roles.pop() if len(roles) == 1 else _role(name)


def _held_out(whole: dict[str, str]) -> list[str]:
    """The folders to test on: those called test, else the validation folders."""
    for wanted in ("test", "val"):
        if found := [name for name, role in whole.items() if role == wanted]:
            return found
    return []


def _expect_no_splits(
    top: Path, names: list[str], roles: dict[str, str], whole: dict[str, str]
) -> None:
    """Refuse to mistake the splits of a data set for its classes."""
    others = [name for name in names if name not in roles]
    if len(set(roles.values())) < 2 or any(_has_image(top / name) for name in others):
        return
    what = (
        "and none for training; give the path of one of them"
        if whole
        else "which hold no class folders; put the images of each class into a folder "
        "named after the class"
    )
    raise WorkbenchError(
        f"load_data: {top} contains {_listed([*roles])}, the splits of a data set, "
        f"{what}."
    )


def _listed(names: list[str]) -> str:
    shown = [printable(name) for name in names[:5]] + ["..."] * (len(names) > 5)
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def passed_over(folder: Path, names: Iterable[str]) -> str:
    """Say which files are skipped, and how many images lie outside the class folders.

    Raises:
        WorkbenchError: If a folder cannot be read.
    """
    found = _other_files(folder, names)
    with readable("load_data", folder):
        beside = sum(map(_is_image, os.listdir(folder)))
    image = "image lies" if beside == 1 else "images lie"
    said = (
        f"Skipped, because they cannot be read: {found}." if found else "",
        f"{beside:,} {image} outside the class folders, unused." if beside else "",
    )
    return " ".join(filter(None, said))


def _other_files(folder: Path, names: Iterable[str]) -> str:
    """Count the files in the class folders that are not images, by kind."""
    kinds: Counter[str] = Counter()
    with readable("load_data", folder):
        for name in names:
            for _, file in _files(folder / name):
                if not _is_image(file) and file.lower() not in _NO_IMAGES:
                    hidden = file.startswith(".")
                    suffix = os.path.splitext(file)[1].lower()
                    kinds[suffix or "without an ending"] += not hidden
    found = [
        f"{n:,} {kind}"
        for kind, n in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        if n
    ]
    return _listed(found) if found else ""


def no_image(folder: Path, names: Sequence[str]) -> str:
    """Say that class folders contain no image: the end of a sentence."""
    found = _other_files(folder, names)
    instead = f", and there is {found}" if found else ""
    return f"no image; images end in {', '.join(SUFFIXES)}{instead}."


def class_label(name: str) -> str:
    r"""Return the label of a class whose folder has this name, in any encoding.

    Example:
        >>> print(class_label("caf\udce9"))  # "café" in Latin-1, on a disk in UTF-8
        caf\udce9
    """
    return printable(name)[:MOST_LABEL]


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders, sorted.

    Raises:
        WorkbenchError: If there is none, or it cannot be read.
    """
    with readable("load_data", folder):
        names = _class_folders(folder)
    if not names:
        raise WorkbenchError(
            f"load_data: {folder} contains no folders; put the images of each class "
            "into a folder named after the class."
        )
    return tuple(names)


def list_images(folder: Path) -> list[str]:
    """Return the paths of the images in a class folder, in reading order.

    Raises:
        WorkbenchError: If it, or a folder in it, cannot be read.
    """
    with readable("load_data", folder):
        found = sorted(_files(folder))
    return [os.path.join(place, name) for place, name in found if _is_image(name)]


def count_images(path: Path) -> tuple[int, int]:
    """Return how many classes and training images a folder contains.

    Raises:
        WorkbenchError: If there are fewer than two classes, too many classes or files,
            a class without images, or a folder that cannot be read.
    """
    folder = find_classes(path).folder
    names = class_names(folder)
    if not 2 <= len(names) <= MOST_CLASSES:
        raise WorkbenchError(
            f"Image folder: {folder} contains {len(names):,} "
            f"folder{'s' if len(names) > 1 else ''}; give one with 2 to "
            f"{MOST_CLASSES:,}, one for each class."
        )
    num_files, counts = 0, dict.fromkeys(names, 0)
    with readable("Image folder", folder):
        for name in names:
            for _, file in _files(folder / name):
                num_files += 1
                counts[name] += _is_image(file)
                if num_files > MOST_FILES:
                    raise WorkbenchError(
                        f"Image folder: {folder} contains more than {MOST_FILES:,} "
                        "files; give one with fewer."
                    )
    if empty := [name for name, count in counts.items() if count == 0]:
        raise WorkbenchError(
            f"Image folder: {folder / empty[0]} contains {no_image(folder, empty[:1])}"
        )
    return len(names), sum(counts.values())


def describe_choice(path: Path) -> str:
    """Say which images of a folder are used, if not simply all.

    Raises:
        WorkbenchError: As `count_images`.
    """
    found = find_classes(path)
    over = passed_over(found.folder, class_names(found.folder))
    return " ".join(filter(None, (found.note, over)))


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield path and name of each file in a folder and its subfolders, each once.

    Links are followed, but not to folders already visited or to enclosing ones. Hidden
    folders belong to other programs; pipes and devices are not files.
    """
    seen = {_identity(place) for place in folder.resolve().parents}
    pending = [str(folder)]
    while pending:
        place = pending.pop()
        if (identity := _identity(place)) in seen:
            continue
        seen.add(identity)
        with os.scandir(place) as entries:
            for entry in entries:
                try:
                    if entry.is_dir():
                        if _is_ours(entry.name):
                            pending.append(entry.path)
                    elif entry.is_file():
                        yield place, entry.name
                except OSError:  # a link to itself
                    continue


def _identity(place: str | Path) -> tuple[int, int]:
    found = os.stat(place)
    return found.st_dev, found.st_ino


def _is_image(name: str) -> bool:
    # Names with a leading dot are other programs' metadata, not images.
    return name.lower().endswith(SUFFIXES) and name[0] != "."


def _is_ours(name: str) -> bool:
    return name[0] != "." and name not in _NOT_OURS


def _has_image(path: Path, *, deep: bool = True) -> bool:
    """Whether there is an image in a folder or its subfolders."""
    names = (name for _, name in _files(path)) if deep else os.listdir(path)
    return any(map(_is_image, names))


def _class_folders(path: Path) -> list[str]:
    """Names of the folders in a folder, without links to enclosing folders."""
    if not path.is_dir():
        return []
    real = path.resolve()
    around = {real, *real.parents}
    return sorted(
        p.name
        for p in path.iterdir()
        if _is_ours(p.name) and _is_dir(p) and p.resolve() not in around
    )


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to itself
        return False
