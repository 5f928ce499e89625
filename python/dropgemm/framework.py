"""What the functional API needs of an array framework.

A framework whose arrays NumPy can look at without a copy says how (check, view, empty, wrap) and
has the rest from here, one whose arrays lie on a device says how the core takes them besides.
PyTorch, whose operators can be traced and differentiated, answers itself. Which framework an array
belongs to is for arrays.py to find.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dropgemm import _core

if TYPE_CHECKING:
    from dropgemm.pattern import PatternLayout
    from dropgemm.tile_mask import TileMask

Array = Any  # an array of any framework
NDArray = npt.NDArray[Any]
Pair = tuple[int, int]

TILES = 2  # the core's number for an axis of compact() that is neither rows nor columns
DTYPES = {"float32": 0, "float64": 1, "bfloat16": 2, "float16": 3}  # the core's numbers
HIGHEST, MEDIUM = 0, 1  # the core's numbers for precisions


def ceil_div(x: int, y: int) -> int:
    """x / y, rounded up."""
    return -(-x // y)


def common_divisor(x: int, y: int) -> int:
    """The greatest; not math.gcd, through which no compiled function can be traced."""
    while y:
        x, y = y, x % y
    return x


def bits_shape(shape: Pair, tile: Pair) -> Pair:
    """The shape of the bits of a mask: [tile rows, words of a tile row]."""
    return ceil_div(shape[0], tile[0]), ceil_div(ceil_div(shape[1], tile[1]), 32)


def to_number(name: str, value: object) -> float:
    """A factor that is not an array."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name}: expected a number that float64 holds") from None
    raise TypeError(
        f"{name}: expected a number or a float32 array of no dimension in the operands' "
        f"framework, got {type(value).__qualname__}"
    )


def compact_shape(shape: Pair, tile: Pair, axis: int, size: int) -> tuple[int, ...]:
    """The shape of what compact() makes of a matrix; axis is the core's number."""
    return ((size, shape[1]), (shape[0], size), (size, *tile))[axis]


def compact_matrix(xc: Array, tile: Pair, axis: int) -> Array:
    """xc as the core takes it, a matrix: tiles one under the other."""
    dimensions = 3 if axis == TILES else 2
    if xc.ndim != dimensions:
        raise ValueError(f"xc: expected a {dimensions}-D array, got {xc.ndim}-D")
    if axis != TILES:
        return xc
    if tuple(xc.shape[1:]) != tile:
        raise ValueError(
            f"xc: expected shape (size, {tile[0]}, {tile[1]}), tiles of the mask, "
            f"got {tuple(xc.shape)}"
        )
    return xc.reshape(xc.shape[0] * xc.shape[1], xc.shape[2])


def is_bfloat16(array: Array) -> bool:
    """Whether an array has the dtype that ml_dtypes gives NumPy and JAX."""
    return bool(array.dtype.kind == "V" and array.dtype.name == "bfloat16")


def check_floats(name: str, array: Array, float16: bool = False) -> None:
    """TypeError unless an array is of a dtype that the core takes, and of this machine's byte
    order, which DLPack cannot say; float16 says whether that is one of them."""
    if array.dtype in (np.float32, np.float64) or is_bfloat16(array):
        return
    if float16 and array.dtype == np.float16:
        return
    expected = (
        "float32, float64, bfloat16 or float16" if float16 else "float32, float64 or bfloat16"
    )
    raise TypeError(f"{name}: expected {expected}, got {array.dtype}")


