"""The masks that a dropout method lays over a layer in one training step, by convert's names."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from dropgemm.masks import bernoulli_mask
from dropgemm.schedule import GyroSchedule
from dropgemm.tile_mask import TileMask

METHODS = ("bernoulli", "gyro", "block")
TOTAL_STEPS, SUBNETS = 10_000, 1024  # of the run that a step is taken from
BLOCK = (128, 32)  # rows x columns


class Draw(NamedTuple):
    """What a mask is drawn with, besides method and shape."""

    p: float
    seed: int
    step: int
    coscheduled: int


class Drawn(NamedTuple):
    """A mask and what it drops, in words."""

    mask: TileMask
    name: str
    dropped: str


def draw_mask(method: str, draw: Draw, site: int, rows: int, cols: int) -> Drawn:
    """The mask of a site in one step: of activations [rows, cols], for "tile" of a weight."""
    p, seed, step, coscheduled = draw
    if method == "bernoulli":
        mask = bernoulli_mask(rows, cols, p, seed=seed, site=site, step=step)
        return Drawn(
            mask, "conventional dropout", "Drops single neurons, drawn anew for each sample."
        )
    block = method == "block"
    schedule = GyroSchedule(
        cols,
        p,
        total_steps=TOTAL_STEPS,
        subnets=SUBNETS,
        coscheduled=coscheduled,
        seed=seed,
        site=site,
        tile_rows=BLOCK[0] if block else None,
        tile_cols=BLOCK[1] if block else 1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether a run uses all subnets is not what is drawn
        mask = schedule.mask(step, rows)
    groups = count(len(schedule.subnets(step, rows)), "group")
    height = min(mask.tile[0], rows)
    if block:
        return Drawn(
            mask,
            "block-wise Gyro Dropout",
            f"Drops blocks of {BLOCK[0]} samples x {BLOCK[1]} neurons. {groups} of samples, each "
            "with one of the subnets fixed before training.",
        )
    return Drawn(
        mask,
        "Gyro Dropout",
        f"Drops single neurons, the same ones for {count(height, 'sample')}. {groups} of samples, "
        "each with one of the subnets fixed before training.",
    )


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 group", "8 groups"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
