"""Layers and training steps: PyTorch in several ways and dropgemm, in turn in one process.

    OMP_PROC_BIND=true python bench/layers.py --set layer
    OMP_PROC_BIND=true python bench/layers.py --set pattern --batch 1024 --name local_pattern
    OMP_PROC_BIND=true python bench/layers.py --set step --optimizer adam --name local_adam

A set names what is measured; axes given beside it replace the set's own values. Prints medians,
spreads (interquartile range over median) and ratios, and writes bench/results/<name>.json. Ratios
are medians of the ratios of each turn.

Sets:
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import findings
import products
import record
import steps
import torch
from arguments import THREADS, count, count_or_0, rate, seconds, threads
from cases import (
    ALL_PRODUCTS,
    PATTERNS,
    PRODUCTS,
    SETS,
    SIDES,
    Case,
    Layer,
    LayerAxes,
    dropped_by,
    merged,
    override,
)
from timing import Contender, Times, interleaved

from dropgemm.demo.variants import OPTIMIZERS
from dropgemm.methods import METHODS
from dropgemm.search import SEARCH_METHODS

BASELINES = ("stock", "medium", "bf16", "ready masks", "index_select", "dense")
FINDINGS = {"work": findings.print_fits, "breakeven": findings.print_losses}
SHOWN = ("stock", "medium", "bf16", "dense")


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
    axis("contenders", "who takes part", choices=list(dict.fromkeys((*products.KINDS, *steps.OWN))))
    made.add_argument("--seconds", type=seconds, help="to spend, about (default: the set's)")
    made.add_argument("--threads", type=threads, default=THREADS)
    made.add_argument("--name", help="of the result file (default: the set's)")
    made.add_argument("--overwrite", action="store_true", help="an existing result file")
    made.add_argument("--plot", action="store_true", help="also draw bench/results/<name>.png")
    return made


AXES = (
    "batch", "features", "hidden", "method", "side", "p", "rows", "cols", "period", "search",
    "product", "optimizer", "contenders",
)  # fmt: skip


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases of a command line. Raises ValueError for axes or values that the set has not."""
    values = {name: tuple(value) for name in AXES if (value := getattr(args, name)) is not None}
    axes = [override(each, values) for each in SETS[args.set].axes]
    unknown = set(args.method or ()) - set(PATTERNS)
    if unknown and isinstance(axes[0], LayerAxes):
        legal = ", ".join(PATTERNS)
        raise ValueError(f"--method: expected {legal} for layers, got {', '.join(sorted(unknown))}")
    return merged(case for each in axes for case in each.cases())


def _baselines(who: Mapping[str, Contender], name: str) -> dict[str, str]:
    """What a contender is compared with: the dense ones, and those that drop the same."""
    same = name.removeprefix(who[name].kind)
    names = {kind: kind + same if kind + same in who else kind for kind in BASELINES}
    return {kind: key for kind, key in names.items() if key in who and key != name}


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


def measure(case: Case, budget: float) -> list[dict[str, Any]]:
    """Time a case: a row for every part and contender."""
    who = products.contenders(case) if isinstance(case, Layer) else steps.contenders(case)
    times = interleaved(who, budget)
    parts = list(next(iter(who.values())).parts)
    if parts == list(PRODUCTS):
        times.add_sum(ALL_PRODUCTS, parts)
        parts.append(ALL_PRODUCTS)
    return [
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


def show(case: Case, rows: list[dict[str, Any]]) -> None:
    """Print what was measured: a line a contender, the ratios of its last part."""
    parts = list(dict.fromkeys(row["part"] for row in rows))
    baselines = [name for name in SHOWN if any(name in row["x"] for row in rows)]
    headings = "".join(f"{part:>22s}" for part in parts) + "".join(f"   x {b}" for b in baselines)
    print(f"\n{case}, {rows[0]['turns']} turns\n{'':60s}{headings}")
    each = len(rows) // len(parts)
    for own in (rows[index::each] for index in range(each)):
        times = "".join(f"{row['ms']:12.3f} ms ({row['spread']:4.0%})" for row in own)
        ratios = "".join(f"{own[-1]['x'].get(name, 1.0):{len(name) + 5}.2f}" for name in baselines)
        print(f"  {own[0]['contender']:15s} {dropped_by(own[0]):42s}{times}{ratios}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    made = parser()
    args = made.parse_args(arguments)
    name = args.name or args.set
    try:
        cases = chosen(args)
        record.check_free(name, overwrite=args.overwrite)
    except (ValueError, FileExistsError) as error:
        made.error(str(error))
    torch.set_num_threads(args.threads)
    if record.LOAD > 1:
        print(f"the machine is busy (load {record.LOAD}): look at the spreads", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    end = time.monotonic() + (args.seconds or SETS[args.set].seconds)
    # A share of the time between even and by size: large cases get fewer turns, but not too few.
    shares = [case.size() ** (1 / 3) for case in cases]
    for index, case in enumerate(cases):
        left = max(end - time.monotonic(), 0.0)
        measured = measure(case, left * shares[index] / sum(shares[index:]))
        show(case, measured)
        rows += measured
    if args.set in FINDINGS:
        FINDINGS[args.set](rows)
    words = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["bench/layers.py", *words])
    results = {"set": args.set, "command": command, "rows": rows}
    print(record.save(name, results, overwrite=args.overwrite))
    if args.plot:
        import plots  # matplotlib is not everybody's

        print(plots.draw(name))


if __name__ == "__main__":
    main()
