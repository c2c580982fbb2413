"""Make the studies of the presets anew: ``make examples`` runs this.

The same settings and seeds as a run from the page, on the CPU; only their films keep
other epochs. Fashion-MNIST is taken from ``$WORKBENCH_DATA``, or fetched with
``--download``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import workbench as wb
from workbench.page.presets import PRESETS, Preset

FOLDER = Path(wb.__file__).parent / "examples"


def kept_epochs(epochs: int) -> tuple[int, ...]:
    """The fresh weights, then six epochs by equal ratios from the first on.

    A page keeps fewer of the early ones (`workbench.training.settings.film_epochs`).
    """
    return tuple(sorted({0, *(round(epochs ** (k / 6)) for k in range(6))}))


def make(preset: Preset, *, download: bool = False) -> Path:
    """Train and measure what a preset says, and write its study."""
    chosen = preset.settings
    data = wb.load_data(
        chosen.data, per_class=chosen.per_class, seed=chosen.seed, download=download
    )
    model = wb.build_model(chosen.model, data, seed=chosen.seed)
    config = wb.TrainConfig(
        epochs=chosen.epochs,
        lr=chosen.lr,
        weight_decay=chosen.weight_decay,
        seed=chosen.seed,
        snapshots=kept_epochs(chosen.epochs) if preset.film else (),
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
    return study.save(FOLDER / preset.file)


def main() -> None:
    """Make those that are named, or all."""
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    for preset in PRESETS:
        if not named or preset.name in named:
            path = make(preset, download="--download" in sys.argv)
            print(f"{path} {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
