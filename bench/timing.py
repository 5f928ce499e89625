"""Times of several contenders, taken in turn in one process.

A drift of the machine's speed meets all of them alike, so ratios are taken turn by turn, and
medians of them reported. Before a contender is timed it runs once untimed: it finds the caches as
its own work leaves them, not as the one before it did.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from hardware import Device, Host, Run

Parts = Mapping[str, Sequence[tuple[float, Run]]]

MIN_TURNS, MIN_TURNS_SLOW, MAX_TURNS = 5, 3, 41
MIN_SECONDS = 2e-3  # of a contender's timed runs in a turn
WARM_BELOW = 0.25  # seconds; what takes longer is not run untimed


@dataclass(frozen=True)
class Contender:
    """Somebody who does the work: its parts in order, each the weighted sum of some runs."""

    kind: str
    dropped: Mapping[str, Any]  # what it drops, by axis; empty where nothing
    parts: Parts
    settings: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Summary:
    """Quartiles."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """The quartiles of some values; of a single one, that."""
        if len(values) == 1:
            return Summary(values[0], values[0], values[0])
        return Summary(*statistics.quantiles(values, n=4, method="inclusive"))

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        return (self.high - self.low) / self.median


class Times:
    """Seconds that each part took each contender, turn by turn."""

    def __init__(self, contenders: Iterable[str], parts: Iterable[str]) -> None:
        parts = tuple(parts)
        self.seconds: dict[str, dict[str, list[float]]] = {
            name: {part: [] for part in parts} for name in contenders
        }

    def add_turn(self, turn: Mapping[str, Mapping[str, float]]) -> None:
        """Adds the seconds of each contender's parts in one turn."""
        for name, parts in turn.items():
            for part, seconds in parts.items():
                self.seconds[name][part].append(seconds)

    def add_sum(self, name: str, parts: Sequence[str]) -> None:
        """Adds a part that is the sum of others."""
        for row in self.seconds.values():
            row[name] = [sum(turn) for turn in zip(*(row[part] for part in parts), strict=True)]

    def of(self, contender: str, part: str) -> Summary:
        """Quartiles of the time, in seconds."""
        return Summary.of(self.seconds[contender][part])

    def speedup(self, contender: str, baseline: str, part: str) -> Summary:
        """How many times faster than the baseline, turn by turn."""
        ours, theirs = self.seconds[contender][part], self.seconds[baseline][part]
        return Summary.of([slow / fast for slow, fast in zip(theirs, ours, strict=True)])


def prepared(contender: Contender, device: Device, *, graph: bool) -> Contender:
    """The contender as a device times it: captured, where a graph is asked for.

    Raises what its runs raise there.
    """
    with contender.settings():
        parts = {
            part: [(weight, device.prepared(run, graph=graph)) for weight, run in runs]
            for part, runs in contender.parts.items()
        }
    return replace(contender, parts=parts)


def _round(
    contender: Contender, calls: int, device: Device, *, untimed: bool = False
) -> dict[str, float]:
    """Seconds of each part: the mean of `calls` rounds through all of them, after an untimed one.

    Of a weighted sum of runs, the sum.
    """
    spent = dict.fromkeys(contender.parts, 0.0)
    with contender.settings():
        if untimed:
            for runs in contender.parts.values():
                for _, run in runs:
                    run()
        for _ in range(calls):
            for part, runs in contender.parts.items():
                for weight, run in runs:
                    spent[part] += weight * device.seconds(run)
    return {part: seconds / calls for part, seconds in spent.items()}


def interleaved(
    contenders: Mapping[str, Contender], seconds: float, device: Device | None = None
) -> Times:
    """Time the contenders, in turn and every other turn in reverse, for about `seconds`.

    At least 5 turns, or 3 where 5 do not fit, and at most 41. device: the host where none is given.
    """
    device = device or Host()
    times = Times(contenders, next(iter(contenders.values())).parts)
    first = {name: _round(contender, 1, device) for name, contender in contenders.items()}
    slow = {name for name, parts in first.items() if sum(parts.values()) > WARM_BELOW}
    calls, turn_seconds = {}, 0.0
    for name, contender in contenders.items():
        start = time.perf_counter()
        parts = first[name] if name in slow else _round(contender, 1, device)
        # What a device does between its runs costs time too, and counts for no contender.
        spent = time.perf_counter() - start if name not in slow else sum(parts.values())
        calls[name] = max(1, round(MIN_SECONDS / sum(parts.values())))
        turn_seconds += spent * (calls[name] + (name not in slow))
    least = MIN_TURNS if MIN_TURNS * turn_seconds < seconds else MIN_TURNS_SLOW
    turns = max(least, min(MAX_TURNS, int(seconds / turn_seconds)))
    if len(slow) == len(contenders):  # the first round was as good as any other
        turns -= 1
        times.add_turn(first)
    for turn in range(turns):
        order = list(contenders)[:: 1 if turn % 2 == 0 else -1]
        times.add_turn(
            {
                name: _round(contenders[name], calls[name], device, untimed=name not in slow)
                for name in order
            }
        )
    return times
