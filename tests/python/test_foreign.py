"""Arrays of libraries that dropgemm does not know."""

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
