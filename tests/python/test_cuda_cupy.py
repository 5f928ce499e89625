"""CuPy arrays against NumPy's: on a GPU, or on the emulated device (pytest -p emulated)."""

import re
from pathlib import Path

import numpy as np
import pytest

import dropgemm as dg

cupy = pytest.importorskip("cupy", exc_type=ImportError)
if not cupy.is_available():
    pytest.skip("CuPy finds no GPU", allow_module_level=True)

LIKE = cupy.zeros((), np.float32)
SCHEDULE = dg.GyroSchedule(96, 0.5, total_steps=10, seed=1, site=2, subnets=8, coscheduled=2,
                           tile_rows=32, tile_cols=32)  # fmt: skip


def operands(dtype=np.float32):
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype(dtype) for shape in ((128, 96), (64, 96), 64)]


def tolerance(x, w, dtype):
    """Of 96 sums in float32, or in float64, and of storing them; x and w are float64."""
    sums = np.finfo(np.float64 if dtype == np.float64 else np.float32).eps
    return 96 * sums * (abs(x) @ abs(w).T) + np.finfo(dtype).eps * abs(x @ w.T)


def assert_same(ours, theirs):
    assert isinstance(ours.bits, cupy.ndarray)
    assert ours.framework == "cupy"
    assert (ours.shape, ours.tile) == (theirs.shape, theirs.tile)
    np.testing.assert_array_equal(cupy.asnumpy(ours.bits), theirs.bits)


@pytest.mark.parametrize("step", [3, np.int32(3), np.uint64(3)])
def test_masks_have_numpys_bits(step):
    at = cupy.asarray(step)
    settings = {"seed": 7, "site": 1, "step": 3}
    expected = dg.bernoulli_mask(64, 100, 0.5, **settings)
    assert_same(dg.bernoulli_mask(64, 100, 0.5, **settings, like=LIKE), expected)
    assert_same(dg.bernoulli_mask(64, 100, 0.5, **settings | {"step": at}), expected)
    assert_same(SCHEDULE.mask(at, 128), SCHEDULE.mask(3, 128))
    assert_same(dg.RowPattern(3, 1).mask(4, 40, like=LIKE), dg.RowPattern(3, 1).mask(4, 40))
    drawn = dg.search_distribution(0.5)
    (ours, scale), (theirs, period) = (
        drawn.mask(1, 2, number, 40, 100, tile=(4, 8)) for number in (at, 3)
    )
    assert_same(ours, theirs)
    assert float(scale) == float(period)


def test_masks_written_out_and_read_again():
    mask, expected = SCHEDULE.mask(4, 128, like=LIKE), SCHEDULE.mask(4, 128)
    dense = mask.to_dense()
    np.testing.assert_array_equal(cupy.asnumpy(dense), expected.to_dense())
    np.testing.assert_array_equal(cupy.asnumpy(mask.T.to_dense()), expected.T.to_dense())
    again = dg.TileMask.from_dense(dense, tile=(32, 32))
    assert_same(again, expected)
    assert again.equals(mask)
    assert again.keep_rate == expected.keep_rate
    assert_same(dg.TileMask(mask.bits, mask.shape, mask.tile), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_products(dtype):
    x, w, bias = operands(dtype)
    mask = SCHEDULE.mask(4, 128)
    kept = np.where(mask.to_dense(), x, 0).astype(np.float64)
    expected = kept @ w.astype(np.float64).T
    bound = tolerance(kept, w.astype(np.float64), dtype)
    there = SCHEDULE.mask(cupy.asarray(4), 128)
    a, b = cupy.asarray(np.where(mask.to_dense(), x, np.nan).astype(dtype)), cupy.asarray(w)
    got = dg.matmul(a, b, trans_b=True, a_mask=there)
    assert got.dtype == dtype
    assert (abs(cupy.asnumpy(got) - expected) <= bound).all()
    out = cupy.empty((128, 64), dtype)
    scale = cupy.asarray(np.float32(2))
    found = dg.matmul(a, b.T, a_mask=there, bias=cupy.asarray(bias), scale=scale, activation="relu",
                      deterministic=True, out=out)  # fmt: skip
    assert found is out
    rectified = np.maximum(2 * expected + bias, 0)
    slack = 2 * bound + 4 * np.finfo(dtype).eps * (abs(expected) + abs(bias) + 1)
    assert (abs(cupy.asnumpy(out) - rectified) <= slack).all()


def test_calls_are_on_the_current_stream():
    x, w, _ = operands(np.float64)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:  # the operands too: a call elsewhere would not wait for them
        got = dg.matmul(cupy.asarray(x), cupy.asarray(w), trans_b=True)
    stream.synchronize()
    assert (abs(cupy.asnumpy(got) - x @ w.T) <= tolerance(x, w, np.float64)).all()


def test_compaction():
    x, mask = operands()[0], SCHEDULE.mask(4, 128)
    there = SCHEDULE.mask(4, 128, like=LIKE)
    small = dg.compact(cupy.asarray(x), there, 1)
    expected = dg.compact(x, mask, 1)
    np.testing.assert_array_equal(cupy.asnumpy(small), expected)
    np.testing.assert_array_equal(
        cupy.asnumpy(dg.expand(small, there, 1)), dg.expand(expected, mask, 1)
    )
    tiles = dg.compact(cupy.asarray(x), there, "tiles")
    np.testing.assert_array_equal(cupy.asnumpy(tiles), dg.compact(x, mask, "tiles"))
    np.testing.assert_array_equal(
        cupy.asnumpy(dg.expand(tiles, there, "tiles")), dg.expand(expected, mask, 1)
    )


def test_the_guides_example(capsys):
    guide = (Path(__file__).parents[2] / "python" / "README.md").read_text()
    block = next(b for b in re.findall(r"```py\n(.*?)```", guide, re.DOTALL) if "cupy" in b)
    schedule = dg.GyroSchedule(64, 0.5, total_steps=8, seed=0, site=0, subnets=8,
                               tile_rows=32, tile_cols=8)  # fmt: skip
    exec(block, {"dg": dg, "schedule": schedule})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", block)


BAD = {
    "mixed": (lambda x: (x, cupy.asnumpy(x), {}), "b: expected a CuPy array like a, got a NumPy"),
    "dtype": (lambda x: (x.astype(np.int64), x, {}), "a: expected float32, float64, bfloat16 or"),
    "mask": (lambda x: (x, x, {"a_mask": dg.RowPattern(2).mask(4, 4)}),
             "a_mask: expected bits in a CuPy array like the operands, got a NumPy array"),
    "scale": (lambda x: (x, x, {"scale": x}), "scale: expected a number or a float32 array of no"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_multiplied_is_refused(case):
    make, message = BAD[case]
    a, b, rest = make(cupy.zeros((4, 4), np.float32))
    with pytest.raises(TypeError, match=message):
        dg.matmul(a, b, **rest)


def test_arrays_on_two_devices_are_refused():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    here = cupy.zeros((4, 4), np.float32)
    with cupy.cuda.Device(1):
        there = cupy.zeros((4, 4), np.float32)
    with pytest.raises(TypeError, match="b: expected an array on CUDA device 0 like a, got one on"):
        dg.matmul(here, there)
    assert dg.matmul(there, there).device.id == 1
