"""The functional API on JAX arrays: at once where there are values, traced where JAX traces.

Arrays with values in the memory of cpu:0 are looked at through DLPack and results are given to JAX
the same way, as NumPy's are; neither is copied. Tracers, and arrays on other devices, go through
XLA's foreign functions (ffi.py, autodiff.py) to the same core, and get the same bits of masks.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer

from dropgemm import _core
from dropgemm.arrays import find_framework
from dropgemm.framework import (
    HIGHEST,
    MEDIUM,
    Array,
    Framework,
    MatmulCall,
    NDArray,
    Pair,
    bits_shape,
    check_floats,
    compact_matrix,
    is_bfloat16,
)
from dropgemm.jax import autodiff, ffi, masks
from dropgemm.jax.ffi import Operands, Product
from dropgemm.tile_mask import TileMask

if TYPE_CHECKING:
    from dropgemm.pattern import PatternLayout

_config: Any = jax.config  # whose settings carry no types
_MEDIUM_NAMES = ("bfloat16", "BF16_BF16_F32")
_ALIGNMENT = 64  # bytes; XLA's own of the CPU, which copies what it is given at any other


class Jax(Framework):
    """JAX arrays on CPU and CUDA devices, and tracers."""

    name = "jax"
    noun = "a JAX array"
    kind = jax.Array
    takes_float16 = True  # which the cuda backend multiplies, and any backend compacts

    def check(self, name: str, array: Array) -> None:
        """Refuses donated arrays, other devices, and float64 that JAX would not return."""
        if not isinstance(array.dtype, np.dtype):
            raise TypeError(f"{name}: expected an array of numbers, got {array.dtype}")
        if isinstance(array, Tracer):
            return
        if array.is_deleted():
            raise ValueError(f"{name}: expected an array with values, got a deleted or donated one")
        for device in array.devices():
            if why_not := _why_not(device.platform):
                raise TypeError(
                    f"{name}: expected a JAX array on a device that dropgemm has a backend for, "
                    f"got one on {device}{why_not}"
                )
        if array.dtype == np.float64 and not _config.jax_enable_x64:
            raise TypeError(
                f"{name}: expected float32 where jax_enable_x64 is off, as it is here, got float64"
            )

    def view(self, name: str, array: Array) -> NDArray:
        """Read-only, after waiting for the values; a copy where they are on several devices."""
        if isinstance(array, Tracer):
            raise TypeError(
                f"{name}: expected a JAX array with values, got a {type(array).__name__}: "
                "what depends on values is for outside of jit, grad and vmap"
            )
        if is_bfloat16(array) or not _at_hand(array):
            return np.asarray(array)  # of bfloat16 a view too, which DLPack has not for NumPy
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
        """Of JAX's default integer width, where the result is of int64; committed to no device, so
        that it goes with arrays on any."""
        with jax.default_device(_first_cpu()):
            return jax.device_put(result)

    def beside(self, result: NDArray, like: Array) -> Array:
        """Copied where that is another device than cpu:0."""
        return jax.device_put(self.wrap(result), _elsewhere(like))

    def at(self, step: int, like: Array) -> Any:
        """An array of JAX where `like` is on another device than cpu:0."""
        device = _elsewhere(like)
        return step if device is None else jax.device_put(np.uint32(step), device)

    def default_precision(self) -> int:
        """Medium within jax.default_matmul_precision("bfloat16"), and where that is configured."""
        return MEDIUM if _config.jax_default_matmul_precision in _MEDIUM_NAMES else HIGHEST

    def factor(self, name: str, value: object) -> tuple[float, Array | None]:
        """Numbers that JAX traces count as numbers, whatever type it has given them."""
        if isinstance(value, jax.Array) and value.ndim == 0 and value.weak_type:
            value = value.astype(np.float32)
        return super().factor(name, value)

    def writable(self, out: Array) -> NDArray:
        """None is."""
        raise TypeError("out: expected None, as JAX arrays are not written to, got a JAX array")

    # --- Masks ------------------------------------------------------------------------------------

    def check_bits(self, bits: Array) -> Array:
        """Any of uint32: arrays of JAX have no gaps."""
        if bits.dtype != np.uint32:
            raise TypeError(f"bits: expected uint32, got {bits.dtype}")
        return bits

    def check_padding(self, bits: Array, used: int) -> Array:
        """Cleared where it is traced, as the core would read past the matrix there."""
        if _at_hand(bits):
            return super().check_padding(bits, used)
        legal = np.full(bits.shape[1], 0xFFFFFFFF, np.uint32)
        legal[-1] = (1 << used) - 1
        return bits & legal

    def to_dense(self, mask: TileMask) -> Array:
        """By JAX's own operations where it is traced."""
        return super().to_dense(mask) if _at_hand(mask.bits) else masks.dense(mask)

    def to_step(self, step: Array) -> Array:
        """Stays an array of JAX where it is traced."""
        if _at_hand(step) or step.dtype.kind not in "iu":
            return super().to_step(step)
        if step.itemsize == 8:
            return step.astype(jnp.int64)
        return step if step.dtype == np.uint32 else step.astype(jnp.int32)

    def read_step(self, step: Array) -> int:
        """TypeError where it is traced."""
        return int(self.view("step", step))

    def bernoulli_bits(
        self,
        shape: Pair,
        tile: Pair,
        p: float,
        seed: int,
        site: int,
        step: Any,
        call: int,
        first_row: int,
    ) -> Array:
        """A foreign function where the step is traced."""
        arguments = (shape, tile, p, seed, site, step, call, first_row)
        if _traces(step):
            return ffi.bernoulli_bits(*arguments)
        return super().bernoulli_bits(*arguments)

    def gyro_bits(self, shape: Pair, tile: Pair, arguments: tuple[Any, ...]) -> Array:
        """A foreign function where the step is traced."""
        if any(_traces(argument) for argument in arguments):
            return ffi.gyro_bits(shape, tile, arguments)
        return super().gyro_bits(shape, tile, arguments)

    def pattern_bits(
        self,
        layout: PatternLayout,
        period: int,
        offset: int,
        thresholds: NDArray | None = None,
        seed: int = 0,
        site: int = 0,
        step: Any = 0,
        call: int = 0,
    ) -> tuple[Array, Array]:
        """A foreign function where the step is traced; a pattern that is given has none."""
        if thresholds is None:
            made = super().pattern_bits(layout, period, offset)
            moved: tuple[Array, Array] = jax.device_put(made, _elsewhere(step))
            return moved
        if _traces(step):
            return ffi.pattern_bits(layout, thresholds, seed, site, step, call)
        return super().pattern_bits(layout, period, offset, thresholds, seed, site, step, call)

    # --- Products ---------------------------------------------------------------------------------

    def matmul(self, call: MatmulCall) -> Array:
        """A foreign function where any operand is traced."""
        if call.out is not None or _at_hand(*call):
            return super().matmul(call)
        scale, scale_array = self.factor("scale", call.scale)
        out_scale, out_scale_array = self.factor("out_scale", call.out_scale)
        product = Product(
            call.trans_a,
            call.trans_b,
            call.activation,
            scale,
            out_scale,
            self.default_precision() if call.precision is None else call.precision,
            call.deterministic,
        )
        operands = Operands(
            call.a,
            call.b,
            call.a_mask,
            call.b_mask,
            call.out_mask,
            call.bias,
            call.addend,
            scale_array,
            out_scale_array,
        )
        _check_product(product, operands)
        return autodiff.multiply(product, operands)

    # --- Compaction -------------------------------------------------------------------------------

    def compact(self, x: Array, mask: TileMask, axis: int, size: int) -> Array:
        """A foreign function where an operand is traced."""
        if _at_hand(x, mask):
            return super().compact(x, mask, axis, size)
        check_floats("x", x, self.takes_float16)
        return autodiff.compact(x, mask, axis, size)

    def expand(self, xc: Array, mask: TileMask, axis: int) -> Array:
        """A foreign function where an operand is traced."""
        if _at_hand(xc, mask):
            return super().expand(xc, mask, axis)
        check_floats("xc", xc, self.takes_float16)
        compact_matrix(xc, mask.tile, axis)
        return autodiff.expand(xc, mask, axis)


