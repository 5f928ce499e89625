"""Tensors as dropgemm._core takes them: an address and a layout, a tenth of DLPack's cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from dropgemm.framework import HIGHEST, MEDIUM
from dropgemm.tile_mask import bits_shape

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_FLOAT16 = 3  # which the CUDA backend takes, and the cpu backend does not

# Whether torch.use_deterministic_algorithms was told True.
deterministic: Callable[[], bool] = torch.are_deterministic_algorithms_enabled

DEFAULT = -1  # a precision: what torch is told at the time of the call


def resolved(precision: int) -> int:
    """A precision that is no DEFAULT."""
    return default_precision() if precision == DEFAULT else precision


def default_precision() -> int:
    """The core's number for what torch.set_float32_matmul_precision was told."""
    try:
        told = torch.get_float32_matmul_precision()
    except RuntimeError:  # told of some backends only, the CPU's or another
        matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        return MEDIUM if matmul.fp32_precision == "bf16" else HIGHEST
    return MEDIUM if told == "medium" else HIGHEST


def dtype_code(name: str, tensor: torch.Tensor) -> int:
    """The core's number for a dtype; TypeError for one that it does not take."""
    code = DTYPES.get(tensor.dtype)
    if code is None:
        if tensor.dtype is torch.float16 and on_cuda(tensor):
            return _FLOAT16
        *most, last = map(str, DTYPES)
        raise TypeError(f"{name}: expected {', '.join(most)} or {last}, got {tensor.dtype}")
    return code


def on_host(tensor: torch.Tensor) -> bool:
    """Whether the core may read a tensor at once."""
    return tensor.is_cpu


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether the cuda backend works on a tensor."""
    return tensor.is_cuda


def stream(tensor: torch.Tensor) -> int | None:
    """Where the core's call on a tensor runs: the handle of the current stream of its CUDA device,
    or None on the CPU."""
    if not tensor.is_cuda:
        return None
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)


def same_device(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors lie on one device; both on the CPU costs least."""
    return (first.is_cpu and second.is_cpu) or first.device == second.device


def check_devices(name: str, first: torch.Tensor, **others: torch.Tensor | None) -> None:
    """TypeError for a tensor on another device than `first`, which is operand `name`: its address
    would mean nothing there."""
    for other, tensor in others.items():
        if tensor is not None and not same_device(first, tensor):
            raise TypeError(
                f"{other}: expected a tensor on {first.device} like {name}, "
                f"got one on {tensor.device}"
            )


def check_matrix(name: str, tensor: torch.Tensor) -> None:
    """Raises TypeError and ValueError where matrix() would."""
    if tensor.dim() != 2 or tensor.dtype not in DTYPES:
        _checked_code(name, tensor, 2)


def _checked_code(name: str, tensor: torch.Tensor, dimensions: int) -> int:
    """The core's number for a dtype that is none of every backend's, or an error."""
    code = dtype_code(name, tensor)
    if tensor.dim() != dimensions:
        raise ValueError(f"{name}: expected a {dimensions}-D tensor, got {tensor.dim()}-D")
    return code


def matrix(name: str, tensor: torch.Tensor) -> tuple[int, ...]:
    """(address, dtype, rows, cols, row stride, col stride)."""
    shape, code = tensor.shape, DTYPES.get(tensor.dtype)
    if code is None or len(shape) != 2:
        code = _checked_code(name, tensor, 2)
    return (tensor.data_ptr(), code, *shape, *tensor.stride())


def vector(name: str, tensor: torch.Tensor | None) -> tuple[int, ...] | None:
    """(address, dtype, size, stride)."""
    if tensor is None:
        return None
    shape, code = tensor.shape, DTYPES.get(tensor.dtype)
    if code is None or len(shape) != 1:
        code = _checked_code(name, tensor, 1)
    return (tensor.data_ptr(), code, *shape, *tensor.stride())


def scalar(name: str, tensor: torch.Tensor | None) -> int | None:
    """The address of a float32 of no dimension."""
    if tensor is None:
        return None
    if tensor.dim() != 0 or tensor.dtype != torch.float32:
        raise TypeError(
            f"{name}: expected a number or a float32 tensor of no dimension, "
            f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
    return tensor.data_ptr()


def thresholds(tensor: torch.Tensor | None) -> tuple[int, int] | None:
    """(address, size) of a distribution's thresholds."""
    if tensor is None:
        return None
    if tensor.dtype not in (torch.int64, torch.uint64):
        raise TypeError(f"thresholds: expected torch.int64 or torch.uint64, got {tensor.dtype}")
    if tensor.dim() != 1 or not tensor.is_contiguous():
        raise ValueError(
            f"thresholds: expected a contiguous 1-D tensor, got shape {tuple(tensor.shape)} with "
            f"strides {tensor.stride()}"
        )
    return (tensor.data_ptr(), tensor.numel())


def check_layout(layout: list[int]) -> None:
    """Raises ValueError unless a layout is (rows, cols, tile rows, tile cols, transposed)."""
    if len(layout) != 5 or min(layout) < 0 or 0 in layout[2:4]:
        raise ValueError(
            "mask layout: expected (rows, cols, tile rows >= 1, tile cols >= 1, transposed), "
            f"got {tuple(layout)}"
        )


def mask(bits: torch.Tensor | None, layout: list[int], keep: float) -> tuple[Any, ...] | None:
    """(address, rows, cols, tile rows, tile cols, keep hint, transposed)."""
    if bits is None:
        return None
    check_layout(layout)
    rows, cols, tile_rows, tile_cols, transposed = layout
    shape, tile = (rows, cols), (tile_rows, tile_cols)
    if transposed:
        shape, tile = (cols, rows), (tile_cols, tile_rows)
    words = math.prod(bits_shape(shape, tile))
    if bits.numel() != words or not bits.is_contiguous() or bits.element_size() != 4:
        raise ValueError(
            f"mask bits: expected {words} contiguous words of 32 bits for layout "
            f"{tuple(layout)}, got {bits.dtype} of shape {tuple(bits.shape)}"
        )
    return (bits.data_ptr(), rows, cols, tile_rows, tile_cols, keep, bool(transposed))
