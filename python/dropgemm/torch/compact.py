"""The operators dropgemm::compact and dropgemm::expand with their reverse-mode derivatives.

Both are linear, and each is the transpose of the other: what one pads with zeros the other ignores.
So each one's gradient is a call of the other, and derivatives of any order follow.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dropgemm.torch import ops as ops  # registers the operators
from dropgemm.torch.transforms import differentiable


def _compact_kept(inputs: tuple[Any, ...], _: Tensor) -> tuple[Any, ...]:
    return inputs[1:]


def _compact_backward(_: Any, kept: tuple[Any, ...], grad: Tensor) -> tuple[Any, ...]:
    bits, layout, axis, _size = kept
    return (expand(grad, bits, layout, axis),)


def _expand_kept(inputs: tuple[Any, ...], _: Tensor) -> tuple[Any, ...]:
    xc, bits, layout, axis = inputs
    return bits, layout, axis, xc.shape[1 if axis == 1 else 0]


def _expand_backward(_: Any, kept: tuple[Any, ...], grad: Tensor) -> tuple[Any, ...]:
    return (compact(grad, *kept),)


compact = differentiable("compact", _compact_kept, _compact_backward)
expand = differentiable("expand", _expand_kept, _expand_backward)
