"""The clever user's pruning: index_select what is kept, multiply with mm, put it back.

What PyTorch can do without dropgemm, and what pruning has to be measured against besides dense
products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from cases import Product
from dropped import Masks
from torch import nn

Run = Callable[[], object]
Index = torch.Tensor


class Group(NamedTuple):
    """Rows of the batch, inputs and outputs that meet each other and nobody else."""

    rows: slice
    inputs: Index | None = None  # None: all
    outputs: Index | None = None

    def to(self, device: torch.device) -> Group:
        """The group with its indices on a device."""
        moved = (None if index is None else index.to(device) for index in self[1:])
        return Group(self.rows, *moved)


def _kept(dense: torch.Tensor) -> Index:
    return dense.nonzero()[:, 0]


def groups(masks: Masks, batch: int) -> list[Group]:
    """Groups of rows that share a subnet, or outputs of a weight that share their inputs."""
    if masks.weight is not None:
        kept, members = torch.unique(masks.weight.to_dense(), dim=0, return_inverse=True)
        everything = slice(0, batch)
        return [
            Group(everything, _kept(row), _kept(members == index)) for index, row in enumerate(kept)
        ]
    sides = [mask for mask in (masks.inputs, masks.outputs) if mask is not None]
    height = min((mask.tile[0] for mask in sides), default=batch)
    dense = [None if mask is None else mask.to_dense() for mask in (masks.inputs, masks.outputs)]
    return [
        Group(
            slice(start, min(start + height, batch)),
            *(None if rows is None else _kept(rows[start]) for rows in dense),
        )
        for start in range(0, batch, height)
    ]


def _columns(x: torch.Tensor, index: Index | None) -> torch.Tensor:
    return x if index is None else x.index_select(1, index)


def _rows(x: torch.Tensor, index: Index | None) -> torch.Tensor:
    return x if index is None else x.index_select(0, index)


def _put(out: torch.Tensor, index: Index | None, values: torch.Tensor) -> None:
    if index is None:
        out.copy_(values)
    else:
        out.index_copy_(1, index, values)


def _block(group: Group) -> tuple[slice | Index, slice | Index]:
    """Where a group's weights lie."""
    rows = slice(None) if group.outputs is None else group.outputs
    cols = slice(None) if group.inputs is None else group.inputs
    if isinstance(rows, torch.Tensor) and isinstance(cols, torch.Tensor):
        rows = rows[:, None]
    return rows, cols


def products(
    masks: Masks,
    x: torch.Tensor,
    dz: torch.Tensor,
    w: torch.Tensor,
    y: torch.Tensor,
    dx: torch.Tensor,
    dw: torch.Tensor,
) -> dict[Product, Run]:
    """The three products into y, dx and dw."""
    parts = [group.to(x.device) for group in groups(masks, len(x))]
    # Several groups of rows add to the same weight gradients; several groups of outputs do not.
    shared = masks.weight is None and len(parts) > 1

    def weight(group: Group) -> torch.Tensor:
        return _columns(_rows(w, group.outputs), group.inputs)

    def forward() -> None:
        if masks.outputs is not None:
            y.zero_()
        for group in parts:
            kept = _columns(x[group.rows], group.inputs) @ weight(group).t()
            _put(y[group.rows], group.outputs, kept)

    def input_gradient() -> None:
        if masks.inputs is not None:
            dx.zero_()
        for group in parts:
            kept = _columns(dz[group.rows], group.outputs) @ weight(group)
            _put(dx[group.rows], group.inputs, kept)

    def weight_gradient() -> None:
        dw.zero_()
        for group in parts:
            left = _columns(dz[group.rows], group.outputs).t()
            kept = left @ _columns(x[group.rows], group.inputs)
            where = _block(group)
            dw[where] = dw[where] + kept if shared else kept

    return {
        "forward": forward,
        "input gradient": input_gradient,
        "weight gradient": weight_gradient,
    }


class SelectMLP(nn.Sequential):
    """An MLP of Linear, ReLU, Dropout, ..., one pattern a batch, drawn afresh at every step.

    Autograd does the rest: the gradient of index_select puts the parts back.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            output: torch.Tensor = super().forward(x)
            return output
        linears = [module for module in self if isinstance(module, nn.Linear)]
        rates = [module.p for module in self if isinstance(module, nn.Dropout)]
        inputs: Index | None = None
        for linear, p in zip(linears, rates, strict=False):
            kept = round((1 - p) * linear.out_features)
            shuffled = torch.randperm(linear.out_features, device=x.device)
            outputs = shuffled[:kept].sort().values
            weight = _columns(linear.weight.index_select(0, outputs), inputs)
            bias = linear.bias.index_select(0, outputs)
            x = nn.functional.linear(x, weight, bias).relu() * (1 / (1 - p))
            inputs = outputs
        last = linears[-1]
        return nn.functional.linear(x, _columns(last.weight, inputs), last.bias)
