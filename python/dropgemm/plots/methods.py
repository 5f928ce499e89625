"""The masks that a dropout method lays over a layer in one training step, by convert's names."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from dropgemm.framework import ceil_div
from dropgemm.masks import bernoulli_mask
from dropgemm.options import OptionError
from dropgemm.schedule import GyroSchedule
from dropgemm.search import PatternDistribution, search_distribution
from dropgemm.tile_mask import TileMask

TOTAL_STEPS, SUBNETS = 10_000, 1024  # of the run that a step is taken from
STEP = 6  # drawn by default: with seed 0 and p = 0.5, a pattern of site 0 has period 2
BLOCK = (128, 32)  # samples x neurons
WEIGHT_TILE = (32, 32)


class Draw(NamedTuple):
    """What a mask is drawn with, besides method and shape."""

    p: float
    seed: int
    step: int
    coscheduled: int


class Drawn(NamedTuple):
    """A mask, and in words: its method, what it drops, what other steps drop."""

    mask: TileMask
    name: str
    dropped: str
    elsewhere: str = ""


def draw_mask(method: str, draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    """The mask of a site in one step: of activations [rows, cols], for "tile" of a weight.

    Raises OptionError where patterns of that width do not reach the rate.
    """
    return _METHODS[method](draw, site, rows, cols)


def _bernoulli(draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    mask = bernoulli_mask(rows, cols, draw.p, seed=draw.seed, site=site, step=draw.step)
    words = "Drops single neurons, drawn anew for each sample."
    return Drawn(mask, "conventional dropout", words)


def _gyro(draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    mask, groups = _scheduled(draw, site, rows, cols, None, 1)
    samples = count(min(mask.tile[0], rows), "sample")
    words = f"Drops single neurons, the same ones for {samples}. {groups}"
    return Drawn(mask, "Gyro Dropout", words)


def _block(draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    mask, groups = _scheduled(draw, site, rows, cols, *BLOCK)
    words = f"Drops blocks of {BLOCK[0]} samples x {BLOCK[1]} neurons. {groups}"
    return Drawn(mask, "block-wise Gyro Dropout", words)


def _scheduled(
    draw: Draw, site: int, rows: int, cols: int, tile_rows: int | None, tile_cols: int
) -> tuple[TileMask, str]:
    schedule = GyroSchedule(
        cols,
        draw.p,
        total_steps=TOTAL_STEPS,
        subnets=SUBNETS,
        coscheduled=draw.coscheduled,
        seed=draw.seed,
        site=site,
        tile_rows=tile_rows,
        tile_cols=tile_cols,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether a run uses all subnets is not what is drawn
        mask = schedule.mask(draw.step, rows)
    groups = count(len(schedule.subnets(draw.step, rows)), "group")
    return mask, f"{groups} of samples, each with one of the subnets fixed before training."


def _row(draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    distribution = _distribution(draw.p, cols, "neuron")
    mask, _ = distribution.mask(draw.seed, site, draw.step, rows, cols)
    period, _ = distribution.sample(draw.seed, site, draw.step)
    kept = "every neuron" if period == 1 else f"one of {period} neurons"
    words = f"Keeps {kept}, the same for the whole batch."
    return Drawn(mask, "row pattern", words, _redrawn(distribution))


def _tile(draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    room = min(ceil_div(rows, WEIGHT_TILE[0]), ceil_div(cols, WEIGHT_TILE[1]))
    distribution = _distribution(draw.p, room, "tile")
    mask, _ = distribution.mask(draw.seed, site, draw.step, rows, cols, tile=WEIGHT_TILE)
    period, _ = distribution.sample(draw.seed, site, draw.step)
    kept = "every tile" if period == 1 else f"one of {period} tiles"
    words = f"Keeps {kept} of {WEIGHT_TILE[0]} x {WEIGHT_TILE[1]} weights."
    return Drawn(mask, "tile pattern", words, _redrawn(distribution))


def _redrawn(distribution: PatternDistribution) -> str:
    rate = f"{100 * distribution.rate:.0f}\N{NO-BREAK SPACE}%"
    return f"Each step draws a period of its own; on average they drop {rate}."


def _distribution(p: float, room: int, noun: str) -> PatternDistribution:
    """Of the periods of patterns over so many columns."""
    if p * room > room - 1:
        patterns = f"patterns of {count(room, noun)}"
        raise OptionError(
            f"--p: expected at most {1 - 1 / room:.4g}, which {patterns} reach, got {p:g}"
        )
    return search_distribution(p, features=room)


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 group", "8 groups"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


_METHODS = {"bernoulli": _bernoulli, "gyro": _gyro, "block": _block, "row": _row, "tile": _tile}
METHODS = tuple(_METHODS)
