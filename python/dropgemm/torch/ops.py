"""The PyTorch operators dropgemm::matmul, matmul_out, linear, linear_input_grad,
linear_weight_grad, gyro_mask, bernoulli_mask, pattern_mask, expand_mask, compact, expand.

A mask travels as its bits (a tensor or None), a layout [rows, cols, tile rows, tile cols,
transposed] and its keep hint. This file registers; dropgemm.torch.functional is what calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dropgemm import _core
from dropgemm.framework import TILES, bits_shape, ceil_div, compact_matrix, compact_shape
from dropgemm.torch import calls, operands
from dropgemm.torch.calls import Layer, Product
from dropgemm.torch.transforms import loop

_PRODUCT = (
    "Tensor a, Tensor b, Tensor? bias, Tensor? addend, "
    "Tensor? a_bits, SymInt[] a_layout, float a_keep, "
    "Tensor? b_bits, SymInt[] b_layout, float b_keep, "
    "Tensor? out_bits, SymInt[] out_layout, float out_keep, "
    "bool trans_a, bool trans_b, int activation, float scale, Tensor? scale_tensor, "
    "float out_scale, Tensor? out_scale_tensor, int precision, bool deterministic"
)


_LAYER = (
    "Tensor? in_bits, SymInt[] in_layout, float in_keep, "
    "Tensor? weight_bits, SymInt[] weight_layout, float weight_keep, "
    "Tensor? out_bits, SymInt[] out_layout, float out_keep, float scale, Tensor? scale_tensor, "
    "bool relu, bool relu_below, bool prune_weight_grad"
)


def _matmul(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    addend: Tensor | None,
    *flat: Any,
    out: Tensor | None = None,
) -> Tensor:
    product = Product.from_flat(flat)
    product.check()
    operands.check_devices(
        "a", a, b=b, bias=bias, addend=addend, a_bits=product.a_mask.bits,
        b_bits=product.b_mask.bits, out_bits=product.out_mask.bits, scale=product.scale_tensor,
        out_scale=product.out_scale_tensor, out=out,
    )  # fmt: skip
    return calls.multiply(a, b, bias, addend, product, out)


def _matmul_out(*arguments: Any) -> None:
    _matmul(*arguments[:-1], out=arguments[-1])


def _matmul_shape(a: Tensor, b: Tensor, *arguments: Any) -> Tensor:
    for name, tensor in (("a", a), ("b", b)):
        operands.check_matrix(name, tensor)
    product = Product.from_flat(arguments[2:])
    return a.new_empty((a.shape[1 if product.trans_a else 0], b.shape[0 if product.trans_b else 1]))


def _matmul_out_shape(*arguments: Any) -> None:
    return None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, precision: int, *flat: Any) -> Tensor:
    y = _linear_shape(x, weight)
    layer = _checked_layer(flat, x, weight=weight, bias=bias)
    calls.forward(x, weight, bias, layer, operands.resolved(precision), y)
    return y


def _linear_shape(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    for name, tensor in (("input", x), ("weight", weight)):
        operands.check_matrix(name, tensor)
    return x.new_empty((x.shape[0], weight.shape[0]))


def _linear_input_grad(dy: Tensor, x: Tensor, weight: Tensor, precision: int, *flat: Any) -> Tensor:
    layer = _checked_layer(flat, x, dy=dy, weight=weight)
    return calls.input_grad(dy, x, weight, layer, operands.resolved(precision))


def _linear_input_grad_shape(dy: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _linear_weight_grad(
    dy: Tensor, x: Tensor, weight: Tensor, with_bias: bool, precision: int, *flat: Any
) -> tuple[Tensor, Tensor]:
    layer = _checked_layer(flat, x, dy=dy, weight=weight)
    return calls.weight_grad(dy, x, weight, layer, operands.resolved(precision), with_bias)


def _linear_weight_grad_shape(
    dy: Tensor, x: Tensor, weight: Tensor, with_bias: bool, *_: Any
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(weight), weight.new_empty(weight.shape[0] if with_bias else 0)


def _checked_layer(flat: tuple[Any, ...], x: Tensor, **tensors: Tensor | None) -> Layer:
    layer = Layer.from_flat(flat)
    layer.check()
    operands.check_devices(
        "input", x, **tensors, in_bits=layer.inputs.bits, weight_bits=layer.weights.bits,
        out_bits=layer.outputs.bits, scale=layer.scale_tensor,
    )  # fmt: skip
    return layer


def unsigned_seed(seed: int) -> int:
    """A seed that went through a schema's int64, in [0, 2^64) again."""
    return seed % (1 << 64)


