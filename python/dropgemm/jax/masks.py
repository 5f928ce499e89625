"""Masks whose bits JAX traces: as bool matrices, and over the positions of samples."""

from __future__ import annotations

import jax.numpy as jnp

from dropgemm.framework import Array
from dropgemm.tile_mask import TileMask


def dense(mask: TileMask) -> Array:
    """A mask as a bool matrix, by JAX's own operations: XLA fuses them with what reads it."""
    if mask.transposed:
        return dense(mask.T).T
    (rows, cols), (tile_rows, tile_cols) = mask.shape, mask.tile
    words = mask.bits
    bits = (words[:, :, None] >> jnp.arange(32, dtype=words.dtype)) & 1
    tiles = bits.reshape(len(words), 32 * words.shape[1]) != 0
    row, col = jnp.arange(rows) // tile_rows, jnp.arange(cols) // tile_cols
    return tiles[row][:, col]


def over_positions(mask: TileMask, positions: int) -> TileMask:
    """The mask of a batch whose samples have `positions` rows each, all masked as the sample is."""
    (rows, cols), (tile_rows, tile_cols) = mask.shape, mask.tile
    return TileMask.trusted(
        mask.bits,
        mask._framework,
        (rows * positions, cols),
        (tile_rows * positions, tile_cols),
        mask.keep_hint,
        mask.transposed,
    )
