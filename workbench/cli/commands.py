"""Train and measure, as commands: what they take, and what stays when they end."""

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
    """Write one line to stderr; of several processes the first does."""
    if os.environ.get("RANK", "0") != "0":
        return
    print(printable(" ".join(sentence.split())), file=sys.stderr)


def one_of(*names: str) -> Callable[[str | None], str | None]:
    """Return a check that a value is one of these, if there is one."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}")
        return value

    return check


Force = Annotated[
    bool, typer.Option("--force", help="Write over a file that is there.")
]
Device = Annotated[
    str, typer.Option(help="auto (cuda, else mps, else cpu), or one of them.")
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
    weight_decay: Annotated[
        float | None,
        typer.Option(help="Weight decay of every parameter.  [default: 0.0005]"),
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
            help="Epochs whose weights are kept, as 0,1,3,10,30; 0 is the fresh "
            "network. Measuring makes each a snapshot of the study."
        ),
    ] = None,
    device: Device = "auto",
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
    force: Force = False,
) -> int:
    """Train a network; Ctrl-C keeps what it has learnt."""
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
                f"train: --resume goes on with the data, network and seed of {resume}; "
                f"leave out {', '.join(extra)}."
            )
    from workbench.cli.terminal import watched

    part = out.with_name(f"{out.name}.part")
    if part.exists() and resume != part:
        say(
            f"{part} is of a training that was killed; --resume {part} goes on with it."
        )

    from workbench.machine.distributed import joined

    keep_freed_memory()
    stopping = "Stopping; what was learnt is kept."
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
            f"--snapshots: {text!r} is no list of epochs; write them as 0,1,3,10,30."
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
    """Go on with a checkpoint."""
    from workbench.training.checkpoint import load_checkpoint
    from workbench.training.train import TrainConfig
    from workbench.training.train import train as train_network

    checkpoint = load_checkpoint(path)
    config = TrainConfig(**{**checkpoint.settings, **given})
    return train_network(checkpoint, None, config, **sharing)


def measure(
    checkpoint: Annotated[Path, typer.Argument(help="What `workbench train` wrote.")],
    weighting: Annotated[
        str,
        typer.Option(
            help=f"Convention of the averages: {', '.join(CONVENTIONS)}.",
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
            help="Distance of two gradients: cosine, euclidean.",
            callback=one_of("cosine", "euclidean"),
        ),
    ] = "cosine",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Measure some classes and their logits only: how many, drawn by a "
            "seed, as 10; or which, by name or number, as cat,dog or 0,3,7."
        ),
    ] = None,
    moments: Annotated[
        bool,
        typer.Option(
            help="Measure the epochs that `train --snapshots` kept, too, each at "
            "about half the cost."
        ),
    ] = True,
    eigenvalues: Annotated[
        int | None,
        typer.Option(help="Leading eigenvalues of G and Hess.  [default: C + 7]"),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            help="Lanczos steps of each probe of a density that is not exact: more "
            "resolve more of it, near zero above all."
        ),
    ] = 16,
    device: Device = "auto",
    method: Annotated[
        str | None,
        typer.Option(
            help="How G is measured: dense or dual (exact), krylov (its leading "
            "eigenvalues and density), streamed (krylov for many classes).  "
            "[default: as planned]",
            callback=one_of("dense", "dual", "krylov", "streamed"),
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Abort if the plan exceeds this many minutes.  [default: no limit, "
            "but exact ways only up to 30]"
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print how it would go, and measure nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --plan: print it as one JSON object.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Study to write.  [default: the checkpoint's name, .study]"),
    ] = None,
    force: Force = False,
) -> None:
    """Measure a checkpoint: its spectra, its three averages, the picture of both.

    Finished stages are kept in a folder beside the study until it is written; the same
    command again goes on from there.
    """
    out = out or checkpoint.with_suffix(".study")
    if as_json and not plan:
        raise WorkbenchError(
            "--json: it says how --plan prints; 'workbench show --json' prints a study."
        )
    if not plan:
        check_out(out, force)
    from workbench.cli.terminal import watched
    from workbench.machine.distributed import joined

    keep_freed_memory()
    stopping = "Stopping; the stages that were finished are kept."
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
    """Read how many classes, or which, separated by commas."""
    if text.strip().isdecimal():
        return int(text)
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _print_plan(
    checkpoint: Checkpoint, settings: MeasureSettings, world: World, as_json: bool
) -> None:
    """Say what measuring would take, on stdout, once."""
    from workbench.measurement.plan import plan

    made = plan(checkpoint, settings=settings, world=world)
    if world.rank == 0:
        facts = json.dumps(made.facts, allow_nan=False)
        print(facts if as_json else printable(made.line))


def check_out(path: Path, force: bool) -> None:
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
    if path.exists() and not path.is_file():
        raise WorkbenchError(
            f"--out: {path} is a device or a pipe and no file; choose another name."
        )
    remove_litter(folder)
    if path.exists() and not force:
        raise WorkbenchError(
            f"--out: {path} exists; choose another name, or --force to write over it."
        )


@contextmanager
def _keeping(path: Path) -> Iterator[None]:
    """Say what stays where the work is broken off."""
    try:
        yield
    except Cancelled:
        if not path.exists():
            raise
        say(f"Interrupted; what was finished is kept in {path}.")
        raise typer.Exit(INTERRUPTED) from None