def signed_seed(seed: int) -> int:
    """A seed in [0, 2^64) as the int64 of the same bits."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def _empty_bits(step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int) -> Tensor:
    if min(rows, cols) < 0 or min(tile_rows, tile_cols) < 1:
        raise ValueError(
            "mask: expected sizes of at least 0 and tiles of at least 1, got "
            f"{rows}x{cols} with tiles of {tile_rows}x{tile_cols}"
        )
    return step.new_empty(bits_shape((rows, cols), (tile_rows, tile_cols)), dtype=torch.int32)


def _gyro_mask(
    step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int, p: float, exact: bool,
    seed: int, *rest: Any,
) -> Tensor:  # fmt: skip
    bits = _empty_bits(step, rows, cols, tile_rows, tile_cols)
    arguments: tuple[Any, ...] = (*rest, operands.stream(step))
    site, *schedule = arguments
    _core.gyro_mask(
        bits.data_ptr(), rows, cols, tile_rows, tile_cols, p, exact, unsigned_seed(seed), site,
        _number("step", step, step), *schedule,
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
    bits = _empty_bits(step, rows, cols, tile_rows, tile_cols)
    seed = _number("key", key, step)
    _core.bernoulli_mask(
        bits.data_ptr(), rows, cols, tile_rows, tile_cols, p,
        unsigned_seed(seed) if isinstance(seed, int) else seed, site, _number("step", step, step),
        call, first_row, stream=operands.stream(step),
    )  # fmt: skip
    return bits


def _bernoulli_mask_shape(
    key: Tensor, step: Tensor, rows: int, cols: int, tile_rows: int, tile_cols: int, *rest: Any
) -> Tensor:
    return step.new_empty(bits_shape((rows, cols), (tile_rows, tile_cols)), dtype=torch.int32)


def _pattern_mask(
    step: Tensor, call: Tensor, thresholds: Tensor | None, rows: int, cols: int, tile_rows: int,
    tile_cols: int, tiles: bool, skew: int, linear: bool, period: int, offset: int, seed: int,
    site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    bits = _empty_bits(step, rows, cols, tile_rows, tile_cols)
    scale = step.new_empty((), dtype=torch.float32)
    thresholds = _beside(thresholds, step.device)
    _core.pattern_mask(
        bits.data_ptr(), rows, cols, tile_rows, tile_cols, tiles, skew, linear, period, offset,
        operands.thresholds(thresholds), unsigned_seed(seed), site, _number("step", step, step),
        _number("call", call, step), scale.data_ptr(), stream=operands.stream(step),
    )  # fmt: skip
    return bits, scale


def _pattern_mask_shape(
    step: Tensor, call: Tensor, thresholds: Tensor | None, rows: int, cols: int, tile_rows: int,
    tile_cols: int, *rest: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    shape = bits_shape((rows, cols), (tile_rows, tile_cols))
    return step.new_empty(shape, dtype=torch.int32), step.new_empty((), dtype=torch.float32)


def _number(name: str, tensor: Tensor, step: Tensor) -> int | tuple[int]:
    """A number as the core takes it: where it lies beside the step, or its value from the CPU.

    A graph that is captured replays with what lies on the device then, and with a value as it was.
    """
    if tensor.dtype != torch.int64 or tensor.dim() != 0:
        raise TypeError(
            f"{name}: expected torch.int64 of no dimension, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    if tensor.device == step.device:
        return (tensor.data_ptr(),)
    if tensor.is_cpu:
        return int(tensor)
    raise TypeError(
        f"{name}: expected a tensor on {step.device} like step, or on the CPU, "
        f"got one on {tensor.device}"
    )


def _beside(thresholds: Tensor | None, device: torch.device) -> Tensor | None:
    """A distribution's thresholds on a device."""
    if thresholds is None or thresholds.device == device or not thresholds.is_cpu:
        return thresholds
    return _on_device(thresholds.numpy().tobytes(), device)


