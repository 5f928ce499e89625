"""What a layer drops, as masks: of its inputs and outputs, or of its weight."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    def to(self, device: torch.device) -> Masks:
        """The masks with their bits on a device."""
        return Masks(*(mask and _moved(mask, device) for mask in self))

    def with_drawn(self, mask: dg.TileMask) -> Masks:
        """The masks with another in place of the one that drawing() draws."""
        if self.weight is not None:
            return self._replace(weight=mask)
        return self._replace(inputs=mask) if self.outputs is None else self._replace(outputs=mask)


def _moved(mask: dg.TileMask, device: torch.device) -> dg.TileMask:
    if device.type == "cpu":
        return mask
    bits = mask.bits.view(torch.int32).to(device)
    return dg.TileMask(bits, shape=mask.shape, tile=mask.tile, keep_hint=mask.keep_hint)


def _sides(drop: Drop, inputs: dg.TileMask, outputs: dg.TileMask) -> Masks:
    return Masks(
        inputs if drop.side != "output" else None, outputs if drop.side != "input" else None
    )


def _schedule(layer: Layer, drop: Drop, features: int, site: int) -> dg.GyroSchedule:
    rows = drop.rows or layer.batch
    together = drop.coscheduled or -(-layer.batch // rows)
    return dg.GyroSchedule(
        features, drop.p, total_steps=64, seed=0, site=site, subnets=max(64, together),
        coscheduled=together, tile_rows=rows, tile_cols=drop.cols,
    )  # fmt: skip


def _blocks(layer: Layer, drop: Drop) -> Masks:
    """One subnet a group of rows."""
    return _sides(
        drop,
        *(
            _schedule(layer, drop, features, site).mask(0, layer.batch, like=torch.empty(0))
            for site, features in enumerate((layer.inputs, layer.outputs))
        ),
    )


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


def drawing(layer: Layer, drop: Drop, device: torch.device) -> Callable[[], dg.TileMask]:
    """Draws the mask of one dropout where the layer lies, as training does in every step.

    Of the outputs, of the inputs where they alone are dropped, or of the weight.
    """
    step = torch.zeros((), dtype=torch.int64, device=device)
    features = layer.inputs if drop.side == "input" else layer.outputs
    if drop.method == "block":
        schedule = _schedule(layer, drop, features, 1)
        return lambda: schedule.mask(step, layer.batch)
    periods = dg.PatternDistribution([0.0] * (drop.period - 1) + [1.0])
    if drop.period == 0:
        periods = dg.search_distribution(drop.p, method=drop.search)  # type: ignore[arg-type]
    if drop.method == "tile":
        tile = (drop.cols, drop.cols)
        return lambda: periods.mask(0, 1, step, layer.outputs, layer.inputs, tile=tile)[0]
    return lambda: periods.mask(0, 1, step, layer.batch, features)[0]
