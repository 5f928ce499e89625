"""The functional API on PyTorch tensors: what dropgemm.matmul and the masks do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dropgemm import _core
from dropgemm.framework import (
    Framework,
    MatmulCall,
    NDArray,
    Pair,
    bits_shape,
    common_divisor,
    to_number,
)
from dropgemm.tile_mask import TileMask
from dropgemm.torch import compact as compaction
from dropgemm.torch import operands, ops
from dropgemm.torch.autocast import cast
from dropgemm.torch.autograd import matmul
from dropgemm.torch.calls import MaskArguments, Product
from dropgemm.torch.tracing import needs_operator, refuse_forward_ad

if TYPE_CHECKING:
    from dropgemm.pattern import PatternLayout
    from dropgemm.ranks import Part
    from dropgemm.schedule import GyroSchedule

_STRIDED = torch.strided


def mask_words(mask: TileMask) -> tuple[Tensor, list[int]]:
    """The bits of a mask and their layout, as the operators take them."""
    bits, layout, _ = MaskArguments.of(mask)
    assert bits is not None
    return bits, layout


class Torch(Framework):
    """PyTorch tensors on the CPU and on CUDA devices; on meta too, which have shapes only."""

    name = "torch"
    noun = "a PyTorch tensor"
    kind = Tensor

    def check(self, name: str, tensor: Tensor) -> None:
        """Refuses other devices and layouts, and lazy conjugates and negatives."""
        if not (tensor.is_cpu or tensor.is_cuda or tensor.is_meta):
            raise TypeError(
                f"{name}: expected a PyTorch CPU or CUDA tensor, got one on {tensor.device}"
            )
        if tensor.layout is not _STRIDED:
            raise TypeError(
                f"{name}: expected a strided tensor, got a tensor of layout {tensor.layout}"
            )
        if not torch.compiler.is_compiling() and (tensor.is_conj() or tensor.is_neg()):
            kind, call = ("conjugate", "conj") if tensor.is_conj() else ("negative", "neg")
            raise TypeError(
                f"{name}: expected a tensor as it lies in memory, got a lazy {kind} view; "
                f"call .resolve_{call}() first"
            )

    def check_alike(self, name: str, tensor: Tensor, leader: str, first: Tensor) -> None:
        """Refuses a tensor on another device; beside one on meta nothing is read."""
        if not ((tensor.is_cpu and first.is_cpu) or tensor.device == first.device or first.is_meta):
            raise TypeError(
                f"{name}: expected a tensor on {first.device} like {leader}, "
                f"got one on {tensor.device}"
            )

    def view(self, name: str, tensor: Tensor) -> NDArray:
        """The tensor's memory as a NumPy array; a copy where that is a device's."""
        if tensor.is_meta:
            raise TypeError(f"{name}: expected a tensor with values, got one on meta")
        return tensor.detach().cpu().numpy()

    def wrap(self, result: NDArray) -> Tensor:
        """A tensor in the memory of the result."""
        return torch.from_numpy(result)

    def beside(self, result: NDArray, like: Tensor) -> Tensor:
        """Copied where that is no CPU."""
        return self.wrap(result).to(like.device)

    def at(self, step: int, like: Tensor) -> int | Tensor:
        """A tensor where `like` is on a CUDA device."""
        if not operands.on_cuda(like):
            return step
        return torch.full((), step, dtype=torch.int64, device=like.device)

    def is_traced(self) -> bool:
        """True inside torch.compile and torch.export."""
        return torch.compiler.is_compiling()

    def check_bits(self, bits: Tensor) -> Tensor:
        """Takes int32 too, the dtype of words that went through an operator."""
        if bits.dtype not in (torch.uint32, torch.int32):
            raise TypeError(f"bits: expected torch.uint32 or torch.int32, got {bits.dtype}")
        if not bits.is_contiguous():
            raise ValueError("bits: expected a contiguous array, got a strided one")
        return bits if bits.dtype == torch.uint32 else bits.view(torch.uint32)

    def core_bits(self, bits: Tensor) -> int:
        """Their address."""
        return bits.data_ptr()

    def to_dense(self, mask: TileMask) -> Tensor:
        """By the operator dropgemm::expand_mask."""
        dense: Tensor = torch.ops.dropgemm.expand_mask(*mask_words(mask))
        return dense

    def to_step(self, step: Tensor) -> Tensor:
        """Stays a tensor, so that it can be traced."""
        if step.dtype.is_floating_point or step.dtype.is_complex or step.dtype == torch.bool:
            raise TypeError(f"step: expected an integer tensor, got {step.dtype}")
        return step.to(torch.int64)

    def bernoulli_bits(
        self,
        shape: Pair,
        tile: Pair,
        p: float,
        seed: int | Tensor,
        site: int,
        step: int | Tensor,
        call: int,
        first_row: int,
    ) -> Tensor:
        """seed may be a tensor, which is traced."""
        if isinstance(seed, int) and isinstance(step, int) and not needs_operator():
            bits = torch.empty(bits_shape(shape, tile), dtype=torch.uint32)
            _core.bernoulli_mask(
                bits.data_ptr(), *shape, *tile, p, seed, site, step, call, first_row
            )
            return bits
        words: Tensor = torch.ops.dropgemm.bernoulli_mask(
            _int64(seed), _int64(step), *shape, *tile, p, site, call, first_row
        )
        return words.view(torch.uint32)

    def gyro_bits(self, shape: Pair, tile: Pair, arguments: tuple[Any, ...]) -> Tensor:
        """By the operator dropgemm::gyro_mask where the step is a tensor, or traced."""
        p, exact, seed, site, step, *rest = arguments
        if isinstance(step, int) and not needs_operator():
            bits = torch.empty(bits_shape(shape, tile), dtype=torch.uint32)
            _core.gyro_mask(bits.data_ptr(), *shape, *tile, *arguments)
            return bits
        words: Tensor = torch.ops.dropgemm.gyro_mask(
            _int64(step), *shape, *tile, p, exact, ops.signed_seed(seed), site, *rest
        )
        return words.view(torch.uint32)

    def pattern_bits(
        self,
        layout: PatternLayout,
        period: int,
        offset: int,
        thresholds: Any = None,
        seed: int = 0,
        site: int = 0,
        step: int | Tensor = 0,
        call: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """By the operator dropgemm::pattern_mask where the step is a tensor, or traced; call and
        thresholds may be int64 tensors."""
        if isinstance(step, int) and isinstance(call, int) and not needs_operator():
            bits = torch.empty(bits_shape(layout.shape, layout.tile), dtype=torch.uint32)
            scale = torch.empty((), dtype=torch.float32)
            if isinstance(thresholds, Tensor):
                thresholds = operands.thresholds(thresholds)
            _core.pattern_mask(
                bits.data_ptr(), *layout, period, offset, thresholds, seed, site, step, call,
                scale.data_ptr(),
            )  # fmt: skip
            return bits, scale
        words, scale = torch.ops.dropgemm.pattern_mask(
            _int64(step), _int64(call), _threshold_tensor(thresholds), *layout, period,
            offset, ops.signed_seed(seed), site,
        )  # fmt: skip
        return words.view(torch.uint32), scale

    def matmul(self, call: MatmulCall) -> Tensor:
        """By the operator dropgemm::matmul, or matmul_out."""
        (
            a, b, a_mask, b_mask, out_mask, trans_a, trans_b, bias, addend, activation,
            scale, out_scale, precision, deterministic, out,
        ) = call  # fmt: skip
        if out is None:  # as PyTorch's own products are cast
            a, b, bias, addend = cast(a, b, bias, addend)
        product = Product(
            MaskArguments.of(a_mask), MaskArguments.of(b_mask), MaskArguments.of(out_mask),
            trans_a, trans_b, activation, *_factor("scale", scale),
            *_factor("out_scale", out_scale),
            operands.DEFAULT if precision is None else precision, deterministic,
        )  # fmt: skip
        if product.scale_tensor is not None:
            self.check_alike("scale", product.scale_tensor, "a", a)
        if product.out_scale_tensor is not None:
            self.check_alike("out_scale", product.out_scale_tensor, "a", a)
        if out is None:
            return matmul(a, b, bias, addend, product)
        differentiable = any(t is not None and t.requires_grad for t in (a, b, bias, addend, out))
        if torch.is_grad_enabled() and differentiable:
            raise RuntimeError("out: expected operands without gradient, got one that requires it")
        refuse_forward_ad(a, b, bias, addend)
        result: Tensor = out
        torch.ops.dropgemm.matmul_out(a, b, bias, addend, *product.flat(), result)
        return result

    def compact(self, x: Tensor, mask: TileMask, axis: int, size: int) -> Tensor:
        """By the operator dropgemm::compact."""
        refuse_forward_ad(x)
        bits, layout = mask_words(mask)
        xc: Tensor = compaction.compact(x, bits, layout, axis, size)
        return xc

    def expand(self, xc: Tensor, mask: TileMask, axis: int) -> Tensor:
        """By the operator dropgemm::expand."""
        refuse_forward_ad(xc)
        bits, layout = mask_words(mask)
        x: Tensor = compaction.expand(xc, bits, layout, axis)
        return x


TORCH = Torch()


def _factor(name: str, value: float | Tensor) -> tuple[float, Tensor | None]:
    if type(value) is float:
        return value, None
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


def bernoulli_mask(
    rows: int,
    cols: int,
    p: float,
    seed: int | Tensor,
    site: int,
    step: int | Tensor,
    call: int,
    tile: tuple[int, int],
    first_row: int = 0,
) -> TileMask:
    """dropgemm.bernoulli_mask with bits in a tensor; a seed that is a tensor is traced."""
    bits = TORCH.bernoulli_bits((rows, cols), tile, p, seed, site, step, call, first_row)
    return TileMask.trusted(bits, TORCH, (rows, cols), tile, 1.0 - p)


def gyro_mask(
    schedule: GyroSchedule, step: int | Tensor, samples: int, part: Part, rows_per_sample: int
) -> TileMask:
    """GyroSchedule.mask with bits in a tensor, for `rows_per_sample` rows of each sample."""
    return schedule.mask_in(TORCH, step, samples, part, rows_per_sample)


def repeat_rows(mask: TileMask, times: int) -> TileMask:
    """The mask of `times` matrices under one another, each masked by `mask`."""
    (rows, cols), (height, width) = mask.shape, mask.tile
    bits = mask.bits.view(torch.int32)
    if rows <= height:  # one row of tiles for all
        height = rows * times
    else:
        low = common_divisor(height, rows)  # tiles that end where a matrix does
        bits = bits[torch.arange(0, rows, low, device=bits.device) // height].repeat(times, 1)
        height = low
    return TileMask.trusted(
        bits.view(torch.uint32), TORCH, (rows * times, cols), (height, width), mask.keep_hint
    )


def _threshold_tensor(thresholds: Any) -> Tensor | None:
    if thresholds is None or isinstance(thresholds, Tensor):
        return thresholds
    if not torch.compiler.is_compiling():  # which cannot ask an array for its dtype
        if not isinstance(thresholds, np.ndarray):
            kind = type(thresholds).__qualname__
            raise TypeError(f"thresholds: expected a NumPy array of uint64, got {kind}")
        if thresholds.dtype not in (np.uint64, np.int64):
            raise TypeError(f"thresholds: expected uint64, got {thresholds.dtype}")
    # A copy, since PyTorch warns of arrays that are read-only.
    return torch.from_numpy(thresholds.copy().view(np.int64))


def _int64(value: int | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((), ops.signed_seed(value), dtype=torch.int64)
