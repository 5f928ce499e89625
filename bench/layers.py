"""Layers and training steps: PyTorch in several ways and dropgemm, in turn in one process.

    OMP_PROC_BIND=true python bench/layers.py --set layer
    python bench/layers.py --set cuda_layer
    OMP_PROC_BIND=true python bench/layers.py --set pattern --batch 1024 --name local_pattern
    OMP_PROC_BIND=true python bench/layers.py --set step --optimizer adam --name local_adam

A set names what is measured, and on which device; axes given beside it replace its own values.
Prints medians, spreads (interquartile range over median) and ratios, which are medians of the
ratios of each turn. Writes bench/results/<name>.json, or to the folder that DROPGEMM_BENCH_RESULTS
names. A contender that fails is left out and said, and the exit status is 1.

Sets:
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import findings
import products
import record
import steps
import torch
from arguments import THREADS, count, count_or_0, rate, seconds, threads
from cases import (
    ALL_PRODUCTS,
    LAUNCHES,
    NUMBERS,
    PATTERNS,
    PRODUCTS,
    SIDES,
    Case,
    Layer,
    LayerAxes,
    dropped_by,
    merged,
    override,
)
from hardware import DEVICES, Device
from sets import SETS
from timing import Contender, Times, interleaved, prepared

from dropgemm.demo.variants import OPTIMIZERS
from dropgemm.methods import METHODS
from dropgemm.search import SEARCH_METHODS

BASELINES = (
    "stock", "medium", "bf16", "dropout", "compiled", "ready masks", "index_select", "sparsedrop",
    "dense",
)  # fmt: skip
FINDINGS = {"work": findings.print_fits, "breakeven": findings.print_losses}
SHOWN = ("stock", "medium", "bf16", "compiled", "sparsedrop", "dense")


def _features(text: str) -> tuple[int, int]:
    """INPUTSxOUTPUTS, or one number for both."""
    sizes = text.split("x")
    if len(sizes) > 2 or not all(each.isdecimal() and int(each) > 0 for each in sizes):
        raise argparse.ArgumentTypeError(f"expected INPUTSxOUTPUTS, or a number, got {text!r}")
    return int(sizes[0]), int(sizes[-1])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    sets = "".join(f"  {name:10s} {each.about}\n" for name, each in SETS.items())
    made = argparse.ArgumentParser(
        description=f"{__doc__}{sets}", formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--set", required=True, choices=SETS)
    made.add_argument("--device", choices=DEVICES, help="default: the set's")
    axes = made.add_argument_group("axes, in place of the set's own values")

    def axis(name: str, about: str, **options: Any) -> None:
        axes.add_argument(f"--{name}", nargs="+", help=about, **options)

    axis("batch", "rows of a batch", type=count)
    axis("features", "of layers: INPUTSxOUTPUTS, or one number", type=_features)
    axis("hidden", "of steps: width of the hidden layers", type=count)
    axis("method", "what is dropped; gyro and bernoulli in steps alone", choices=METHODS)
    axis("side", "of layers", choices=SIDES)
    axis("p", "dropout rate", type=rate)
    axis("rows", "rows of a group of blocks; 0: the whole batch", type=count_or_0)
    axis("cols", "width of blocks; height and width of weight tiles", type=count)
    axis("period", "of row and tile patterns; 0: searched for rate p", type=count_or_0)
    axis("search", "how periods are searched", choices=SEARCH_METHODS)
    axis("product", "of layers", choices=PRODUCTS)
    axis("optimizer", "of steps", choices=OPTIMIZERS)
    who = dict.fromkeys((*products.KINDS, *steps.BASELINES, *steps.OWN))
    axis("contenders", "who takes part", choices=list(who))
    axis("dtype", "of layers; of steps what autocast casts to", choices=NUMBERS)
    axis("launch", "call by call, or replayed from a CUDA graph", choices=LAUNCHES)
    made.add_argument("--seconds", type=seconds, help="to spend, about (default: the set's)")
    made.add_argument("--threads", type=threads, default=THREADS)
    made.add_argument("--name", help="of the result file (default: the set's)")
    made.add_argument("--overwrite", action="store_true", help="an existing result file")
    made.add_argument("--plot", action="store_true", help="also draw bench/results/<name>.png")
    return made


AXES = (
    "batch", "features", "hidden", "method", "side", "p", "rows", "cols", "period", "search",
    "product", "optimizer", "contenders", "dtype", "launch",
)  # fmt: skip


def _check(axis: str, given: Iterable[str] | None, legal: Iterable[str], what: str) -> None:
    if unknown := sorted({*(given or ())} - {*legal}):
        expected = ", ".join(legal)
        raise ValueError(f"--{axis}: expected {expected} for {what}, got {', '.join(unknown)}")


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases of a command line. Raises ValueError for axes or values that the set has not."""
    values = {name: tuple(value) for name in AXES if (value := getattr(args, name)) is not None}
    axes = [override(each, values) for each in SETS[args.set].axes]
    if isinstance(axes[0], LayerAxes):
        _check("method", args.method, PATTERNS, "layers")
        _check("contenders", args.contenders, products.KINDS, "layers")
    else:
        _check("contenders", args.contenders, (*steps.BASELINES, *steps.OWN), "steps")
    return merged(case for each in axes for case in each.cases())


