"""Run a sweep: every cell once, on a cluster of processes, and return its table."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from workbench.errors import WorkbenchError
from workbench.files.container import make_folder, remove_litter, write_whole
from workbench.jobs.turns import most_runs
from workbench.progress.control import Control, Progress, ProgressCallback
from workbench.sweeps.cells import (
    Outcome,
    begun_path,
    find_error,
    find_study,
    keep_outcome,
    run_cell,
    study_path,
)
from workbench.sweeps.rows import numbers_of
from workbench.sweeps.settings import Cell, SweepSettings, as_settings

if TYPE_CHECKING:
    import pandas
    from distributed import Client

TABLE = "table.csv"
WAITING, FINISHED, FAILED = "waiting", "finished", "failed"
_EVERY = 1.0  # seconds between two looks at pause and cancel
_ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def sweep(
    settings: SweepSettings | Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scheduler: str | None = None,
    num_workers: int | None = None,
    progress: ProgressCallback | None = None,
    control: Control | None = None,
) -> pandas.DataFrame:
    """Train and measure every cell of a grid, each in one process, and tabulate them.

    Every finished cell is a study in ``out``, which the table names. Call it again to
    resume: finished cells are kept, others continue where they stopped, and failed ones
    are tried again. Cells run in one thread each, so that the same settings give the
    same table however often the sweep was interrupted. ``out/table.csv`` is that table,
    renewed as cells end.

    In a script, call it below ``if __name__ == "__main__":``, as its processes import
    that script.

    Args:
        settings: The grid: settings, a mapping such as ``{"seed": [0, 1]}``, or the
            path of a TOML file.
        out: The folder for studies and table; created if missing.
        scheduler: Address of a running dask scheduler, such as
            ``tcp://127.0.0.1:8786``, whose workers have this package and the data. By
            default, processes on this machine.
        num_workers: How many of these; by default one per core, at most one per cell.
        progress: Called with `Progress` events at the end of each cell.
        control: Pauses and cancels. Cells that are running are then ended.

    Returns:
        One row per cell: its settings, ``status`` (finished, failed or waiting),
        ``error``, ``study`` (a file in ``out``), and the numbers of
        `workbench.sweeps.rows.numbers_of`.

    Raises:
        WorkbenchError: If a setting is invalid, ``out`` cannot be written or is in use
            by another sweep, or a library of ``[sweep]`` is missing.
        Cancelled: If ``control.cancel`` was called; finished cells are kept.
    """
    chosen = as_settings(settings)
    pd = library("pandas")
    library("distributed")
    folder = _folder(Path(out))
    control = control or Control()
    with _locked(folder):
        rows = {cell: _row(folder, cell) for cell in chosen.cells}
        left = [cell for cell, row in rows.items() if row["status"] != FINISHED]
        done = len(rows) - len(left)
        num_failed = 0
        note = f"{done} of {len(rows)} cells were already finished." if done else ""

        def tell(note: str = "") -> None:
            if progress is not None:
                now = sum(row["status"] == FINISHED for row in rows.values())
                failed = f", {num_failed} failed" if num_failed else ""
                share = 1 - len(left) / len(rows)
                words = f"{now} of {len(rows)} cells finished{failed}"
                progress(Progress("Sweeping", share, words, note=note))

        def table() -> Any:
            found = pd.DataFrame(list(rows.values()))
            text = found.to_csv(index=False, lineterminator="\n")
            write_whole(folder / TABLE, [text.encode()], "sweep")
            return found

        tell(note)
        table()
        if left:
            with closing(
                _outcomes(tuple(left), folder, scheduler, num_workers, control, tell)
            ) as outcomes:
                for cell, outcome in outcomes:
                    keep_outcome(folder, cell, outcome)
                    left.remove(cell)
                    rows[cell] = _row(folder, cell)
                    num_failed += outcome.study is None
                    tell(outcome.error and f"{cell.name} failed: {outcome.error}")
                    table()
        return table()


def _row(folder: Path, cell: Cell) -> dict[str, Any]:
    """The row of a cell, from what is in the folder."""
    study = find_study(folder, cell)
    error = "" if study else find_error(folder, cell)
    status = FINISHED if study else FAILED if error else WAITING
    named = study_path(folder, cell).name if study else ""
    head = {**cell.values, "status": status, "error": error, "study": named}
    return head | (numbers_of(study) if study else {})


def _outcomes(
    cells: tuple[Cell, ...],
    folder: Path,
    scheduler: str | None,
    num_workers: int | None,
    control: Control,
    tell: Callable[[], None],
) -> Generator[tuple[Cell, Outcome]]:
    """Yield what becomes of each cell, in the order in which they end."""
    ended: SimpleQueue[Any] = SimpleQueue()
    with _client(scheduler, min(num_workers or most_runs(), len(cells))) as client:
        waiting = {}
        for place, cell in enumerate(cells):
            future = client.submit(
                run_cell,
                cell,
                None if scheduler else begun_path(folder, cell),
                key=f"{cell.name}-{folder}",
                priority=-place,  # in the order of the table
            )
            waiting[future] = cell
            future.add_done_callback(ended.put)
        while waiting:
            control.check()
            try:
                future = ended.get(timeout=_EVERY)
            except Empty:
                tell()
            else:
                yield waiting.pop(future), _outcome(future)


def _outcome(future: Any) -> Outcome:
    """The result of a future; a sentence where its process was lost."""
    error = future.exception()
    if error is None:
        found: Outcome = future.result()
        return found
    return Outcome(
        None,
        f"its process ended without a result ({type(error).__name__}), most likely "
        "for lack of memory; use fewer examples per class, or fewer workers.",
    )


@contextmanager
def _client(scheduler: str | None, num_workers: int) -> Iterator[Client]:
    """Connect to a scheduler, or start processes of our own on this machine.

    They listen on the loopback address only and prove who they are to each other, as a
    scheduler runs whatever it is sent.
    """
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    quiet = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.comm.timeouts.connect": "30s",
    }
    with dask.config.set(quiet):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise WorkbenchError(
                    f"sweep: no dask scheduler answers at {scheduler} ({error}); start "
                    "one with 'dask scheduler', or leave out --scheduler."
                ) from error
            with client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=num_workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                security=Security.temporary(),
                silence_logs=logging.CRITICAL,
                env=_ALONE,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


def _folder(folder: Path) -> Path:
    """Make the folder of a sweep."""
    make_folder(folder, "sweep")
    if not os.access(folder, os.W_OK):
        raise WorkbenchError(
            f"sweep: the folder {folder} is not writable; choose another."
        )
    remove_litter(folder)
    return folder.resolve()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two sweeps do not write to it at the same time."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise WorkbenchError(
            f"sweep: another sweep is writing to {folder}; wait for it, or choose "
            "another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def library(name: str) -> Any:
    """Import a library that only sweeps need.

    Raises:
        WorkbenchError: If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise WorkbenchError(
            f"sweep: {name} is not installed; install what sweeps need: pip install "
            "'hessian-workbench[sweep]'."
        ) from error
