"""PyTorch's dropout around dense products: by its own kernels, or fused by torch.compile.

A layer between two dropouts pays for one of them: its forward drops outputs, and the gradient of
its inputs goes back through the dropout before it. What that costs does not depend on the rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from cases import Product

if TYPE_CHECKING:
    from products import Operands

Tensor = torch.Tensor

COMPILER = "inductor"  # the backend of torch.compile
P, SCALE = 0.5, 2.0


def _forward(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return torch.native_dropout(x @ w.t(), P, True)


def _input_gradient(dz: Tensor, w: Tensor, kept: Tensor) -> Tensor:
    gradient: Tensor = torch.ops.aten.native_dropout_backward(dz @ w, kept, SCALE)
    return gradient


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """By torch.compile, for the shapes that it is called with."""
    made: Callable[..., Any] = torch.compile(
        function, fullgraph=True, dynamic=False, backend=COMPILER
    )
    return made


def products(on: Operands, *, fused: bool) -> dict[Product, Callable[[], object]]:
    """The three products of a layer between two dropouts."""
    kept = torch.rand_like(on.x, dtype=torch.float32) >= P
    forward, input_gradient = (
        compiled(each) if fused else each for each in (_forward, _input_gradient)
    )
    return {
        "forward": lambda: forward(on.x, on.w),
        "input gradient": lambda: input_gradient(on.dz, on.w, kept),
        "weight gradient": lambda: torch.mm(on.dz.t(), on.x, out=on.dw),
    }
