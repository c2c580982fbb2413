"""The command line's terminal: progress, Ctrl-C, and a study as tables.

Texts may come from untrusted files, so control characters are shown escaped.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from workbench.errors import printable
from workbench.progress.control import Cancelled, Control, Progress, ProgressCallback
from workbench.progress.timing import TimeLeft, say_duration
from workbench.study.card import of_all

_EVERY = 10.0  # seconds between lines where no bar can be drawn


class ProgressDisplay:
    """Draws progress events: a bar on a terminal, otherwise an occasional line.

    A context manager; call it with each event. It writes only to stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._stage, self._last = "", 0.0
        self._began, self._left, self._fraction = 0.0, TimeLeft(), 0.0

    def __enter__(self) -> ProgressDisplay:
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[words]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0, words="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show one event."""
        now = time.monotonic()
        if progress.note:
            self.say(progress.note)
        if progress.fraction < self._fraction or not self._began:  # new work begins
            self._began, self._left = now, TimeLeft()
        self._fraction = progress.fraction
        self._left.update(now - self._began, progress.fraction)
        words = ", ".join(_words(progress, self._left.left(now - self._began)))
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=progress.fraction,
                description=printable(progress.stage),
                words=escape(printable(words)),
            )
        elif progress.stage != self._stage or now > self._last + _EVERY:
            self._last = now
            share = f"{progress.fraction:.0%}"
            self.say(", ".join(filter(None, (f"{progress.stage} {share}", words))))
        self._stage = progress.stage

    def say(self, sentence: str) -> None:
        """Write one line above the bar."""
        self._console.print(Text(printable(sentence)), soft_wrap=True)


@contextmanager
def watched(
    stopping: str, *, quiet: bool = False
) -> Iterator[tuple[ProgressCallback, Control]]:
    """Show progress and let Ctrl-C cancel the work; a second Ctrl-C aborts it at once.

    Args:
        stopping: What to say at the first Ctrl-C.
        quiet: Print nothing, because another process does.

    Raises:
        Cancelled: At the second Ctrl-C.
    """
    control = Control()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if control.cancelled:
            raise KeyboardInterrupt
        control.cancel()
        display.say(f"{stopping} Press Ctrl-C again to abort at once.")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        console = Console(stderr=True, quiet=quiet)
        with warnings.catch_warnings(), ProgressDisplay(console) as display:
            # torch.func.jvp compiles helpers on its first call, and torch warns about
            # its own code.
            warnings.filterwarnings("ignore", r".*torch\.jit\.script", FutureWarning)
            yield display, control
    except KeyboardInterrupt:
        raise Cancelled from None
    finally:
        signal.signal(signal.SIGINT, before)


def _words(progress: Progress, left: float | None) -> list[str]:
    """Return the detail, the numbers and the time left of one event."""
    words = [progress.detail] if progress.detail else []
    for name, value in progress.values.items():
        if name in ("loss", "accuracy"):
            words.append(f"{name} {value:.3g}")
    if left is not None and progress.fraction < 1:
        words.append(f"{say_duration(left)} left")
    return words


