"""``make bench``: ours beside every peer, on the same work, in one process.

For each row all contenders run once, and nothing is timed unless they agree. Then they
run in turn, each between two runs of the unit F, one gradient of the loss over the same
examples in the same batches by plain torch.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import peers
from tests.benchmarks.clock import Times, in_turn, peak_memory
from tests.benchmarks.rows import OURS, Contender, DisagreementError, Options, Row, rows
from workbench import keep_freed_memory


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where somebody disagrees, or the device is not there."""
    asked = parse(arguments)
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("bench: this machine has no CUDA device.", file=sys.stderr)
        return 1
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    keep_freed_memory()  # peers and all: it makes each of them faster
    if asked.threads:
        torch.set_num_threads(asked.threads)
    options = Options(
        device, asked.data, asked.quick, tuple(asked.rows or ()), asked.long
    )
    about = machine(device)
    for name, value in about.items():
        print(f"{name}: {value}")
    warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated")
    found = []
    started = time.perf_counter()
    try:
        for row in rows(options):
            found.append(measured(row, options))
            print(text(found[-1]), flush=True)
    except DisagreementError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(f"\n{len(found)} rows in {time.perf_counter() - started:.0f} s")
    if asked.out:
        whole = {"schema": 1, "machine": about, "rows": found}
        asked.out.write_text(json.dumps(whole, indent=1) + "\n")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--rows", nargs="+", help="keys of the rows; by default all")
    parser.add_argument("--long", action="store_true", help="rows of minutes too")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data", choices=("auto", "made-up"), default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU; by default torch's")
    parser.add_argument("--quick", action="store_true", help="tiny, to see it work")
    parser.add_argument("--out", type=Path, help="write the table here as JSON")
    return parser.parse_args(arguments)


def machine(device: torch.device) -> dict[str, str]:
    """What the numbers hang on."""
    where = f"{torch.get_num_threads()} threads of {platform.machine()}"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return {
        "device": where,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **dict(peers.versions()),
    }


def measured(row: Row, options: Options) -> dict[str, Any]:
    """Check a row, and time it: plain values, as they go into the JSON file.

    What takes minutes runs once: the run that is timed is the one that is checked.
    """
    results: dict[str, Any] = {}
    times: dict[str, Times] = {}

    def run(one: Contender) -> None:
        results[one.name] = one.run()

    def in_turns(rounds: int) -> None:
        times.update(
            in_turn(
                lambda: peers.gradient(row.problem),
                {one.name: partial(run, one) for one in row.contenders},
                rounds=rounds,
                device=options.device,
            )
        )

    ours, *others = row.contenders
    once = row.rounds == 1
    first = partial(in_turns, 1) if once else partial(run, ours)
    peak = peak_memory(first, options.device)
    if not once:
        for one in others:
            run(one)
    errors = row.check(results)
    results.clear()
    if not once:
        in_turns(1 if options.quick else row.rounds)
        results.clear()
    unit = times[OURS].units.median * ours.times
    lines = [
        line(one, times[one.name], unit, errors.get(one.name)) for one in row.contenders
    ]
    return {
        "key": row.key,
        "work": row.title,
        "on": row.problem.name,
        "images": row.problem.source,
        "num_examples": row.problem.num_examples,
        "batch_size": row.problem.batch_size,
        "num_params": row.problem.dim,
        "at_most": row.at_most,
        "ahead": row.ahead,
        "seconds": row.seconds,
        "gigabytes": row.gigabytes,
        "peak": peak,
        "met": met(row, lines, peak),
        "contenders": lines,
    }


def line(
    one: Contender, times: Times, ours: float, error: float | None
) -> dict[str, Any]:
    spread = times.units
    return {
        "name": one.name,
        "units": spread.median * one.times,
        "quartiles": [spread.low * one.times, spread.high * one.times],
        "seconds": times.seconds * one.times,
        "ratio": spread.median * one.times / ours,
        "error": error,
        "note": one.note,
    }


def met(row: Row, lines: list[dict[str, Any]], peak: float | None) -> bool | None:
    """Whether the row's bar is met; None where it has none, or there is no telling."""
    if row.seconds is not None:
        if row.gigabytes is not None and peak is None:
            return None
        fits = row.gigabytes is None or (peak or 0) <= row.gigabytes * 2**30
        return bool(lines[0]["seconds"] <= row.seconds and fits)
    if row.at_most is not None:
        return bool(lines[0]["units"] <= row.at_most)
    if row.ahead is None or len(lines) == 1:
        return None
    return all(lines[0]["units"] <= row.ahead * other["units"] for other in lines[1:])


def text(found: dict[str, Any]) -> str:
    """A row as people read it."""
    bar = ""
    if found["at_most"] is not None:
        bar = f"; asked: at most {found['at_most']} F"
    elif found["ahead"] is not None:
        bar = f"; asked: at most {found['ahead']} of each peer's time"
    elif found["seconds"] is not None:
        room = f" and {found['gigabytes']} GB" if found["gigabytes"] else ""
        bar = f"; asked: at most {found['seconds']} s{room}"
    if found["met"] is not None:
        bar += ", met" if found["met"] else ", NOT MET"
    shown = [
        f"\n[{found['key']}] {found['work']}: {found['on']}, "
        f"{found['num_examples']:,} examples in batches of {found['batch_size']}, "
        f"{found['num_params']:,} parameters, {found['images']}{bar}",
        f"  {'':22}{'F':>9} {'quartiles':>19} {'over ours':>10} {'error':>9}",
    ]
    for one in found["contenders"]:
        low, high = one["quartiles"]
        error = "" if one["error"] is None else f"{one['error']:.1e}"
        shown.append(
            f"  {one['name']:22}{one['units']:9.2f} {low:9.2f} {high:9.2f} "
            f"{one['ratio']:10.2f} {error:>9} {one['note']}".rstrip()
        )
    peak = "" if found["peak"] is None else f", {found['peak'] / 2**20:,.0f} MB at most"
    seconds = found["contenders"][0]["seconds"]
    shown.append(f"  ours: {seconds:.3g} s{peak} on top of what was there")
    return "\n".join(shown)


if __name__ == "__main__":
    sys.exit(main())
