"""Run the sweeps of all figures again and draw them: ``make figures FULL=1``.

Each sweep has a folder below ``.figures`` and resumes there. What comes of it replaces
the numbers that are shipped, and the pictures in ``docs/figures``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from workbench.cli.main import main
from workbench.figures.figure import collect, draw, runs_in, settings_path, write_index
from workbench.figures.registry import FIGURES, find_figure

ROOT = Path(__file__).parents[1]
RUNS, PICTURES = ROOT / ".figures", ROOT / "docs" / "figures"
NUMBERS = ROOT / "workbench" / "figures" / "numbers"


def sweep(name: str) -> Path:
    """Run or continue a sweep; failed runs are reported, and the others drawn."""
    folder = RUNS / name
    status = main(["sweep", str(settings_path(name)), "--out", str(folder)])
    if status not in (0, 1):
        sys.exit(status)
    return folder


def make(name: str) -> None:
    """Draw a figure from a sweep, and keep its numbers."""
    figure = find_figure(name)
    numbers = collect(figure, runs_in(sweep(figure.sweep)) if figure.sweep else ())
    text = json.dumps(numbers, separators=(",", ":"), allow_nan=False)
    (NUMBERS / f"{name}.json").write_text(text, encoding="utf-8")
    for path in draw(figure, numbers, PICTURES):
        print(path)


if __name__ == "__main__":
    for figure_name in sys.argv[1:] or FIGURES:
        make(figure_name)
    write_index([find_figure(name) for name in FIGURES], PICTURES)