JAX = Jax()


@cache
def _first_cpu() -> Any:
    """None where JAX was told to have no CPU devices: its default device then."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


@cache
def _why_not(platform: str) -> str:
    """What is missing to work on devices of JAX's platform; nothing: ""."""
    if platform == "cpu" or (platform == "gpu" and "cuda" in _core.backends()):
        return ""
    if platform != "gpu":
        return " (CPU and CUDA devices have one)"
    try:
        return f" ({_core.describe_backend('cuda')})"
    except (RuntimeError, ValueError) as error:
        return f" ({error})"


def _traces(value: object) -> bool:
    return isinstance(value, jax.Array) and not _at_hand(value)


def _at_hand(*values: object) -> bool:
    """Whether everything has values, in memory that the core may read at once."""
    arrays = (value for value in jax.tree.leaves(values) if isinstance(value, jax.Array))
    return all(not isinstance(array, Tracer) and _is_first_cpu(array) for array in arrays)


def _elsewhere(like: object) -> Any:
    """The device of an array that has values, and has them on one device that is not cpu:0."""
    if isinstance(like, Tracer) or not isinstance(like, jax.Array) or _is_first_cpu(like):
        return None
    device, *others = like.devices()
    return None if others else device


def _is_first_cpu(array: Array) -> bool:
    """Whether DLPack's CPU is where the array is."""
    device, *others = array.devices()
    return not others and device.platform == "cpu" and device.local_hardware_id == 0


def _check_product(product: Product, operands: Operands) -> None:
    """Raises what the core has to say of the operands' shapes and dtypes, whose values are not
    there yet."""
    a, b, a_mask, b_mask, out_mask, bias, addend, _, _ = operands
    for name, array, dimensions in (
        ("a", a, 2), ("b", b, 2), ("addend", addend, 2), ("bias", bias, 1),
    ):  # fmt: skip
        if array is None:
            continue
        check_floats(name, array, JAX.takes_float16)
        if array.ndim != dimensions:
            raise ValueError(f"{name}: expected a {dimensions}-D array, got {array.ndim}-D")
    for name, mask in (("a_mask", a_mask), ("b_mask", b_mask), ("out_mask", out_mask)):
        if mask is None:
            continue
        shape, tile = (mask.T.shape, mask.T.tile) if mask.transposed else (mask.shape, mask.tile)
        if tuple(mask.bits.shape) != bits_shape(shape, tile):
            raise ValueError(
                f"{name}: expected bits of shape {bits_shape(shape, tile)}, "
                f"got {tuple(mask.bits.shape)}"
            )
    _core.matmul_plan(**ffi.core_arguments(product, operands))


# A mask is a pytree of its bits, so that it can be an argument of transformed functions, be put on
# devices and saved. JAX builds masks of whatever it likes, hence without checks.
def _flatten(mask: TileMask) -> tuple[tuple[Any], tuple[Any, ...]]:
    return (mask.bits,), (mask.shape, mask.tile, mask.keep_hint, mask.transposed)


def _unflatten(layout: tuple[Any, ...], children: tuple[Any]) -> TileMask:
    (bits,) = children
    return TileMask.trusted(bits, find_framework(bits) or JAX, *layout)


jax.tree_util.register_pytree_node(TileMask, _flatten, _unflatten)
