"""What the operators take behind their tensors, and what they do: calls of the core.

Each function here takes tensors in memory and knows of no derivative: autograd.py and products.py
do. Masks are trusted; an operator, which anybody may call, checks them first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropgemm import _core
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands

NONE, RELU, GELU, GELU_TANH = 0, 1, 2, 3  # the core's numbers for activations

# A keep hint above every break-even: masks are applied, nothing is skipped.
_HARDLY_DROPPED = 0.999


class MaskArguments(NamedTuple):
    """A mask as the operators take it: layout is (rows, cols, tile rows, tile cols, transposed)."""

    bits: Tensor | None
    layout: list[int]
    keep: float

    @classmethod
    def of(cls, mask: TileMask | None) -> MaskArguments:
        """Those of a mask."""
        if mask is None:
            return NO_MASK
        return cls(mask.bits, [*mask.shape, *mask.tile, int(mask.transposed)], mask.keep_hint)

    def core(self) -> tuple[Any, ...] | None:
        """As the core takes it, of bits that this library wrote; keep them alive."""
        if self.bits is None:
            return None
        *sizes, transposed = self.layout
        return (self.bits.data_ptr(), *sizes, self.keep, transposed == 1)

    def check(self) -> None:
        """ValueError where bits and layout do not belong together."""
        operands.mask(self.bits, self.layout, self.keep)

    def select(self, tensor: Tensor) -> Tensor:
        """`tensor` with its dropped elements 0, whatever they hold."""
        if self.bits is None:
            return tensor
        dense = torch.ops.dropgemm.expand_mask(self.bits, self.layout)
        return torch.where(dense, tensor, tensor.new_zeros(()))


NO_MASK = MaskArguments(None, [], 1.0)


def factor(value: float | Tensor) -> tuple[float, Tensor | None]:
    """A factor as the operators take it: a number, and a tensor of no dimension."""
    return (1.0, value) if isinstance(value, Tensor) else (value, None)


class Product(NamedTuple):
    """What dropgemm::matmul takes behind its tensors a, b, bias, addend, in its schema's order."""

    a_mask: MaskArguments = NO_MASK
    b_mask: MaskArguments = NO_MASK
    out_mask: MaskArguments = NO_MASK
    trans_a: bool = False
    trans_b: bool = False
    activation: int = NONE
    scale: float = 1.0
    scale_tensor: Tensor | None = None
    out_scale: float = 1.0
    out_scale_tensor: Tensor | None = None
    precision: int = operands.DEFAULT
    deterministic: bool = False  # else as PyTorch is told

    def flat(self) -> tuple[Any, ...]:
        """As the operator is called."""
        return (*self.a_mask, *self.b_mask, *self.out_mask, *self[3:])

    @classmethod
    def from_flat(cls, flat: tuple[Any, ...]) -> Product:
        """The reverse of flat()."""
        first, second, third = (MaskArguments(*flat[i : i + 3]) for i in (0, 3, 6))
        return cls(first, second, third, *flat[9:])

    def check(self) -> None:
        """ValueError where bits and layout of a mask do not belong together."""
        for mask in self[:3]:
            mask.check()


def multiply(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    product: Product,
    out: Tensor | None = None,
) -> Tensor:
    """Calls the core: out, or a new [M, N]. Of tensors in memory, without a derivative."""
    (
        a_mask, b_mask, out_mask, trans_a, trans_b, activation,
        scale, scale_tensor, out_scale, out_scale_tensor, precision, deterministic,
    ) = product  # fmt: skip
    a_matrix, b_matrix = operands.matrix("a", a), operands.matrix("b", b)
    if out is None:
        rows, cols = a_matrix[3 if trans_a else 2], b_matrix[2 if trans_b else 3]
        out = a.new_empty(rows, cols)  # which costs half of what a tuple does
        out_matrix: tuple[int, ...] = (out.data_ptr(), a_matrix[1], rows, cols, cols, 1)
    else:
        out_matrix = operands.matrix("out", out)
    _core.matmul(
        a_matrix, b_matrix, out_matrix, a_mask.core(), b_mask.core(), out_mask.core(),
        trans_a, trans_b, scale, out_scale,
        None if scale_tensor is None else operands.scalar("scale", scale_tensor),
        None if out_scale_tensor is None else operands.scalar("out_scale", out_scale_tensor),
        None if addend is None else operands.matrix("addend", addend),
        operands.vector("bias", bias), activation,
        precision=operands.resolved(precision),
        deterministic=deterministic or operands.deterministic(), stream=operands.stream(a),
    )  # fmt: skip
    return out


