"""TileMask: one bit per tile of a matrix, 1 = kept (include/dropgemm/tile_mask.h)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dropgemm import _core
from dropgemm.arrays import Array, Framework, framework_of, to_pair, to_rate


def ceil_div(x: int, y: int) -> int:
    """x / y, rounded up."""
    return -(-x // y)


def bits_shape(shape: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    """The shape of the bits of a mask: [tile rows, words of a tile row]."""
    return ceil_div(shape[0], tile[0]), ceil_div(ceil_div(shape[1], tile[1]), 32)


class TileMask:
    """A mask over a matrix of `shape` [rows, cols], one bit per tile of `tile` elements.

    bits: uint32 [ceil(rows / tile rows), ceil(ceil(cols / tile cols) / 32)], contiguous, the
    lowest bit first, padding bits 0; a NumPy array or a PyTorch tensor (which may also be int32
    of the same bits). Tiles clip at the edges. The mask refers to the bits and copies nothing.
    keep_hint: the keep rate that the mask was made for, which decides how a product is computed
    and never what comes out; read from the bits where it is not given.

    Raises TypeError and ValueError for bits of another kind, dtype or shape, or with padding set.
    """

    __slots__ = ("bits", "framework", "keep_hint", "shape", "tile", "transposed")

    bits: Array
    framework: Framework
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
        framework = _framework_of_values("bits", bits)
        shape, tile = to_pair("shape", shape, 0), to_pair("tile", tile, 1)
        if framework == "torch":
            from dropgemm.torch.functional import to_uint32

            bits = to_uint32(bits)
        elif bits.dtype != np.uint32:
            raise TypeError(f"bits: expected uint32, got {bits.dtype}")
        expected = bits_shape(shape, tile)
        if tuple(bits.shape) != expected:
            raise ValueError(
                f"bits: expected shape {expected} for a mask of {shape} in tiles of {tile}, "
                f"got {tuple(bits.shape)}"
            )
        contiguous = bits.flags.c_contiguous if framework == "numpy" else bits.is_contiguous()
        if not contiguous:
            raise ValueError("bits: expected a contiguous array, got a strided one")
        self._set(bits, framework, shape, tile, 1.0, False)
        used = ceil_div(shape[1], tile[1]) % 32
        if used and (self._words()[:, -1] >> np.uint32(used)).any():
            raise ValueError(
                f"bits: expected 0 in the padding after column tile {used - 1} of "
                "the last word, got 1"
            )
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
        self.framework = framework
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
        framework = _framework_of_values("keep", keep)
        tile = to_pair("tile", tile, 1)
        dense = keep.detach().numpy() if framework == "torch" else keep
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
        octets = np.packbits(padded, axis=1, bitorder="little")
        bits: Array = octets.view("<u4").astype(np.uint32, copy=False)
        if framework == "torch":
            import torch

            bits = torch.from_numpy(bits)
        keep_hint = float(dense.mean()) if dense.size else 1.0
        return cls.trusted(bits, framework, (rows, cols), tile, keep_hint)

    def to_dense(self) -> Array:
        """The mask as a bool matrix [rows, cols] in the framework of its bits."""
        if self.framework == "torch":
            from dropgemm.torch.functional import expand_mask

            return expand_mask(self)
        dense = np.empty(self.shape, np.bool_)
        _core.mask_to_dense(self.arguments(), dense)
        return dense

    @property
    def T(self) -> TileMask:  # noqa: N802 (as arrays name it)
        """The mask of the transposed matrix: flips a flag and moves nothing."""
        return TileMask.trusted(
            self.bits,
            self.framework,
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
        mine, theirs = (np.asarray(mask.to_dense()) for mask in (self, other))
        return bool((mine == theirs).all())

    def arguments(self) -> tuple[Any, ...]:
        """The mask as dropgemm._core takes it; holds no reference to a tensor's memory."""
        bits = self.bits if self.framework == "numpy" else self.bits.data_ptr()
        return (bits, *self.shape, *self.tile, self.keep_hint, self.transposed)

    def _words(self) -> npt.NDArray[np.uint32]:
        words: npt.NDArray[np.uint32] = (
            self.bits if self.framework == "numpy" else self.bits.numpy()
        )
        return words

    def __repr__(self) -> str:
        """Shape, tile and keep rate, but no bits."""
        kind = f", {self.framework}" if self.framework != "numpy" else ""
        return (
            f"TileMask(shape={tuple(self.shape)}, tile={tuple(self.tile)}, "
            f"keep_hint={self.keep_hint:.4g}{kind})"
        )


def _framework_of_values(name: str, array: Array) -> Framework:
    """framework_of an array that is to be read, which a meta tensor cannot be."""
    framework = framework_of(name, array)
    if framework == "torch" and array.is_meta:
        raise TypeError(f"{name}: expected a tensor with values, got one on meta")
    return framework


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
