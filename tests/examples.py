"""Make the studies of the presets and their contrasts anew: ``make examples``.

The same settings and seeds as a run from the page, on the CPU; only their films keep
other epochs. Fashion-MNIST is taken from ``$WORKBENCH_DATA``, or fetched with
``--download``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

import workbench as wb
from workbench.page.presets import CONTRASTS, PRESETS, Contrast, Preset

FOLDER = Path(wb.__file__).parent / "examples"
SHIPPED = (*PRESETS, *(one for one in CONTRASTS if one.moment is None))


def kept_epochs(epochs: int) -> tuple[int, ...]:
    """The fresh weights, then six epochs by equal ratios from the first on.

    A page keeps fewer of the early ones (`workbench.training.settings.film_epochs`).
    """
    return tuple(sorted({0, *(round(epochs ** (k / 6)) for k in range(6))}))


def data_of(shipped: Preset | Contrast, *, download: bool = False) -> wb.Dataset:
    """The examples that it is trained on."""
    chosen = shipped.settings
    data = wb.load_data(
        chosen.data, per_class=chosen.per_class, seed=chosen.seed, download=download
    )
    if isinstance(shipped, Contrast) and shipped.classes is not None:
        kept = data.labels < shipped.classes
        names = data.class_names[: shipped.classes]
        name = f"{data.name}, {' and '.join(names)} only"
        return wb.Dataset.from_tensors(
            data.images[kept], data.labels[kept], names, name=name
        )
    if isinstance(shipped, Contrast) and shipped.shuffled:
        generator = torch.Generator().manual_seed(chosen.seed)
        order = torch.randperm(len(data.labels), generator=generator)
        return wb.Dataset.from_tensors(
            data.images,
            data.labels[order],
            data.class_names,
            name=f"{data.name}, labels shuffled",
        )
    return data


def make(shipped: Preset | Contrast, *, download: bool = False) -> Path:
    """Train and measure what a preset or a contrast says, and write its study."""
    chosen = shipped.settings
    data = data_of(shipped, download=download)
    model = wb.build_model(chosen.model, data, seed=chosen.seed)
    with_film = isinstance(shipped, Preset) and shipped.film
    config = wb.TrainConfig(
        epochs=chosen.epochs,
        lr=chosen.lr,
        weight_decay=chosen.weight_decay,
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        snapshots=kept_epochs(chosen.epochs) if with_film else (),
        device="cpu",
    )
    settings = wb.MeasureSettings(
        embedding=chosen.embedding,
        metric=chosen.metric,
        seed=chosen.seed,
        device="cpu",
    )
    study = wb.measure(wb.train(model, data, config), settings)
    study.run["root"] = None  # where the data lay is nobody's business
    return study.save(FOLDER / shipped.file)


def main() -> None:
    """Make those that are named, or all."""
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    for shipped in SHIPPED:
        if not named or shipped.name in named:
            begun = time.monotonic()
            path = make(shipped, download="--download" in sys.argv)
            seconds = time.monotonic() - begun
            print(f"{path} {path.stat().st_size / 1e6:.2f} MB, {seconds:.0f} s")


if __name__ == "__main__":
    main()
