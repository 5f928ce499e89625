"""Who computes the three products of a layer, and how.

Every contender writes into arrays that exist already. PyTorch's dense products drop nothing;
"ready masks" also multiplies what conventional dropout would drop by a mask drawn beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import clever
import torch
from cases import Layer, Product
from dropped import Masks, draw
from timing import Contender, Run

import dropgemm as dg

Runs = dict[Product, Run]
Parts = dict[str, list[tuple[float, Run]]]


class Operands:
    """Inputs, weight, gradient and the three results of one layer."""

    def __init__(self, layer: Layer, dtype: torch.dtype = torch.float32) -> None:
        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)

        self.x = random(layer.batch, layer.inputs)
        self.dz = random(layer.batch, layer.outputs)
        self.w = random(layer.outputs, layer.inputs)
        # Written once, so that nobody's first turn pays for fresh memory.
        self.y, self.dx, self.dw = map(torch.zeros_like, (self.dz, self.x, self.w))


def _dense(on: Operands, _: Masks) -> Runs:
    return {
        "forward": lambda: torch.mm(on.x, on.w.t(), out=on.y),
        "input gradient": lambda: torch.mm(on.dz, on.w, out=on.dx),
        "weight gradient": lambda: torch.mm(on.dz.t(), on.x, out=on.dw),
    }


def _ready(on: Operands, masks: Masks) -> Runs:
    """Dense products times masks: of their results, or of the weight."""
    inputs, outputs, weight = (m if m is None else m.to_dense().to(on.w.dtype) for m in masks)
    kept = on.w if weight is None else torch.empty_like(on.w)

    def masked_weight() -> torch.Tensor:
        return on.w if weight is None else torch.mul(on.w, weight, out=kept)

    def times(result: torch.Tensor, mask: torch.Tensor | None) -> None:
        if mask is not None:
            result.mul_(mask)

    return {
        "forward": lambda: times(torch.mm(on.x, masked_weight().t(), out=on.y), outputs),
        "input gradient": lambda: times(torch.mm(on.dz, masked_weight(), out=on.dx), inputs),
        "weight gradient": lambda: times(torch.mm(on.dz.t(), on.x, out=on.dw), weight),
    }


def _select(on: Operands, masks: Masks) -> Runs:
    return clever.products(masks, on.x, on.dz, on.w, on.y, on.dx, on.dw)


def _own(on: Operands, masks: Masks) -> Runs:
    inputs, outputs, weight = masks
    return {
        "forward": lambda: dg.matmul(
            on.x, on.w, trans_b=True, a_mask=inputs, b_mask=weight, out_mask=outputs, out=on.y
        ),
        "input gradient": lambda: dg.matmul(
            on.dz, on.w, a_mask=outputs, b_mask=weight, out_mask=inputs, out=on.dx
        ),
        "weight gradient": lambda: dg.matmul(
            on.dz, on.x, trans_a=True, a_mask=outputs, b_mask=inputs, out_mask=weight, out=on.dw
        ),
    }


@dataclass(frozen=True)
class Kind:
    """How a contender is made."""

    make: Callable[[Operands, Masks], Runs]
    pruned: bool  # does it drop anything?
    precision: str = "highest"  # of torch.set_float32_matmul_precision
    dtype: torch.dtype = torch.float32


KINDS = {
    "stock": Kind(_dense, pruned=False),
    "medium": Kind(_dense, pruned=False, precision="medium"),
    "bf16": Kind(_dense, pruned=False, dtype=torch.bfloat16),
    "ready masks": Kind(_ready, pruned=True, precision="medium"),
    "index_select": Kind(_select, pruned=True, precision="medium"),
    "dense": Kind(_own, pruned=False),
    "dropgemm": Kind(_own, pruned=True),
    "dropgemm medium": Kind(_own, pruned=True, precision="medium"),
    "dropgemm bf16": Kind(_own, pruned=True, dtype=torch.bfloat16),
}


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Under a float32 matmul precision of PyTorch's."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def contenders(layer: Layer) -> dict[str, Contender]:
    """Every contender of a layer, by a name of its own."""
    operands = {
        dtype: Operands(layer, dtype)
        for dtype in dict.fromkeys(KINDS[name].dtype for name in layer.contenders)
    }
    drawn = {drop: draw(layer, drop) for drop in layer.drops}
    found = {}
    for name in layer.contenders:
        kind = KINDS[name]
        on = operands[kind.dtype]
        settings = partial(precision, kind.precision)
        if not kind.pruned:
            runs = kind.make(on, Masks())
            parts: Parts = {part: [(1.0, runs[part])] for part in layer.products}
            found[name] = Contender(name, {}, parts, settings)
            continue
        for drop, masks in drawn.items():
            each = [(weight, kind.make(on, one)) for weight, one in masks]
            parts = {
                part: [(weight, runs[part]) for weight, runs in each] for part in layer.products
            }
            work = sum(weight * one.work() for weight, one in masks)
            dropped = {**drop.axes(), "work": float(f"{work:.4g}")}
            found[f"{name}: {drop}"] = Contender(name, dropped, parts, settings)
    return found
