"""Reverse-mode derivatives of dropgemm::matmul, for every transpose and mask.

With D = out_scale act(Z) . Md, Z = scale op(A . Ma) op(B . Mb) + addend + bias and the incoming
gradient dD, let dZ = dD . act'(Z); each operand's gradient is a product of the same operator:

    dA = out_scale scale (dZ . Md) op(B . Mb)^T . Ma       dB = out_scale scale op(A . Ma)^T (dZ . Md) . Mb

transposed where the operand was. ReLU's derivative is read from D; GELU's needs Z, computed again.
"""  # noqa: E501

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropgemm.torch import operands
from dropgemm.torch import ops as ops  # registers the operator
from dropgemm.torch.tracing import functorch_active

_RELU, _GELU, _GELU_TANH = 1, 2, 3


class MaskArguments(NamedTuple):
    """A mask as the operators take it."""

    bits: Tensor | None
    layout: list[int]
    keep: float

    def select(self, tensor: Tensor) -> Tensor:
        """`tensor` with its dropped elements 0, whatever they hold."""
        if self.bits is None:
            return tensor
        dense = torch.ops.dropgemm.expand_mask(self.bits, self.layout)
        return torch.where(dense, tensor, tensor.new_zeros(()))


class Arguments(NamedTuple):
    """The arguments of dropgemm::matmul in the order of its schema."""

    a: Tensor
    b: Tensor
    a_mask: MaskArguments
    b_mask: MaskArguments
    out_mask: MaskArguments
    trans_a: bool = False
    trans_b: bool = False
    bias: Tensor | None = None
    addend: Tensor | None = None
    activation: int = 0
    scale: float = 1.0
    scale_tensor: Tensor | None = None
    out_scale: float = 1.0
    out_scale_tensor: Tensor | None = None
    precision: int = operands.DEFAULT

    def flat(self) -> tuple[Any, ...]:
        """As the operator is called."""
        return (self.a, self.b, *self.a_mask, *self.b_mask, *self.out_mask, *self[5:])

    @classmethod
    def from_flat(cls, flat: tuple[Any, ...]) -> Arguments:
        """The reverse of flat()."""
        a_mask, b_mask, out_mask = (MaskArguments(*flat[i : i + 3]) for i in (2, 5, 8))
        return cls(flat[0], flat[1], a_mask, b_mask, out_mask, *flat[11:])

    def __call__(self) -> Tensor:
        """Runs the operator, as a Function where torch.func transforms it."""
        run = _Matmul.apply if functorch_active() else torch.ops.dropgemm.matmul
        result: Tensor = run(*self.flat())
        return result


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    args = Arguments.from_flat(inputs)
    z_inputs = (args.bias, args.addend) if args.activation > _RELU else (None, None)
    ctx.save_for_backward(
        args.a, args.b, args.a_mask.bits, args.b_mask.bits, args.out_mask.bits, *z_inputs,
        args.scale_tensor, args.out_scale_tensor, output if args.activation == _RELU else None,
    )  # fmt: skip
    ctx.layouts = [(mask.layout, mask.keep) for mask in args[2:5]]
    ctx.plain = (args.trans_a, args.trans_b, args.activation, args.scale, args.out_scale)
    ctx.precision = args.precision


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    a, b, *bits, bias, addend, scale_tensor, out_scale_tensor, output = ctx.saved_tensors
    trans_a, trans_b, activation, scale, out_scale = ctx.plain
    a_mask, b_mask, out_mask = (
        MaskArguments(words, *layout) for words, layout in zip(bits, ctx.layouts, strict=True)
    )
    needs = ctx.needs_input_grad
    for name, index in (("scale", 17), ("out_scale", 19)):
        if needs[index]:
            raise RuntimeError(f"{name}: expected a tensor without gradient: it has no derivative")

    if activation == _RELU:
        dz = torch.where(output != 0, grad, grad.new_zeros(()))
    elif activation in (_GELU, _GELU_TANH):
        z = Arguments(
            a, b, a_mask, b_mask, out_mask, trans_a, trans_b, bias, addend, 0, scale, scale_tensor,
            precision=ctx.precision,
        )()  # fmt: skip
        approximate = "tanh" if activation == _GELU_TANH else "none"
        dz = torch.ops.aten.gelu_backward(grad, z, approximate=approximate)
    else:
        dz = grad

    factors: dict[str, Any] = {
        "scale": scale, "scale_tensor": scale_tensor,
        "out_scale": out_scale, "out_scale_tensor": out_scale_tensor,
        "precision": ctx.precision,
    }  # fmt: skip
    grads: list[Tensor | None] = [None] * 21
    if needs[0] and not trans_a:
        grads[0] = Arguments(dz, b, out_mask, b_mask, a_mask, False, not trans_b, **factors)()
    elif needs[0]:
        grads[0] = Arguments(b, dz, b_mask, out_mask, a_mask, trans_b, True, **factors)()
    if needs[1] and not trans_b:
        grads[1] = Arguments(a, dz, a_mask, out_mask, b_mask, not trans_a, False, **factors)()
    elif needs[1]:
        grads[1] = Arguments(dz, a, out_mask, a_mask, b_mask, True, trans_a, **factors)()
    if needs[13] or needs[14]:
        kept = out_mask.select(dz) * out_scale
        if out_scale_tensor is not None:
            kept = kept * out_scale_tensor
        grads[13] = kept.sum(0) if needs[13] else None
        grads[14] = kept if needs[14] else None
    return tuple(grads)


class _Matmul(torch.autograd.Function):
    """The operator for torch.func, which sees through Functions but not through operators."""

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)

    @staticmethod
    def forward(*flat: Any) -> Tensor:
        result: Tensor = torch.ops.dropgemm.matmul(*flat)
        return result


torch.library.register_autograd("dropgemm::matmul", _backward, setup_context=_setup_context)
