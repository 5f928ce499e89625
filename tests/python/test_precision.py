"""What precision= and each framework's own setting do to float32 products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import dropgemm as dg
from dense import BFLOAT16, assert_within, product, to_framework, to_numpy

BFLOAT16_EPS = 2.0**-8  # the largest relative error of rounding to bfloat16


def problem(framework="numpy", shape=(96, 65, 131)):
    m, n, k = shape
    rng = np.random.default_rng(11)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    return to_framework(a, framework), to_framework(b, framework)


def as_bits(array):
    return to_numpy(array).view(np.uint32)


def rounded(array):
    return array.astype(BFLOAT16).astype(np.float32)


@pytest.fixture
def told():
    """Sets what torch is told, until the test ends."""
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def test_medium_rounds_the_operands_or_nothing(backend, framework):
    a, b = problem()
    got = dg.matmul(*problem(framework), precision="medium", scale=-1.5)
    exact, tolerance = product(a, b, scale=-1.5)
    of_rounded, tolerance_of_rounded = product(rounded(a), rounded(b), scale=-1.5)
    got = to_numpy(got).astype(np.float64)
    rounds = abs(got - of_rounded).max() < abs(got - exact).max()
    if rounds:
        assert_within(got, of_rounded, tolerance_of_rounded)
    else:
        assert backend != "reference"
        assert_within(got, exact, tolerance)
    error_of_rounding = (2 * BFLOAT16_EPS + BFLOAT16_EPS**2) * 1.5 * (abs(a) @ abs(b))
    assert_within(got, exact, tolerance + error_of_rounding)


def test_other_dtypes_know_no_precision(backend, framework):
    for dtype in (np.float64, BFLOAT16):
        a, b = (to_framework(x.astype(dtype), framework) for x in problem())
        for precision in ("highest", "medium", None):
            got = to_numpy(dg.matmul(a, b, precision=precision))
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, to_numpy(dg.matmul(a, b)))


@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_torch_tensors_follow_what_torch_is_told(told, name):
    a, b = problem("torch")
    told(name)
    expected = dg.matmul(a, b, precision="medium" if name == "medium" else "highest")
    np.testing.assert_array_equal(as_bits(dg.matmul(a, b)), as_bits(expected))
    compiled = torch.compile(dg.matmul, backend="eager", fullgraph=True)
    np.testing.assert_array_equal(as_bits(compiled(a, b)), as_bits(expected))


def test_gradients_are_of_the_products_precision(told):
    for precision in ("highest", "medium"):
        a, b = (x.requires_grad_() for x in problem("torch"))
        told("medium" if precision == "highest" else "highest")  # what is said wins
        dg.matmul(a, b, precision=precision).sum().backward()
        ones = torch.ones(a.shape[0], b.shape[1])
        for got, left, right, trans in ((a.grad, ones, b, (False, True)),
                                        (b.grad, a, ones, (True, False))):  # fmt: skip
            expected = dg.matmul(left.detach(), right.detach(), trans_a=trans[0],
                                 trans_b=trans[1], precision=precision)  # fmt: skip
            np.testing.assert_array_equal(as_bits(got), as_bits(expected))


def test_a_setting_of_the_cpu_alone_is_followed(told):
    """torch then refuses to name one precision for all."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        a, b = problem("torch")
        expected = as_bits(dg.matmul(a, b, precision="medium"))
        np.testing.assert_array_equal(as_bits(dg.matmul(a, b)), expected)
    finally:
        matmul.fp32_precision = before


def test_jax_arrays_follow_what_jax_is_told():
    a, b = (jnp.asarray(x) for x in problem())
    for name, precision in (("bfloat16", "medium"), ("float32", "highest")):
        expected = as_bits(dg.matmul(a, b, precision=precision))
        with jax.default_matmul_precision(name):
            np.testing.assert_array_equal(as_bits(dg.matmul(a, b)), expected)


def test_numpy_follows_nobody(told):
    a, b = problem()
    expected = as_bits(dg.matmul(a, b, precision="highest"))
    told("medium")
    with jax.default_matmul_precision("bfloat16"):
        np.testing.assert_array_equal(as_bits(dg.matmul(a, b)), expected)


@pytest.mark.parametrize("precision", ["high", "bfloat16", 1, True, ["medium"]])
def test_refuses_other_precisions(framework, precision):
    a, b = problem(framework)
    with pytest.raises(ValueError, match="precision: expected None or one of 'highest', 'medium'"):
        dg.matmul(a, b, precision=precision)


def test_strided_bfloat16(framework):
    a, b = problem()
    a, b = a.astype(BFLOAT16), b.astype(BFLOAT16)
    expected, tolerance = product(a[::2, 1::3], b[1::3][: a[:, 1::3].shape[1]])
    got = dg.matmul(to_framework(a, framework)[::2, 1::3],
                    to_framework(b, framework)[1::3][: a[:, 1::3].shape[1]])  # fmt: skip
    assert_within(got, expected, tolerance)
