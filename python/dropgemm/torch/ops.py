"""The PyTorch operators dropgemm::matmul, matmul_out, gyro_mask, bernoulli_mask,
pattern_mask, expand_mask, compact, expand.

A mask travels as its bits (a tensor or None), a layout [rows, cols, tile rows, tile cols,
transposed] and its keep hint. This file registers; dropgemm.torch.functional is what calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dropgemm import _core
from dropgemm.framework import TILES, bits_shape, compact_matrix, compact_shape
from dropgemm.torch import operands

_MASKS = (
    "Tensor? a_bits, SymInt[] a_layout, float a_keep, "
    "Tensor? b_bits, SymInt[] b_layout, float b_keep, "
    "Tensor? out_bits, SymInt[] out_layout, float out_keep"
)
_REST = (
    "bool trans_a, bool trans_b, Tensor? bias, Tensor? addend, int activation, "
    "float scale, Tensor? scale_tensor, float out_scale, Tensor? out_scale_tensor, int precision"
)


def _matmul_out(
    a: Tensor,
    b: Tensor,
    a_bits: Tensor | None,
    a_layout: list[int],
    a_keep: float,
    b_bits: Tensor | None,
    b_layout: list[int],
    b_keep: float,
    out_bits: Tensor | None,
    out_layout: list[int],
    out_keep: float,
    trans_a: bool,
    trans_b: bool,
    bias: Tensor | None,
    addend: Tensor | None,
    activation: int,
    scale: float,
    scale_tensor: Tensor | None,
    out_scale: float,
    out_scale_tensor: Tensor | None,
    precision: int,
    out: Tensor,
) -> None:
    _core.matmul(
        operands.matrix("a", a),
        operands.matrix("b", b),
        operands.matrix("out", out),
        operands.mask(a_bits, a_layout, a_keep),
        operands.mask(b_bits, b_layout, b_keep),
        operands.mask(out_bits, out_layout, out_keep),
        trans_a,
        trans_b,
        scale,
        out_scale,
        operands.scalar("scale", scale_tensor),
        operands.scalar("out_scale", out_scale_tensor),
        operands.matrix("addend", addend) if addend is not None else None,
        operands.vector("bias", bias),
        activation,
        precision=operands.default_precision() if precision == operands.DEFAULT else precision,
    )


def _matmul(a: Tensor, b: Tensor, *args: Any) -> Tensor:
    out = _matmul_shape(a, b, *args)
    _matmul_out(*(a, b, *args, out))
    return out


def _matmul_shape(a: Tensor, b: Tensor, *args: Any) -> Tensor:
    """An empty [M, N] tensor: the operator's result without its values."""
    for name, tensor in (("a", a), ("b", b)):
        operands.check_matrix(name, tensor)
    trans_a, trans_b = args[9:11]
    return a.new_empty((a.shape[1 if trans_a else 0], b.shape[0 if trans_b else 1]))


def _matmul_out_shape(a: Tensor, b: Tensor, *args: Any) -> None:
    return None


def unsigned_seed(seed: int) -> int:
    """A seed that went through a schema's int64, in [0, 2^64) again."""
    return seed % (1 << 64)