class Layer(NamedTuple):
    """What dropgemm::linear takes behind its tensors x, weight, bias, in its schema's order,
    up to the core's number for a precision.

    Masks are of the inputs [rows, in], weight [out, in] and outputs [rows, out]. relu: y is
    rectified, and the gradient that comes back is that of Z: the layer above has relu_below.
    """

    inputs: MaskArguments = NO_MASK
    weights: MaskArguments = NO_MASK
    outputs: MaskArguments = NO_MASK
    scale: float = 1.0
    scale_tensor: Tensor | None = None
    relu: bool = False
    relu_below: bool = False
    prune_weight_grad: bool = True

    def flat(self) -> tuple[Any, ...]:
        """As the operators are called."""
        return (*self.inputs, *self.weights, *self.outputs, *self[3:])

    @classmethod
    def from_flat(cls, flat: tuple[Any, ...]) -> Layer:
        """The reverse of flat()."""
        first, second, third = (MaskArguments(*flat[i : i + 3]) for i in (0, 3, 6))
        return cls(first, second, third, *flat[9:])

    def check(self) -> None:
        """ValueError where bits and layout of a mask do not belong together."""
        for mask in self[:3]:
            mask.check()


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer, precision: int, y: Tensor
) -> None:
    """Writes y [..., out] = act(scale (x . Mi)(W . Mw)^T + b) . Mo of x [rows, in]."""
    x_matrix, cols = operands.matrix("input", x), y.shape[-1]
    _core.matmul(
        x_matrix, operands.matrix("weight", weight),
        (y.data_ptr(), x_matrix[1], x_matrix[2], cols, cols, 1),
        layer.inputs.core(), layer.weights.core(), layer.outputs.core(), False, True,
        layer.scale, 1.0, operands.scalar("scale", layer.scale_tensor), None, None,
        operands.vector("bias", bias), RELU if layer.relu else NONE,
        precision=precision, deterministic=operands.deterministic(), stream=operands.stream(x),
    )  # fmt: skip


def input_grad(dy: Tensor, x: Tensor, weight: Tensor, layer: Layer, precision: int) -> Tensor:
    """scale (dy . Mo)(W . Mw) . Mi; with relu_below multiplied by the derivative, x > 0."""
    dx = torch.empty_like(x)
    _core.matmul(
        operands.matrix("output gradient", dy), operands.matrix("weight", weight),
        operands.matrix("input gradient", dx),
        layer.outputs.core(), layer.weights.core(), layer.inputs.core(), False, False,
        layer.scale, 1.0, operands.scalar("scale", layer.scale_tensor),
        grad_aux=operands.matrix("input", x) if layer.relu_below else None, grad_activation=RELU,
        precision=precision, deterministic=operands.deterministic(), stream=operands.stream(x),
    )  # fmt: skip
    return dx


def weight_grad(
    dy: Tensor, x: Tensor, weight: Tensor, layer: Layer, precision: int, with_bias: bool
) -> tuple[Tensor, Tensor]:
    """scale (dy . Mo)^T (x . Mi) . Mw, and the bias gradient: the sum of dy . Mo over the rows.

    The latter has no elements where it is not asked for.
    """
    outputs, inputs, weights = layer.outputs, layer.inputs, layer.weights
    if not layer.prune_weight_grad:
        outputs, inputs, weights = (
            mask._replace(keep=_HARDLY_DROPPED) for mask in (outputs, inputs, weights)
        )
    dw = torch.empty_like(weight)
    db = weight.new_empty(weight.shape[0] if with_bias else 0)
    _core.matmul(
        operands.matrix("output gradient", dy), operands.matrix("input", x),
        operands.matrix("weight gradient", dw),
        outputs.core(), inputs.core(), weights.core(), True, False,
        layer.scale, 1.0, operands.scalar("scale", layer.scale_tensor),
        a_sum=operands.vector("bias gradient", db) if with_bias else None,
        precision=precision, deterministic=operands.deterministic(), stream=operands.stream(x),
    )  # fmt: skip
    return dw, db
