"""The functional API on JAX arrays in the CPU's memory: NumPy's, on views of them.

Operands are looked at through DLPack, results are given to JAX the same way; neither is copied.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.core import Tracer

from dropgemm.arrays import find_framework
from dropgemm.framework import HIGHEST, MEDIUM, Array, Framework, NDArray, is_bfloat16
from dropgemm.tile_mask import TileMask

_config: Any = jax.config  # whose settings carry no types
_MEDIUM_NAMES = ("bfloat16", "BF16_BF16_F32")
_ALIGNMENT = 64  # bytes; XLA's own of the CPU, which copies what it is given at any other


class Jax(Framework):
    """JAX arrays with values, on the CPU device that DLPack means."""

    name = "jax"
    noun = "a JAX array"
    kind = jax.Array

    def check(self, name: str, array: Array) -> None:
        """Refuses tracers, donated arrays, other devices, and float64 that JAX would not return."""
        _check_values(name, array)
        if not isinstance(array.dtype, np.dtype):
            raise TypeError(f"{name}: expected an array of numbers, got {array.dtype}")
        devices = array.devices()
        if len(devices) != 1:
            raise TypeError(
                f"{name}: expected a JAX array on one device, got one over {len(devices)}"
            )
        (device,) = devices
        if device.platform != "cpu" or device.local_hardware_id != 0:
            raise TypeError(f"{name}: expected a JAX array on cpu:0, got one on {device}")
        if array.dtype == np.float64 and not _config.jax_enable_x64:
            raise TypeError(
                f"{name}: expected float32 where jax_enable_x64 is off, as it is here, got float64"
            )

    def view(self, name: str, array: Array) -> NDArray:
        """Read-only, after waiting for the values."""
        _check_values(name, array)  # of bits too, which a transformation may have put into a mask
        if is_bfloat16(array):
            return np.asarray(array)  # a view too; DLPack has no such dtype for NumPy
        if array.dtype.kind == "V":
            raise TypeError(f"{name}: expected a dtype that NumPy has, got {array.dtype}")
        return np.from_dlpack(array)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> NDArray:
        """Aligned as XLA's own buffers are."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    def wrap(self, result: NDArray) -> Array:
        """Of JAX's default integer width, where the result is of int64."""
        if is_bfloat16(result):
            return jax.dlpack.from_dlpack(result.view(np.uint16)).view(result.dtype)
        return jax.dlpack.from_dlpack(result)

    def default_precision(self) -> int:
        """Medium within jax.default_matmul_precision("bfloat16"), and where that is configured."""
        return MEDIUM if _config.jax_default_matmul_precision in _MEDIUM_NAMES else HIGHEST

    def writable(self, out: Array) -> NDArray:
        """None is."""
        raise TypeError("out: expected None, as JAX arrays are not written to, got a JAX array")


def _check_values(name: str, array: Array) -> None:
    if isinstance(array, Tracer):
        raise TypeError(
            f"{name}: expected a JAX array with values, got a {type(array).__name__}; dropgemm "
            "runs at once and has no derivatives here: call it outside of jit, grad and vmap"
        )
    if array.is_deleted():
        raise ValueError(f"{name}: expected an array with values, got a deleted or donated one")


JAX = Jax()


# A mask is a pytree of its bits, so that it can be an argument of transformed functions, be put on
# devices and saved. JAX builds masks of whatever it likes, hence without checks.
def _flatten(mask: TileMask) -> tuple[tuple[Any], tuple[Any, ...]]:
    return (mask.bits,), (mask.shape, mask.tile, mask.keep_hint, mask.transposed)


def _unflatten(layout: tuple[Any, ...], children: tuple[Any]) -> TileMask:
    (bits,) = children
    return TileMask.trusted(bits, find_framework(bits) or JAX, *layout)


jax.tree_util.register_pytree_node(TileMask, _flatten, _unflatten)
