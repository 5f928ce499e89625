"""The functional API on CuPy arrays, on CuPy's current stream of their device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np
import numpy.typing as npt

from dropgemm.framework import DTYPES, Array, Framework, NDArray, ceil_div

if TYPE_CHECKING:
    from dropgemm.tile_mask import TileMask


class CuPy(Framework):
    """CuPy arrays. Results lie on the device of the operands, masks on that of step or `like`.

    What reads values waits for them: keep rates, TileMask(...), from_dense(), compact() without a
    size. Everything else is queued.
    """

    name = "cupy"
    noun = "a CuPy array"
    kind = cupy.ndarray
    takes_float16 = True

    def check_alike(self, name: str, array: Array, leader: str, first: Array) -> None:
        """Refuses an array on another device."""
        if array.device.id != first.device.id:
            raise TypeError(
                f"{name}: expected an array on CUDA device {first.device.id} like {leader}, "
                f"got one on CUDA device {array.device.id}"
            )

    def view(self, name: str, array: Array) -> NDArray:
        """A copy of the values."""
        values: NDArray = cupy.asnumpy(array)
        return values

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Of the current stream's pool."""
        return cupy.empty(shape, dtype)

    def wrap(self, result: Array) -> Array:
        """The result."""
        return result

    def beside(self, result: NDArray, like: Array) -> Array:
        """Copied there."""
        with like.device:
            return cupy.asarray(result)

    def at(self, step: int, like: Array) -> Array:
        """An array beside `like`."""
        with like.device:
            return cupy.full((), step, np.int64)

    def writable(self, out: Array) -> Array:
        """Any is."""
        return out

    # --- As dropgemm._core takes them ------------------------------------------------------------

    def on(self, array: Array) -> AbstractContextManager[Any]:
        """Its device."""
        device: AbstractContextManager[Any] = array.device
        return device

    def stream(self) -> int:
        """CuPy's current one."""
        return int(cupy.cuda.get_current_stream().ptr)

    def operand(self, name: str, array: Array) -> tuple[int, ...]:
        """(address, dtype code, *shape, *strides)."""
        strides = (stride // array.itemsize for stride in array.strides)
        return (array.data.ptr, DTYPES[array.dtype.name], *array.shape, *strides)

    def result(self, memory: Array) -> tuple[int, ...]:
        """As any operand."""
        return self.operand("out", memory)

    def scalar(self, name: str, array: Array) -> int:
        """Its address."""
        return int(array.data.ptr)

    def words(self, memory: Array) -> int:
        """Their address."""
        return int(memory.data.ptr)

    def core_bits(self, bits: Array) -> int:
        """Their address."""
        return int(bits.data.ptr)

    def number(self, step: Array) -> tuple[int]:
        """Its address."""
        return (int(step.data.ptr),)

    # --- Masks -----------------------------------------------------------------------------------

    def check_bits(self, bits: Array) -> Array:
        """Looks at no values."""
        if bits.dtype != np.uint32:
            raise TypeError(f"bits: expected uint32, got {bits.dtype}")
        if not bits.flags.c_contiguous:
            raise ValueError("bits: expected a contiguous array, got a strided one")
        return bits

    def to_dense(self, mask: TileMask) -> Array:
        """By CuPy's own operations, on the device."""
        (rows, cols), (tile_rows, tile_cols) = mask.shape, mask.tile
        if mask.transposed:
            return cupy.ascontiguousarray(self.to_dense(mask.T).T)
        with mask.bits.device:
            numbers = cupy.arange(32, dtype=np.uint32)
            tiles = (mask.bits[:, :, None] >> numbers & np.uint32(1)).astype(np.bool_)
            tiles = tiles.reshape(len(tiles), -1)[:, : ceil_div(cols, tile_cols)]
            tiles = tiles.repeat(tile_rows, 0)[:rows].repeat(tile_cols, 1)[:, :cols]
            return cupy.ascontiguousarray(tiles)

    def to_step(self, step: Array) -> Array:
        """Stays on its device."""
        if step.dtype.kind not in "iu":
            raise TypeError(f"step: expected an integer array, got {step.dtype}")
        with step.device:
            return step.astype(np.int64, copy=False)

    def thresholds(self, thresholds: NDArray) -> Array:
        """Copied to the current device."""
        return cupy.asarray(thresholds)

    def core_thresholds(self, thresholds: Array) -> tuple[int, int]:
        """(address, size)."""
        return int(thresholds.data.ptr), thresholds.size


CUPY = CuPy()
