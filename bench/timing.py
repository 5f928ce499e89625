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
from dataclasses import dataclass
from typing import Any

Run = Callable[[], object]

MIN_TURNS, MAX_TURNS = 5, 41
MIN_SECONDS = 2e-3  # of a contender's timed runs in a turn
WARM_BELOW = 0.25  # seconds; what takes longer is not run untimed


@dataclass(frozen=True)
class Contender:
    """Somebody who does the work: its parts in order, each the weighted sum of some runs."""

    kind: str
    dropped: Mapping[str, Any]  # what it drops, by axis; empty where nothing
    parts: Mapping[str, Sequence[tuple[float, Run]]]
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


def _clock(contender: Contender, calls: int) -> dict[str, float]:
    """Seconds of each part, the mean of `calls` rounds through all of them."""
    spent = dict.fromkeys(contender.parts, 0.0)
    for _ in range(calls):
        for part, runs in contender.parts.items():
            for weight, run in runs:
                start = time.perf_counter()
                run()
                spent[part] += weight * (time.perf_counter() - start)
    return {part: seconds / max(calls, 1) for part, seconds in spent.items()}


def interleaved(contenders: Mapping[str, Contender], seconds: float) -> Times:
    """Times the contenders, in turn and every other turn in reverse, for about `seconds`.

    At least 5 turns (3 where the first took a third of the time already), at most 41.
    """
    calls: dict[str, int] = {}
    untimed: dict[str, int] = {}
    turn_seconds = 0.0
    for name, contender in contenders.items():
        with contender.settings():
            _clock(contender, 1)
            start = time.perf_counter()
            _clock(contender, 1)
            cost = time.perf_counter() - start
        calls[name] = max(1, round(MIN_SECONDS / cost))
        untimed[name] = int(cost < WARM_BELOW)
        turn_seconds += cost * (calls[name] + untimed[name])
    least = MIN_TURNS if 3 * turn_seconds < seconds else 3
    turns = max(least, min(MAX_TURNS, int(seconds / turn_seconds)))
    times = Times(contenders, next(iter(contenders.values())).parts)
    for turn in range(turns):
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            contender = contenders[name]
            with contender.settings():
                _clock(contender, untimed[name])
                for part, spent in _clock(contender, calls[name]).items():
                    times.seconds[name][part].append(spent)
    return times
