"""How a site gets the mask and the scale of a forward: by schedule, by pattern, or independently.

One class for each family of methods, made by make_draws; all take the clock and give a Drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dropgemm.arrays import to_integer, to_pair
from dropgemm.framework import ceil_div
from dropgemm.masks import INT_END, SEED_END
from dropgemm.methods import Method
from dropgemm.pattern import PatternLayout, Skew, drawn_mask_in, row_layout, tile_layout, to_skew
from dropgemm.ranks import RANK_POLICIES, Part, RankPolicy
from dropgemm.schedule import GyroSchedule, ScaleKind, inverted_scale
from dropgemm.search import (
    SEARCH_METHODS,
    PatternDistribution,
    SearchMethod,
    search_distribution,
)
from dropgemm.tile_mask import TileMask
from dropgemm.torch import functional, operands
from dropgemm.torch.clock import Clock
from dropgemm.torch.tracing import needs_operator

_DIMENSIONS = 64  # that a tensor may have


class Drawn(NamedTuple):
    """The mask of a forward, and the one factor of all that it keeps."""

    mask: TileMask
    scale: float | Tensor


@dataclass(frozen=True)
class Settings:
    """What masks depend on besides clock, site and rate. A method reads its own and no others.

    seed: of everything but "bernoulli". scale: "rate" is 1 / (1 - p), "exact" 1 / (what is kept);
    None: exact where that is fixed (exact draws, patterns), rate where it is not.

    "block", "gyro" (Lee et al., 2022): total_steps, subnets, coscheduled, order, draw as in
    GyroSchedule; tile_rows x tile_cols: the block.
    "row", "tile" (Song et al., 2018): max_period, search: as in search_distribution; weight_tile,
    skew: the tiles of "tile", as in TilePattern.

    batch_dim: which dimension counts samples. 1 is for [steps, batch, features]; of the matrices of
    such a network the first does.

    rank_policy: what the ranks of data-parallel training have. "disjoint": their batches joined
    are one batch, and each has its rows of it. "shared": each has the masks that it would have
    alone. A pattern is one for the whole batch, and so for all ranks, under both.
    """

    total_steps: int | None = None
    seed: int = 0
    scale: ScaleKind | None = None
    subnets: int = 1024
    coscheduled: int = 8
    tile_rows: int = 128
    tile_cols: int = 32
    order: Literal["consecutive", "random"] = "consecutive"
    draw: Literal["exact", "bernoulli"] | None = None
    max_period: int | None = None
    search: SearchMethod = "narrow"
    weight_tile: tuple[int, int] = (32, 32)
    skew: Skew = 1
    batch_dim: int = 0
    rank_policy: RankPolicy = "disjoint"

    def __post_init__(self) -> None:
        """TypeError or ValueError, by the setting's name."""
        to_integer("seed", self.seed, 0, SEED_END)
        to_integer("batch_dim", self.batch_dim, 0, _DIMENSIONS)
        for name in ("total_steps", "subnets", "coscheduled", "tile_rows", "tile_cols"):
            value = getattr(self, name)
            if value is not None or name != "total_steps":
                to_integer(name, value, 1, INT_END)
        if self.max_period is not None:
            to_integer("max_period", self.max_period, 1, INT_END)
        object.__setattr__(self, "weight_tile", to_pair("weight_tile", self.weight_tile, 1))
        for name, legal in (
            ("scale", (None, "rate", "exact")),
            ("order", ("consecutive", "random")),
            ("draw", (None, "exact", "bernoulli")),
            ("search", SEARCH_METHODS),
            ("rank_policy", RANK_POLICIES),
        ):
            if getattr(self, name) not in legal:
                choices = ", ".join(repr(choice) for choice in legal if choice is not None)
                raise ValueError(f"{name}: expected one of {choices}, got {getattr(self, name)!r}")
        to_skew(self.skew)

    def state(self) -> dict[str, Any]:
        """As plain values, for a state_dict."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _Latest:
    """Keeps the last mask, since the modules beside a dropout ask for the same one in turn."""

    _latest: tuple[tuple[Any, ...], Drawn] | None = None

    def _once(self, asked: tuple[Any, ...], draw: Callable[..., Drawn]) -> Drawn:
        """draw(*asked), or what it gave where the same was asked for last."""
        if self._latest is None or self._latest[0] != asked:
            self._latest = asked, draw(*asked)
        return self._latest[1]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the mask of the moment."""
        return {**self.__dict__, "_latest": None}


