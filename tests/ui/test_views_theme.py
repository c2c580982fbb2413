"""Colours that everybody can tell apart, and text that everybody can read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.ui.theme import (
    DARK,
    LIGHT,
    MARKERS,
    PROJECTOR,
    class_style,
    get_theme,
    page_style,
    plain,
    roles,
    variables,
)

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
SEEN_BY = {
    "all cones": np.eye(3),
    "no long": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no medium": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no short": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
ALL = [LIGHT, DARK, PROJECTOR]
THEMES = pytest.mark.parametrize("theme", ALL, ids=lambda theme: theme.name)


def linear(color: str) -> np.ndarray:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson (2020); a distance of 0.02 is just noticeable, side by side."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return lab @ np.cbrt(cones @ np.clip(rgb, 0, 1))


def distance(one: str, other: str, sight: str) -> float:
    matrix = SEEN_BY[sight]
    a, b = (oklab(matrix @ linear(color)) for color in (one, other))
    return float(np.linalg.norm(a - b))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    light, dark = sorted(
        (linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (one, other)),
        reverse=True,
    )
    return float(light / dark)


def test_the_yardstick_finds_a_palette_that_the_colour_blind_cannot_read():
    assert distance("#d62728", "#2ca02c", "all cones") > 0.2
    assert distance("#2ca02c", "#d62728", "no medium") < 0.1


@THEMES
@pytest.mark.parametrize("sight", SEEN_BY)
def test_ten_classes_keep_apart_under_each_colour_blindness(theme, sight):
    pairs = combinations(theme.classes, 2)
    nearest = min((distance(a, b, sight), a, b) for a, b in pairs)
    assert nearest[0] > 0.1, nearest


@THEMES
def test_no_class_wears_the_orange_of_the_class_part(theme):
    assert min(distance(theme.class_part, c, "all cones") for c in theme.classes) > 0.08


@THEMES
def test_text_stands_out_from_what_is_behind_it(theme):
    for behind in (theme.background, theme.surface):
        assert contrast(theme.ink, behind) > 7
        assert contrast(theme.muted, behind) > 4.5
    assert contrast(theme.on_accent, theme.accent) > 4.5
    assert contrast(theme.class_part, theme.background) > 3


@THEMES
def test_a_hundred_classes_differ_in_colour_or_marker(theme):
    assert len({class_style(c, theme) for c in range(100)}) == 100


def test_the_first_ten_classes_differ_in_colour_and_in_marker():
    styles = [class_style(c, LIGHT) for c in range(10)]
    assert [len(set(column)) for column in zip(*styles, strict=True)] == [10, 10]
    assert {marker for _, marker in styles} == set(MARKERS)


def test_a_name_is_shortened_and_never_read_as_tex():
    assert plain("a" * 30, 8) == "aaaaaaa…"
    for text in ("$$x$$", r"\(x\)", r"\[x\]"):
        assert not any(mark in plain(text) for mark in ("$$", r"\(", r"\["))
    assert plain("T-shirt") == "T-shirt"


@THEMES
def test_no_two_roles_share_a_colour_so_that_one_can_be_told_from_the_other(theme):
    colors = roles(theme)
    assert len(set(colors.values())) == len(colors)
    assert len(colors) == 13 + 10


def test_on_a_projector_every_class_stands_out_from_the_background():
    for color in (*PROJECTOR.classes, PROJECTOR.class_part):
        assert contrast(color, PROJECTOR.background) > 2.6


def test_the_page_has_every_colour_in_every_theme():
    style = page_style()
    for theme in ALL:
        for name, value in variables(theme).items():
            assert f"{name}:{value};" in style


def test_an_unknown_theme_is_answered_with_those_there_are():
    with pytest.raises(WorkbenchError, match="'pink' is not one of light, dark, pro"):
        get_theme("pink")
