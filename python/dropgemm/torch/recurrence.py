"""The recurrent half of an LSTM layer: a small product a step, one weight gradient a sequence."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropgemm import _core
from dropgemm.framework import HIGHEST
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.sequence import Group, Rows, take

_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward
_tanh_backward: Any = torch.ops.aten.tanh_backward

# A weight is packed for so many products at least. float32 and float64 products of up to four rows
# read it as quickly where it lies.
_STEPS, _ROWS = 4, 5


class Feedback(NamedTuple):
    """What of the hidden state a layer gets back at the next step, the same at all of them.

    groups: the samples that share kept units. mask: the same over the rows [total, hidden]; or
    elements [batch, hidden], by which each sample is multiplied. scale: of what is kept.
    """

    groups: tuple[Group, ...]
    mask: TileMask | None = None
    elements: Tensor | None = None
    scale: float = 1.0


class Recurrence(torch.autograd.Function):
    """Hidden and cell states of all steps from what the inputs give to the gates.

    With i, f, g, o the quarters of gates[t] + scale (h[t-1] . M) W^T:

        c[t] = sigmoid(f) c[t-1] + sigmoid(i) tanh(g)        h[t] = sigmoid(o) tanh(c[t])

    gates [rows, 4 hidden] is used up: its memory becomes that of the activated gates. W
    [4 hidden, hidden] is compacted to the kept units and packed for the products of all steps at
    once, and its gradient is one product over all rows. Returns h [rows, hidden] and the last h and
    c [batch, hidden].
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, rows: Rows, back: Feedback
    ) -> tuple[Tensor, Tensor, Tensor]:
        precision, c0 = operands.default_precision(), c0.contiguous()
        weights = _weights(weight, back, rows, precision, trans=True)
        hidden = gates.new_empty(rows.total, weight.shape[1])
        cells = torch.empty_like(hidden)
        scratch = gates.new_empty(rows.batch, gates.shape[1])
        h, c = h0, c0
        for step, size in zip(rows.steps, rows.sizes, strict=True):
            sums, active = scratch[:size], gates[step]
            _add_products(_fed_back(h[:size], back), weights, active, sums, back, precision)
            before, c, h = c[:size], cells[step], hidden[step]
            _step(sums, before, active, c, h)
        ctx.precision = precision
        ctx.save_for_backward(gates, weight, hidden, cells, h0, c0)
        ctx.rows, ctx.back = rows, back
        return hidden, rows.last(hidden), rows.last(cells)

    @staticmethod
    def backward(ctx: Any, d_hidden: Tensor, d_h: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph: expected False, as an LSTM that drops has no second derivatives, "
                "got True"
            )
        gates, weight, hidden, cells, h0, c0 = ctx.saved_tensors
        rows, back = ctx.rows, ctx.back
        weights = _weights(weight, back, rows, ctx.precision, trans=False)
        d_gates = torch.empty_like(gates)
        previous = torch.empty_like(hidden)  # the state before each step
        d_h, d_c = d_h.clone(), d_c.clone()  # of a sample: from behind the step that is looked at
        for t in reversed(range(rows.length)):
            step, size = rows.steps[t], rows.sizes[t]
            before = rows.steps[t - 1] if t else slice(None)
            c, c_before = cells[step], (cells[before] if t else c0)[:size]
            d_h[:size] += d_hidden[step]
            _step_backward(gates[step], c, c_before, d_h[:size], d_c[:size], d_gates[step])
            previous[step] = _fed_back((hidden[before] if t else h0)[:size], back)
            if t or ctx.needs_input_grad[2]:
                _feed_gradient_back(d_gates[step], weights, d_h[:size], back, ctx.precision)
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.empty_like(weight)
            _product(
                d_gates, previous, d_weight, back.scale, ctx.precision, trans_a=True,
                b_mask=None if back.mask is None else back.mask.arguments(),
            )  # fmt: skip
        return d_gates, d_weight, d_h, d_c, None, None


def _step(sums: Tensor, c_before: Tensor, gates: Tensor, c: Tensor, h: Tensor) -> None:
    """Writes activated gates and states of a step; sums may be used up."""
    if operands.on_host(sums):
        _core.lstm_cell(
            operands.matrix("sums", sums), operands.matrix("c_before", c_before),
            operands.matrix("gates", gates), operands.matrix("c", c), operands.matrix("h", h),
        )  # fmt: skip
        return
    i, f, g, o = _quarters(torch.sigmoid(sums, out=gates))  # the candidate too: one call
    torch.tanh(_quarters(sums)[2], out=g)
    torch.mul(f, c_before, out=c).addcmul_(i, g)
    torch.tanh(c, out=h).mul_(o)