def signed_seed(seed: int) -> int:
    """A seed in [0, 2^64) as the int64 of the same bits."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def _empty_bits(rows: int, cols: int, tile_rows: int, tile_cols: int) -> Tensor:
    if min(rows, cols) < 0 or min(tile_rows, tile_cols) < 1:
        raise ValueError(
            "mask: expected sizes of at least 0 and tiles of at least 1, got "
            f"{rows}x{cols} with tiles of {tile_rows}x{tile_cols}"
        )
    return torch.empty(bits_shape((rows, cols), (tile_rows, tile_cols)), dtype=torch.int32)


def _gyro_mask(
    step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int, p: float, exact: bool,
    seed: int, *rest: Any,
) -> Tensor:  # fmt: skip
    bits = _empty_bits(rows, cols, tile_rows, tile_cols)
    site, *schedule = rest
    _core.gyro_mask(
        bits.data_ptr(), rows, cols, tile_rows, tile_cols, p, exact, unsigned_seed(seed), site,
        (_step_address(step),), *schedule,
    )  # fmt: skip
    return bits


def _gyro_mask_shape(
    step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int, *rest: Any
) -> Tensor:
    return step.new_empty(bits_shape((rows, cols), (tile_rows, tile_cols)), dtype=torch.int32)


def _bernoulli_mask(
    key: Tensor, step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int, p: float,
    site: int, call: int, first_row: int,
) -> Tensor:  # fmt: skip
    bits = _empty_bits(rows, cols, tile_rows, tile_cols)
    _check_integer("key", key)
    _core.bernoulli_mask(
        bits.data_ptr(), rows, cols, tile_rows, tile_cols, p, unsigned_seed(int(key)), site,
        (_step_address(step),), call, first_row,
    )  # fmt: skip
    return bits


def _bernoulli_mask_shape(
    key: Tensor, step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int, *rest: Any
) -> Tensor:
    return step.new_empty(bits_shape((rows, cols), (tile_rows, tile_cols)), dtype=torch.int32)


def _pattern_mask(
    step: Tensor, thresholds: Tensor | None, rows: int, cols: int, tile_rows: int, tile_cols: int,
    tiles: bool, skew: int, linear: bool, period: int, offset: int, seed: int, site: int, call: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    bits = _empty_bits(rows, cols, tile_rows, tile_cols)
    scale = torch.empty((), dtype=torch.float32)
    _core.pattern_mask(
        bits.data_ptr(), rows, cols, tile_rows, tile_cols, tiles, skew, linear, period, offset,
        operands.thresholds(thresholds), unsigned_seed(seed), site, (_step_address(step),), call,
        scale.data_ptr(),
    )  # fmt: skip
    return bits, scale


def _pattern_mask_shape(
    step: Tensor, thresholds: Tensor | None, rows: int, cols: int, tile_rows: int, tile_cols: int,
    *rest: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    shape = bits_shape((rows, cols), (tile_rows, tile_cols))
    return step.new_empty(shape, dtype=torch.int32), step.new_empty((), dtype=torch.float32)


def _check_integer(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.int64 or tensor.dim() != 0:
        raise TypeError(
            f"{name}: expected torch.int64 of no dimension, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )


def _step_address(step: Tensor) -> int:
    _check_integer("step", step)
    return step.data_ptr()


def _expand_mask(bits: Tensor, layout: list[int]) -> Tensor:
    operands.check_layout(layout)
    out = _expand_mask_shape(bits, layout)
    _core.mask_to_dense(operands.mask(bits, layout, 1.0), out.data_ptr())
    return out


def _expand_mask_shape(bits: Tensor, layout: list[int]) -> Tensor:
    return bits.new_empty((layout[0], layout[1]), dtype=torch.bool)


def _compact(x: Tensor, bits: Tensor, layout: list[int], axis: int, size: int) -> Tensor:
    _check_compact(layout, axis)
    if size < 0:
        raise ValueError(f"size: expected at least 0, got {size}")
    xc = _compact_shape(x, bits, layout, axis, size)
    matrix = compact_matrix(xc, (layout[2], layout[3]), axis)
    _core.compact(
        operands.matrix("x", x),
        operands.matrix("xc", matrix),
        operands.mask(bits, layout, 1.0),
        axis,
    )
    return xc


def _check_compact(layout: list[int], axis: int) -> None:
    operands.check_layout(layout)
    if axis not in (0, 1, TILES):
        raise ValueError(f"axis: expected 0 (rows), 1 (columns) or {TILES} (tiles), got {axis}")


def _compact_shape(x: Tensor, bits: Tensor, layout: list[int], axis: int, size: int) -> Tensor:
    operands.check_matrix("x", x)
    rows, cols, tile_rows, tile_cols, _ = layout
    return x.new_empty(compact_shape((rows, cols), (tile_rows, tile_cols), axis, size))


def _expand(xc: Tensor, bits: Tensor, layout: list[int], axis: int) -> Tensor:
    _check_compact(layout, axis)
    x = _expand_shape(xc, bits, layout, axis)
    matrix = compact_matrix(xc, (layout[2], layout[3]), axis)  # which may be a copy: keep it
    _core.expand(
        operands.matrix("xc", matrix),
        operands.matrix("x", x),
        operands.mask(bits, layout, 1.0),
        axis,
    )
    return x


def _expand_shape(xc: Tensor, bits: Tensor, layout: list[int], axis: int) -> Tensor:
    operands.dtype_code("xc", xc)
    compact_matrix(xc, (layout[2], layout[3]), axis)
    return xc.new_empty((layout[0], layout[1]))


# Name, schema, CPU kernel, shape of the result.
_OPERATORS: tuple[tuple[str, str, Callable[..., Any], Callable[..., Any]], ...] = (
    ("matmul", f"(Tensor a, Tensor b, {_MASKS}, {_REST}) -> Tensor", _matmul, _matmul_shape),
    (
        "matmul_out",
        f"(Tensor a, Tensor b, {_MASKS}, {_REST}, Tensor(a!) out) -> ()",
        _matmul_out,
        _matmul_out_shape,
    ),
    (
        "gyro_mask",
        "(Tensor step, SymInt rows, SymInt cols, SymInt tile_rows, SymInt tile_cols, float p, "
        "bool exact, int seed, int site, int total_steps, int subnets, int coscheduled, "
        "SymInt group_rows, bool random_order, SymInt rows_per_sample, SymInt first, "
        "SymInt batch) -> Tensor",
        _gyro_mask,
        _gyro_mask_shape,
    ),
    (
        "bernoulli_mask",
        "(Tensor key, Tensor step, SymInt rows, SymInt cols, SymInt tile_rows, "
        "SymInt tile_cols, float p, int site, int call, SymInt first_row) -> Tensor",
        _bernoulli_mask,
        _bernoulli_mask_shape,
    ),
    (
        "pattern_mask",
        "(Tensor step, Tensor? thresholds, SymInt rows, SymInt cols, SymInt tile_rows, "
        "SymInt tile_cols, bool tiles, int skew, bool linear, int period, int offset, int seed, "
        "int site, int call) -> (Tensor bits, Tensor scale)",
        _pattern_mask,
        _pattern_mask_shape,
    ),
    ("expand_mask", "(Tensor bits, SymInt[] layout) -> Tensor", _expand_mask, _expand_mask_shape),
    (
        "compact",
        "(Tensor x, Tensor bits, SymInt[] layout, int axis, SymInt size) -> Tensor",
        _compact,
        _compact_shape,
    ),
    (
        "expand",
        "(Tensor xc, Tensor bits, SymInt[] layout, int axis) -> Tensor",
        _expand,
        _expand_shape,
    ),
)

for _name, _schema, _kernel, _shape in _OPERATORS:
    torch.library.define(f"dropgemm::{_name}", _schema)
    torch.library.impl(f"dropgemm::{_name}", "CPU", _kernel)
    torch.library.register_fake(f"dropgemm::{_name}", _shape)
