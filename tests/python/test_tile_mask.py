"""TileMask: layout of the bits, round trips, transposes, and what it refuses."""

import numpy as np
import pytest
import torch

import dropgemm as dg
from dense import to_framework, to_numpy
from dropgemm import _core

CASES = [((1, 1), (1, 1)), ((256, 2048), (128, 32)), ((130, 65), (128, 32)), ((7, 99), (2, 3)),
         ((33, 1), (1, 1)), ((3, 1000), (1, 1)), ((0, 8), (4, 4)), ((8, 0), (4, 4)),
         ((5, 6), (64, 64))]  # fmt: skip


def random_dense(shape, tile, seed=0):
    rng = np.random.default_rng(seed)
    tiles = rng.random([-(-n // t) for n, t in zip(shape, tile, strict=True)]) < 0.5
    dense = np.repeat(np.repeat(tiles, tile[0], 0), tile[1], 1)
    return np.ascontiguousarray(dense[: shape[0], : shape[1]])


@pytest.mark.parametrize(("shape", "tile"), CASES)
def test_round_trip(framework, shape, tile):
    dense = random_dense(shape, tile)
    mask = dg.TileMask.from_dense(to_framework(dense, framework), tile=tile)
    assert (mask.shape, mask.tile) == (shape, tile)
    assert type(mask.bits) is type(mask.to_dense()) is type(to_framework(dense, framework))
    np.testing.assert_array_equal(to_numpy(mask.to_dense()), dense)
    np.testing.assert_array_equal(to_numpy(mask.T.to_dense()), dense.T)
    expected = dense.mean() if dense.size else 1.0
    assert mask.keep_rate == pytest.approx(expected, abs=1e-12)
    assert mask.keep_hint == pytest.approx(expected, abs=1e-12)
    assert mask.T.keep_rate == pytest.approx(expected, abs=1e-12)

    again = dg.TileMask(mask.bits, shape=shape, tile=tile)
    assert again.equals(mask)
    assert mask.T.T.equals(mask)
    assert again.bits is mask.bits
    assert mask.T.bits is mask.bits


def test_bits_are_words_of_32_columns_lowest_first():
    dense = np.zeros((2, 40), bool)
    dense[0, [0, 33]] = dense[1, 31] = True
    mask = dg.TileMask.from_dense(dense, tile=(1, 1))
    np.testing.assert_array_equal(mask.bits, np.array([[1, 2], [1 << 31, 0]], np.uint32))
    assert "shape=(2, 40)" in repr(mask)
    assert "keep_hint=0.0375" in repr(mask)


def test_torch_bits_are_uint32_or_int32_of_the_same_memory():
    words = torch.tensor([[-1], [1]], dtype=torch.int32)
    mask = dg.TileMask(words, (2, 32), (1, 1))
    assert mask.bits.dtype == torch.uint32
    assert mask.bits.data_ptr() == words.data_ptr()
    assert mask.to_dense().sum() == 33
    assert "torch" in repr(mask)


def test_equality_is_asked_for_by_name():
    dense = random_dense((64, 64), (32, 32))
    coarse = dg.TileMask.from_dense(dense, tile=(32, 32))
    fine = dg.TileMask.from_dense(dense, tile=(1, 1))
    assert coarse.equals(fine)
    assert coarse.T.equals(dg.TileMask.from_dense(np.ascontiguousarray(dense.T), tile=(32, 32)))
    assert not coarse.equals(dg.TileMask.from_dense(~dense, tile=(32, 32)))
    assert not coarse.equals(dg.TileMask.from_dense(dense[:, :32], tile=(32, 32)))
    assert coarse != fine  # two objects, as for any object


WORD = np.zeros((2, 1), np.uint32)
BAD = {
    "list": (lambda: dg.TileMask([[0]], (1, 1), (1, 1)), TypeError, "bits: expected a NumPy"),
    "dtype": (lambda: dg.TileMask(WORD.astype(np.int64), (2, 9), (1, 1)), TypeError,
              "bits: expected uint32, got int64"),
    "torch dtype": (lambda: dg.TileMask(torch.zeros(2, 1), (2, 9), (1, 1)), TypeError,
                    "bits: expected torch.uint32 or torch.int32, got torch.float32"),
    "bits shape": (lambda: dg.TileMask(WORD, (2, 33), (1, 1)), ValueError,
                   r"bits: expected shape \(2, 2\) .* got \(2, 1\)"),
    "tile": (lambda: dg.TileMask(WORD, (2, 9), (0, 1)), ValueError, "tile: expected an integer"),
    "shape": (lambda: dg.TileMask(WORD, (-2, 9), (1, 1)), ValueError, "shape: expected an integer"),
    "pair": (lambda: dg.TileMask(WORD, 2, (1, 1)), TypeError, "shape: expected a pair"),
    "strided": (lambda: dg.TileMask(np.zeros((2, 2), np.uint32)[:, :1], (2, 9), (1, 1)),
                ValueError, "bits: expected a contiguous array"),
    "padding": (lambda: dg.TileMask(WORD + 512, (2, 9), (1, 1)), ValueError,
                "bits: expected 0 in the padding after column tile 8"),
    "hint": (lambda: dg.TileMask(WORD, (2, 9), (1, 1), keep_hint=1.5), ValueError,
             "keep_hint: expected a rate"),
    "hint kind": (lambda: dg.TileMask(WORD, (2, 9), (1, 1), keep_hint="a"), TypeError,
                  r"keep_hint: expected a rate in \[0, 1\], got 'a'"),
    "no values": (lambda: dg.TileMask(torch.zeros(2, 1, dtype=torch.int32, device="meta"),
                                      (2, 9), (1, 1)),
                  TypeError, "bits: expected a tensor with values, got one on meta"),
    "keep without values": (lambda: dg.TileMask.from_dense(torch.zeros(2, 2, device="meta"),
                                                           tile=(1, 1)),
                            TypeError, "keep: expected a tensor with values"),
    "equals": (lambda: dg.TileMask(WORD, (2, 9), (1, 1)).equals(None), TypeError,
               "other: expected a TileMask, got NoneType"),
    "mixed tile": (lambda: dg.TileMask.from_dense(np.eye(6) > 0, tile=(2, 3)), ValueError,
                   r"keep: expected one value in each 2x3 tile, got both in tile \(0, 0\)"),
    "later tile": (lambda: dg.TileMask.from_dense(np.arange(12).reshape(2, 6) < 11, tile=(2, 3)),
                   ValueError, r"got both in tile \(0, 1\)"),
    "keep dtype": (lambda: dg.TileMask.from_dense(np.eye(2), tile=(1, 1)), TypeError,
                   "keep: expected bool, got float64"),
    "keep rank": (lambda: dg.TileMask.from_dense(np.zeros(2, bool), tile=(1, 1)), ValueError,
                  "keep: expected a 2-D array, got 1-D"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_masks_are_refused(case):
    make, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make()


def test_the_core_checks_where_it_writes_a_dense_mask():
    mask = (WORD, 2, 9, 1, 1, 0.5, False)
    for out, message in (
        (np.zeros((2, 9), np.float32), "out: expected 18 elements of one byte, got 18 of 4"),
        (np.zeros((2, 8), bool), "out: expected 18 elements of one byte, got 16 of 1"),
        (np.zeros((2, 18), bool)[:, ::2], "out: expected a contiguous array, got a strided one"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.mask_to_dense(mask, out)
    with pytest.raises(TypeError, match="mask: expected a mask, got None"):
        _core.mask_to_dense(None, np.zeros((2, 9), bool))
