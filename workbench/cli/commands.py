"""The train and measure commands: their options, and what they leave on disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.errors import WorkbenchError, printable
from workbench.files.container import remove_litter, save_somewhere
from workbench.machine.malloc import keep_freed_memory
from workbench.progress.control import Cancelled
from workbench.study.convention import CONVENTIONS

if TYPE_CHECKING:
    from workbench.machine.distributed import World
    from workbench.measurement.settings import MeasureSettings
    from workbench.training.checkpoint import Checkpoint

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def say(sentence: str) -> None:
    """Write one line to stderr; in a run of several processes, only the first does."""
    if os.environ.get("RANK", "0") != "0":
        return
    print(printable(" ".join(sentence.split())), file=sys.stderr)


def one_of(*names: str) -> Callable[[str | None], str | None]:
    """Return an option callback that accepts these names, or no value at all."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}")
        return value

    return check


Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
Device = Annotated[
    str,
    typer.Option(
        help="cpu, cuda, mps, or auto (cuda if available, else mps, else cpu)."
    ),
]


def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, mnist, fashion, cifar10, cifar100, or folder:PATH, a folder "
            "that holds one folder of images per class.  [default: digits]"
        ),
    ] = None,
    per_class: Annotated[
        int | None,
        typer.Option(help="Examples per class.  [default: all]"),
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
            help="Passes over the data, including those before --resume.  [default: 30]"
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Initial learning rate.  [default: 0.05]"),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            help="Weight decay, applied to every parameter.  [default: 0.0005]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Examples a step, at most.  [default: 128]"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed for sampling, initialisation and batch order.  [default: 0]"
        ),
    ] = None,
    snapshots: Annotated[
        str | None,
        typer.Option(
            help="Epochs whose weights to keep, for example 0,1,3,10,30 (0: "
            "before training). Each becomes a snapshot in the study."
        ),
    ] = None,
    device: Device = "auto",
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the data sets.  [default: $WORKBENCH_DATA, else the "
            "user's cache]"
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download missing data.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue training this checkpoint, on its own data. If it has "
            "finished, raise --epochs."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("run.ckpt"),
    force: Force = False,
) -> int:
    """Train a network. Ctrl-C stops it and saves what it has learnt."""
    check_out(out, force)
    kept = None if snapshots is None else _epochs(snapshots)
    config = {
        "epochs": epochs,
        "lr": lr,
        "weight_decay": weight_decay,
        "batch_size": batch_size,
        "seed": seed,
        "snapshots": kept,
    }
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
                "train: --resume continues with the data, network and seed of "
                f"{resume}; leave out {', '.join(extra)}."
            )
    from workbench.cli.terminal import watched

    part = out.with_name(f"{out.name}.part")
    if part.exists() and resume != part:
        say(
            f"{part} is left over from a training run that was killed; continue it "
            f"with --resume {part}."
        )

    from workbench.machine.distributed import joined

    keep_freed_memory()
    stopping = "Stopping; what was learnt will be saved."
    with (
        _keeping(part),
        joined(device) as world,
        watched(stopping, quiet=world.rank > 0) as (progress, control),
    ):
        sharing: dict[str, Any] = {
            "progress": progress,
            "control": control,
            "world": world,
            "keep": None if world.rank else lambda found: found.save(part),
        }
        if resume is not None:
            checkpoint = _resumed(resume, {**given, "device": device}, sharing)
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
                sharing,
            )
        if world.rank == 0:
            out, elsewhere = save_somewhere(checkpoint.save, out)
            if elsewhere:
                say(elsewhere)
            part.unlink(missing_ok=True)
    run = checkpoint.run
    say(
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
            f"--snapshots: {text!r} is not a list of epochs; write it like 0,1,3,10,30."
        ) from None


def _trained(
    source: dict[str, Any],
    model: str,
    given: dict[str, Any],
    sharing: dict[str, Any],
) -> Checkpoint:
    """Train a fresh network."""
    from workbench.training.data import load_data
    from workbench.training.models import build_model
    from workbench.training.train import TrainConfig
    from workbench.training.train import train as train_network

    config = TrainConfig(**given)
    data = load_data(
        **source,
        seed=config.seed,
        progress=sharing["progress"],
        control=sharing["control"],
    )
    network = build_model(model, data, seed=config.seed)
    return train_network(network, data, config, **sharing)


def _resumed(path: Path, given: dict[str, Any], sharing: dict[str, Any]) -> Checkpoint:
    """Continue training a checkpoint."""
    from workbench.training.checkpoint import load_checkpoint
    from workbench.training.train import TrainConfig
    from workbench.training.train import train as train_network

    checkpoint = load_checkpoint(path)
    config = TrainConfig(**{**checkpoint.settings, **given})
    return train_network(checkpoint, None, config, **sharing)


