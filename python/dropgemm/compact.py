"""compact and expand: what a mask keeps as a smaller dense array, and back.

The compaction of Approximate Random Dropout (Song et al., 2018, section 3): for code of one's own
between the two. matmul takes the masks themselves and needs none of it.
"""

from __future__ import annotations

from typing import Literal

from dropgemm import _core
from dropgemm.arrays import framework_of, to_integer
from dropgemm.framework import Array, Framework, compact_shape
from dropgemm.tile_mask import TileMask, check_mask

Axis = Literal[0, 1, "tiles"]

_CODES: dict[Axis, int] = {0: 0, 1: 1, "tiles": 2}
_MANY = ("columns keep the same number of rows", "rows keep the same number of columns")


def compact(x: Array, mask: TileMask, axis: Axis, size: int | None = None) -> Array:
    """The elements of x [rows, cols] that the mask keeps, gathered: a new dense array.

    axis 0: [size, cols], for each column its kept rows, in order. axis 1: [rows, size], for each
    row its kept columns, so rows of different row groups may keep different ones. "tiles":
    [size, tile rows, tile cols], the kept tiles in row-major order; tiles that clip at the edges
    are padded with zeros, as is what is left up to size.

    size: how many there is room for, at least as many as any row (or column) keeps. Without it the
    bits are read, and all must keep the same number; functions that are compiled or traced, where
    a shape must not depend on values, have to give it.

    x: float32 or float64, any strides. What x holds where it is dropped does not matter, not even
    NaN. Has gradients on PyTorch tensors, where this is the operator dropgemm::compact.

    Raises ValueError for a size that is too small ("size: expected at least 12, got 8"), rows that
    keep different numbers without one, shapes; TypeError for kinds and dtypes.

    >>> x = np.arange(8.0).reshape(2, 4)
    >>> keep = np.array([[True, False, False, True], [False, True, True, False]])
    >>> mask = dg.TileMask.from_dense(keep, tile=(1, 1))
    >>> dg.compact(x, mask, axis=1)
    array([[0., 3.],
           [5., 6.]])
    >>> dg.compact(x, mask, axis=1, size=3)
    array([[0., 3., 0.],
           [5., 6., 0.]])
    """
    framework, code = _check("x", x, mask, axis)
    size = _common_count(framework, mask, code) if size is None else _to_size(mask, code, size)
    return framework.compact(x, mask, code, size)


def expand(xc: Array, mask: TileMask, axis: Axis) -> Array:
    """The reverse of compact: xc scattered into a new array of the mask's shape.

    Dropped elements are exactly 0; what xc holds past the kept ones, or in the padding of a tile,
    is ignored. So expand(compact(x, mask, axis), mask, axis) is x with its dropped elements 0, to
    the bit. On PyTorch tensors this is the operator dropgemm::expand, the derivative of compact.

    Raises ValueError for another shape than compact's, or one with too little room; TypeError for
    kinds and dtypes.

    >>> mask = dg.RowPattern(period=2, offset=1).mask(2, 4)
    >>> dg.expand(np.array([[1.0, 2.0], [3.0, 4.0]]), mask, axis=1)
    array([[0., 1., 0., 2.],
           [0., 3., 0., 4.]])
    """
    framework, code = _check("xc", xc, mask, axis)
    return framework.expand(xc, mask, code)


def _check(name: str, array: Array, mask: TileMask, axis: Axis) -> tuple[Framework, int]:
    """The framework of an operand, and the core's number for the axis."""
    framework = framework_of(name, array)
    if mask is None:
        raise TypeError("mask: expected a TileMask, got NoneType")
    check_mask("mask", mask, framework, name, array)
    # A bool is an int, and True would be 1.
    if isinstance(axis, bool) or not isinstance(axis, (int, str)) or axis not in _CODES:
        raise ValueError(f"axis: expected 0 (rows), 1 (columns) or 'tiles', got {axis!r}")
    return framework, _CODES[axis]


def _to_size(mask: TileMask, code: int, size: object) -> int:
    number = to_integer("size", size, 0, 1 << 60)
    elements = 1
    for extent in compact_shape(mask.shape, mask.tile, code, number):
        elements *= extent
    if elements >= 1 << 60:
        raise ValueError(f"size: expected fewer than 2^60 elements in all, got {elements}")
    return number


def _common_count(framework: Framework, mask: TileMask, code: int) -> int:
    """What every row, or column, keeps."""
    if framework.is_traced():
        raise ValueError("size: expected an integer in a function that is compiled, got None")
    least, most = _core.kept_count(mask.host_arguments(), code)
    if least != most:
        raise ValueError(
            f"size: expected an integer, as not all {_MANY[code]} ({least} to {most}), got None; "
            f"size={most} pads with zeros"
        )
    return most
