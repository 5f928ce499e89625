"""The three products of a layer, each one call of the core that does all it can on its way.

What dropgemm::matmul could not do in its derivative is done here: the weight gradient sums the bias
gradient, the input gradient is multiplied by the derivative of the ReLU below. In return a layer is
differentiable once.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from dropgemm.torch import calls, operands
from dropgemm.torch.autograd import matmul
from dropgemm.torch.calls import Layer, Product
from dropgemm.torch.tracing import needs_operator, refuse_forward_ad, short_apply
from dropgemm.torch.transforms import differentiable


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """y [..., out] of x [..., in], by the same ways as autograd.matmul, with the same bits."""
    if not needs_operator(x, weight, bias):
        result: Tensor = _apply(x, weight, bias, layer)
        return result
    refuse_forward_ad(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _operator(rows, weight, bias, operands.DEFAULT, *layer.flat())
    return y.view(*x.shape[:-1], weight.shape[0])


class Linear(torch.autograd.Function):
    """The layer of plain tensors, past the dispatcher."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
        rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        # Of its final shape: a view could not be modified in place, as nn.ReLU(inplace=True) does.
        y = x.new_empty(*x.shape[:-1], weight.shape[0])
        precision = operands.default_precision()  # the backward's too
        calls.forward(rows, weight, bias, layer, precision, y)
        ctx.save_for_backward(rows, weight)
        ctx.layer, ctx.precision, ctx.shape = layer, precision, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = grad if grad.dim() == 2 else grad.reshape(-1, grad.shape[-1])
        layer, precision, needs = ctx.layer, ctx.precision, ctx.needs_input_grad
        dx = dw = db = None
        if torch.is_grad_enabled():  # create_graph: operators say that nothing comes behind
            dx, dw, db = _backward(needs, (x, weight, precision, *layer.flat()), dy)
        else:
            if needs[0]:
                dx = calls.input_grad(dy, x, weight, layer, precision)
            if needs[1]:
                dw, db = calls.weight_grad(dy, x, weight, layer, precision, needs[2])
            db = _bias_grad(db, dy, layer, needs)
        if dx is not None and len(ctx.shape) != 2:
            dx = dx.view(ctx.shape)
        return dx, dw, db, None


_apply = short_apply(Linear)


def _bias_grad(
    db: Tensor | None, dy: Tensor, layer: Layer, needs: tuple[bool, ...]
) -> Tensor | None:
    """What the weight gradient summed, if it is needed; 1^T dy where nothing summed it."""
    if needs[2] and not needs[1]:
        ones = Product(b_mask=layer.outputs)
        return matmul(dy.new_ones(1, dy.shape[0]), dy, None, None, ones)[0]
    return db if needs[2] else None


def _backward(needs: tuple[bool, ...], kept: tuple[Any, ...], dy: Tensor) -> tuple[Any, ...]:
    x, weight, *rest = kept
    dx = dw = db = None
    if needs[0]:
        dx = _input_grad(dy, x, weight, *rest)
    if needs[1]:
        dw, db = _weight_grad(dy, x, weight, needs[2], *rest)
    return dx, dw, _bias_grad(db, dy, Layer.from_flat(tuple(rest[1:])), needs)


def _refuse(*_: Any) -> NoReturn:
    raise RuntimeError(
        "create_graph: expected False, as a layer that skips what is dropped has no second "
        "derivatives, got True; dropgemm.matmul has them"
    )


_operator = differentiable("linear", lambda inputs, _: (*inputs[:2], *inputs[3:]), _backward)
_input_grad = differentiable("linear_input_grad", lambda *_: (), _refuse)
_weight_grad = differentiable("linear_weight_grad", lambda *_: (), _refuse)
