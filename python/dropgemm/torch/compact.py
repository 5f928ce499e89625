"""The operators dropgemm::compact and dropgemm::expand with their reverse-mode derivatives.

Both are linear, and each is the transpose of the other: what one pads with zeros the other ignores.
So each one's gradient is a call of the other, and derivatives of any order follow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dropgemm.torch import ops as ops  # registers the operators
from dropgemm.torch.tracing import functorch_active


def compact(x: Tensor, bits: Tensor, layout: list[int], axis: int, size: int) -> Tensor:
    """Runs the operator, as a Function where torch.func transforms it."""
    run = _Compact.apply if functorch_active() else torch.ops.dropgemm.compact
    xc: Tensor = run(x, bits, layout, axis, size)
    return xc


def expand(xc: Tensor, bits: Tensor, layout: list[int], axis: int) -> Tensor:
    """As compact."""
    run = _Expand.apply if functorch_active() else torch.ops.dropgemm.expand
    x: Tensor = run(xc, bits, layout, axis)
    return x


def _setup_compact(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, bits, ctx.layout, ctx.axis, _ = inputs
    ctx.save_for_backward(bits)


def _backward_compact(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (bits,) = ctx.saved_tensors
    return expand(grad, bits, ctx.layout, ctx.axis), None, None, None, None


def _setup_expand(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    xc, bits, ctx.layout, ctx.axis = inputs
    ctx.size = xc.shape[1 if ctx.axis == 1 else 0]
    ctx.save_for_backward(bits)


def _backward_expand(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (bits,) = ctx.saved_tensors
    return compact(grad, bits, ctx.layout, ctx.axis, ctx.size), None, None, None


class _Compact(torch.autograd.Function):
    """The operator for torch.func, which sees through Functions but not through operators."""

    setup_context = staticmethod(_setup_compact)
    backward = staticmethod(_backward_compact)

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        xc: Tensor = torch.ops.dropgemm.compact(*arguments)
        return xc


class _Expand(torch.autograd.Function):
    setup_context = staticmethod(_setup_expand)
    backward = staticmethod(_backward_expand)

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        x: Tensor = torch.ops.dropgemm.expand(*arguments)
        return x


torch.library.register_autograd(
    "dropgemm::compact", _backward_compact, setup_context=_setup_compact
)
torch.library.register_autograd("dropgemm::expand", _backward_expand, setup_context=_setup_expand)
