"""bernoulli_mask: conventional dropout's independent bits, as a pure function of the seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from dropgemm.arrays import check_extent, framework_of, to_integer, to_pair, to_rate
from dropgemm.framework import Array, Framework
from dropgemm.numpy import NUMPY
from dropgemm.ranks import RankPolicy, to_part
from dropgemm.tile_mask import TileMask

SEED_END = 1 << 64
SITE_END = 1 << 32
STEP_END = 1 << 32
CALL_END = 1 << 28
BATCH_END = 1 << 32
INT_END = 1 << 31


def bernoulli_mask(
    rows: int,
    cols: int,
    p: float,
    *,
    seed: int,
    site: int,
    step: int | Array = 0,
    call: int = 0,
    tile: tuple[int, int] = (1, 1),
    like: Array | None = None,
    rank: int = 0,
    world: int = 1,
    rank_policy: RankPolicy = "disjoint",
) -> TileMask:
    """A mask of [rows, cols] whose tiles are dropped independently with probability p.

    The bits depend on (seed, site, step, call) and the tile alone (include/dropgemm/philox.h).
    step: an int, or an integer array of no dimension, which is read where it lies and clamped at
    0. like: an array that names the framework of the bits; without it step does, or NumPy.
    rank, world: this process's among those that train together, each with `rows` rows. rank_policy
    "disjoint": their rows, joined in the order of the ranks, are those of one mask, and this is
    the rank's part of it. "shared": every rank has the mask of rank 0.

    Raises ValueError for p outside [0, 1], sizes, site, step, call or rank out of range, rows
    before this rank's that are no multiple of the tile's.

    >>> mask = dg.bernoulli_mask(2, 8, 0.5, seed=1, site=0, step=3)
    >>> mask.to_dense().astype(int)
    array([[1, 1, 0, 1, 0, 0, 0, 1],
           [1, 1, 0, 1, 1, 1, 0, 0]])
    >>> mask.equals(dg.bernoulli_mask(2, 8, 0.5, seed=1, site=0, step=4))
    False

    The same in PyTorch, and with a step that a compiled function may be given:

    >>> import torch
    >>> dg.bernoulli_mask(2, 8, 0.5, seed=1, site=0, step=torch.tensor(3)).to_dense().int()
    tensor([[1, 1, 0, 1, 0, 0, 0, 1],
            [1, 1, 0, 1, 1, 1, 0, 0]], dtype=torch.int32)

    And in JAX:

    >>> import jax.numpy as jnp
    >>> like = jnp.zeros(1)  # any array of the framework
    >>> mask = dg.bernoulli_mask(2, 8, 0.5, seed=1, site=0, step=3, like=like)
    >>> mask.to_dense().astype(int)
    Array([[1, 1, 0, 1, 0, 0, 0, 1],
           [1, 1, 0, 1, 1, 1, 0, 0]], dtype=int32)
    """
    rows = to_integer("rows", rows, 0, 1 << 62)
    cols = to_integer("cols", cols, 0, 1 << 62)
    check_extent(rows, cols)
    tile = to_pair("tile", tile, 1)
    rate = to_rate("p", p)
    seed = to_integer("seed", seed, 0, SEED_END)
    site = to_integer("site", site, 0, SITE_END)
    call = to_integer("call", call, 0, CALL_END)
    first_row = to_part(rows, rank, world, rank_policy).first
    framework, at = to_step(step, like)
    bits = framework.bernoulli_bits((rows, cols), tile, rate, seed, site, at, call, first_row)
    return TileMask.trusted(bits, framework, (rows, cols), tile, 1.0 - rate)


def to_step(step: object, like: object) -> tuple[Framework, Any]:
    """The framework that a mask is asked for, and the step as an int or as its own int64 array,
    on the device that the mask is to be on."""
    framework = None if like is None else framework_of("like", like)
    if not hasattr(step, "shape") or isinstance(step, np.integer):
        number = to_integer("step", step, 0, STEP_END)
        return (NUMPY, number) if framework is None else (framework, framework.at(number, like))
    own = framework_of("step", step)
    if framework is not None and framework is not own:
        raise TypeError(
            f"step: expected an array of the framework of like ({framework.name}), got {own.name}"
        )
    shape = tuple(step.shape)
    if shape != ():
        raise ValueError(f"step: expected an array of no dimension, got shape {shape}")
    return own, own.to_step(step)