class GyroDraws(_Latest):
    """Pre-selected subnets, by schedule: every forward of a step has the same ones."""

    def __init__(
        self, site: int, features: int | None, p: float, settings: Settings, blocks: bool
    ) -> None:
        if settings.total_steps is None:
            raise ValueError("total_steps: expected the optimizer steps of the run, got None")
        self._settings = settings
        self._site = site
        self._p = p
        self._blocks = blocks
        self._schedules: dict[tuple[int, int], GyroSchedule] = {}
        schedule = self.schedule(features or 0, 1)
        if features is None and schedule.draw == "exact":
            raise ValueError("features: expected a width for draw='exact', got None")
        self.exact = schedule.draw == "exact"
        self.keep_rate = schedule.keep_rate
        self.scale = schedule.scale(settings.scale)

    def schedule(self, features: int, sample_rows: int) -> GyroSchedule:
        """The schedule for samples of `sample_rows` rows; block-wise groups hold whole samples."""
        s = self._settings
        group = ceil_div(s.tile_rows, sample_rows) if self._blocks else 0
        found = self._schedules.get((features, group))
        if found is None:
            assert s.total_steps is not None
            found = GyroSchedule(
                features, self._p, total_steps=s.total_steps, seed=s.seed, site=self._site,
                subnets=s.subnets, coscheduled=s.coscheduled, order=s.order,
                tile_cols=s.tile_cols if self._blocks else 1, tile_rows=group or None,
                draw=s.draw,
            )  # fmt: skip
            self._schedules[features, group] = found
        return found

    def __call__(
        self, clock: Clock, batch: int, sample_rows: int, width: int, repeats: int = 1
    ) -> Drawn:
        """The subnets of the step."""
        step, part = clock.step, clock.ranks.part(batch, self._settings.rank_policy)
        if needs_operator(step):
            return self._draw(step, batch, part, sample_rows, width, repeats)
        if not clock.warned:
            clock.warned = True
            self.schedule(width, sample_rows * repeats).warn_if_unused(part.batch)
        asked = int(step), batch, part, sample_rows, width, repeats
        return self._once(asked, self._draw)

    def _draw(
        self,
        step: int | Tensor,
        batch: int,
        part: Part,
        sample_rows: int,
        width: int,
        repeats: int,
    ) -> Drawn:
        schedule = self.schedule(width, sample_rows * repeats)
        mask = functional.gyro_mask(schedule, step, batch, part, sample_rows)
        return Drawn(functional.repeat_rows(mask, repeats) if repeats != 1 else mask, self.scale)


