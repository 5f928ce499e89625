"""matmul and layers for JAX, which skip what dropout drops of inputs, weights and outputs.

As in JAX's own functions, a NumPy array may stand where an array of JAX does.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropgemm.arrays import framework_of
from dropgemm.framework import Array
from dropgemm.jax.masks import over_positions
from dropgemm.matmul import ActivationName, PrecisionName
from dropgemm.matmul import matmul as product
from dropgemm.tile_mask import TileMask


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
) -> Array:
    """dropgemm.matmul of JAX arrays: out_scale * act(scale * AB + addend + bias), masked.

    May stand in jit, grad (of any order), vmap (which calls it for one after the other),
    checkpoint, scan and shard_map. Forward-mode derivatives, and derivatives by scale and
    out_scale, are refused.

    >>> import jax, jax.numpy as jnp
    >>> import dropgemm.jax
    >>> mask = dg.RowPattern(period=2).mask(2, 4, like=jnp.zeros(1))
    >>> total = lambda a: dropgemm.jax.matmul(a, jnp.ones((4, 3)), a_mask=mask, scale=2.0).sum()
    >>> jax.jit(jax.grad(total))(jnp.ones((2, 4)))
    Array([[6., 0., 6., 0.],
           [6., 0., 6., 0.]], dtype=float32)
    """
    masks = {"a_mask": a_mask, "b_mask": b_mask, "out_mask": out_mask}
    arrays = {"bias": bias, "addend": addend, "scale": scale, "out_scale": out_scale}
    operands: dict[str, Any] = {name: _to_jax(name, x) for name, x in (masks | arrays).items()}
    return product(
        _to_jax("a", a),
        _to_jax("b", b),
        trans_a=trans_a,
        trans_b=trans_b,
        activation=activation,
        precision=precision,
        deterministic=deterministic,
        **operands,
    )


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    in_mask: TileMask | None = None,
    weight_mask: TileMask | None = None,
    out_mask: TileMask | None = None,
    activation: ActivationName | None = None,
    scale: float | Array = 1.0,
    out_scale: float | Array = 1.0,
    precision: PrecisionName | None = None,
    deterministic: bool = False,
) -> Array:
    """A layer whose weight is [out, in], as PyTorch keeps it.

    out_scale * act(scale * (x . in_mask)(weight . weight_mask)^T + bias) . out_mask, and the three
    products of its forward and backward pass skip what any of the masks drops.

    x: [samples, ..., in]. in_mask and out_mask are of [samples, features]: all positions of a
    sample share its row. scale: of the dropout that in_mask is of. The rest is dropgemm.matmul's.

    >>> import jax.numpy as jnp
    >>> import dropgemm.jax
    >>> mask = dg.RowPattern(period=2).mask(2, 4, like=jnp.zeros(1))
    >>> dropgemm.jax.linear(jnp.ones((2, 4)), jnp.ones((3, 4)), in_mask=mask, scale=2.0)
    Array([[4., 4., 4.],
           [4., 4., 4.]], dtype=float32)
    """
    rest = {"activation": activation, "scale": scale, "out_scale": out_scale}
    rest |= {"precision": precision, "deterministic": deterministic}
    return _layer(x, weight, True, bias, in_mask, weight_mask, out_mask, rest)


def dense(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    in_mask: TileMask | None = None,
    kernel_mask: TileMask | None = None,
    out_mask: TileMask | None = None,
    activation: ActivationName | None = None,
    scale: float | Array = 1.0,
    out_scale: float | Array = 1.0,
    precision: PrecisionName | None = None,
    deterministic: bool = False,
) -> Array:
    """linear() with a kernel [in, out], as Flax keeps it; kernel_mask is of the kernel.

    TilePattern and PatternDistribution make masks of [out, in]: pass mask.T.

    >>> import jax.numpy as jnp
    >>> import dropgemm.jax
    >>> mask = dg.RowPattern(period=3, offset=1).mask(2, 3, like=jnp.zeros(1))
    >>> dropgemm.jax.dense(jnp.ones((2, 4)), jnp.ones((4, 3)), out_mask=mask)
    Array([[0., 4., 0.],
           [0., 4., 0.]], dtype=float32)
    """
    rest = {"activation": activation, "scale": scale, "out_scale": out_scale}
    rest |= {"precision": precision, "deterministic": deterministic}
    return _layer(x, kernel, False, bias, in_mask, kernel_mask, out_mask, rest)


def _layer(
    x: Array,
    weight: Array,
    trans: bool,
    bias: Array | None,
    in_mask: TileMask | None,
    weight_mask: TileMask | None,
    out_mask: TileMask | None,
    rest: dict[str, Any],
) -> Array:
    x = _to_jax("x", x)
    framework_of("x", x)
    if x.ndim < 2:
        raise ValueError(f"x: expected [samples, ..., in], got {x.ndim}-D")
    positions = math.prod(x.shape[1:-1])
    y = matmul(
        x.reshape(x.shape[0] * positions, x.shape[-1]),
        weight,
        trans_b=trans,
        bias=bias,
        a_mask=_of_rows(in_mask, positions),
        b_mask=weight_mask,
        out_mask=_of_rows(out_mask, positions),
        **rest,
    )
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _of_rows(mask: TileMask | None, positions: int) -> TileMask | None:
    return mask if mask is None or positions == 1 else over_positions(mask, positions)


def _to_jax(name: str, value: Any) -> Any:
    """A NumPy array, or a mask of one, as JAX's; anything else as it is."""
    if isinstance(value, TileMask):
        return jax.tree.map(lambda bits: _to_jax(name, bits), value)
    if not isinstance(value, np.ndarray):
        return value
    array = jnp.asarray(value)
    if array.dtype != value.dtype:
        raise TypeError(
            f"{name}: expected {array.dtype} where jax_enable_x64 is off, got {value.dtype}"
        )
    return array