def _baselines(who: Mapping[str, Contender], name: str) -> dict[str, str]:
    """What a contender is compared with: who is dense, or drops the same or as much."""
    own = who[name]
    same = name.removeprefix(own.kind)
    found = {}
    for kind in BASELINES:
        keys = (kind + same, products.same_rate(kind, own.dropped.get("p", 0.0)), kind)
        found[kind] = next((key for key in keys if key in who), name)
    return {kind: key for kind, key in found.items() if key != name}


def _figures(times: Times, name: str, part: str, baselines: Mapping[str, str]) -> dict[str, Any]:
    def digits(x: float) -> float:
        return float(f"{x:.4g}")

    time = times.of(name, part)
    ratios = {kind: times.speedup(name, key, part) for kind, key in baselines.items()}
    return {
        "ms": digits(1e3 * time.median),
        "spread": digits(time.spread),
        "turns": len(times.seconds[name][part]),
        "x": {kind: digits(ratio.median) for kind, ratio in ratios.items()},
        "x_spread": {kind: digits(ratio.spread) for kind, ratio in ratios.items()},
    }


def _ready(case: Case, device: Device) -> tuple[dict[str, Contender], list[str]]:
    """The contenders of a case that run, and what stopped the others."""
    made = products.contenders if isinstance(case, Layer) else steps.contenders
    ready, failures = {}, []
    for name, contender in made(case, device.place).items():  # type: ignore[operator]
        try:
            ready[name] = prepared(contender, device, graph=case.launch == "graph")
        except Exception as error:  # a compiler, a kernel or memory: the others still count
            failures.append(_failure(f"{case}: {name}", error))
    return ready, failures


def _failure(what: str, error: Exception) -> str:
    words = str(error).strip() or type(error).__name__
    return f"{what}: {words.splitlines()[0]}"


def measure(case: Case, budget: float, device: Device) -> tuple[list[dict[str, Any]], list[str]]:
    """Time a case: a row for every part and contender, and who failed."""
    who, failures = _ready(case, device)
    if not who:
        return [], failures
    times = interleaved(who, budget, device)
    parts = list(next(iter(who.values())).parts)
    if parts == list(PRODUCTS):
        times.add_sum(ALL_PRODUCTS, parts)
        parts.append(ALL_PRODUCTS)
    rows = [
        {
            **case.shape(),
            "part": part,
            "contender": contender.kind,
            **contender.dropped,
            **_figures(times, name, part, _baselines(who, name)),
        }
        for part in parts
        for name, contender in who.items()
    ]
    return rows, failures


def _ratio(row: Mapping[str, Any], baseline: str) -> str:
    """To a baseline, in figures; "" where the two have nothing in common."""
    one = {baseline: 1.0} if row["contender"] == baseline else {}
    ratio = (row["x"] | one).get(baseline)
    return "" if ratio is None else f"{ratio:.2f}"


def show(case: Case, rows: list[dict[str, Any]]) -> None:
    """Print what was measured: a line a contender, the ratios of its last part."""
    parts = list(dict.fromkeys(row["part"] for row in rows))
    baselines = [name for name in SHOWN if any(name in row["x"] for row in rows)]
    headings = "".join(f"{part:>22s}" for part in parts) + "".join(f"   x {b}" for b in baselines)
    print(f"\n{case}, {rows[0]['turns']} turns\n{'':60s}{headings}")
    each = len(rows) // len(parts)
    for own in (rows[index::each] for index in range(each)):
        times = "".join(f"{row['ms']:12.3f} ms ({row['spread']:4.0%})" for row in own)
        ratios = "".join(_ratio(own[-1], name).rjust(len(name) + 5) for name in baselines)
        print(f"  {own[0]['contender']:15s} {dropped_by(own[0]):42s}{times}{ratios}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save: after every case, so that what ends a long run leaves what it found."""
    made = parser()
    args = made.parse_args(arguments)
    name = args.name or args.set
    try:
        cases = chosen(args)
        record.check_free(name, overwrite=args.overwrite)
        device = DEVICES[args.device or SETS[args.set].device]()
        if not device.replays and any(case.launch == "graph" for case in cases):
            raise ValueError("--launch: expected eager on the CPU, got graph")
    except (ValueError, FileExistsError) as error:
        made.error(str(error))
    torch.set_num_threads(args.threads)
    if record.LOAD > 1:
        print(f"the machine is busy (load {record.LOAD}): look at the spreads", file=sys.stderr)
    words = sys.argv[1:] if arguments is None else arguments
    results: dict[str, Any] = {"set": args.set, "command": shlex.join(["bench/layers.py", *words])}
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    end = time.monotonic() + (args.seconds or SETS[args.set].seconds)
    # A share of the time between even and by size: large cases get fewer turns, but not too few.
    shares = [case.size() ** (1 / 3) for case in cases]
    for index, case in enumerate(cases):
        left = max(end - time.monotonic(), 0.0)
        budget = left * shares[index] / sum(shares[index:])
        try:
            measured, failures = measure(case, budget, device)
        except Exception as error:  # as of a GPU whose context somebody has spoilt
            traceback.print_exc()
            measured, failures = [], [_failure(str(case), error)]
        rows += measured
        failed += failures
        if measured:
            show(case, measured)
        for line in failures:
            print(f"failed: {line}", file=sys.stderr, flush=True)
        more = {"failed": failed} if failed else {}
        path = record.save(
            name, {**results, **more, "rows": rows}, overwrite=args.overwrite or index > 0,
            machine=device.describe(),
        )  # fmt: skip
    if args.set in FINDINGS:
        FINDINGS[args.set](rows)
    print(path)
    if args.plot:
        import plots  # matplotlib is not everybody's

        print(plots.draw(name))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
