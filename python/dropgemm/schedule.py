"""GyroSchedule: pre-selected subnets and the steps that train them.

Gyro Dropout (Lee et al., MLSys 2022): sections 4.1 and 4.2 the schedule, 4.4 blocks, 5.3 random
order. The arithmetic is include/dropgemm/schedule.h's.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from dropgemm import _core
from dropgemm.arrays import check_extent, to_integer, to_rate
from dropgemm.framework import Array, Framework, ceil_div, common_divisor
from dropgemm.masks import BATCH_END, INT_END, SEED_END, SITE_END, to_step
from dropgemm.ranks import Part, RankPolicy, to_part
from dropgemm.tile_mask import TileMask

ScaleKind = Literal["rate", "exact"]


def inverted_scale(kind: str | None, p: float, keep_rate: float, exact_draw: bool) -> float:
    """The factor of inverted dropout on kept values; 0 where nothing is kept.

    kind "rate": 1 / (1 - p). "exact": 1 / keep_rate, which only an exact draw fixes. None: exact
    for exact draws, rate otherwise.
    """
    if kind not in (None, "rate", "exact"):
        raise ValueError(f"scale: expected 'rate' or 'exact', got {kind!r}")
    if kind == "exact" and not exact_draw:
        raise ValueError(
            "scale: expected 'rate' for Bernoulli draws, whose keep rate varies, got 'exact'"
        )
    kept = keep_rate if kind == "exact" or (kind is None and exact_draw) else 1.0 - p
    return 1.0 / kept if kept > 0.0 else 0.0


class GyroSchedule:
    """The masks of one site of a network over a whole training run.

    features: the width that is masked. p: the dropout rate. total_steps: N, the optimizer steps
    of the run. subnets: how many are pre-selected in all (the paper's Sigma). coscheduled: how
    many are trained at the same time (tau). Element-wise gyro by default; tile_rows=128,
    tile_cols=32 is block-wise gyro. order: "consecutive" or "random" (5.3). draw: "exact" keeps
    exactly round((1 - p) * tiles) of a row's tiles, "bernoulli" draws each; None is exact where
    tile_rows is given. Subnet bits depend on (seed, site, subnet) alone.

    Warns once where a run at the batch of the first mask leaves subnets unused.
    Raises ValueError for counts below 1, p outside [0, 1], unknown order or draw.

    >>> schedule = dg.GyroSchedule(8, 0.5, total_steps=1000, seed=0, site=0, subnets=16,
    ...                            coscheduled=4, tile_rows=2, tile_cols=2)
    >>> schedule.mask(0, batch=6).to_dense().astype(int)
    array([[0, 0, 0, 0, 1, 1, 1, 1],
           [0, 0, 0, 0, 1, 1, 1, 1],
           [1, 1, 0, 0, 0, 0, 1, 1],
           [1, 1, 0, 0, 0, 0, 1, 1],
           [1, 1, 1, 1, 0, 0, 0, 0],
           [1, 1, 1, 1, 0, 0, 0, 0]])
    >>> schedule.subnets(0, batch=6), schedule.subnets(1, batch=6)
    (array([0, 1, 2]), array([3, 0, 1]))
    >>> schedule.subnets(250, batch=6)  # the next set of four
    array([4, 5, 6])
    >>> schedule.keep_rate, schedule.scale()
    (0.5, 2.0)
    """

    def __init__(
        self,
        features: int,
        p: float,
        *,
        total_steps: int,
        seed: int,
        site: int,
        subnets: int = 1024,
        coscheduled: int = 8,
        tile_cols: int = 1,
        tile_rows: int | None = None,
        order: Literal["consecutive", "random"] = "consecutive",
        draw: Literal["exact", "bernoulli"] | None = None,
    ) -> None:
        self.features = to_integer("features", features, 0, 1 << 40)
        self.p = to_rate("p", p)
        self.total_steps = to_integer("total_steps", total_steps, 1, INT_END)
        self.seed = to_integer("seed", seed, 0, SEED_END)
        self.site = to_integer("site", site, 0, SITE_END)
        self.subnet_count = to_integer("subnets", subnets, 1, INT_END)
        self.coscheduled = to_integer("coscheduled", coscheduled, 1, INT_END)
        self.tile_cols = to_integer("tile_cols", tile_cols, 1, 1 << 40)
        self.tile_rows = (
            None if tile_rows is None else to_integer("tile_rows", tile_rows, 1, INT_END)
        )
        if order not in ("consecutive", "random"):
            raise ValueError(f"order: expected 'consecutive' or 'random', got {order!r}")
        if draw not in (None, "exact", "bernoulli"):
            raise ValueError(f"draw: expected 'exact' or 'bernoulli', got {draw!r}")
        self.order = order
        self.draw = draw or ("bernoulli" if tile_rows is None else "exact")
        tiles = ceil_div(self.features, self.tile_cols)
        counted = self.draw == "exact" and tiles > 0
        self._keep_rate = _core.keep_count(self.p, tiles) / tiles if counted else 1.0 - self.p
        self._warned = False
        self._core = self._make_core()
        self._fixed_groups = bool(self._core.fixed_groups)

    @property
    def keep_rate(self) -> float:
        """The realised keep rate: k / tiles for an exact draw, 1 - p for a Bernoulli one."""
        return self._keep_rate

    def scale(self, kind: ScaleKind | None = None) -> float:
        """What kept values are multiplied by: "rate" 1 / (1 - p), "exact" 1 / keep_rate.

        None is exact for an exact draw and rate for a Bernoulli one; 0 where nothing is kept.
        """
        return inverted_scale(kind, self.p, self.keep_rate, self.draw == "exact")

    def mask(
        self,
        step: int | Array,
        batch: int,
        like: Array | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        rank_policy: RankPolicy = "disjoint",
    ) -> TileMask:
        """The mask [batch, features] of a training step.

        step: an int >= 0, or an integer array of no dimension (NumPy, PyTorch or JAX), which is
        read where it lies and clamped at 0. like: an array that names the framework of the bits;
        without it step does, or NumPy. A tile has as many rows as a row group, or one where the
        rows of a group change with a step that is an array.

        rank, world: this process's among those that train together, each with a batch of `batch`
        samples. rank_policy "disjoint": their batches, joined in the order of the ranks, are one
        batch, and this is the rank's rows of its mask (where a group begins in another rank, tiles
        are so low that none straddles two groups). "shared": every rank has the mask of rank 0.
        """
        batch = to_integer("batch", batch, 0, BATCH_END)
        check_extent(batch, self.features)
        part = to_part(batch, rank, world, rank_policy)
        framework, at = to_step(step, like)
        self.warn_if_unused(part.batch)
        return self.mask_in(framework, at, batch, part)

    def mask_in(
        self,
        framework: Framework,
        step: Any,
        samples: int,
        part: Part,
        rows_per_sample: int = 1,
    ) -> TileMask:
        """mask() in a framework, for `rows_per_sample` rows of each sample; nothing is checked."""
        known = step if isinstance(step, int) else None
        group_rows = self.mask_group_rows(known, part.batch, part.first)
        shape = (samples * rows_per_sample, self.features)
        tile = (group_rows * rows_per_sample, self.tile_cols)
        bits = framework.gyro_bits(shape, tile, self.arguments(step, rows_per_sample, part))
        return TileMask.trusted(bits, framework, shape, tile, self.keep_rate)

    def subnets(
        self,
        step: int | Array,
        batch: int,
        *,
        rank: int = 0,
        world: int = 1,
        rank_policy: RankPolicy = "disjoint",
    ) -> Array:
        """The subnet of each row group of a batch: int64 [groups], in the framework of step.

        On JAX int32 where jax_enable_x64 is off. rank, world, rank_policy: as in mask(); of a
        joined batch, the groups that the rank has samples of.
        """
        batch = to_integer("batch", batch, 0, BATCH_END)
        part = to_part(batch, rank, world, rank_policy)
        framework, at = to_step(step, None)
        now = at if isinstance(at, int) else max(framework.read_step(at), 0)
        rows = self._core.group_rows(now, part.batch)
        groups = slice(part.first // rows, ceil_div(part.first + batch, rows))
        numbers = self._core.ids(now, part.batch)[groups]
        ids = framework.empty((len(numbers),), np.int64)
        ids[:] = numbers
        return framework.wrap(ids)

    def used(self, batch: int) -> int:
        """How many of the subnets a run of total_steps steps at this batch comes to train.

        batch: of all ranks together, where they are disjoint.
        """
        return int(self._core.used(to_integer("batch", batch, 0, BATCH_END)))

    def mask_group_rows(self, step: int | None, batch: int, first: int = 0) -> int:
        """The samples under one tile row of a mask that begins with sample `first` of a batch.

        The largest number that divides both `first` and groups; `step` None where its value is
        unknown.
        """
        if self.tile_rows is not None:
            rows = self.tile_rows
        elif self._fixed_groups:
            rows = max(ceil_div(batch, min(self.coscheduled, self.subnet_count)), 1)
        else:
            rows = 1 if step is None else int(self._core.group_rows(step, batch))
        return common_divisor(rows, first)

    def arguments(self, step: Any, rows_per_sample: int, part: Part) -> tuple[Any, ...]:
        """What dropgemm._core.gyro_mask takes after the mask's sizes."""
        return (
            self.p,
            self.draw == "exact",
            self.seed,
            self.site,
            step,
            self.total_steps,
            self.subnet_count,
            self.coscheduled,
            self.tile_rows or 0,
            self.order == "random",
            rows_per_sample,
            *part,
        )

    def warn_if_unused(self, batch: int) -> None:
        """Warns, once, where a run at this batch does not come to use every subnet."""
        if self._warned or batch == 0:
            return
        self._warned = True
        used = self.used(batch)
        if used < self.subnet_count:
            warnings.warn(
                f"a run of {self.total_steps} steps at batch {batch} uses {used} of "
                f"{self.subnet_count} subnets; lower subnets or raise the batch or total_steps",
                UserWarning,
                stacklevel=3,
            )

    def _make_core(self) -> Any:
        return _core.GyroSchedule(
            self.total_steps,
            self.subnet_count,
            self.coscheduled,
            self.tile_rows or 0,
            self.order == "random",
            self.seed,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the core's own object, which __setstate__ makes again."""
        return {name: value for name, value in self.__dict__.items() if name != "_core"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a pickled or copied schedule."""
        self.__dict__.update(state)
        self._core = self._make_core()

    def __repr__(self) -> str:
        """The arguments that made it."""
        return (
            f"GyroSchedule({self.features}, {self.p}, total_steps={self.total_steps}, "
            f"seed={self.seed}, site={self.site}, subnets={self.subnet_count}, "
            f"coscheduled={self.coscheduled}, tile_cols={self.tile_cols}, "
            f"tile_rows={self.tile_rows}, order={self.order!r}, draw={self.draw!r})"
        )
