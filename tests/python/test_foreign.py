"""Arrays of libraries that dropgemm does not know, and CuPy's, which it knows no backend for."""

import numpy as np
import pytest

import dropgemm as dg


class Foreign:
    """What a library of arrays offers: its memory, by DLPack."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_memory_that_speaks_dlpack_is_numpys_without_a_copy():
    values = np.random.default_rng(0).standard_normal((6, 6))
    view = np.from_dlpack(Foreign(values))
    assert np.shares_memory(view, values)
    np.testing.assert_array_equal(dg.matmul(view, view), dg.matmul(values, values))


@pytest.mark.parametrize("name", ["a", "b", "bias", "addend"])
def test_others_are_refused_by_name(name):
    operands = {"a": np.eye(3), "b": np.eye(3), name: Foreign(np.eye(3))}
    with pytest.raises(
        TypeError, match=rf"^{name}: expected a NumPy array, .* got test_.*Foreign$"
    ):
        dg.matmul(**operands)


def test_cupys_arrays_are_refused_by_name():
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if not cupy.is_available():
        pytest.skip("CuPy finds no GPU")
    with pytest.raises(TypeError, match=r"a: expected a NumPy array, .* got cupy"):
        dg.matmul(cupy.eye(3), cupy.eye(3))
