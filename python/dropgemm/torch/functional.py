"""The functional API on PyTorch CPU tensors: what dropgemm.matmul and the masks do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dropgemm import _core
from dropgemm.matmul import to_number
from dropgemm.tile_mask import TileMask, bits_shape
from dropgemm.torch import ops
from dropgemm.torch.autograd import Arguments, MaskArguments
from dropgemm.torch.tracing import needs_operator, refuse_forward_ad

if TYPE_CHECKING:
    from dropgemm.schedule import GyroSchedule

NO_MASK = MaskArguments(None, [], 1.0)


def to_uint32(bits: Tensor) -> Tensor:
    """Bits as torch.uint32, of the same memory."""
    if bits.dtype == torch.uint32:
        return bits
    if bits.dtype == torch.int32:
        return bits.view(torch.uint32)
    raise TypeError(f"bits: expected torch.uint32 or torch.int32, got {bits.dtype}")


def to_step_tensor(step: Tensor) -> Tensor:
    """A step as int64; TypeError where it is not an integer."""
    if step.dtype.is_floating_point or step.dtype.is_complex or step.dtype == torch.bool:
        raise TypeError(f"step: expected an integer tensor, got {step.dtype}")
    return step.to(torch.int64)


def mask_arguments(mask: TileMask | None) -> MaskArguments:
    """A mask as the operators take it."""
    if mask is None:
        return NO_MASK
    layout = [*mask.shape, *mask.tile, int(mask.transposed)]
    return MaskArguments(mask.bits, layout, mask.keep_hint)


def matmul(
    a: Tensor,
    b: Tensor,
    a_mask: TileMask | None,
    b_mask: TileMask | None,
    out_mask: TileMask | None,
    trans_a: bool,
    trans_b: bool,
    bias: Tensor | None,
    addend: Tensor | None,
    activation: int,
    scale: float | Tensor,
    out_scale: float | Tensor,
    out: Tensor | None,
) -> Tensor:
    """dropgemm.matmul for tensors: the operator dropgemm::matmul, or matmul_out."""
    refuse_forward_ad(a, b, bias, addend)
    scale_value, scale_tensor = _factor("scale", scale)
    out_scale_value, out_scale_tensor = _factor("out_scale", out_scale)
    args = Arguments(
        a, b, mask_arguments(a_mask), mask_arguments(b_mask), mask_arguments(out_mask),
        bool(trans_a), bool(trans_b), bias, addend, activation, scale_value, scale_tensor,
        out_scale_value, out_scale_tensor,
    )  # fmt: skip
    if out is None:
        return args()
    differentiable = any(t is not None and t.requires_grad for t in (a, b, bias, addend, out))
    if torch.is_grad_enabled() and differentiable:
        raise RuntimeError("out: expected operands without gradient, got one that requires it")
    torch.ops.dropgemm.matmul_out(*args.flat(), out)
    return out


def _factor(name: str, value: float | Tensor) -> tuple[float, Tensor | None]:
    if not isinstance(value, Tensor):
        return to_number(name, value), None
    if value.requires_grad:
        raise ValueError(f"{name}: expected a tensor without gradient: it has no derivative")
    if value.dim() != 0 or value.dtype != torch.float32:
        raise TypeError(
            f"{name}: expected a number or a float32 tensor of no dimension, "
            f"got {value.dtype} of shape {tuple(value.shape)}"
        )
    return 1.0, value


def expand_mask(mask: TileMask) -> Tensor:
    """The mask as a bool tensor [rows, cols]."""
    bits, layout, _ = mask_arguments(mask)
    dense: Tensor = torch.ops.dropgemm.expand_mask(bits, layout)
    return dense


def bernoulli_mask(
    rows: int,
    cols: int,
    p: float,
    seed: int | Tensor,
    site: int,
    step: int | Tensor,
    call: int,
    tile: tuple[int, int],
) -> TileMask:
    """dropgemm.bernoulli_mask with bits in a tensor; a seed that is a tensor is traced."""
    shape = (rows, cols)
    if isinstance(seed, int) and isinstance(step, int) and not needs_operator():
        bits = torch.empty(bits_shape(shape, tile), dtype=torch.uint32)
        _core.bernoulli_mask(bits.data_ptr(), *shape, *tile, p, seed, site, step, call)
        return TileMask.trusted(bits, "torch", shape, tile, 1.0 - p)
    words = torch.ops.dropgemm.bernoulli_mask(
        _int64(seed), _int64(step), *shape, *tile, p, site, call
    )
    return TileMask.trusted(words.view(torch.uint32), "torch", shape, tile, 1.0 - p)


def gyro_mask(
    schedule: GyroSchedule, step: int | Tensor, batch: int, rows_per_sample: int
) -> TileMask:
    """GyroSchedule.mask with bits in a tensor, for `rows_per_sample` rows of each sample."""
    group_rows = schedule.mask_group_rows(step if isinstance(step, int) else None, batch)
    shape = (batch * rows_per_sample, schedule.features)
    tile = (group_rows * rows_per_sample, schedule.tile_cols)
    if isinstance(step, int) and not needs_operator():
        bits = torch.empty(bits_shape(shape, tile), dtype=torch.uint32)
        arguments = schedule.arguments(step, rows_per_sample)
        _core.gyro_mask(bits.data_ptr(), *shape, *tile, *arguments)
        return TileMask.trusted(bits, "torch", shape, tile, schedule.keep_rate)
    p, exact, seed, site, at, *rest = schedule.arguments(step, rows_per_sample)
    words = torch.ops.dropgemm.gyro_mask(
        _int64(at), *shape, *tile, p, exact, ops.signed_seed(seed), site, *rest
    )
    return TileMask.trusted(words.view(torch.uint32), "torch", shape, tile, schedule.keep_rate)


def _int64(value: int | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((), ops.signed_seed(value), dtype=torch.int64)
