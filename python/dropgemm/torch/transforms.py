"""What PyTorch's transformations make of the operators: derivatives, and torch.vmap's batches.

torch.func sees through Functions but not through operators, so that an operator with a derivative
comes with a Function. Of a batch each element is a call of its own, with the bits that the call
alone would give; products of many a with one b are one product of their rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers

from dropgemm.torch.calls import NO_MASK, MaskArguments, Product
from dropgemm.torch.tracing import functorch_active

Rule = Callable[..., tuple[Any, Any]]  # (info, in_dims, *arguments) -> results, their dimensions
Saved = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]  # (inputs, output) -> what is kept
Backward = Callable[..., tuple[Any, ...]]  # (needs, kept, *gradients) -> gradients of the inputs


def differentiable(
    name: str, saved: Saved, backward: Backward, rule: Rule | None = None
) -> Callable[..., Any]:
    """Registers the derivative of an operator, and the rule for batches of it; returns its call.

    saved names what the backward reads, tensors and others. The last inputs, for which backward
    returns nothing, have no gradient.
    """
    operator = getattr(torch.ops.dropgemm, name)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept = saved(inputs, output)
        ctx.places = [place for place, value in enumerate(kept) if isinstance(value, Tensor)]
        ctx.others = [None if isinstance(value, Tensor) else value for value in kept]
        ctx.save_for_backward(*(kept[place] for place in ctx.places))
        ctx.count = len(inputs)

    def run_backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        kept = list(ctx.others)
        # A vjp that is called later has tensors whose wrappers have died with the transformation.
        tensors = unwrap_dead_wrappers(ctx.saved_tensors)
        for place, tensor in zip(ctx.places, tensors, strict=True):
            kept[place] = tensor
        found = backward(ctx.needs_input_grad, tuple(kept), *gradients)
        return (*found, *[None] * (ctx.count - len(found)))

    members = {
        "forward": staticmethod(lambda *arguments: operator(*arguments)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(run_backward),
        "vmap": staticmethod(rule or loop(operator)),
    }
    function: Any = type(f"Dropgemm_{name}", (torch.autograd.Function,), members)
    torch.library.register_autograd(f"dropgemm::{name}", run_backward, setup_context=setup_context)

    def call(*arguments: Any) -> Any:
        return (function.apply if functorch_active() else operator)(*arguments)

    return call


def loop(run: Callable[..., Any]) -> Rule:
    """The rule that calls `run` for each element of the batch."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        results = [
            run(
                *(
                    argument.select(dim, index) if isinstance(dim, int) else argument
                    for argument, dim in zip(arguments, in_dims, strict=True)
                )
            )
            for index in range(info.batch_size)
        ]
        if isinstance(results[0], tuple):
            stacked = tuple(torch.stack(each) for each in zip(*results, strict=True))
            return stacked, (0,) * len(stacked)
        return torch.stack(results), 0

    return rule


def loop_or_fold(run: Callable[..., Tensor]) -> Rule:
    """The rule of dropgemm::matmul, whose arguments `run` takes."""
    by_loop = loop(run)

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        if isinstance(in_dims[0], int) and not any(isinstance(dim, int) for dim in in_dims[1:]):
            folded = _folded(arguments[3], Product.from_flat(arguments[4:]), info.batch_size)
            if folded is not None:
                a, b, bias = arguments[0].movedim(in_dims[0], 0), *arguments[1:3]
                out = run(a.flatten(0, 1), b, bias, None, *folded.flat())
                return out.unflatten(0, a.shape[:2]), 0
        return by_loop(info, in_dims, *arguments)

    return rule


def _folded(addend: Tensor | None, product: Product, times: int) -> Product | None:
    """The product of `times` matrices a under one another; None where it is not one product."""
    if addend is not None or product.trans_a:
        return None
    masks = [_under_one_another(mask, times) for mask in (product.a_mask, product.out_mask)]
    a_mask, out_mask = masks
    if a_mask is None or out_mask is None:
        return None
    return product._replace(a_mask=a_mask, out_mask=out_mask)


def _under_one_another(mask: MaskArguments, times: int) -> MaskArguments | None:
    if mask.bits is None:
        return NO_MASK
    rows, cols, tile_rows, tile_cols, transposed = mask.layout
    if transposed or (rows > tile_rows and rows % tile_rows):
        return None  # tiles would not end where a matrix does
    if rows <= tile_rows:
        return mask._replace(layout=[rows * times, cols, rows * times or 1, tile_cols, 0])
    words = mask.bits.view(torch.int32).repeat(times, 1)
    return MaskArguments(words, [rows * times, cols, tile_rows, tile_cols, 0], mask.keep)