def operand(array: NDArray) -> NDArray | tuple[int, ...]:
    """An array of numbers as dropgemm._core takes it: neither DLPack nor the buffer protocol knows
    NumPy's bfloat16, so that goes as (address, dtype code, *shape, *strides); keep it alive."""
    if not is_bfloat16(array):
        return array
    strides = (stride // 2 for stride in array.strides)
    return (array.ctypes.data, DTYPES["bfloat16"], *array.shape, *strides)


_ANYWHERE = nullcontext()


class MatmulCall(NamedTuple):
    """The arguments of dropgemm.matmul, whose arrays and masks are of one framework; activation and
    precision are the core's numbers."""

    a: Array
    b: Array
    a_mask: TileMask | None
    b_mask: TileMask | None
    out_mask: TileMask | None
    trans_a: bool
    trans_b: bool
    bias: Array | None
    addend: Array | None
    activation: int
    scale: Any
    out_scale: Any
    precision: int | None  # None: the framework's
    deterministic: bool
    out: Array | None


class Framework:
    """The arrays of one framework. There is one object of each, compared by `is`.

    Methods take arrays that check() has let pass and numbers that are in range; what they return
    is new, and in the framework.
    """

    name: str
    noun: str  # as in "expected a NumPy array like a"
    kind: type[Any]
    takes_float16 = False

    def check(self, name: str, array: Array) -> None:
        """TypeError (operand, expected, got) for an array that cannot be used where it lies."""

    def check_alike(self, name: str, array: Array, leader: str, first: Array) -> None:
        """TypeError unless `array` is on the device of `first`, which is operand `leader`."""

    def view(self, name: str, array: Array) -> NDArray:
        """The values of an array, in its memory where NumPy can see that; TypeError where it has
        none."""
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """Memory for a result, on the current device."""
        return np.empty(shape, dtype)

    def wrap(self, result: Any) -> Array:
        """An array in the memory of `result`, which nobody writes to any more."""
        raise NotImplementedError

    def beside(self, result: NDArray, like: Array) -> Array:
        """An array of the values of `result`, on the device of `like`."""
        return self.wrap(result)

    def at(self, step: int, like: Array) -> Any:
        """A step for bits on the device of `like`: the int, where that is the CPU."""
        return step

    def is_traced(self) -> bool:
        """Whether this call is being compiled, where nothing can be said to the user."""
        return False

    # --- As dropgemm._core takes them ------------------------------------------------------------

    def on(self, array: Array) -> AbstractContextManager[Any]:
        """Within it the current device is that of an array."""
        return _ANYWHERE

    def stream(self) -> int | None:
        """The handle of the stream that calls on the current device are queued on."""
        return None

    def operand(self, name: str, array: Array) -> NDArray | tuple[int, ...]:
        """A matrix or a vector of numbers."""
        return operand(self.view(name, array))

    def scalar(self, name: str, array: Array) -> NDArray | int:
        """A number of no dimension."""
        return self.view(name, array)

    def result(self, memory: Any) -> Any:
        """A matrix that empty() made, or writable()."""
        return operand(memory)

    def words(self, memory: Any) -> Any:
        """Bits or a number that empty() made."""
        return memory

    def number(self, step: Any) -> Any:
        """A step: an int, or what to_step() made."""
        return step

    # --- Masks: bits are uint32 of bits_shape(shape, tile) ---------------------------------------

    def check_bits(self, bits: Array) -> Array:
        """A user's bits as uint32 in their own memory; TypeError and ValueError where they cannot
        be that, or have gaps."""
        if bits.dtype != np.uint32:
            raise TypeError(f"bits: expected uint32, got {bits.dtype}")
        if not self.view("bits", bits).flags.c_contiguous:
            raise ValueError("bits: expected a contiguous array, got a strided one")
        return bits

    def check_padding(self, bits: Array, used: int) -> Array:
        """Bits of whose last words the lowest `used` bits alone may be 1; ValueError for others."""
        if (self.view("bits", bits)[:, -1] >> np.uint32(used)).any():
            raise ValueError(
                f"bits: expected 0 in the padding after column tile {used - 1} of "
                "the last word, got 1"
            )
        return bits

    def core_bits(self, bits: Array) -> NDArray | int:
        """Bits as dropgemm._core takes them: an array, or an address that `bits` keeps alive."""
        return self.view("bits", bits)

    def to_dense(self, mask: TileMask) -> Array:
        """A mask as a bool matrix."""
        dense = self.empty(mask.shape, np.bool_)
        _core.mask_to_dense(mask.arguments(), dense)
        return self.wrap(dense)

    def to_step(self, step: Array) -> Array:
        """A step of no dimension as int64; TypeError where it is not an integer."""
        if step.dtype.kind not in "iu":
            raise TypeError(f"step: expected an integer array, got {step.dtype}")
        return self.view("step", step).astype(np.int64, copy=False)

    def read_step(self, step: Array) -> int:
        """The value of what to_step() made."""
        return int(step)

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
        """The bits of bernoulli_mask; step is an int or what to_step() made."""
        with self.on(step):
            bits = self.empty(bits_shape(shape, tile), np.uint32)
            _core.bernoulli_mask(
                self.words(bits), *shape, *tile, p, seed, site, self.number(step), call, first_row,
                self.stream(),
            )  # fmt: skip
            return self.wrap(bits)

    def gyro_bits(self, shape: Pair, tile: Pair, arguments: tuple[Any, ...]) -> Array:
        """The bits of a GyroSchedule's mask, from its arguments()."""
        *before, step = arguments[:5]
        with self.on(step):
            bits = self.empty(bits_shape(shape, tile), np.uint32)
            given: tuple[Any, ...] = (*before, self.number(step), *arguments[5:], self.stream())
            _core.gyro_mask(self.words(bits), *shape, *tile, *given)
            return self.wrap(bits)

    def pattern_bits(
        self,
        layout: PatternLayout,
        period: int,
        offset: int,
        thresholds: NDArray | None = None,
        seed: int = 0,
        site: int = 0,
        step: Any = 0,
        call: Any = 0,
    ) -> tuple[Array, Array]:
        """The bits of a pattern that is given, or drawn where there are thresholds; its scale."""
        with self.on(step):
            bits = self.empty(bits_shape(layout.shape, layout.tile), np.uint32)
            scale = self.empty((), np.float32)
            there = None if thresholds is None else self.thresholds(thresholds)
            _core.pattern_mask(
                self.words(bits), *layout, period, offset,
                None if there is None else self.core_thresholds(there), seed, site,
                self.number(step), call, self.words(scale), self.stream(),
            )  # fmt: skip
            return self.wrap(bits), self.wrap(scale)

    def thresholds(self, thresholds: NDArray) -> Array:
        """Those of a distribution, on the current device."""
        return thresholds

    def core_thresholds(self, thresholds: Array) -> Any:
        """As dropgemm._core takes them."""
        return thresholds

    # --- Products --------------------------------------------------------------------------------

    def matmul(self, call: MatmulCall) -> Array:
        """dropgemm.matmul."""
        a, b, out = call.a, call.b, call.out
        for name in ("a", "b", "bias", "addend", "out"):
            if (array := getattr(call, name)) is not None:
                check_floats(name, array, self.takes_float16)
        for name, array in (("a", a), ("b", b)):
            if array.ndim != 2:
                raise ValueError(f"{name}: expected a 2-D array, got {array.ndim}-D")
        shape = a.shape[1 if call.trans_a else 0], b.shape[0 if call.trans_b else 1]
        scale_value, scale_array = self.factor("scale", call.scale)
        out_scale_value, out_scale_array = self.factor("out_scale", call.out_scale)
        with self.on(a):
            result = self.empty(shape, a.dtype) if out is None else self.writable(out)
            _core.matmul(
                self.operand("a", a),
                self.operand("b", b),
                self.result(result),
                call.a_mask.arguments() if call.a_mask is not None else None,
                call.b_mask.arguments() if call.b_mask is not None else None,
                call.out_mask.arguments() if call.out_mask is not None else None,
                call.trans_a,
                call.trans_b,
                scale_value,
                out_scale_value,
                self.scalar("scale", scale_array) if scale_array is not None else None,
                self.scalar("out_scale", out_scale_array) if out_scale_array is not None else None,
                self.operand("addend", call.addend) if call.addend is not None else None,
                self.operand("bias", call.bias) if call.bias is not None else None,
                call.activation,
                precision=self.default_precision() if call.precision is None else call.precision,
                deterministic=call.deterministic,
                stream=self.stream(),
            )
            return self.wrap(result) if out is None else out

    def default_precision(self) -> int:
        """Of products whose caller names none: the core's number."""
        return HIGHEST

    def writable(self, out: Array) -> NDArray:
        """The memory of a user's output; an error where it must not be written to."""
        raise NotImplementedError

    # --- Compaction: axis is the core's number ---------------------------------------------------

    def compact(self, x: Array, mask: TileMask, axis: int, size: int) -> Array:
        """dropgemm.compact of a size that is known."""
        check_floats("x", x, self.takes_float16)
        with self.on(x):
            xc = self.empty(compact_shape(mask.shape, mask.tile, axis, size), x.dtype)
            matrix = self.result(compact_matrix(xc, mask.tile, axis))
            _core.compact(self.operand("x", x), matrix, mask.arguments(), axis, self.stream())
            return self.wrap(xc)

    def expand(self, xc: Array, mask: TileMask, axis: int) -> Array:
        """dropgemm.expand."""
        check_floats("xc", xc, self.takes_float16)
        with self.on(xc):
            x = self.empty(mask.shape, xc.dtype)
            matrix = compact_matrix(xc, mask.tile, axis)  # which may be a copy: keep it
            _core.expand(
                self.operand("xc", matrix), self.result(x), mask.arguments(), axis, self.stream()
            )
            return self.wrap(x)

    def factor(self, name: str, value: object) -> tuple[float, Array | None]:
        """A factor as (number, None) or (1, array of no dimension)."""
        if not isinstance(value, self.kind):
            return to_number(name, value), None
        self.check(name, value)
        if value.ndim != 0 or value.dtype != np.float32:
            raise TypeError(
                f"{name}: expected a number or a float32 array of no dimension, "
                f"got {value.dtype} of shape {tuple(value.shape)}"
            )
        return 1.0, value
