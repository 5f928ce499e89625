"""torch.autocast for what is not one of PyTorch's own operators."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

_KINDS = ("cpu", "cuda")  # of devices; meta has no autocast
T = TypeVar("T", Tensor, "Tensor | None")


def cast(*tensors: T) -> tuple[T, ...]:
    """Within torch.autocast of their device: the tensors as F.linear would take them, float64 as
    it is.

    Gradients come back in the tensors' own dtypes.
    """
    kind = next((tensor.device.type for tensor in tensors if tensor is not None), "cpu")
    if kind not in _KINDS or not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(
        tensor.to(dtype)
        if tensor is not None and tensor.is_floating_point() and tensor.dtype != torch.float64
        else tensor
        for tensor in tensors
    )
