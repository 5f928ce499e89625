"""Which framework an operand belongs to, and numbers that the core's types do not hold.

The one place that knows which frameworks there are. Shapes, dtypes and masks are checked by
framework.py and the C++ core.
"""

from __future__ import annotations

import operator
import sys

import numpy as np

from dropgemm.framework import Framework
from dropgemm.numpy import NUMPY


def find_framework(array: object) -> Framework | None:
    """The framework of an array; None for anything else.

    A framework that nobody has imported has no arrays, and is not imported for the asking.
    """
    # Without a cache, as a compiled function is traced through here and would be compiled again
    # when that changed; `from ... import` costs three times as much.
    if isinstance(array, np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        import dropgemm.torch.functional

        return dropgemm.torch.functional.TORCH
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(array, jax.Array):
        import dropgemm.jax.functional

        return dropgemm.jax.functional.JAX
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        import dropgemm.cupy

        return dropgemm.cupy.CUPY
    return None


def framework_of(name: str, array: object) -> Framework:
    """The framework of an array, on a device that it is taken on.

    Raises TypeError (operand, expected, got) for anything else: lists, other frameworks, other
    devices, sparse tensors, masked arrays, tracers, arrays whose memory holds a conjugate or
    negative.
    """
    framework = find_framework(array)
    if framework is None:
        raise TypeError(
            f"{name}: expected a NumPy array, a PyTorch tensor, a JAX array or a CuPy array, "
            f"got {type(array).__module__}.{type(array).__qualname__}"
        )
    framework.check(name, array)
    return framework


def common_framework(**arrays: object) -> Framework:
    """The one framework and device of all operands that are not None; the first names them."""
    found: Framework | None = None
    leader, first = "", None
    for name, array in arrays.items():
        if array is None:
            continue
        if found is None:
            found, leader, first = framework_of(name, array), name, array
        elif isinstance(array, found.kind):  # asked for first: most calls have one framework
            found.check(name, array)
            found.check_alike(name, array, leader, first)
        else:
            other = framework_of(name, array)
            raise TypeError(f"{name}: expected {found.noun} like {leader}, got {other.noun}")
    if found is None:
        raise TypeError("expected at least one array, got none")
    return found


def to_integer(name: str, value: object, low: int, high: int) -> int:
    """`value` as an int in [low, high)."""
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got a bool")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__qualname__}") from None
    if not low <= number < high:
        raise ValueError(f"{name}: expected an integer in [{low}, {high}), got {number}")
    return number


def to_rate(name: str, value: object) -> float:
    """A dropout rate as a float in [0, 1]."""
    if isinstance(value, (bool, str)):
        raise TypeError(f"{name}: expected a rate in [0, 1], got {value!r}")
    try:
        rate = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a rate in [0, 1], got {value!r}") from None
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"{name}: expected a rate in [0, 1], got {rate}")
    return rate


def to_pair(name: str, value: object, low: int) -> tuple[int, int]:
    """Two ints, each at least `low`: a shape or a tile."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}: expected a pair of integers, got {value!r}")
    first, second = (to_integer(name, item, low, 1 << 62) for item in value)
    return first, second


def check_extent(rows: int, cols: int) -> None:
    """Raises ValueError for a mask whose size in bytes could overflow."""
    if rows * cols >= 1 << 60:
        raise ValueError(f"mask: expected fewer than 2^60 elements, got {rows} x {cols}")
