"""What the makers of tables share: rows of results, how they are picked and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from record import load

Row = Mapping[str, Any]


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Make a table."""
    first, *rest = (f"| {' | '.join(cells)} |\n" for cells in ([*header], *rows))
    return first + "|" + "---|" * first.count(" |") + "\n" + "".join(rest)


def source(name: str) -> str:
    """Where a table comes from."""
    machine = load(name)["machine"]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return f"\n`{name}.json`: {threads}, {_when(machine)}.\n"


def gpu_of(machine: Row) -> str:
    """What ran, and when."""
    what = machine.get("gpu", machine["cpu"])
    driver = f", driver {machine['driver']}" if "driver" in machine else ""
    return f"{what}{driver}, {_when(machine)}"


def _when(machine: Row) -> str:
    commit = machine["commit"] + (", uncommitted changes" if machine["uncommitted"] else "")
    return f"{machine['date']}, commit {commit}"


def pick(rows: Iterable[Row], /, **values: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in values.items())]


def times(row: Row, baseline: str) -> str:
    """The ratio to a baseline."""
    return f"{row['x'][baseline]:.2f}"


def spread(value: float) -> str:
    """In percent."""
    return f"{100 * value:.0f} %"


def shape(row: Row) -> tuple[int, int, int]:
    """Inputs, outputs and batch of a layer."""
    return row["inputs"], row["outputs"], row["batch"]


def ceilings(threads: int) -> tuple[float, float]:
    """FLOP/s and bytes/s of the machine, each the most of its repetitions."""
    rows = load("machine")["benchmarks"]

    def most(what: str, counter: str) -> float:
        name = f"{what}/threads:{threads}/real_time"
        found = pick(rows, run_name=name, run_type="iteration")
        return max(float(row[counter]) for row in found)

    return most("multiply_add", "FLOP/s"), most("read", "bytes/s")