class PatternDraws(_Latest):
    """A regular pattern, sampled anew for each step and call, the same for the whole batch.

    tile None: a row pattern over the features; else a tile pattern over a weight of `outputs` rows,
    whose mask does not depend on the batch.
    """

    def __init__(
        self, site: int, features: int, p: float, settings: Settings, outputs: int | None
    ) -> None:
        self._settings = settings
        self._site = site
        self._p = p
        self._tile = None if outputs is None else settings.weight_tile
        self._outputs = outputs
        self._features = features
        self._table: int | None = None  # its place in the clock's tables
        self.distribution: PatternDistribution | None = None
        if p < 1.0:
            most = features
            if outputs is not None:
                tile_rows, tile_cols = settings.weight_tile
                most = min(ceil_div(outputs, tile_rows), ceil_div(features, tile_cols))
            self.distribution = search_distribution(
                p, settings.max_period, settings.search, features=max(most, 1)
            )
        self.keep_rate = 0.0 if self.distribution is None else 1.0 - self.distribution.rate
        self.scale: float | None = None  # the period's, unless it is fixed
        if self.distribution is None or settings.scale == "rate":
            self.scale = inverted_scale("rate", p, 1.0 - p, False)
        self.draw(0, 0, 1 if outputs is None else outputs, features)  # refuses what does not fit

    def __call__(
        self, clock: Clock, batch: int, sample_rows: int, width: int, repeats: int = 1
    ) -> Drawn:
        """The pattern of the step and call."""
        rows = repeats * batch * sample_rows if self._outputs is None else self._outputs
        step = clock.step
        if needs_operator(step):
            table = None if self._table is None else clock.tables[self._table]
            return self.draw(step, clock.call, rows, width, table)
        return self._once((int(step), int(clock.call), rows, width), self.draw)

    def hold(self, clock: Clock) -> None:
        """Has the distribution lie where the clock's step does."""
        if self.distribution is not None:
            self._table = clock.hold(self.distribution.thresholds)

    def collapse(self) -> str:
        """What a linear skew does to the tiles of this weight; empty where it does nothing."""
        if self.distribution is None or self._outputs is None:
            return ""
        periods = (self.distribution.probabilities.nonzero()[0] + 1).tolist()
        return self._layout(self._outputs, self._features).collapse(periods)

    def _layout(self, rows: int, width: int) -> PatternLayout:
        if self._tile is None:
            return row_layout(rows, width)
        return tile_layout(rows, width, self._tile, self._settings.skew)

    def draw(
        self,
        step: int | Tensor,
        call: int | Tensor,
        rows: int,
        width: int,
        table: Tensor | None = None,
    ) -> Drawn:
        """The pattern of any step and call; table: the distribution's thresholds beside them."""
        if self.distribution is None:  # p = 1
            tile = self._tile or (max(rows, 1), 1)
            mask = functional.bernoulli_mask(rows, width, 1.0, 0, 0, _zero_beside(step), 0, tile)
            return Drawn(mask, 0.0)
        mask, scale = drawn_mask_in(
            functional.TORCH, self.distribution.thresholds if table is None else table,
            self._layout(rows, width), self._settings.seed, self._site, step, call, self.keep_rate,
        )  # fmt: skip
        if self.scale is not None:
            return Drawn(mask, self.scale)
        return Drawn(mask, float(scale) if isinstance(step, int) else scale)


class BernoulliDraws:
    """Independent bits; a fresh key from PyTorch's generator at each forward."""

    def __init__(self, site: int, p: float, settings: Settings) -> None:
        self.keep_rate = 1.0 - p
        self.scale = inverted_scale(settings.scale, p, self.keep_rate, False)
        self._p = p
        self._site = site
        self._policy = settings.rank_policy
        self.key: int | Tensor | None = None  # of the last draw

    def __call__(
        self, clock: Clock, batch: int, sample_rows: int, width: int, repeats: int = 1
    ) -> Drawn:
        """A new draw."""
        # From the generator of the clock's device, as nn.Dropout draws: seeds and checkpoints
        # replay it, and each replay of a captured graph draws anew.
        key = torch.randint(
            -(1 << 63), (1 << 63) - 1, (), dtype=torch.int64, device=clock.step.device
        )
        seed: int | Tensor = key
        if not needs_operator():
            self.key = seed = int(key) % (1 << 64) if operands.on_host(key) else key
        rows = repeats * batch * sample_rows
        first = clock.ranks.part(rows, self._policy).first
        mask = functional.bernoulli_mask(
            rows, width, self._p, seed, self._site, _zero_beside(clock.step), 0, (1, 1), first
        )
        return Drawn(mask, self.scale)


def _zero_beside(step: int | Tensor) -> int | Tensor:
    """Step 0, of draws that are of no step, where the clock is: masks lie beside it."""
    return torch.zeros_like(step) if isinstance(step, Tensor) and not operands.on_host(step) else 0


def make_draws(
    method: Method, site: int, features: int | None, outputs: int | None, p: float,
    settings: Settings,
) -> GyroDraws | PatternDraws | BernoulliDraws:  # fmt: skip
    """The draws of a site. ValueError where the method needs a width that is not given."""
    if method in ("block", "row", "tile") and features is None:
        raise ValueError(f"features: expected the width of a site of method {method!r}, got None")
    if method == "bernoulli":
        return BernoulliDraws(site, p, settings)
    if method in ("block", "gyro"):
        return GyroDraws(site, features, p, settings, blocks=method == "block")
    assert features is not None
    if method == "tile" and outputs is None:
        raise ValueError("outputs: expected the rows of the weight for method 'tile', got None")
    return PatternDraws(site, features, p, settings, outputs if method == "tile" else None)