def measure(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint from `workbench train`.")
    ],
    weighting: Annotated[
        str,
        typer.Option(
            help=f"Convention of averaging: {', '.join(CONVENTIONS)}.",
            callback=one_of(*CONVENTIONS),
        ),
    ] = "icml",
    embedding: Annotated[
        str,
        typer.Option(help="umap, tsne, pca.", callback=one_of("umap", "tsne", "pca")),
    ] = "umap",
    metric: Annotated[
        str,
        typer.Option(
            help="Distance between gradients: cosine, euclidean.",
            callback=one_of("cosine", "euclidean"),
        ),
    ] = "cosine",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Measure only some classes and their logits: a number of "
            "classes to draw at random (10), or names or indices (cat,dog "
            "or 0,3,7)."
        ),
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(
            help="Measure only the block of some parameters: globs of their names, "
            "or modules, separated by commas (fc or layer4.*,fc).  [default: all]"
        ),
    ] = None,
    moments: Annotated[
        bool,
        typer.Option(
            help="Also measure the epochs kept by `train --snapshots`, each at "
            "about half the cost."
        ),
    ] = True,
    eigenvalues: Annotated[
        int | None,
        typer.Option(
            help="How many leading eigenvalues of G and Hess to compute.  [default: "
            "C + 7]"
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            help="Lanczos steps per probe, where the density is estimated. More "
            "steps resolve finer detail, above all near zero."
        ),
    ] = 16,
    device: Device = "auto",
    method: Annotated[
        str | None,
        typer.Option(
            help="How G is measured: dense or dual (exact), krylov (its leading "
            "eigenvalues and density), streamed (krylov for many classes).  [default: "
            "chosen by the plan]",
            callback=one_of("dense", "dual", "krylov", "streamed"),
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Abort if the plan exceeds this many minutes.  [default: no "
            "limit, but exact methods only up to 30]"
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print the plan and its cost; measure nothing."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="With --plan: print the plan as one JSON object."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Study to write.  [default: the checkpoint's name with .study]"
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Measure a checkpoint: its spectra, its three averages, and the picture of both.

    Finished stages are kept in a folder beside the study until it is written. If
    interrupted, the same command resumes from there.
    """
    out = out or checkpoint.with_suffix(".study")
    if as_json and not plan:
        raise WorkbenchError(
            "--json only works with --plan here; to print a study as JSON, use "
            "'workbench show --json'."
        )
    if not plan:
        check_out(out, force)
    from workbench.cli.terminal import watched
    from workbench.machine.distributed import joined

    keep_freed_memory()
    stopping = "Stopping; finished stages are kept."
    parts = out.with_name(f"{out.name}.parts")
    with (
        _keeping(parts),
        joined(device) as world,
        watched(stopping, quiet=world.rank > 0) as (progress, control),
    ):
        from workbench.measurement.measurement import MeasureSettings
        from workbench.measurement.measurement import measure as measure_checkpoint
        from workbench.measurement.stage_store import save_study
        from workbench.training.checkpoint import load_checkpoint

        settings = MeasureSettings(
            weighting=weighting,
            embedding=embedding,
            metric=metric,
            classes=None if classes is None else _chosen(classes),
            parameters=None if parameters is None else _words(parameters),
            moments=moments,
            num_eigenvalues=eigenvalues,
            num_steps=steps,
            device=device,
            max_minutes=minutes,
            method=method,
        )
        subject = load_checkpoint(checkpoint)
        if plan:
            _print_plan(subject, settings, world, as_json)
            return
        study = measure_checkpoint(
            subject,
            settings,
            progress=progress,
            control=control,
            parts=parts,
            world=world,
        )
        if world.rank == 0:
            out, elsewhere = save_study(study, out, parts)
            if elsewhere:
                say(elsewhere)
    say(f"Wrote {out}; 'workbench show {out}' prints it.")


def _chosen(text: str) -> int | tuple[str, ...]:
    """Read a number of classes, or names separated by commas."""
    if text.strip().isdecimal():
        return int(text)
    return _words(text)


def _words(text: str) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _print_plan(
    checkpoint: Checkpoint, settings: MeasureSettings, world: World, as_json: bool
) -> None:
    """Print the estimated cost of measuring to stdout, once."""
    from workbench.measurement.plan import plan

    made = plan(checkpoint, settings=settings, world=world)
    if world.rank == 0:
        facts = json.dumps(made.facts, allow_nan=False)
        print(facts if as_json else printable(made.line))


def check_out(path: Path, force: bool) -> None:
    """Check before the work starts that its result can be written."""
    folder = path.parent
    if not folder.is_dir():
        raise WorkbenchError(
            f"--out: the folder {folder} does not exist; create it, or choose another."
        )
    if not os.access(folder, os.W_OK):
        raise WorkbenchError(
            f"--out: the folder {folder} is not writable; choose another."
        )
    if path.is_dir():
        raise WorkbenchError(
            f"--out: {path} is a folder; give the name of a file in it."
        )
    if path.exists() and not path.is_file():
        raise WorkbenchError(
            f"--out: {path} is a device or a pipe, not a file; choose another name."
        )
    remove_litter(folder)
    if path.exists() and not force:
        raise WorkbenchError(
            f"--out: {path} already exists; choose another name, or overwrite it with "
            "--force."
        )


@contextmanager
def _keeping(path: Path) -> Iterator[None]:
    """If the work is interrupted, say where the finished part is kept."""
    try:
        yield
    except Cancelled:
        if not path.exists():
            raise
        say(f"Interrupted; what was finished is kept in {path}.")
        raise typer.Exit(INTERRUPTED) from None
