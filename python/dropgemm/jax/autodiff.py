"""Reverse-mode derivatives of the foreign functions, of any order.

With D = out_scale act(Z) . Md, Z = scale op(A . Ma) op(B . Mb) + addend + bias and the incoming
gradient dD, let dZ = dD . act'(Z); each operand's gradient is a product of the same kind:

    dA = out_scale scale (dZ . Md) op(B . Mb)^T . Ma
    dB = out_scale scale op(A . Ma)^T (dZ . Md) . Mb

transposed where the operand was. ReLU's derivative is read from D; GELU's needs Z, which the
forward product then writes beside D.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from dropgemm.framework import Array
from dropgemm.jax import ffi
from dropgemm.jax.ffi import Operands, Product
from dropgemm.jax.masks import dense
from dropgemm.tile_mask import TileMask

_RELU, _GELU_TANH = 1, 3


def multiply(product: Product, operands: Operands) -> Array:
    """The differentiable product. A factor that is an array has no derivative, and says so."""
    operands = ffi.vary(operands)
    factors = {
        name: _without_derivative(name, factor)
        for name in ("scale", "out_scale")
        if (factor := getattr(operands, name)) is not None
    }
    d, _ = _product(product, operands._replace(**factors))
    return d


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(product: Product, operands: Operands) -> tuple[Array, Array | None]:
    """D, and Z where it is wanted."""
    return ffi.matmul(product, operands)


def _product_forward(
    product: Product, operands: Operands
) -> tuple[tuple[Array, Array | None], tuple[Any, ...]]:
    # By _product again, not by what it calls: so that this too has a derivative.
    wanted = product if product.activation <= _RELU else product._replace(aux=True)
    named = partial(checkpoint_name, name="dropgemm.matmul")
    d, z = jax.tree.map(named, _product(wanted, operands))
    kept = d if product.activation == _RELU else z
    return (d, z if product.aux else None), (operands, kept)


def _product_backward(
    product: Product, saved: tuple[Any, ...], gradients: tuple[Array, Array | None]
) -> tuple[Operands]:
    (a, b, a_mask, b_mask, out_mask, bias, addend, scale, out_scale), kept = saved
    dd, dz_beside = gradients
    dz = _through_activation(product.activation, kept, dd)
    factor = product.out_scale
    if dz_beside is not None:
        dz = _scaled(dz, factor, out_scale) + dz_beside
        factor, out_scale = 1.0, None

    def gradient(
        left: Array, right: Array, masks: tuple[Any, Any, Any], trans_a: bool, trans_b: bool
    ) -> Array:
        plain = product._replace(
            trans_a=trans_a, trans_b=trans_b, activation=0, out_scale=factor, aux=False
        )
        operands = Operands(left, right, *masks, None, None, scale, out_scale)
        return _product(plain, operands)[0]

    if product.trans_a:
        da = gradient(b, dz, (b_mask, out_mask, a_mask), product.trans_b, True)
    else:
        da = gradient(dz, b, (out_mask, b_mask, a_mask), False, not product.trans_b)
    if product.trans_b:
        db = gradient(dz, a, (out_mask, a_mask, b_mask), True, product.trans_a)
    else:
        db = gradient(a, dz, (a_mask, out_mask, b_mask), not product.trans_a, False)
    if bias is not None or addend is not None:
        dz = _scaled(_select(out_mask, dz), factor, out_scale)
    return (
        Operands(
            da,
            db,
            bias=None if bias is None else dz.sum(0),
            addend=None if addend is None else dz,
        ),
    )


_product.defvjp(_product_forward, _product_backward)


def _through_activation(activation: int, kept: Array | None, gradient: Array) -> Array:
    """dD . act'(Z), from D (ReLU) or Z (GELU)."""
    if activation == 0 or kept is None:
        return gradient
    if activation == _RELU:
        return jnp.where(kept != 0, gradient, 0)
    # Of bfloat16 in float32, as the products do it.
    wide = jnp.promote_types(kept.dtype, jnp.float32)
    gelu = partial(jax.nn.gelu, approximate=activation == _GELU_TANH)
    _, pull = jax.vjp(gelu, kept.astype(wide))
    return pull(gradient.astype(wide))[0].astype(gradient.dtype)


def _scaled(x: Array, factor: float, array: Array | None) -> Array:
    x = x if factor == 1.0 else x * factor
    return x if array is None else x * array.astype(x.dtype)


def _select(mask: TileMask | None, x: Array) -> Array:
    """x with its dropped elements 0, whatever they hold."""
    return x if mask is None else jnp.where(dense(mask), x, 0)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _without_derivative(name: str, x: Array) -> Array:
    """x, in which nothing may be differentiated."""
    return x


@_without_derivative.defjvp
def _refuse_derivative(name: str, primals: Any, tangents: Any) -> Any:
    raise ValueError(
        f"{name}: expected an array without gradient, as it has no derivative; "
        "jax.lax.stop_gradient makes it one"
    )


# --- Compaction: each is the other's derivative ---------------------------------------------------


def compact(x: Array, mask: TileMask, axis: int, size: int) -> Array:
    """dropgemm.compact; axis is the core's number."""
    x, mask = ffi.vary((x, mask))
    return _compact(axis, size, x, mask)


def expand(xc: Array, mask: TileMask, axis: int) -> Array:
    """dropgemm.expand; axis is the core's number."""
    xc, mask = ffi.vary((xc, mask))
    size = xc.shape[1 if axis == 1 else 0]
    return _expand(axis, size, xc, mask)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _compact(axis: int, size: int, x: Array, mask: TileMask) -> Array:
    return ffi.compact(x, mask, axis, size)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _expand(axis: int, size: int, xc: Array, mask: TileMask) -> Array:
    return ffi.expand(xc, mask, axis)


_compact.defvjp(
    lambda axis, size, x, mask: (_compact(axis, size, x, mask), mask),
    lambda axis, size, mask, gradient: (_expand(axis, size, gradient, mask), None),
)
_expand.defvjp(
    lambda axis, size, xc, mask: (_expand(axis, size, xc, mask), mask),
    lambda axis, size, mask, gradient: (_compact(axis, size, gradient, mask), None),
)