NO_LAST_LAYER = (
    "The study has no record of a last layer: the network does not end in a linear "
    "layer, or an older version measured it."
)


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the result of `workbench.study.summary.summary` as tables on stdout."""
    console = console or Console()
    run = summary["run"]
    console.print(
        _text(
            f"{run['model']} on {run['data']}, {_count(run['num_examples'])} examples "
            f"of {_count(run['num_classes'])} classes, {_count(run['num_params'])} "
            f"{of_all(run)}parameters{_training(run)}: {_fit(run)}"
        )
    )
    console.print(_spectra(summary["spectra"]))
    console.print(_parts(summary["levels"]))
    null = summary["levels"]["null"]
    console.print(_overlaps(summary["attribution"], null))
    for found in filter(None, (null, summary["random"])):
        if found["note"]:
            console.print(_text(found["note"]))
    if summary["walk"] is not None:
        console.print(_walk(summary["walk"]))
    if summary["layers"] is not None:
        console.print(_layers(summary["layers"]))
        if summary["layers"]["note"]:
            console.print(_text(summary["layers"]["note"]))
    console.print(_text(summary["attribution"]["rule"]))
    if summary["last_layer"] is None:
        console.print(_text(NO_LAST_LAYER))
    else:
        console.print(_last_layer(summary["last_layer"]))
    if summary["picture"]:
        console.print(_text(summary["picture"]))


def _text(words: str) -> Text:
    """Return text to print as is, without markup or control characters."""
    return Text(printable(words))


def _training(run: Mapping[str, Any]) -> str:
    """Say how long it was trained, if known."""
    if run["epochs"] is None and run.get("given"):
        return ", trained elsewhere"
    seed = "" if run["seed"] is None else f", seed {run['seed']}"
    return f", {_count(run['epochs'])} epochs{seed}"


def _fit(run: Mapping[str, Any]) -> str:
    """Give loss and accuracy, and the data they were computed on."""
    if run.get("held_out"):
        loss, accuracy, where = run.get("loss"), run.get("accuracy"), "on held-out data"
    else:
        loss, accuracy = run["train_loss"], run["train_accuracy"]
        where = "on the training data"
    if run.get("given") and not run.get("held_out"):
        where = "on these data"
    if run.get("trained"):
        where += ", of these classes alone"
    return f"loss {_number(loss)}, accuracy {_number(accuracy)} {where}"


def _spectra(spectra: Mapping[str, Any]) -> Table:
    """Leading eigenvalues of each operator, side by side."""
    table = Table(title="Spectra: eigenvalue and residual", title_justify="left")
    table.add_column("", justify="right")
    for name, found in spectra.items():
        head = _text(name).append("\n").append_text(_text(found["method"]))
        table.add_column(head, justify="right")
    ends = [("top", n) for n in range(10)] + [("bottom", n) for n in (2, 1, 0)]
    for end, n in ends:
        cells = [_pair(found.get(end, []), n) for found in spectra.values()]
        if any(cells):
            label = str(n + 1) if end == "top" else f"lowest {n + 1}"
            table.add_row(label, *cells)
    table.add_section()
    table.add_row("trace", *(_trace(found) for found in spectra.values()))
    table.add_row("matvecs", *(_count(f["num_matvecs"]) for f in spectra.values()))
    return table


def _trace(found: Mapping[str, Any]) -> str:
    error = found.get("trace_error")
    told = _number(found["trace"]) + (f" ± {error:.0e}" if error else "")
    return told if error is None or error > 0 else f"{told} (exact)"


def _pair(pairs: list[dict[str, Any]], n: int) -> str:
    if n >= len(pairs):
        return ""
    return f"{_number(pairs[n]['value'])} ± {pairs[n]['residual'] or 0:.0e}"


def _parts(levels: Mapping[str, Any]) -> Table:
    """The trace of each part of G, and its leading eigenvalues."""
    title = f"Parts of G, convention {levels['weighting']}"
    table = Table(title=title, title_justify="left")
    for name in ("part", "trace", "share of G", "leading eigenvalues"):
        table.add_column(name, justify="left" if name[0] in "pl" else "right")
    whole = levels["trace"].get("G") or float("nan")
    for name, trace in levels["trace"].items():
        leading = levels["parts"].get(name, [])[:5]
        share = "" if trace is None else f"{trace / whole:.1%}"
        error = levels["trace_error"].get(name)
        told = _number(trace) + (f" ± {error:.0e}" if error else "")
        values = _values(leading, levels["residuals"].get(name, []))
        table.add_row(_text(name), told, share, values)
    table.add_section()
    for name, words in (
        ("subtracted", "G less its class part"),
        ("projected", "G off span{delta_c}"),
    ):
        left = _values(levels[name][:5], levels["residuals"].get(name, []))
        table.add_row(words, "", "", left)
    return table


def _values(values: list[float | None], residuals: list[float | None]) -> str:
    """Leading eigenvalues, with the largest of their error bars."""
    worst = max((r or 0.0 for r in residuals[: len(values)]), default=0.0)
    told = "  ".join(map(_number, values))
    return f"{told}  (± {worst:.0e})" if worst else told


def _overlaps(attribution: Mapping[str, Any], null: Mapping[str, Any] | None) -> Table:
    """How far each outlier lies in the span of the class means, and by chance."""
    count = attribution["num_outliers"]
    title = f"{count} outliers of G: share of each in span{{delta_c}}"
    table = Table(title=title, title_justify="left", show_header=False)
    overlap = attribution["overlap"][: max(count, 10)]
    rows = {"": [str(n + 1) for n in range(len(overlap))], "true labels": overlap}
    if null is not None and null["num_draws"]:
        rows["shuffled, mean"] = null["overlap"]["mean"]
        rows["and spread"] = null["overlap"]["spread"]
    for name, row in rows.items():
        cells = row[: len(overlap)]
        table.add_row(name, *(c if isinstance(c, str) else _share(c) for c in cells))
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _walk(found: Mapping[str, Any]) -> Table:
    """How far the loss climbs along each eigenvector."""
    end = found["distance"][-1]
    title = f"Loss along each eigenvector, {_number(end)} either way"
    table = Table(title=title, title_justify="left")
    for name in ("", "eigenvalue", "curvature", "at the ends", "climb of the classes"):
        table.add_column(name, justify="right" if name else "left")
    for one in found["along"]:
        loss, climb = one["loss"], [c for c in one["climb"] if c is not None]
        ends = f"{_number(loss[0])}  {_number(loss[-1])}"
        most = f"{_number(min(climb))} to {_number(max(climb))}" if climb else ""
        values = map(_number, (one["eigenvalue"], one["curvature"]))
        table.add_row(_text(one["name"]), *values, ends, most)
    return table


def _layers(found: Mapping[str, Any]) -> Table:
    """What lies in each layer."""
    title = "Layers: share of outliers and of G's trace, first eigenvalue of each block"
    table = Table(title=title, title_justify="left")
    heads = ("layer", "size", "outliers", "trace", "G", "Hess", "class part")
    for head in heads:
        first = head == "layer"
        table.add_column(head, justify="left" if first else "right", no_wrap=first)
    for layer, share in zip(found["layers"], found["outlier_share"], strict=True):
        name = " ".join(filter(None, (layer["name"], f"({layer['kind']})")))
        blocks = {**layer["eigenvalues"], "class part": layer["class_part"]["top"]}
        table.add_row(
            _text(name),
            _count(layer["num_parameters"]),
            _percent(share),
            _percent(layer["trace_share"]),
            *(_first(blocks, layer["residuals"], name) for name in heads[4:]),
        )
    return table


def _first(blocks: Mapping[str, Any], residuals: Mapping[str, Any], name: str) -> str:
    """The largest eigenvalue of a block, with an error that matters."""
    values = blocks.get(name)
    if not values:
        return ""
    error = (residuals.get(name) or [0.0])[0] or 0.0
    least = 1e-4 * abs(values[0])
    return _number(values[0]) + (f" ± {error:.0e}" if error > least else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _last_layer(found: Mapping[str, Any]) -> Table:
    """Its features, its G, and what neural collapse predicts for it."""
    name = f" {found['name']}" if found["name"] else ""
    title = f"The last layer{name}, {_count(found['num_features'])} features"
    table = Table(title=title, title_justify="left", show_header=False)
    top = found["spectrum"]["top"][:10]
    values = [pair["value"] for pair in top]
    worst = [pair["residual"] for pair in top]
    table.add_row("eigenvalues of its G", _values(values, worst))
    if (predicted := found["predicted"]) is not None:
        table.add_row("if collapsed", _values(predicted["G"][:10], []))
        part = _values(predicted["class_part"][:10], [])
        table.add_row(f"class part then, {predicted['weighting']}", part)
    table.add_section()
    table.add_row("mean cosine of class means", _number(found["cosine"]))
    table.add_row("within-class variation", _number(found["within"]))
    table.add_row("between-class variation", _number(found["between"]))
    for measure, value in found["neural_collapse"].items():
        table.add_row(_text(measure), _number(value))
    return table


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
