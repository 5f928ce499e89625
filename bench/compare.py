"""Two result files of one kind, row by row: how many times faster the second is.

    python bench/compare.py build/bench/gemm_bench.previous.json build/bench/gemm_bench.json
    python bench/compare.py bench/results/layer.json bench/results/local_layer.json

Takes files of google-benchmark (--benchmark_out) and of layers.py. Spread is that of both files
together; a ratio within it is marked with ~. google-benchmark knows a spread only where it repeats
(--benchmark_repetitions). Two files are two processes: the machine may have changed its speed
between them, so ratios to PyTorch, where a file has them, say more than times do.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = {"ms", "spread", "turns", "x", "x_spread"}  # of a row; the rest says what it is of
TO_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Timing:
    """One row of a file."""

    ms: float
    spread: float | None = None  # relative
    x_medium: float | None = None  # how many times faster than PyTorch's "medium"


@dataclass(frozen=True)
class Results:
    """One file."""

    kind: str
    machine: str
    rows: Mapping[str, Timing]


def _layers(content: Mapping[str, Any]) -> Results:
    rows = {}
    for row in content["rows"]:
        name = ", ".join(f"{key} {value}" for key, value in row.items() if key not in FIGURES)
        rows[name] = Timing(row["ms"], row["spread"], row["x"].get("medium"))
    return Results("layers.py", content["machine"]["cpu"], rows)


def _google(content: Mapping[str, Any]) -> Results:
    """Medians and coefficients of variation where a benchmark was repeated, else its one time."""
    once: dict[str, float] = {}
    median: dict[str, float] = {}
    variation: dict[str, float] = {}
    for row in content["benchmarks"]:
        if row.get("error_occurred"):
            continue
        name, aggregate = row["run_name"], row.get("aggregate_name")
        if aggregate == "cv":
            variation[name] = row["real_time"]
        elif aggregate in (None, "median"):
            times = once if aggregate is None else median
            times[name] = row["real_time"] * TO_MS[row["time_unit"]]
    rows = {name: Timing(ms, variation.get(name)) for name, ms in (once | median).items()}
    context = content["context"]
    return Results("google-benchmark", f"{context['host_name']}, {context['num_cpus']} cores", rows)


def read(path: Path) -> Results:
    """Read a result file. Raises ValueError where it is none of the known kinds."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected a file of JSON, got {error}") from None
    if isinstance(content, dict) and {"context", "benchmarks"} <= content.keys():
        return _google(content)
    if isinstance(content, dict) and {"machine", "rows"} <= content.keys():
        return _layers(content)
    raise ValueError(f"{path}: expected results of google-benchmark or of layers.py")


def _line(name: str, before: Timing, after: Timing) -> str:
    ratio = before.ms / after.ms
    spreads = [s for s in (before.spread, after.spread) if s is not None]
    spread = math.hypot(*spreads)
    mark = "~" if spreads and abs(ratio - 1) <= spread else " "
    known = f"{spread:4.0%}" if spreads else "   ?"
    medium = ""
    if before.x_medium is not None and after.x_medium is not None:
        medium = f"   x medium {before.x_medium:5.2f} -> {after.x_medium:5.2f}"
    return f"{ratio:6.3f}{mark} ({known}) {before.ms:10.4f} -> {after.ms:10.4f} ms{medium}   {name}"


def report(first: Results, second: Results) -> list[str]:
    """Say how two files of one kind differ, a line a row. Raises ValueError for two kinds."""
    if first.kind != second.kind:
        raise ValueError(f"expected two files of one kind, got {first.kind} and {second.kind}")
    lines = []
    if first.machine != second.machine:
        lines.append(f"measured on two machines: {first.machine}; {second.machine}")
    both = [name for name in first.rows if name in second.rows]
    lines += [_line(name, first.rows[name], second.rows[name]) for name in both]
    if both:
        logs = [math.log(first.rows[name].ms / second.rows[name].ms) for name in both]
        lines.append(f"{math.exp(sum(logs) / len(logs)):6.3f}  geometric mean of {len(both)}")
    for which, rows, others in (("first", first, second), ("second", second, first)):
        lines += [f"only in the {which}: {name}" for name in rows.rows if name not in others.rows]
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    args = parser.parse_args(arguments)
    try:
        print("\n".join(report(read(args.first), read(args.second))))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
