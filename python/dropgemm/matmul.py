"""matmul: the one operator of this library, for the arrays of every framework."""

from __future__ import annotations

from typing import Literal

from dropgemm.arrays import common_framework
from dropgemm.framework import HIGHEST, MEDIUM, Array, MatmulCall
from dropgemm.tile_mask import TileMask, check_mask

ActivationName = Literal["relu", "gelu", "gelu_tanh"]
PrecisionName = Literal["highest", "medium"]

_PRECISIONS = {"highest": HIGHEST, "medium": MEDIUM}
_ACTIVATIONS = {"relu": 1, "gelu": 2, "gelu_tanh": 3}


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
    precision: PrecisionName | None = None,
    deterministic: bool = False,
    out: Array | None = None,
) -> Array:
    """out_scale * act(scale * (A . a_mask)(B . b_mask) + addend + bias) . out_mask.

    a [M, K] ([K, M] with trans_a), b [K, N] ([N, K] with trans_b), addend [M, N], bias [N]: one
    dtype (float32, float64, bfloat16), any strides, no copy; a mask describes its array as passed.
    Whatever a dropped tile of a or b holds, NaN included, does not reach the result; a dropped
    tile of the result is 0. activation: "relu", "gelu" (erf) or "gelu_tanh". scale and
    out_scale: numbers, or float32 arrays of no dimension.

    Sums and the epilogue are of the operands' dtype, of float32 for bfloat16. precision="medium"
    lets float32 operands a and b be rounded to bfloat16 on their way in, where the processor
    multiplies those faster: an error of up to 2^-8 of each. None: "highest", unless PyTorch
    (torch.set_float32_matmul_precision) or JAX (jax.default_matmul_precision) was told otherwise.

    deterministic=True asks for the same bits at every call: a CPU always gives them, a GPU may
    otherwise add up row groups in any order. On PyTorch tensors torch.use_deterministic_algorithms
    asks for it too.

    Returns out, or a new [M, N] array of the operands' framework. On PyTorch tensors this is the
    operator dropgemm::matmul, with gradients for a, b, bias and addend; out= then needs all
    operands to be without gradient. On JAX arrays it may stand in jit, grad (of any order) and
    shard_map, and has no out=.

    Raises ValueError for shapes, masks, read-only or overlapping outputs and TypeError for kinds
    and dtypes, saying operand, expected, got.

    >>> keep = np.array([[True, True, False, False], [False, False, True, True]])
    >>> x = np.array([[1, 2, np.nan, np.nan], [np.nan, np.nan, 3, 4]], np.float32)
    >>> w = np.ones((3, 4), np.float32)  # as a layer keeps it: [out, in]
    >>> mask = dg.TileMask.from_dense(keep, tile=(1, 2))
    >>> dg.matmul(x, w, trans_b=True, a_mask=mask, scale=2.0)
    array([[ 6.,  6.,  6.],
           [14., 14., 14.]], dtype=float32)

    PyTorch tensors have gradients, and dropped elements have none:

    >>> import torch
    >>> inputs = torch.from_numpy(x).requires_grad_()
    >>> mask = dg.TileMask.from_dense(torch.from_numpy(keep), tile=(1, 2))
    >>> dg.matmul(inputs, torch.ones(3, 4), trans_b=True, a_mask=mask).sum().backward()
    >>> inputs.grad
    tensor([[3., 3., 0., 0.],
            [0., 0., 3., 3.]])

    JAX arrays:

    >>> import jax.numpy as jnp
    >>> mask = dg.TileMask.from_dense(jnp.asarray(keep), tile=(1, 2))
    >>> dg.matmul(jnp.asarray(x), jnp.ones((3, 4)), trans_b=True, a_mask=mask, activation="relu")
    Array([[3., 3., 3.],
           [7., 7., 7.]], dtype=float32)
    """
    framework = common_framework(a=a, b=b, bias=bias, addend=addend, out=out)
    for name, mask in (("a_mask", a_mask), ("b_mask", b_mask), ("out_mask", out_mask)):
        if mask is not None:
            check_mask(name, mask, framework, "a", a)
    call = MatmulCall(
        a, b, a_mask, b_mask, out_mask, bool(trans_a), bool(trans_b), bias, addend,
        activation_code(activation), scale, out_scale, precision_code(precision),
        bool(deterministic), out,
    )  # fmt: skip
    return framework.matmul(call)


def activation_code(activation: str | None) -> int:
    """The core's number for an activation."""
    if activation is None:
        return 0
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        legal = ", ".join(repr(name) for name in _ACTIVATIONS)
        raise ValueError(f"activation: expected None or one of {legal}, got {activation!r}")
    return _ACTIVATIONS[activation]


def precision_code(precision: str | None) -> int | None:
    """The core's number for a precision; None for the framework's own."""
    if precision is None:
        return None
    if not isinstance(precision, str) or precision not in _PRECISIONS:
        legal = ", ".join(repr(name) for name in _PRECISIONS)
        raise ValueError(f"precision: expected None or one of {legal}, got {precision!r}")
    return _PRECISIONS[precision]
