"""One layer of an LSTM over a batch of sequences, with what is dropped of its inputs and units."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dropgemm.matmul import matmul
from dropgemm.tile_mask import TileMask
from dropgemm.torch.draws import Drawn
from dropgemm.torch.functional import TORCH
from dropgemm.torch.recurrence import Feedback, Recurrence
from dropgemm.torch.sequence import Columns, Group, Rows, SequenceMask, take

State = tuple[Tensor, Tensor]
Inputs = SequenceMask | Drawn | None  # what is dropped: of the inputs, or tiles of their weight

_ALL = (Group(slice(None), slice(None)),)


class Weights(NamedTuple):
    """Of a layer: [4 units, inputs], [4 units, units], the sum of both biases [4 units]."""

    inputs: Tensor
    hidden: Tensor
    bias: Tensor | None


def run_layer(
    x: Tensor,
    rows: Rows,
    weights: Weights,
    state: State,
    inputs: Inputs,
    back: SequenceMask | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states of all rows and the last hidden and cell states.

    back: what is dropped of the hidden state where it goes back into the layer.
    """
    feedback = Feedback(_ALL)
    if back is not None and back.compacts:
        feedback = Feedback(back.groups, back.over(rows), None, float(back.scale))
    elif back is not None and isinstance(back.scale, Tensor):
        feedback = Feedback(_ALL, None, (back.elements * back.scale).to(x.dtype))
    elif back is not None:
        feedback = Feedback(_ALL, None, back.elements, float(back.scale))
    gates = _input_gates(x, rows, weights.inputs, weights.bias, inputs)
    y, h, c = Recurrence.apply(gates, weights.hidden, *state, rows, feedback)
    return y, h, c


def run_units(
    x: Tensor, rows: Rows, weights: Weights, state: State, inputs: Inputs, units: SequenceMask
) -> tuple[Tensor, Tensor, Tensor]:
    """The same where whole units are dropped: for each group of samples a smaller layer.

    The hidden state of a dropped unit is 0 in all rows; its state stays as it came.
    """
    if not units.compacts:
        y, h, c = run_layer(x, rows, weights, state, inputs, units)
        keep = units.elements
        y = torch.where(keep[rows.samples(y.device)], y, 0.0)
        return y, torch.where(keep, h, state[0]), torch.where(keep, c, state[1])
    results, numbers = [], []
    for samples, kept in units.groups:
        part, own = rows, x
        if len(units.groups) > 1:
            number, part = rows.part(samples)
            numbers.append(number)
            own = x[number]
        w_ih = _of_units(weights.inputs, kept)
        bias = None if weights.bias is None else _of_units(weights.bias, kept)
        gates = _input_gates(own, part, w_ih, bias, inputs, samples, kept)
        w_hh = take(_of_units(weights.hidden, kept), 1, kept)
        before = [values[samples] for values in state]
        y, *last = Recurrence.apply(
            gates, w_hh, *(take(values, 1, kept) for values in before), part,
            Feedback(_ALL, scale=float(units.scale)),
        )  # fmt: skip
        y = TORCH.expand(y, units.over(part, samples), 1)
        results.append((y, *(_with(old, kept, new) for old, new in zip(before, last, strict=True))))
    y, h, c = (torch.cat(parts) for parts in zip(*results, strict=True))
    return (y[torch.cat(numbers).argsort()] if numbers else y), h, c


def _input_gates(
    x: Tensor,
    rows: Rows,
    weight: Tensor,
    bias: Tensor | None,
    inputs: Inputs,
    samples: slice | None = None,
    kept: Columns | None = None,
) -> Tensor:
    """What the inputs of all steps give to the gates [rows.total, 4 units]: one product.

    samples, kept: which of the batch these rows are of, which units the weight has; None: all.
    """
    mask: TileMask | None = None
    scale: float | Tensor = 1.0
    if isinstance(inputs, Drawn):
        return _gates_of_tiles(x, weight, bias, inputs, kept)
    if inputs is not None and inputs.skips:
        mask, scale = inputs.over(rows, samples), inputs.scale
    elif inputs is not None:
        keep = inputs.elements[samples or slice(None)][rows.samples(x.device)]
        x = torch.where(keep, x * inputs.scale, 0.0)
    gates: Tensor = matmul(x, weight, trans_b=True, a_mask=mask, bias=bias, scale=scale)
    return gates


def _gates_of_tiles(
    x: Tensor, weight: Tensor, bias: Tensor | None, tiles: Drawn, kept: Columns | None
) -> Tensor:
    """The same with tiles of the weight dropped, alike for each of the four gates."""
    mask, scale = tiles
    if kept is not None:  # a pattern of tiles is none any more where rows are taken out of it
        keep = take(mask.to_dense(), 0, kept).repeat(4, 1)
        weight = torch.where(keep, weight * scale, 0.0)
        result: Tensor = matmul(x, weight, trans_b=True, bias=bias)
        return result
    gates = zip(weight.chunk(4), [None] * 4 if bias is None else bias.chunk(4), strict=True)
    return torch.cat(
        [matmul(x, w, trans_b=True, b_mask=mask, bias=b, scale=scale) for w, b in gates], 1
    )


def _of_units(weight: Tensor, kept: Columns) -> Tensor:
    """The rows of the kept units of each gate."""
    return take(weight.unflatten(0, (4, -1)), 1, kept).flatten(0, 1)


def _with(old: Tensor, kept: Columns, new: Tensor) -> Tensor:
    """The states [samples, units] before, with new ones for the kept units."""
    result = old.clone()
    result[:, kept] = new
    return result
