"""The command line: `workbench train | measure | sweep | figure | show | export | app`.

Results go to stdout, messages to stderr. Torch is imported only by the commands that
compute.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench import __version__
from workbench.cli.commands import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    Force,
    measure,
    say,
    train,
)
from workbench.cli.sweeps import figure, sweep
from workbench.errors import LostProcess, WorkbenchError
from workbench.jobs.job import explain_failure
from workbench.progress.control import Cancelled

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or its copy

app = typer.Typer(
    name="workbench",
    help="See why the spectrum of a deep network's Hessian has outliers, and break it.",
    add_completion=False,
    rich_markup_mode=None,
)

app.command()(train)
app.command()(measure)
app.command()(sweep)
app.command()(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # Idle threads that spin make a run two to three times slower as soon as anything
    # else is running. Torch reads this when it is loaded; the page's kernels inherit
    # it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = typer.main.get_command(app)
    try:
        status = command.main(arguments, prog_name="workbench", standalone_mode=False)
        sys.stdout.flush()  # here, where a failure is handled
    except WorkbenchError as error:
        return _refuse(str(error))
    except (Cancelled, KeyboardInterrupt, typer.Abort):
        say("Interrupted; nothing was written.")
        return INTERRUPTED
    except LostProcess:
        print(
            "Error: another process of this run has ended, and process "
            f"{os.environ.get('RANK')} cannot continue without it. Finished work is "
            "kept beside the output: to resume, run the same 'measure' command again, "
            "or 'train --resume'.",
            file=sys.stderr,
        )
        return FAILED
    except _USAGE_ERROR as error:
        return _refuse(_usage(error))
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            return _refuse_output(error)
        if error.filename is None:  # not about a file that the user named
            raise
        return _refuse(
            f"{error.filename} cannot be read or written ({error.strerror}); check "
            "the path and its permissions."
        )
    except (MemoryError, RuntimeError) as error:  # the latter is torch out of memory
        sentence, defect = explain_failure(error)
        if defect:
            raise
        say(f"Error: {sentence}")
        return FAILED
    return int(status or 0)


def _refuse(sentence: str) -> int:
    say(f"Error: {sentence}")
    return BAD_INPUT


def _refuse_output(error: OSError) -> int:
    """Report that stdout cannot be written, and redirect it to the null device."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:  # the reader has closed it, as 'head' does
        return FAILED
    return _refuse(
        f"the output cannot be written ({error.strerror}); free some space, or "
        "redirect it to another disk."
    )


def _usage(error: Any) -> str:
    """Turn one of click's errors into one sentence."""
    path = error.ctx.command_path if error.ctx else "workbench"
    return f"{error.format_message().rstrip('.')}; see '{path} --help'."


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hessian-workbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def show(
    study: Annotated[Path, typer.Argument(help="A study from `workbench measure`.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything in it as one JSON object.")
    ] = False,
) -> None:
    """Print the results of a study."""
    from workbench.study.records import load_study
    from workbench.study.summary import everything, summary

    found = load_study(study)
    if as_json:
        print(json.dumps(everything(found), allow_nan=False))
        return
    from workbench.cli.terminal import print_summary

    print_summary(summary(found))


@app.command()
def export(
    studies: Annotated[
        list[Path], typer.Argument(help="One or more studies from `workbench measure`.")
    ],
    html: Annotated[
        Path | None,
        typer.Option(help="Stand-alone page to write; for several studies, a folder."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Folder to write all tables to, as CSV."),
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(help="Convention shown on the page.  [default: the study's own]"),
    ] = None,
    pin: Annotated[
        Path | None,
        typer.Option(help="Another study to draw on each page for comparison."),
    ] = None,
    force: Force = False,
) -> None:
    """Export studies as web pages that work offline, or as CSV tables."""
    from workbench.ui.export import export_all

    for path in export_all(
        studies, html=html, csv=csv, weighting=weighting, pinned=pin, force=force
    ):
        say(f"Wrote {path}")


@app.command("app")
def open_app(
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on.  [default: 8866, or a free one]"),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open a browser.")
    ] = False,
    lab: Annotated[
        bool, typer.Option("--lab", help="Use JupyterLab instead of Voila.")
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 listens on all addresses of this "
            "machine."
        ),
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another host name by which browsers reach the page, for "
            "example a proxy's; may be repeated."
        ),
    ] = None,
    base_url: Annotated[
        str,
        typer.Option(help="Path under which a proxy serves the page."),
    ] = "/",
    token: Annotated[
        str | None,
        typer.Option(
            help="Secret that opens the page. Use '' only behind a proxy that "
            "checks who may enter.  [default: a new one, printed with the "
            "address]"
        ),
    ] = None,
) -> None:
    """Open the page, on this machine only unless --host is given. Ctrl-C ends it."""
    from workbench.ui.serve import serve

    serve(
        port=port,
        browser=not no_browser,
        lab=lab,
        host=host,
        allow=allow_host or (),
        base_url=base_url,
        token=token,
    )