@functools.cache
def _on_device(words: bytes, device: torch.device) -> Tensor:
    """Copied once for all steps, as a distribution stays as it is, and kept for graphs that were
    captured with it."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "thresholds: expected a call before a CUDA graph is captured, which puts them on "
            f"{device}, got none"
        )
    source = torch.frombuffer(bytearray(words), dtype=torch.int64).pin_memory()
    copy = source.to(device, non_blocking=True)
    # Other streams will read it. An event is no synchronization that PyTorch warns of.
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(device))
    copied.synchronize()
    return copy


def _expand_mask(bits: Tensor, layout: list[int]) -> Tensor:
    operands.mask(bits, layout, 1.0)
    if operands.on_cuda(bits):
        return dense_mask(bits, layout)
    out = _expand_mask_shape(bits, layout)
    _core.mask_to_dense(operands.mask(bits, layout, 1.0), out.data_ptr())
    return out


def dense_mask(bits: Tensor, layout: list[int]) -> Tensor:
    """A mask as a bool matrix, by PyTorch's own operators: on any device."""
    rows, cols, tile_rows, tile_cols, transposed = layout
    if transposed:
        return dense_mask(bits, [cols, rows, tile_cols, tile_rows, 0]).T.contiguous()
    lines, columns = ceil_div(rows, tile_rows), ceil_div(cols, tile_cols)
    words = bits.view(torch.int32).reshape(lines, -1, 1)
    tiles = (words >> torch.arange(32, dtype=torch.int32, device=bits.device) & 1).bool()
    tiles = tiles.reshape(lines, -1)[:, :columns]
    if tile_rows > 1:
        tiles = tiles.repeat_interleave(tile_rows, 0)[:rows]
    if tile_cols > 1:
        tiles = tiles.repeat_interleave(tile_cols, 1)[:, :cols]
    return tiles.contiguous()


def _expand_mask_shape(bits: Tensor, layout: list[int]) -> Tensor:
    return bits.new_empty((layout[0], layout[1]), dtype=torch.bool)


def _compact(x: Tensor, bits: Tensor, layout: list[int], axis: int, size: int) -> Tensor:
    _check_compact(layout, axis)
    operands.check_devices("x", x, bits=bits)
    if size < 0:
        raise ValueError(f"size: expected at least 0, got {size}")
    xc = _compact_shape(x, bits, layout, axis, size)
    matrix = compact_matrix(xc, (layout[2], layout[3]), axis)
    _core.compact(
        operands.matrix("x", x),
        operands.matrix("xc", matrix),
        operands.mask(bits, layout, 1.0),
        axis,
        operands.stream(x),
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
    operands.check_devices("xc", xc, bits=bits)
    x = _expand_shape(xc, bits, layout, axis)
    matrix = compact_matrix(xc, (layout[2], layout[3]), axis)  # which may be a copy: keep it
    _core.expand(
        operands.matrix("xc", matrix),
        operands.matrix("x", x),
        operands.mask(bits, layout, 1.0),
        axis,
        operands.stream(x),
    )
    return x


def _expand_shape(xc: Tensor, bits: Tensor, layout: list[int], axis: int) -> Tensor:
    operands.dtype_code("xc", xc)
    compact_matrix(xc, (layout[2], layout[3]), axis)
    return xc.new_empty((layout[0], layout[1]))


# Name, schema, kernel, shape of the result. A kernel serves both devices: operands say which.
_OPERATORS: tuple[tuple[str, str, Callable[..., Any], Callable[..., Any]], ...] = (
    ("matmul", f"({_PRODUCT}) -> Tensor", _matmul, _matmul_shape),
    ("matmul_out", f"({_PRODUCT}, Tensor(a!) out) -> ()", _matmul_out, _matmul_out_shape),
    (
        "linear",
        f"(Tensor x, Tensor weight, Tensor? bias, int precision, {_LAYER}) -> Tensor",
        _linear,
        _linear_shape,
    ),
    (
        "linear_input_grad",
        f"(Tensor dy, Tensor x, Tensor weight, int precision, {_LAYER}) -> Tensor",
        _linear_input_grad,
        _linear_input_grad_shape,
    ),
    (
        "linear_weight_grad",
        "(Tensor dy, Tensor x, Tensor weight, bool with_bias, int precision, "
        f"{_LAYER}) -> (Tensor, Tensor)",
        _linear_weight_grad,
        _linear_weight_grad_shape,
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
        "(Tensor step, Tensor call, Tensor? thresholds, SymInt rows, SymInt cols, "
        "SymInt tile_rows, SymInt tile_cols, bool tiles, int skew, bool linear, int period, "
        "int offset, int seed, int site) -> (Tensor bits, Tensor scale)",
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
    for _key in ("CPU", "CUDA"):
        torch.library.impl(f"dropgemm::{_name}", _key, _kernel)
    torch.library.register_fake(f"dropgemm::{_name}", _shape)
    if _name != "matmul_out":
        _operator = getattr(torch.ops.dropgemm, _name)
        torch.library.register_vmap(f"dropgemm::{_name}", loop(_operator))
