"""Who computes the three products of a layer, and how.

Contenders write into arrays that exist already, but for PyTorch's dropout. PyTorch's dense products
drop nothing; "ready masks" also multiplies what conventional dropout would drop by a mask drawn
beforehand; "dropout" and "compiled" draw one dropout's mask in the forward, as "dropgemm drawn".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import clever
import conventional
import torch
from cases import Drop, Layer, Product
from dropped import Masks, draw, drawing
from timing import Contender, Run

import dropgemm as dg

Runs = dict[Product, Run]
Parts = dict[str, list[tuple[float, Run]]]


class Operands:
    """Inputs, weight, gradient and the three results of one layer."""

    def __init__(
        self, layer: Layer, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        def random(*shape: int) -> torch.Tensor:
            generator = torch.Generator(device).manual_seed(0)
            return torch.randn(*shape, generator=generator, device=device).to(dtype)

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
    inputs, outputs, weight = (m if m is None else m.to_dense().to(on.w) for m in masks)
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


def _dropout(on: Operands, _: Masks) -> Runs:
    return conventional.products(on, fused=False)


def _compiled(on: Operands, _: Masks) -> Runs:
    return conventional.products(on, fused=True)


def _select(on: Operands, masks: Masks) -> Runs:
    return clever.products(masks, on.x, on.dz, on.w, on.y, on.dx, on.dw)


def _own_forward(on: Operands, masks: Masks, scale: float = 1.0) -> None:
    dg.matmul(
        on.x, on.w, trans_b=True, a_mask=masks.inputs, b_mask=masks.weight, out_mask=masks.outputs,
        out_scale=scale, out=on.y,
    )  # fmt: skip


def _own(on: Operands, masks: Masks) -> Runs:
    masks = masks.to(on.w.device)
    inputs, outputs, weight = masks
    return {
        "forward": lambda: _own_forward(on, masks),
        "input gradient": lambda: dg.matmul(
            on.dz, on.w, a_mask=outputs, b_mask=weight, out_mask=inputs, out=on.dx
        ),
        "weight gradient": lambda: dg.matmul(
            on.dz, on.x, trans_a=True, a_mask=outputs, b_mask=inputs, out_mask=weight, out=on.dw
        ),
    }


def _drawn(on: Operands, masks: Masks, draw: Callable[[], dg.TileMask]) -> Runs:
    """As _own, but forward draws the mask of one dropout, and scales what it keeps."""
    ready = masks.to(on.w.device)

    def forward() -> None:
        mask = draw()
        _own_forward(on, ready.with_drawn(mask), 1 / mask.keep_hint)

    return {**_own(on, masks), "forward": forward}


@dataclass(frozen=True)
class Kind:
    """How a contender is made."""

    make: Callable[..., Runs]  # of operands and masks, and of drawing() where it draws
    pruned: bool  # does it drop anything?
    draws: bool = False
    precision: str = "highest"  # of torch.set_float32_matmul_precision
    dtype: torch.dtype | None = None  # None: the layer's
    drops: Mapping[str, Any] = field(default_factory=dict)  # in place of the layer's own


# Blocks of 128 x 128 dropped from inputs alone, each group of rows by itself.
SPARSEDROP = {"method": "block", "side": "input", "rows": 128, "cols": 128, "coscheduled": 0,
              "period": 0}  # fmt: skip
KINDS = {
    "stock": Kind(_dense, pruned=False),
    "medium": Kind(_dense, pruned=False, precision="medium"),
    "bf16": Kind(_dense, pruned=False, dtype=torch.bfloat16),
    "dropout": Kind(_dropout, pruned=False),
    "compiled": Kind(_compiled, pruned=False),
    "ready masks": Kind(_ready, pruned=True, precision="medium"),
    "index_select": Kind(_select, pruned=True, precision="medium"),
    "dense": Kind(_own, pruned=False),
    "sparsedrop": Kind(_drawn, pruned=True, draws=True, drops=SPARSEDROP),
    "dropgemm": Kind(_own, pruned=True),
    "dropgemm drawn": Kind(_drawn, pruned=True, draws=True),
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


def same_rate(name: str, p: float) -> str:
    """What a contender is called that drops in its own way, at the rate of others."""
    return f"{name}: p = {p:g}"


def contenders(layer: Layer, device: str = "cpu") -> dict[str, Contender]:
    """Every contender of a layer, by a name of its own."""
    dtypes = {name: KINDS[name].dtype or getattr(torch, layer.dtype) for name in layer.contenders}
    operands = {dtype: Operands(layer, dtype, device) for dtype in dict.fromkeys(dtypes.values())}
    drawn: dict[Drop, list[tuple[float, Masks]]] = {}
    found = {}
    for name in layer.contenders:
        kind, on = KINDS[name], operands[dtypes[name]]
        settings = partial(precision, kind.precision)
        if not kind.pruned:
            runs = kind.make(on, Masks())
            parts: Parts = {part: [(1.0, runs[part])] for part in layer.products}
            found[name] = Contender(name, {}, parts, settings)
            continue
        for own in layer.drops:
            drop = replace(own, **kind.drops)
            key = same_rate(name, drop.p) if kind.drops else f"{name}: {drop}"
            if key in found:
                continue
            if drop not in drawn:
                drawn[drop] = draw(layer, drop)
            masks = drawn[drop]
            more = (drawing(layer, drop, on.w.device),) if kind.draws else ()
            each = [(weight, kind.make(on, one, *more)) for weight, one in masks]
            parts = {
                part: [(weight, runs[part]) for weight, runs in each] for part in layer.products
            }
            work = sum(weight * one.to(on.w.device).work() for weight, one in masks)
            dropped = {**drop.axes(), "work": float(f"{work:.4g}")}
            found[key] = Contender(name, dropped, parts, settings)
    return found
