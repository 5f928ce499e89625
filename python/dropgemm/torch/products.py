"""The three products of a layer, straight to the core: a sixth of an operator's call cost."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dropgemm import _core
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.functional import mask_arguments

NONE, RELU = 0, 1  # the core's numbers for activations

# A keep hint above every break-even: masks are applied, nothing is skipped.
_HARDLY_DROPPED = 0.999


class LayerMasks(NamedTuple):
    """What a layer drops: of its inputs [rows, in], weight [out, in] and outputs [rows, out]."""

    inputs: TileMask | None
    weights: TileMask | None
    outputs: TileMask | None


class SkippingProducts(torch.autograd.Function):
    """y = act(scale (x . Mi)(W . Mw)^T + b) . Mo, and the two gradients, in lean calls."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        masks: LayerMasks,
        scale: float,
        relu: bool,
        relu_below: bool,
        prune_weight_grad: bool,
    ) -> Tensor:
        precision = operands.default_precision()
        rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        # Of its final shape: a view could not be modified in place, as nn.ReLU(inplace=True) does.
        y = x.new_empty((*x.shape[:-1], weight.shape[0]))
        y_matrix = (y.data_ptr(), operands.DTYPES[y.dtype], rows.shape[0], *[y.shape[-1]] * 2, 1)
        inputs, weights, outputs = map(_arguments, masks)
        _core.matmul(
            operands.matrix("input", rows), operands.matrix("weight", weight),
            y_matrix, inputs, weights, outputs, False, True, scale, 1.0, None, None, None,
            operands.vector("bias", bias), RELU if relu else NONE, precision=precision,
        )  # fmt: skip
        # With relu the gradient that comes back is that of Z: the next layer's relu_below.
        ctx.save_for_backward(rows, weight)
        ctx.scale, ctx.shape, ctx.masks, ctx.relu_below = scale, x.shape, masks, relu_below
        ctx.prune_weight_grad, ctx.precision = prune_weight_grad, precision
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = grad if grad.dim() == 2 else grad.reshape(-1, grad.shape[-1])
        inputs, weights, outputs = map(_arguments, ctx.masks)
        dy_matrix = operands.matrix("output gradient", dy)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            below = operands.matrix("input", x) if ctx.relu_below else None
            _core.matmul(
                dy_matrix, operands.matrix("weight", weight), operands.matrix("dx", dx), outputs,
                weights, inputs, False, False, ctx.scale, grad_aux=below, grad_activation=RELU,
                precision=ctx.precision,
            )  # fmt: skip
            if len(ctx.shape) != 2:
                dx = dx.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            if not ctx.prune_weight_grad:
                inputs, weights, outputs = map(_apply_only, (inputs, weights, outputs))
            dw = torch.empty_like(weight)
            if ctx.needs_input_grad[2]:
                db = weight.new_empty(weight.shape[0])
            _core.matmul(
                dy_matrix, operands.matrix("input", x), operands.matrix("dw", dw), outputs,
                inputs, weights, True, False, ctx.scale, a_sum=operands.vector("db", db),
                precision=ctx.precision,
            )  # fmt: skip
        elif ctx.needs_input_grad[2]:
            db = mask_arguments(ctx.masks.outputs).select(dy).sum(0)
        return dx, dw, db, None, None, None, None, None


def _arguments(mask: TileMask | None) -> tuple[Any, ...] | None:
    return None if mask is None else mask.arguments()


def _apply_only(mask: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """A mask as arguments() gives it, of which nothing is to be skipped."""
    return None if mask is None else (*mask[:5], _HARDLY_DROPPED, mask[6])
