"""What the rows of the grids come to: time against kept work, and where pruning starts to pay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cases import dropped_by

Row = Mapping[str, Any]

PROPORTIONAL = {"work": 0.24, "batch": 256, "inputs": 1024}  # from where on time is to follow work
LEAST_OVER_DENSE = 0.98  # pruned products are to be no slower than our own dense ones, ...
LEAST_OVER_MEDIUM = 0.95  # and these no slower than PyTorch's under "medium"


@dataclass(frozen=True)
class Fit:
    """Milliseconds of one product of one layer as a + b * work, work the kept share."""

    batch: int
    inputs: int
    outputs: int
    part: str
    a: float
    b: float
    excess: Mapping[float, float]  # by work: how far time is above its share of the dense time

    @property
    def worst(self) -> float | None:
        """The largest excess where time is to follow work; None where it need not."""
        if self.batch < PROPORTIONAL["batch"] or self.inputs < PROPORTIONAL["inputs"]:
            return None
        return max(value for work, value in self.excess.items() if work >= PROPORTIONAL["work"])


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """a and b of t = a + b * x with the least sum of squared relative errors."""
    weights = [1 / t**2 for _, t in points]
    total = sum(weights)
    x_mean = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    t_mean = sum(w * t for w, (_, t) in zip(weights, points, strict=True)) / total
    above = sum(w * (x - x_mean) * (t - t_mean) for w, (x, t) in zip(weights, points, strict=True))
    below = sum(w * (x - x_mean) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    b = above / below
    return t_mean - b * x_mean, b


def fits(rows: Iterable[Row]) -> list[Fit]:
    """The fit of every product that was timed with all of its work and with less."""
    groups: dict[tuple[int, int, int, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row["contender"] == "dropgemm":
            key = (row["batch"], row["inputs"], row["outputs"], row["part"])
            groups.setdefault(key, []).append((row["work"], row["ms"]))
    found = []
    for (batch, inputs, outputs, part), points in groups.items():
        dense = [t for work, t in points if work == 1]
        if not dense or len(points) < 2:
            continue
        excess = {work: t / (work * dense[0]) - 1 for work, t in points}
        found.append(Fit(batch, inputs, outputs, part, *_line(points), excess))
    return found


@dataclass(frozen=True)
class Loss:
    """A product that is slower than it is to be."""

    where: str
    baseline: str
    ratio: float
    spread: float
    least: float

    @property
    def clear(self) -> bool:
        """Whether it is below its bound by more than half of the spread."""
        return self.ratio * (1 + self.spread / 2) < self.least

    def __str__(self) -> str:
        return f"{self.where}: {self.ratio:.3f} of {self.baseline}, spread {self.spread:.0%}"


def losses(rows: Iterable[Row]) -> Iterator[Loss]:
    """Every product below its bound."""
    for row in rows:
        own, baseline, least = row["contender"], "dense", LEAST_OVER_DENSE
        if own == "dense":
            baseline, least = "medium", LEAST_OVER_MEDIUM
        elif own != "dropgemm":
            continue
        ratio = row["x"].get(baseline)
        if ratio is None or ratio >= least:
            continue
        where = (
            f"{row['inputs']} x {row['outputs']}, batch {row['batch']}, {row['part']}, "
            f"{dropped_by(row) or 'dense'}"
        )
        yield Loss(where, baseline, ratio, row["x_spread"][baseline], least)


def print_fits(rows: Iterable[Row]) -> None:
    """Print a, b and the deviation from proportional of every product."""
    print("\nmilliseconds = a + b * work; excess of the time over its share of the dense time")
    for fit in fits(rows):
        excess = "  ".join(f"{work:.2f}: {value:+5.0%}" for work, value in fit.excess.items())
        worst = "" if fit.worst is None else f"   worst that counts {fit.worst:+.0%}"
        print(
            f"{fit.inputs:5d} x {fit.outputs:5d}, batch {fit.batch:4d}, {fit.part:15s} "
            f"a {fit.a:9.4f}  b {fit.b:9.4f}   {excess}{worst}"
        )


def print_losses(rows: Iterable[Row]) -> None:
    """Print every product that is slower than it is to be, the worst first."""
    found = sorted(losses(rows), key=lambda loss: loss.ratio / loss.least)
    clear = sum(loss.clear for loss in found)
    print(
        f"\n{len(found)} below {LEAST_OVER_DENSE} of our own dense or {LEAST_OVER_MEDIUM} of "
        f"medium, {clear} of them by more than half the spread (!):"
    )
    for loss in found:
        print(f"{'!' if loss.clear else ' '} {loss}")
