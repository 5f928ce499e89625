"""torch.autocast for what is not one of PyTorch's own operators."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", Tensor, "Tensor | None")


def cast(*tensors: T) -> tuple[T, ...]:
    """Within torch.autocast of their device: the tensors as F.linear would take them, float64 as
    it is.

    Gradients come back in the tensors' own dtypes.
    """
    if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
        return tensors
    return tuple(None if tensor is None else _cast(tensor) for tensor in tensors)


def _cast(tensor: Tensor) -> Tensor:
    kind = tensor.device.type
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):  # meta has none
        return tensor
    if not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(kind))
