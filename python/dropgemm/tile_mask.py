"""TileMask: one bit per tile of a matrix, 1 = kept (include/dropgemm/tile_mask.h)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dropgemm.arrays import framework_of, to_pair, to_rate
from dropgemm.framework import Array, Framework, bits_shape, ceil_div


class TileMask:
    """A mask over a matrix of `shape` [rows, cols], one bit per tile of `tile` elements.

    bits: uint32 [ceil(rows / tile rows), ceil(ceil(cols / tile cols) / 32)], contiguous, the
    lowest bit first, padding bits 0; a NumPy array, a PyTorch tensor (which may also be int32 of
    the same bits) or a JAX array. Tiles clip at the edges. The mask refers to the bits and copies
    nothing.
    keep_hint: the keep rate that the mask was made for, which decides how a product is computed
    and never what comes out; read from the bits where it is not given.

    Raises TypeError and ValueError for bits of another kind, dtype or shape, or with padding set.
    Of bits that JAX traces padding is cleared in place of that, and keep_hint has to be given.

    >>> mask = dg.TileMask(np.array([[0b01], [0b11]], np.uint32), shape=(4, 6), tile=(2, 3))
    >>> mask
    TileMask(shape=(4, 6), tile=(2, 3), keep_hint=0.75)
    >>> mask.to_dense().astype(int)
    array([[1, 1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0, 0],
           [1, 1, 1, 1, 1, 1],
           [1, 1, 1, 1, 1, 1]])
    >>> mask.T.shape, mask.T.tile
    ((6, 4), (3, 2))
    >>> mask.equals(dg.TileMask.from_dense(mask.to_dense(), tile=(2, 3)))
    True

    In JAX a mask is a pytree of its bits.
    """

    __slots__ = ("_framework", "bits", "keep_hint", "shape", "tile", "transposed")

    bits: Array
    shape: tuple[int, int]
    tile: tuple[int, int]
    keep_hint: float
    transposed: bool

    def __init__(
        self,
        bits: Array,
        shape: tuple[int, int],
        tile: tuple[int, int],
        keep_hint: float | None = None,
    ) -> None:
        framework = framework_of("bits", bits)
        shape, tile = to_pair("shape", shape, 0), to_pair("tile", tile, 1)
        bits = framework.check_bits(bits)
        expected = bits_shape(shape, tile)
        if tuple(bits.shape) != expected:
            raise ValueError(
                f"bits: expected shape {expected} for a mask of {shape} in tiles of {tile}, "
                f"got {tuple(bits.shape)}"
            )
        used = ceil_div(shape[1], tile[1]) % 32
        if used:
            bits = framework.check_padding(bits, used)
        self._set(bits, framework, shape, tile, 1.0, False)
        self.keep_hint = self.keep_rate if keep_hint is None else to_rate("keep_hint", keep_hint)

    def _set(
        self,
        bits: Array,
        framework: Framework,
        shape: tuple[int, int],
        tile: tuple[int, int],
        keep_hint: float,
        transposed: bool,
    ) -> None:
        self.bits = bits
        self._framework = framework
        self.shape = shape
        self.tile = tile
        self.keep_hint = keep_hint
        self.transposed = transposed

    @classmethod
    def trusted(
        cls,
        bits: Array,
        framework: Framework,
        shape: tuple[int, int],
        tile: tuple[int, int],
        keep_hint: float,
        transposed: bool = False,
    ) -> TileMask:
        """A mask of bits that this library wrote: nothing is checked or read."""
        mask = cls.__new__(cls)
        mask._set(bits, framework, shape, tile, keep_hint, transposed)
        return mask

    @classmethod
    def from_dense(cls, keep: Array, *, tile: tuple[int, int]) -> TileMask:
        """The mask of a bool matrix [rows, cols] that holds one value in each tile.

        Raises ValueError naming the first tile that holds both values.
        """
        framework = framework_of("keep", keep)
        tile = to_pair("tile", tile, 1)
        dense = framework.view("keep", keep)
        if dense.ndim != 2:
            raise ValueError(f"keep: expected a 2-D array, got {dense.ndim}-D")
        if dense.dtype != np.bool_:
            raise TypeError(f"keep: expected bool, got {dense.dtype}")
        rows, cols = dense.shape
        tiles = dense[:: tile[0], :: tile[1]]
        mixed = np.argwhere(_expand(tiles, tile, (rows, cols)) != dense)
        if mixed.size:
            row, col = mixed[0]
            raise ValueError(
                f"keep: expected one value in each {tile[0]}x{tile[1]} tile, "
                f"got both in tile ({row // tile[0]}, {col // tile[1]})"
            )
        padded = np.zeros((tiles.shape[0], ceil_div(tiles.shape[1], 32) * 32), np.bool_)
        padded[:, : tiles.shape[1]] = tiles
        words = np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)
        keep_hint = float(dense.mean()) if dense.size else 1.0
        return cls.trusted(framework.beside(words, keep), framework, (rows, cols), tile, keep_hint)

    def to_dense(self) -> Array:
        """The mask as a bool matrix [rows, cols] in the framework of its bits."""
        return self._framework.to_dense(self)

    @property
    def T(self) -> TileMask:  # noqa: N802 (as arrays name it)
        """The mask of the transposed matrix: flips a flag and moves nothing."""
        return TileMask.trusted(
            self.bits,
            self._framework,
            self.shape[::-1],
            self.tile[::-1],
            self.keep_hint,
            not self.transposed,
        )

    @property
    def keep_rate(self) -> float:
        """The share of elements that are kept, read from the bits; 1 where there are none."""
        shape = self.shape[::-1] if self.transposed else self.shape
        tile = self.tile[::-1] if self.transposed else self.tile
        if 0 in shape:
            return 1.0
        words = self._words()
        tiles = (words[:, :, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
        columns = ceil_div(shape[1], tile[1])
        heights, widths = (_tile_sizes(n, t) for n, t in zip(shape, tile, strict=True))
        kept = heights @ tiles.reshape(len(words), -1)[:, :columns].astype(np.float64) @ widths
        return float(kept) / (shape[0] * shape[1])

    def equals(self, other: TileMask) -> bool:
        """True where both masks keep the same elements of the same shape."""
        if not isinstance(other, TileMask):
            raise TypeError(f"other: expected a TileMask, got {type(other).__qualname__}")
        if self.shape != other.shape:
            return False
        if self.tile == other.tile and self.transposed == other.transposed:
            return bool((self._words() == other._words()).all())
        mine, theirs = (mask._framework.view("mask", mask.to_dense()) for mask in (self, other))
        return bool((mine == theirs).all())

    def arguments(self) -> tuple[Any, ...]:
        """The mask as dropgemm._core takes it; holds no reference to a tensor's memory."""
        bits = self._framework.core_bits(self.bits)
        return (bits, *self.shape, *self.tile, self.keep_hint, self.transposed)

    def host_arguments(self) -> tuple[Any, ...]:
        """The same for what the core reads at once: bits on a device are copied."""
        return (self._words(), *self.arguments()[1:])

    @property
    def framework(self) -> str:
        """The framework of the bits: "numpy", "torch" or "jax"."""
        return self._framework.name

    def _words(self) -> npt.NDArray[np.uint32]:
        return self._framework.view("bits", self.bits)

    def __repr__(self) -> str:
        """Shape, tile and keep rate, but no bits."""
        kind = f", {self.framework}" if self.framework != "numpy" else ""
        return (
            f"TileMask(shape={tuple(self.shape)}, tile={tuple(self.tile)}, "
            f"keep_hint={self.keep_hint:.4g}{kind})"
        )


def check_mask(name: str, mask: object, framework: Framework, leader: str, first: Array) -> None:
    """Raises TypeError unless `mask` is None or a TileMask of this framework, on the device of
    `first`, which is operand `leader`."""
    if mask is None:
        return
    if not isinstance(mask, TileMask):
        raise TypeError(f"{name}: expected a TileMask, got {type(mask).__qualname__}")
    if mask.framework != framework.name:
        raise TypeError(
            f"{name}: expected bits in {framework.noun} like the operands, "
            f"got {mask._framework.noun}"
        )
    framework.check_alike(name, mask.bits, leader, first)


def _expand(
    tiles: npt.NDArray[np.bool_], tile: tuple[int, int], shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Each tile's value repeated over the elements of the tile, clipped to `shape`."""
    rows = np.repeat(tiles, tile[0], axis=0)[: shape[0]]
    return np.repeat(rows, tile[1], axis=1)[:, : shape[1]]


def _tile_sizes(extent: int, tile: int) -> npt.NDArray[np.float64]:
    """The clipped sizes of the tiles along a dimension."""
    starts = np.arange(0, extent, tile)
    return np.minimum(tile, extent - starts).astype(np.float64)
