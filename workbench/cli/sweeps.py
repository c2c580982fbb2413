"""The sweep and figure commands: many runs, and what is drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.commands import FAILED, INTERRUPTED, say
from workbench.progress.control import Cancelled


def sweep(
    settings: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.toml",
            help="Settings of the sweep. Below a line [grid], each line gives a "
            "setting: a value for all runs, or a list of values to combine.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder for one study per run, and table.csv for all."),
    ],
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a running dask scheduler.  [default: processes on this "
            "machine]"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Runs at a time on this machine.  [default: one per core]"),
    ] = None,
) -> int:
    """Train and measure every combination of a grid of settings.

    Ctrl-C stops it. The same command continues: finished runs are kept, and failed ones
    are tried again.
    """
    from workbench.cli.terminal import watched
    from workbench.sweeps.settings import read_sweep
    from workbench.sweeps.sweep import TABLE
    from workbench.sweeps.sweep import sweep as run_sweep

    chosen = read_sweep(settings)
    try:
        with watched("Stopping; finished runs are kept.") as (progress, control):
            table = run_sweep(
                chosen,
                out,
                scheduler=scheduler,
                num_workers=workers,
                progress=progress,
                control=control,
            )
    except Cancelled:
        say(f"Interrupted; finished runs are kept in {out}. The same command resumes.")
        raise typer.Exit(INTERRUPTED) from None
    counts = table["status"].value_counts()
    failed = int(counts.get("failed", 0))
    tail = f"; {failed} failed, as the column 'error' tells" if failed else ""
    say(f"Wrote {out / TABLE}: {counts.get('finished', 0)} of {len(table)} runs{tail}.")
    return FAILED if failed else 0


def figure(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", help="Figures to draw; without any, they are listed."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder for page, pictures, table and sentences."),
    ] = Path("figures"),
    runs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a sweep to draw from; its numbers are written too.  "
            "[default: the numbers that come with the package]"
        ),
    ] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings", help="Print the settings of the figure's sweep, as TOML."
        ),
    ] = False,
) -> None:
    """Draw figures of the talk and of the work it starts from.

    Each as a page (.html), as pictures (.svg, .png), with a table of its numbers (.csv)
    and two sentences about them (.md). To run one again, sweep its settings and draw it
    from that folder. The name 'all' stands for all figures.
    """
    import json

    from workbench.errors import WorkbenchError
    from workbench.figures.figure import (
        collect,
        draw,
        runs_in,
        settings_path,
        shipped_numbers,
        write_index,
    )
    from workbench.figures.registry import FIGURES, find_figure
    from workbench.files.container import write_whole

    every = not names or names == ["all"]
    chosen = [find_figure(name) for name in (FIGURES if every else names or ())]
    if not names:
        for one in chosen:
            print(f"{one.name:22}{one.title}")
        return
    if settings:
        for one in chosen:
            if not one.sweep:
                raise WorkbenchError(
                    f"figure: {one.name} has no sweep; it is drawn from a study that "
                    "comes with the package."
                )
            print(settings_path(one.sweep).read_text(encoding="utf-8"))
        return
    for one in chosen:
        if runs is None:
            numbers = shipped_numbers(one.name)
        else:
            numbers = collect(one, runs_in(runs) if one.sweep else ())
        for path in draw(one, numbers, out):
            say(f"Wrote {path}")
        if runs is not None:
            text = json.dumps(numbers, separators=(",", ":"), allow_nan=False)
            path = out / f"{one.name}.json"
            say(f"Wrote {write_whole(path, [text.encode()], 'figure')}")
        for sentence in one.sentences(numbers):
            print(sentence)
    if every:
        say(f"Wrote {write_index(chosen, out)}")
