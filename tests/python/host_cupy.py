"""What dropgemm uses of CuPy, over the host's memory: for the device that is emulated there.

install() makes it `import cupy`. An array here is none of NumPy's.
"""

import sys
import types

import numpy as np


class Device:
    """A device, which is the current one within it."""

    current = 0

    def __init__(self, id):
        self.id = id

    def __enter__(self):
        self._before, Device.current = Device.current, self.id

    def __exit__(self, *_):
        Device.current = self._before


class Stream:
    """The emulator's only one."""

    ptr = 0

    def __init__(self, non_blocking=False):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass

    def synchronize(self):
        pass


def _plain(value):
    return value._values if isinstance(value, ndarray) else value


class ndarray:  # noqa: N801 (as CuPy names it)
    """An array that NumPy's functions do not take."""

    def __init__(self, values):
        self._values = values
        self.device = Device(Device.current)

    __array__ = None

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._values.ctypes.data)

    def __getattr__(self, name):
        if name not in ("shape", "strides", "dtype", "ndim", "size", "itemsize", "flags"):
            raise AttributeError(name)
        return getattr(self._values, name)

    def __getitem__(self, at):
        return ndarray(self._values[at])

    def __len__(self):
        return len(self._values)

    def __rshift__(self, other):
        return ndarray(self._values >> _plain(other))

    def __and__(self, other):
        return ndarray(self._values & _plain(other))

    def __int__(self):
        return int(self._values)

    def __float__(self):
        return float(self._values)

    @property
    def T(self):  # noqa: N802
        return ndarray(self._values.T)

    def astype(self, dtype, copy=True):
        return ndarray(self._values.astype(dtype, copy=copy))

    def reshape(self, *shape):
        return ndarray(self._values.reshape(*shape))

    def repeat(self, times, axis):
        return ndarray(self._values.repeat(times, axis))


def install():
    """The module, as `import cupy` will find it."""
    cupy = types.ModuleType("cupy")
    cupy.ndarray = ndarray
    cupy.asnumpy = lambda array: array._values.copy()
    cupy.asarray = lambda values: ndarray(np.array(values))
    cupy.is_available = lambda: True
    cupy.float32 = np.float32
    cupy.ones = lambda shape, dtype: ndarray(np.ones(shape, dtype))
    cupy.zeros = lambda shape, dtype: ndarray(np.zeros(shape, dtype))
    cupy.empty = lambda shape, dtype: ndarray(np.full(shape, 0x5C, np.dtype(dtype)))
    cupy.full = lambda shape, value, dtype: ndarray(np.full(shape, value, dtype))
    cupy.arange = lambda stop, dtype: ndarray(np.arange(stop, dtype=dtype))
    cupy.ascontiguousarray = lambda array: ndarray(np.ascontiguousarray(array._values))
    cupy.cuda = types.SimpleNamespace(
        Stream=Stream,
        get_current_stream=Stream,
        Device=Device,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 2),
    )
    sys.modules["cupy"] = cupy
    return cupy
