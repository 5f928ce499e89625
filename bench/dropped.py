"""What a layer drops, as masks: of its inputs and outputs, or of its weight."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import torch
from cases import Drop, Layer

import dropgemm as dg


class Masks(NamedTuple):
    """The masks of one layer in one step."""

    inputs: dg.TileMask | None = None
    outputs: dg.TileMask | None = None
    weight: dg.TileMask | None = None

    def work(self) -> float:
        """The share of the dense multiply-adds that is left, alike in all three products."""
        if self.weight is not None:
            return self.weight.keep_rate
        if self.inputs is not None and self.outputs is not None:
            kept = self.inputs.to_dense().float().sum(1) @ self.outputs.to_dense().float().sum(1)
            rows, inputs = self.inputs.shape
            return float(kept) / (rows * inputs * self.outputs.shape[1])
        return math.prod(mask.keep_rate for mask in (self.inputs, self.outputs) if mask)


def _sides(drop: Drop, inputs: dg.TileMask, outputs: dg.TileMask) -> Masks:
    return Masks(
        inputs if drop.side != "output" else None, outputs if drop.side != "input" else None
    )


def _blocks(layer: Layer, drop: Drop) -> Masks:
    """One subnet a group of rows, every group another."""

    def mask(features: int, site: int) -> dg.TileMask:
        schedule = dg.GyroSchedule(
            features, drop.p, total_steps=64, seed=0, site=site, subnets=64,
            tile_rows=drop.rows or layer.batch, tile_cols=drop.cols,
        )  # fmt: skip
        return schedule.mask(0, layer.batch, like=torch.empty(0))

    return _sides(drop, mask(layer.inputs, 0), mask(layer.outputs, 1))


def _pattern(layer: Layer, drop: Drop, periods: tuple[int, int]) -> Masks:
    """Every periods[0]-th input and periods[1]-th output; or tiles of the weight, of periods[0]."""
    like, (first, second) = torch.empty(0), periods
    if drop.method == "tile":
        pattern = dg.TilePattern(first, tile=(drop.cols, drop.cols))
        return Masks(weight=pattern.mask(layer.outputs, layer.inputs, like=like))
    return _sides(
        drop,
        dg.RowPattern(first).mask(layer.batch, layer.inputs, like=like),
        dg.RowPattern(second, second - 1).mask(layer.batch, layer.outputs, like=like),
    )


def draw(layer: Layer, drop: Drop) -> list[tuple[float, Masks]]:
    """The masks and how often each is drawn: one, or all those of a searched distribution.

    Of rows dropped on both sides every pair of an input's and an output's period.
    """
    if drop.method == "block":
        return [(1.0, _blocks(layer, drop))]
    if drop.period:
        return [(1.0, _pattern(layer, drop, (drop.period, drop.period)))]
    found = dg.search_distribution(drop.p, method=drop.search)  # type: ignore[arg-type]
    odds = {i: float(q) for i, q in enumerate(found.probabilities, start=1) if q > 0}
    if drop.method == "row" and drop.side == "both":
        pairs = [(odds[i] * odds[j], (i, j)) for i, j in product(odds, odds)]
    else:
        pairs = [(q, (i, i)) for i, q in odds.items()]
    return [(q, _pattern(layer, drop, periods)) for q, periods in pairs]
