"""dropgemm::matmul by the shortest way, and its reverse-mode derivatives.

With D = out_scale act(Z) . Md, Z = scale op(A . Ma) op(B . Mb) + addend + bias and the incoming
gradient dD, let dZ = dD . act'(Z); each operand's gradient is a product of the same operator:

    dA = out_scale scale (dZ . Md) op(B . Mb)^T . Ma       dB = out_scale scale op(A . Ma)^T (dZ . Md) . Mb

transposed where the operand was; that of the bias is out_scale 1^T (dZ . Md). ReLU's derivative is
read from D; GELU's needs Z, computed again.
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dropgemm.framework import HIGHEST
from dropgemm.torch import ops as ops  # registers the operator
from dropgemm.torch.calls import GELU, GELU_TANH, NONE, RELU, MaskArguments, Product, multiply
from dropgemm.torch.tracing import needs_operator, refuse_forward_ad, short_apply
from dropgemm.torch.transforms import differentiable, loop_or_fold


def matmul(
    a: Tensor, b: Tensor, bias: Tensor | None, addend: Tensor | None, product: Product
) -> Tensor:
    """The product, differentiable.

    Plain tensors take Matmul straight to the core, which costs a seventh of the operator's
    derivative; what is traced, transformed or no plain tensor takes the operator. Both give the
    same bits.
    """
    result: Tensor
    if needs_operator(a, b, bias, addend):
        refuse_forward_ad(a, b, bias, addend)
        result = _operator(a, b, bias, addend, *product.flat())
    elif torch.is_grad_enabled() and (
        a.requires_grad
        or b.requires_grad
        or (bias is not None and bias.requires_grad)
        or (addend is not None and addend.requires_grad)
    ):
        result = _apply(a, b, bias, addend, product)
    else:
        result = multiply(a, b, bias, addend, product)
    return result


def _saved(
    a: Tensor, b: Tensor, bias: Tensor | None, addend: Tensor | None, activation: int, out: Tensor
) -> tuple[Tensor | None, ...]:
    """What the backward reads of a product's tensors; bias and addend only to compute Z again."""
    if activation == NONE:
        return a, b, None, None, None
    return (a, b, None, None, out) if activation == RELU else (a, b, bias, addend, None)


def _gradients(
    saved: tuple[Tensor | None, ...], product: Product, grad: Tensor, needs: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Of a, b, bias and addend, those that are needed; themselves made of products."""
    a, b, bias, addend, output = saved
    assert a is not None
    assert b is not None
    a_mask, b_mask, out_mask, trans_a, trans_b, activation, *_ = product
    dz = grad
    if activation == RELU:
        assert output is not None
        dz = torch.where(output.ne(0), grad, grad.new_zeros(()))
    elif activation in (GELU, GELU_TANH):
        linear = product._replace(activation=NONE, out_scale=1.0, out_scale_tensor=None)
        z = matmul(a, b, bias, addend, linear)
        approximate = "tanh" if activation == GELU_TANH else "none"
        dz = torch.ops.aten.gelu_backward(grad, z, approximate=approximate)

    def times(
        x: Tensor, y: Tensor, x_mask: MaskArguments, y_mask: MaskArguments, mask: MaskArguments,
        trans_x: bool, trans_y: bool,
    ) -> Tensor:  # fmt: skip
        return matmul(x, y, None, None, Product(
            x_mask, y_mask, mask, trans_x, trans_y, NONE, product.scale, product.scale_tensor,
            product.out_scale, product.out_scale_tensor, product.precision, product.deterministic,
        ))  # fmt: skip

    da = db = dbias = daddend = None
    if needs[0] and not trans_a:
        da = times(dz, b, out_mask, b_mask, a_mask, False, not trans_b)
    elif needs[0]:
        da = times(b, dz, b_mask, out_mask, a_mask, trans_b, True)
    if needs[1] and not trans_b:
        db = times(a, dz, a_mask, out_mask, b_mask, not trans_a, False)
    elif needs[1]:
        db = times(dz, a, out_mask, a_mask, b_mask, True, trans_a)
    factors = product.out_scale, product.out_scale_tensor
    if needs[2]:
        # A sum, which no precision rounds.
        ones = Product(
            b_mask=out_mask, scale=factors[0], scale_tensor=factors[1], precision=HIGHEST
        )
        dbias = matmul(dz.new_ones(1, dz.shape[0]), dz, None, None, ones)[0]
    if needs[3]:
        daddend = out_mask.select(dz) * factors[0]
        if factors[1] is not None:
            daddend = daddend * factors[1]
    return da, db, dbias, daddend


class Matmul(torch.autograd.Function):
    """The product of plain tensors, past the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        bias: Tensor | None,
        addend: Tensor | None,
        product: Product,
    ) -> Tensor:
        out = multiply(a, b, bias, addend, product)
        ctx.save_for_backward(*_saved(a, b, bias, addend, product.activation, out))
        ctx.product = product
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*_gradients(ctx.saved_tensors, ctx.product, grad, ctx.needs_input_grad), None)


_apply = short_apply(Matmul)


def _kept(inputs: tuple[Any, ...], output: Tensor) -> tuple[Any, ...]:
    a, b, bias, addend, *flat = inputs
    activation = Product.from_flat(tuple(flat)).activation
    return (*_saved(a, b, bias, addend, activation, output), *flat)


def _backward(needs: tuple[bool, ...], kept: tuple[Any, ...], grad: Tensor) -> tuple[Any, ...]:
    if any(needs[4:]):
        raise RuntimeError("scale: expected a tensor without gradient: it has no derivative")
    return _gradients(kept[:5], Product.from_flat(kept[5:]), grad, needs)


_operator = differentiable(
    "matmul",
    _kept,
    _backward,
    loop_or_fold(
        lambda a, b, bias, addend, *flat: matmul(a, b, bias, addend, Product.from_flat(flat))
    ),
)