def _step_backward(
    gates: Tensor, c: Tensor, c_before: Tensor, d_h: Tensor, d_c: Tensor, d_gates: Tensor
) -> None:
    """Writes the gradient of a step's gates; d_c becomes that of the cells before it."""
    if operands.on_host(gates):
        _core.lstm_cell_grad(
            operands.matrix("gates", gates), operands.matrix("c_before", c_before),
            operands.matrix("c", c), operands.matrix("d_h", d_h), operands.matrix("d_c", d_c),
            operands.matrix("d_gates", d_gates),
        )  # fmt: skip
        return
    i, f, g, o = _quarters(gates)
    d_i, d_f, d_g, d_o = _quarters(d_gates)
    tanh_c = torch.tanh(c)
    d_c += _tanh_backward(d_h * o, tanh_c)
    _sigmoid_backward.grad_input(d_h * tanh_c, o, grad_input=d_o)
    _sigmoid_backward.grad_input(d_c * g, i, grad_input=d_i)
    _sigmoid_backward.grad_input(d_c * c_before, f, grad_input=d_f)
    _tanh_backward.grad_input(d_c * i, g, grad_input=d_g)
    d_c *= f


class _Weight(NamedTuple):
    """The columns of a group's kept units, as the right operand of a product at each step."""

    values: Tensor
    packed: Tensor | None  # as the core multiplies them


def _weights(
    weight: Tensor, back: Feedback, rows: Rows, precision: int, *, trans: bool
) -> list[_Weight]:
    """One for each group, which W^T (trans) or W is made of."""
    found = []
    in_place = precision == HIGHEST and weight.dtype != torch.bfloat16
    packs = rows.length >= _STEPS and (rows.batch >= _ROWS or not in_place)
    packs = packs and operands.on_host(weight)
    for _, kept in back.groups:
        values, packed = take(weight, 1, kept), None
        if packs:
            matrix = operands.matrix("b", values)
            size = _core.packed_bytes(matrix, trans, precision)
            packed = torch.empty(size, dtype=torch.uint8, device=weight.device)
            _core.pack(matrix, packed.data_ptr(), trans, precision)
        found.append(_Weight(values, packed))
    return found


def _fed_back(h: Tensor, back: Feedback) -> Tensor:
    return h if back.elements is None else h * back.elements[: len(h)]


def _add_products(
    h: Tensor,
    weights: list[_Weight],
    addend: Tensor,
    out: Tensor,
    back: Feedback,
    precision: int,
) -> None:
    """out = addend + scale h W^T, group by group."""
    for (samples, kept), weight in zip(back.groups, weights, strict=True):
        _product(
            take(h[samples], 1, kept), weight, out[samples], back.scale, precision, trans_b=True,
            addend=addend[samples],
        )  # fmt: skip


def _feed_gradient_back(
    d_gates: Tensor, weights: list[_Weight], d_h: Tensor, back: Feedback, precision: int
) -> None:
    """The gradient of the hidden state before the step of d_gates."""
    for group, weight in zip(back.groups, weights, strict=True):
        part, of_gates = d_h[group.samples], d_gates[group.samples]
        if group.keeps_all:
            _product(of_gates, weight, part, back.scale, precision)
        else:
            narrow = d_h.new_empty(len(part), weight.values.shape[1])
            _product(of_gates, weight, narrow, back.scale, precision)
            part.zero_()[:, group.kept] = narrow
    if back.elements is not None:
        d_h *= back.elements[: len(d_h)]


def _product(
    a: Tensor,
    b: Tensor | _Weight,
    out: Tensor,
    scale: float,
    precision: int,
    *,
    trans_a: bool = False,
    trans_b: bool = False,
    addend: Tensor | None = None,
    b_mask: Any = None,
) -> None:
    values, packed = b if isinstance(b, _Weight) else (b, None)
    if not operands.on_host(a):  # where nothing is compacted, and PyTorch's own is as good
        left, right = a.T if trans_a else a, values.T if trans_b else values
        beta = 0.0 if addend is None else 1.0
        torch.addmm(out if addend is None else addend, left, right, beta=beta, alpha=scale, out=out)
        return
    _core.matmul(
        operands.matrix("a", a), operands.matrix("b", values), operands.matrix("out", out),
        b_mask=b_mask, trans_a=trans_a, trans_b=trans_b, scale=scale, precision=precision,
        addend=None if addend is None else operands.matrix("addend", addend),
        b_packed=0 if packed is None else packed.data_ptr(),
    )  # fmt: skip


def _quarters(gates: Tensor) -> tuple[Tensor, ...]:
    """Its columns of the input gate, the forget gate, the candidate and the output gate."""
    return gates.view(len(gates), 4, gates.shape[1] // 4).unbind(1)
