"""What arrives from a browser is checked in Python, and answered in a sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from workbench.errors import WorkbenchError
from workbench.page.settings import (
    CONVENTION_LABELS,
    DATA,
    DOWNLOADABLE,
    MODELS,
    Limits,
    RunSettings,
)
from workbench.study.convention import CONVENTIONS


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("epochs", 0, "from 1 to 500"),
        ("epochs", 10**9, "from 1 to 500"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", "many", "a whole number"),
        ("epochs", None, "a whole number"),
        ("per_class", 1, "from 2 to 5,000"),
        ("lr", math.nan, "a number from"),
        ("lr", math.inf, "a number from"),
        ("lr", 0.0, "a number from"),
        ("seed", -1, "from 0"),
        ("data", "imagenet", "mnist"),
        ("model", "<script>", "resnet18"),
        ("metric", "taxi", "cosine"),
        ("folder", "/a\0b", "path"),
        ("folder", "x" * 5000, "path"),
    ],
)
def test_a_bad_value_is_answered_with_what_would_do(
    name: str, value: Any, says: str
) -> None:
    with pytest.raises(WorkbenchError, match=says):
        RunSettings().changed(Limits(), **{name: value})


def test_a_good_value_is_taken_in_its_own_type() -> None:
    settings = RunSettings().changed(Limits(), epochs=12.0, lr=1, download=1)
    assert (settings.epochs, settings.lr, settings.download) == (12, 1.0, True)
    assert type(settings.epochs) is int
    assert type(settings.lr) is float


def test_a_teacher_can_lower_the_limits() -> None:
    with pytest.raises(WorkbenchError, match="from 1 to 20"):
        RunSettings().changed(Limits(epochs=(1, 20)), epochs=30)


def test_an_image_folder_without_a_path_is_asked_for() -> None:
    settings = RunSettings(data="folder", folder="  ")
    with pytest.raises(WorkbenchError, match="type the path"):
        settings.to_work("icml")
    named = RunSettings(data="folder", folder=" /a/b ").to_work("icml")
    assert named["data"] == "folder:/a/b"


def test_nothing_is_downloaded_unless_ticked_and_never_for_bundled_data() -> None:
    assert RunSettings(data="mnist").to_work("icml")["download"] is False
    assert RunSettings(data="mnist", download=True).to_work("icml")["download"] is True
    assert RunSettings(download=True).to_work("icml")["download"] is False


def test_the_names_offered_are_the_names_there_are() -> None:
    from workbench.training import data, models

    assert {n.partition(":")[0] for n in data.DATA} == set(DATA)
    assert set(models.MODELS) == set(MODELS)
    assert set(CONVENTION_LABELS) == set(CONVENTIONS)
    assert set(DOWNLOADABLE) == set(data.DOWNLOADS)
