"""matmul: the one operator of this library, for NumPy arrays and PyTorch CPU tensors."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dropgemm import _core
from dropgemm.arrays import Array, check_mask, common_framework
from dropgemm.tile_mask import TileMask

ActivationName = Literal["relu", "gelu", "gelu_tanh"]

_ACTIVATIONS = {None: 0, "relu": 1, "gelu": 2, "gelu_tanh": 3}


def matmul(
    a: Array,
    b: Array,
    *,
    a_mask: TileMask | None = None,
    b_mask: TileMask | None = None,
    out_mask: TileMask | None = None,
    trans_a: bool = False,
    trans_b: bool = False,
    bias: Array | None = None,
    addend: Array | None = None,
    activation: ActivationName | None = None,
    scale: float | Array = 1.0,
    out_scale: float | Array = 1.0,
    out: Array | None = None,
) -> Array:
    """out_scale * act(scale * (A . a_mask)(B . b_mask) + addend + bias) . out_mask.

    a [M, K] ([K, M] with trans_a), b [K, N] ([N, K] with trans_b), addend [M, N], bias [N]: one
    dtype (float32 or float64), any strides, no copy; a mask describes its array as passed.
    Whatever a dropped tile of a or b holds, NaN included, does not reach the result; a dropped
    tile of the result is 0. activation: "relu", "gelu" (erf) or "gelu_tanh". scale and
    out_scale: numbers, or float32 arrays of no dimension.

    Returns out, or a new [M, N] array of the operands' framework. On PyTorch tensors this is the
    operator dropgemm::matmul, with gradients for a, b, bias and addend; out= then needs all
    operands to be without gradient.

    Raises ValueError for shapes, masks, read-only or overlapping outputs and TypeError for kinds
    and dtypes, saying operand, expected, got.
    """
    framework = common_framework(a=a, b=b, bias=bias, addend=addend, out=out)
    for name, mask in (("a_mask", a_mask), ("b_mask", b_mask), ("out_mask", out_mask)):
        check_mask(name, mask, framework)
    code = activation_code(activation)
    if framework == "torch":
        from dropgemm.torch import functional

        return functional.matmul(
            a,
            b,
            a_mask,
            b_mask,
            out_mask,
            trans_a,
            trans_b,
            bias,
            addend,
            code,
            scale,
            out_scale,
            out,
        )
    operands = (("a", a), ("b", b), ("bias", bias), ("addend", addend), ("out", out))
    for name, array in operands:
        # Of this machine's byte order, which DLPack cannot say.
        if array is not None and array.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    for name, array in operands[:2]:
        if array.ndim != 2:
            raise ValueError(f"{name}: expected a 2-D array, got {array.ndim}-D")
    if out is None:
        out = np.empty((a.shape[1 if trans_a else 0], b.shape[0 if trans_b else 1]), a.dtype)
    elif not out.flags.writeable:
        raise ValueError("out: expected a writable array, got a read-only one")
    scale_value, scale_array = _factor("scale", scale)
    out_scale_value, out_scale_array = _factor("out_scale", out_scale)
    _core.matmul(
        a,
        b,
        out,
        a_mask.arguments() if a_mask is not None else None,
        b_mask.arguments() if b_mask is not None else None,
        out_mask.arguments() if out_mask is not None else None,
        bool(trans_a),
        bool(trans_b),
        scale_value,
        out_scale_value,
        scale_array,
        out_scale_array,
        addend,
        bias,
        code,
    )
    return out


def activation_code(activation: str | None) -> int:
    """The core's number for an activation."""
    if not isinstance(activation, (str, type(None))) or activation not in _ACTIVATIONS:
        legal = ", ".join(repr(name) for name in _ACTIVATIONS)
        raise ValueError(f"activation: expected one of {legal}, got {activation!r}")
    return _ACTIVATIONS[activation]


def _factor(name: str, value: object) -> tuple[float, Array | None]:
    """A factor as (number, None) or (1, array of no dimension)."""
    if isinstance(value, np.ndarray):
        if value.ndim != 0 or value.dtype != np.float32:
            raise TypeError(
                f"{name}: expected a number or a float32 array of no dimension, "
                f"got {value.dtype} of shape {value.shape}"
            )
        return 1.0, value
    return to_number(name, value), None


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
