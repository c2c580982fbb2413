"""Named starting points: a study to draw at once, and the settings of its run.

Some have contrasts: studies that differ in one thing, shown beside them. ``make
examples`` trains and measures them all again. They were found by a search: each
sentence states what its study shows, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A study that differs in one thing from a preset's, to be seen beside it."""

    name: str  # in links
    of: str  # the preset
    title: str  # upon its button: the one thing
    sentence: str  # what the two show
    settings: RunSettings
    shuffled: bool = False  # whether its labels are, before the training
    classes: int | None = None  # so many of the first; None: all
    moment: int | None = None  # a snapshot of the preset's own film; None: a file

    @property
    def file(self) -> str:
        """Its study, beside the other examples."""
        name = self.name if self.moment is None else self.of
        return f"{name}.study"


_PAPER = RunSettings(
    model="cnn", per_class=20, epochs=200, weight_decay=0.04, batch_size=32
)
_TRAINING = RunSettings(model="mlp", per_class=100, epochs=30)
PRESETS = (
    Preset(
        name="paper",
        title="The picture from the paper",
        sentence="A small convolutional network, trained with strong weight decay: "
        "ten outliers stand clear of the bulk, and the class part is at least 87 % as "
        "large as each.",
        settings=_PAPER,
        film=True,
    ),
    Preset(
        name="training",
        title="Untrained and trained",
        sentence="Watch the spectrum from the fresh network to the trained one: the "
        "bulk sinks, and the outliers come to stand apart.",
        settings=_TRAINING,
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
        sentence="On photographs of clothes the eigenvalues fall off without a clear "
        "gap: the rule counts eleven, yet just nine point along the class means.",
        settings=RunSettings(data="fashion", model="cnn", per_class=50, epochs=60),
    ),
)
CONTRASTS = (
    Contrast(
        name="loose",
        of="paper",
        title="Hardly any weight decay",
        sentence="With weight decay 0.0005, not 0.04, ten outliers still point along "
        "the class means, but the class part has 27 % of their sum, not 90 %.",
        settings=replace(_PAPER, weight_decay=5e-4),
    ),
    Contrast(
        name="shuffled",
        of="paper",
        title="Labels shuffled",
        sentence="Trained on shuffled labels, nine outliers point along the means of "
        "these classes, and the class part has 53 % of their sum, not 90 %.",
        settings=_PAPER,
        shuffled=True,
    ),
    Contrast(
        name="two",
        of="paper",
        title="Two classes",
        sentence="With two of the ten classes there are two outliers, and the class "
        "part has 98 % of their sum, not 90 %.",
        settings=_PAPER,
        classes=2,
    ),
    Contrast(
        name="untrained",
        of="training",
        title="Untrained",
        sentence="Before the training the class part has 1.5 % of the sum of the first "
        "nine eigenvalues, after it 20 %.",
        settings=_TRAINING,
        moment=0,
    ),
)


def contrasts_of(preset: str) -> tuple[Contrast, ...]:
    """Those that a preset can be seen beside."""
    return tuple(one for one in CONTRASTS if one.of == preset)


def find_shipped(name: str) -> Preset | Contrast:
    """Return the preset or contrast of that name.

    Raises:
        WorkbenchError: If there is none.
    """
    for contrast in CONTRASTS:
        if contrast.name == name:
            return contrast
    return find_preset(name)


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
    """Load the study of a preset or of a contrast.

    Raises:
        WorkbenchError: If there is neither of that name.
    """
    found = find_shipped(name)
    with as_file(files("workbench") / "examples" / found.file) as path:
        study = load_study(path)
    if isinstance(found, Contrast) and found.moment is not None:
        return study.moments[found.moment]
    return study
