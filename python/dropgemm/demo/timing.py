"""Step times of several networks in one process.

Taken in turn, so that a drift of the machine's speed meets all of them alike.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.progress import Progress

from dropgemm.demo.variants import Variant

TURNS = 15
STEPS_PER_TURN = 3
STEPS = TURNS * (1 + STEPS_PER_TURN)  # of each variant, one of a turn untimed


@dataclass
class StepTimes:
    """Seconds a training step took, by variant, in the order they were measured."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def spread(self, name: str) -> float:
        """Interquartile range over the median."""
        low, _, high = statistics.quantiles(self.seconds[name], n=4)
        return (high - low) / self.median(name)

    def speedup(self, name: str, baseline: str) -> float:
        """How many times faster than the baseline: the ratio of medians."""
        return self.median(baseline) / self.median(name)


def interleaved(
    variants: Sequence[Variant],
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    turns: int = TURNS,
    progress: Progress | None = None,
) -> StepTimes:
    """Run `turns` rounds; in each, every variant takes one untimed and three timed steps."""
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    bar = progress.add_task("timing steps, in turn", total=turns) if progress else None
    for variant in variants:
        variant.model.train()
    for _ in range(turns):
        for variant in variants:
            with variant.settings():
                variant.step(x, y)
                for _ in range(STEPS_PER_TURN):
                    start = time.perf_counter()
                    variant.step(x, y)
                    seconds[variant.name].append(time.perf_counter() - start)
        if progress is not None and bar is not None:
            progress.advance(bar)
    return StepTimes(seconds)
