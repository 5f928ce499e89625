"""The functional API on NumPy arrays."""

from __future__ import annotations

import numpy as np

from dropgemm.framework import Array, Framework, NDArray


class NumPy(Framework):
    """NumPy arrays: their own views."""

    name = "numpy"
    noun = "a NumPy array"
    kind = np.ndarray
    takes_float16 = True  # which the reference backend multiplies, and any backend compacts

    def check(self, name: str, array: Array) -> None:
        """Refuses masked arrays, whose mask would be ignored."""
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name}: expected a plain NumPy array, got a masked array")

    def view(self, name: str, array: Array) -> NDArray:
        """The array."""
        view: NDArray = array
        return view

    def wrap(self, result: NDArray) -> Array:
        """The result."""
        return result

    def writable(self, out: Array) -> NDArray:
        """ValueError for a read-only array."""
        if not out.flags.writeable:
            raise ValueError("out: expected a writable array, got a read-only one")
        return self.view("out", out)


NUMPY = NumPy()
