"""Which framework an operand belongs to, and the checks that only Python can make.

Shapes, dtypes and masks are the C++ core's to check; here stand the kind of an array and the
range of numbers that do not fit the core's types.
"""

from __future__ import annotations

import operator
import sys
from typing import Any, Literal

import numpy as np

Framework = Literal["numpy", "torch"]
Array = Any  # a NumPy array or a PyTorch tensor

_NAMES: dict[Framework, str] = {"numpy": "a NumPy array", "torch": "a PyTorch tensor"}


def framework_of(name: str, array: object) -> Framework:
    """The framework of an array on the CPU.

    Raises TypeError (operand, expected, got) for anything else: lists, other frameworks, other
    devices, sparse tensors, masked arrays, arrays whose memory holds a conjugate or negative.
    """
    expected = f"{name}: expected a NumPy array or a PyTorch CPU tensor"
    if isinstance(array, np.ndarray):
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{expected}, got a masked array")
        return "numpy"
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        raise TypeError(f"{expected}, got {type(array).__module__}.{type(array).__qualname__}")
    if array.device.type not in ("cpu", "meta"):
        raise TypeError(f"{expected}, got a tensor on {array.device}")
    if array.layout != torch.strided:
        raise TypeError(f"{expected}, got a tensor of layout {array.layout}")
    if not torch.compiler.is_compiling() and (array.is_conj() or array.is_neg()):
        kind = "conjugate" if array.is_conj() else "negative"
        raise TypeError(
            f"{name}: expected a tensor as it lies in memory, got a lazy {kind} view; "
            f"call .resolve_{'conj' if array.is_conj() else 'neg'}() first"
        )
    return "torch"


def common_framework(**arrays: object) -> Framework:
    """The one framework and device of all operands that are not None; the first names them."""
    found: Framework | None = None
    leader = ""
    device: Any = None
    for name, array in arrays.items():
        if array is None:
            continue
        framework = framework_of(name, array)
        own = getattr(array, "device", None)
        if found is None:
            found, leader, device = framework, name, own
        elif framework != found:
            raise TypeError(
                f"{name}: expected {_NAMES[found]} like {leader}, got {_NAMES[framework]}"
            )
        elif found == "torch" and own != device:
            raise TypeError(
                f"{name}: expected a tensor on {device} like {leader}, got one on {own}"
            )
    if found is None:
        raise TypeError("expected at least one array, got none")
    return found


def check_mask(name: str, mask: object, framework: Framework) -> None:
    """Raises TypeError unless `mask` is None or a TileMask of this framework."""
    from dropgemm.tile_mask import TileMask

    if mask is None:
        return
    if not isinstance(mask, TileMask):
        raise TypeError(f"{name}: expected a TileMask, got {type(mask).__qualname__}")
    if mask.framework != framework:
        raise TypeError(
            f"{name}: expected bits in {_NAMES[framework]} like the operands, "
            f"got {_NAMES[mask.framework]}"
        )


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
