"""The command line: `workbench train | measure | show | export | app`.

What it says goes to stderr, what it is asked for to stdout. Torch is imported only by
the commands that compute.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import __version__
from workbench.control import Cancelled, Control, ProgressCallback
from workbench.errors import WorkbenchError
from workbench.jobs import explain_failure
from workbench.study import WEIGHTINGS

if TYPE_CHECKING:
    from workbench.measuring.config import MeasureSettings
    from workbench.training.checkpoint import Checkpoint

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or its copy

app = typer.Typer(
    name="workbench",
    help="See why the spectrum of a deep network's Hessian has outliers, and break it.",
    add_completion=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # Threads that spin while they wait cost two to three times the time as soon as
    # anything else runs; kernels of the page inherit this. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = typer.main.get_command(app)
    try:
        status = command.main(arguments, prog_name="workbench", standalone_mode=False)
    except WorkbenchError as error:
        return _refuse(str(error))
    except (Cancelled, KeyboardInterrupt, typer.Abort):
        _say("Interrupted; nothing was written.")
        return INTERRUPTED
    except _USAGE_ERROR as error:
        return _refuse(_usage(error))
    except (MemoryError, RuntimeError) as error:  # torch's lack of memory is the latter
        sentence, defect = explain_failure(error)
        if defect:
            raise
        _say(f"Error: {sentence}")
        return FAILED
    return int(status or 0)


def _refuse(sentence: str) -> int:
    _say(f"Error: {sentence}")
    return BAD_INPUT


def _usage(error: Any) -> str:
    """Put an error of click's into one sentence."""
    path = error.ctx.command_path if error.ctx else "workbench"
    return f"{error.format_message().rstrip('.')}; see '{path} --help'."


def _say(sentence: str) -> None:
    """Write one line to stderr."""
    print(" ".join(sentence.split()), file=sys.stderr)


def _one_of(*names: str) -> Callable[[str], str]:
    """Return a check that a value is one of these."""

    def check(value: str) -> str:
        if value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}")
        return value

    return check


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hessian-workbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


_Force = Annotated[
    bool, typer.Option("--force", help="Write over a file that is there.")
]
_Device = Annotated[
    str, typer.Option(help="auto (cuda, else mps, else cpu), or one of them.")
]


@app.command()
def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, mnist, fashion, cifar10, cifar100, or folder:PATH, a folder "
            "that holds one folder of images a class.  [default: digits]"
        ),
    ] = None,
    per_class: Annotated[
        int | None,
        typer.Option(help="Examples of each class.  [default: all there are]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="linear, mlp, cnn, vgg11, vgg16, resnet18, resnet50 or densenet40.  "
            "[default: mlp]"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the data; with --resume those done before count.  "
            "[default: 30]"
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate at the start.  [default: 0.05]"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of the choice of data, the weights and the order.  [default: 0]"
        ),
    ] = None,
    snapshots: Annotated[
        str | None,
        typer.Option(
            help="Epochs whose weights are kept, as 0,1,3,10,30; 0 is the fresh "
            "network. Measuring makes each a moment of the study."
        ),
    ] = None,
    device: _Device = "auto",
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data sets.  [default: $WORKBENCH_DATA, else the "
            "user's cache]"
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch data that are missing.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this checkpoint, on its own data; give more --epochs "
            "where it has trained all that were asked for."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("run.ckpt"),
    force: _Force = False,
) -> int:
    """Train a network; Ctrl-C keeps what it has learnt."""
    _check_out(out, force)
    kept = None if snapshots is None else _epochs(snapshots)
    config = {"epochs": epochs, "lr": lr, "seed": seed, "snapshots": kept}
    given = {name: value for name, value in config.items() if value is not None}
    if resume is not None:
        fixed = {
            "--data": data,
            "--per-class": per_class,
            "--model": model,
            "--seed": seed,
            "--root": root,
        }
        if extra := [name for name, value in fixed.items() if value is not None]:
            raise WorkbenchError(
                f"train: --resume goes on with the data, network and seed of {resume}; "
                f"leave out {', '.join(extra)}."
            )
    from workbench.terminal import watched

    with watched("Stopping; what was learnt is kept.") as (progress, control):
        if resume is not None:
            checkpoint = _resumed(
                resume, {**given, "device": device}, progress, control
            )
        else:
            checkpoint = _trained(
                {
                    "name": data or "digits",
                    "per_class": per_class,
                    "root": root,
                    "download": download,
                },
                model or "mlp",
                {**given, "device": device},
                progress,
                control,
            )
        checkpoint.save(out)
    run = checkpoint.run
    _say(
        f"Wrote {out}: {run['model']} on {run['data']}, {run['epochs']} of "
        f"{run['epochs_planned']} epochs, loss {run['train_loss']:.3g}, accuracy "
        f"{run['train_accuracy']:.3g}."
    )
    return 0 if checkpoint.status == "finished" else INTERRUPTED


def _epochs(text: str) -> tuple[int, ...]:
    """Read epochs separated by commas."""
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise WorkbenchError(
            f"--snapshots: {text!r} is no list of epochs; write them as 0,1,3,10,30."
        ) from None


def _trained(
    source: dict[str, Any],
    model: str,
    given: dict[str, Any],
    progress: ProgressCallback,
    control: Control,
) -> Checkpoint:
    """Train a fresh network."""
    from workbench.training.data import load_data
    from workbench.training.models import build_model
    from workbench.training.train import TrainConfig
    from workbench.training.train import train as train_network

    config = TrainConfig(**given)
    data = load_data(**source, seed=config.seed, progress=progress, control=control)
    network = build_model(model, data, seed=config.seed)
    return train_network(network, data, config, progress=progress, control=control)


