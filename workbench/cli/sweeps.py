"""The sweep command: many runs, and what it says about them."""

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
