"""Named starting points: a study to draw at once, and the settings of its run.

``make examples`` trains and measures them all again. They were found by a search: each
sentence states what its study shows, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

from workbench.errors import WorkbenchError
from workbench.page.settings import RunSettings
from workbench.study.records import Study, load_study


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One starting point."""

    name: str  # in links
    title: str
    sentence: str
    settings: RunSettings
    film: bool = False  # whether its study contains earlier epochs

    @property
    def file(self) -> str:
        """Its study, beside the other examples."""
        return f"{self.name}.study"


PRESETS = (
    Preset(
        name="paper",
        title="The picture from the paper",
        sentence="A small convolutional network, trained to the end: nine outliers "
        "stand clear of the bulk, and all of them point along the class means.",
        settings=RunSettings(model="cnn", per_class=50, epochs=40),
        film=True,
    ),
    Preset(
        name="training",
        title="Untrained and trained",
        sentence="Watch the spectrum from the fresh network to the trained one: the "
        "bulk sinks, and the outliers come to stand apart.",
        settings=RunSettings(model="mlp", per_class=100, epochs=30),
        film=True,
    ),
    Preset(
        name="few",
        title="Too few examples",
        sentence="With ten images per class the outliers run into the bulk: the "
        "directions are right, but no gap tells how many there are.",
        settings=RunSettings(model="mlp", per_class=10, epochs=60),
    ),
    Preset(
        name="misfit",
        title="When the theory fits badly",
        sentence="After three epochs there are fewer outliers than "
        "classes, and the next eigenvectors leave the span of the class means.",
        settings=RunSettings(model="mlp", per_class=100, epochs=3),
    ),
    Preset(
        name="fashion",
        title="A network on photographs",
        sentence="On photographs of clothes the outliers fall off so steeply that the "
        "rule counts only four, yet nine eigenvectors point along the class means.",
        settings=RunSettings(data="fashion", model="cnn", per_class=50, epochs=60),
    ),
)


def find_preset(name: str) -> Preset:
    """Return the preset with this name.

    Raises:
        WorkbenchError: If there is none.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    raise WorkbenchError(
        f"Preset: {name!r} is unknown; choose one of "
        f"{', '.join(preset.name for preset in PRESETS)}."
    )


def load_example(name: str) -> Study:
    """Load the study of a preset.

    Raises:
        WorkbenchError: If there is no such preset.
    """
    place = files("workbench") / "examples" / find_preset(name).file
    with as_file(place) as path:
        return load_study(path)