def _resumed(
    path: Path, given: dict[str, Any], progress: ProgressCallback, control: Control
) -> Checkpoint:
    """Go on with a checkpoint."""
    from workbench.training.checkpoint import load_checkpoint
    from workbench.training.train import TrainConfig
    from workbench.training.train import train as train_network

    checkpoint = load_checkpoint(path)
    config = TrainConfig(**{**checkpoint.settings, **given})
    return train_network(checkpoint, None, config, progress=progress, control=control)


@app.command()
def measure(
    checkpoint: Annotated[Path, typer.Argument(help="What `workbench train` wrote.")],
    weighting: Annotated[
        str,
        typer.Option(
            help=f"Convention of the averages: {', '.join(WEIGHTINGS)}.",
            callback=_one_of(*WEIGHTINGS),
        ),
    ] = "icml",
    embedding: Annotated[
        str,
        typer.Option(help="umap, tsne, pca.", callback=_one_of("umap", "tsne", "pca")),
    ] = "umap",
    metric: Annotated[
        str,
        typer.Option(
            help="Distance of two gradients: cosine, euclidean.",
            callback=_one_of("cosine", "euclidean"),
        ),
    ] = "cosine",
    moments: Annotated[
        bool,
        typer.Option(
            help="Measure the epochs that `train --snapshots` kept, too, each at "
            "about half the cost."
        ),
    ] = True,
    device: _Device = "auto",
    minutes: Annotated[
        float | None, typer.Option(help="Refuse what is planned to take longer.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print how it would go, and measure nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Study to write.  [default: the checkpoint's name, .study]"),
    ] = None,
    force: _Force = False,
) -> None:
    """Measure a checkpoint: its spectra, its three averages, the picture of both.

    Finished stages are kept in a folder beside the study until it is written; the same
    command again goes on from there.
    """
    out = out or checkpoint.with_suffix(".study")
    if not plan:
        _check_out(out, force)
    from workbench.terminal import watched

    with watched("Stopping.") as (progress, control):
        from workbench.measurement import MeasureSettings
        from workbench.measurement import measure as measure_checkpoint
        from workbench.measuring.parts import remove_parts
        from workbench.training.checkpoint import load_checkpoint

        settings = MeasureSettings(
            weighting=weighting,
            embedding=embedding,
            metric=metric,
            moments=moments,
            device=device,
            max_minutes=minutes,
        )
        subject = load_checkpoint(checkpoint)
        if plan:
            _print_plan(subject, settings)
            return
        parts = out.with_name(f"{out.name}.parts")
        study = measure_checkpoint(
            subject, settings, progress=progress, control=control, parts=parts
        )
        study.save(out)
        remove_parts(parts)
    _say(f"Wrote {out}; 'workbench show {out}' prints it.")


def _print_plan(checkpoint: Checkpoint, settings: MeasureSettings) -> None:
    """Say what measuring would take, on stdout."""
    from workbench.measuring.plan import plan

    made = plan(checkpoint, settings=settings)
    print(made.line)


@app.command()
def show(
    study: Annotated[Path, typer.Argument(help="What `workbench measure` wrote.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of tables.")
    ] = False,
) -> None:
    """Print what a study found."""
    from workbench.study import load_study
    from workbench.summary import summary

    found = summary(load_study(study))
    if as_json:
        print(json.dumps(found, allow_nan=False))
        return
    from workbench.terminal import print_summary

    print_summary(found)


@app.command()
def export(
    studies: Annotated[
        list[Path], typer.Argument(help="What `workbench measure` wrote, one or more.")
    ],
    html: Annotated[
        Path | None,
        typer.Option(
            help="Stand-alone page to write; of several studies, the folder of theirs."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Folder for the eigenvalues, embedding and overlaps as CSV."),
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(help="Averages shown on the page.  [default: the study's own]"),
    ] = None,
    force: _Force = False,
) -> None:
    """Write studies as pages that need no kernel and no network, and as tables."""
    from workbench.ui.export import export_all

    for path in export_all(
        studies, html=html, csv=csv, weighting=weighting, force=force
    ):
        _say(f"Wrote {path}")


@app.command("app")
def open_app(
    port: Annotated[
        int | None,
        typer.Option(help="Where to listen.  [default: 8866, or one that is free]"),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser.")
    ] = False,
    lab: Annotated[
        bool, typer.Option("--lab", help="In JupyterLab instead of Voila.")
    ] = False,
) -> None:
    """Open the page, on this machine only; Ctrl-C ends it."""
    from workbench.ui.serve import serve

    serve(port=port, browser=not no_browser, lab=lab)


def _check_out(path: Path, force: bool) -> None:
    """Refuse before the work what could not be written after it."""
    folder = path.parent
    if not folder.is_dir():
        raise WorkbenchError(
            f"--out: the folder {folder} does not exist; make it, or choose another."
        )
    if not os.access(folder, os.W_OK):
        raise WorkbenchError(
            f"--out: nothing can be written to {folder}; choose another folder."
        )
    if path.is_dir():
        raise WorkbenchError(f"--out: {path} is a folder; name a file in it.")
    if path.exists() and not force:
        raise WorkbenchError(
            f"--out: {path} exists; choose another name, or --force to write over it."
        )
