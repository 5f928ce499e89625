"""matmul against the dense product with explicit masks, on every backend and in both frameworks."""

import numpy as np
import pytest
import torch

import dropgemm as dg
from dense import BFLOAT16, assert_within, poison, product, to_framework, to_numpy
from dropgemm import _core

SHAPES = [(1, 1, 1), (128, 64, 96), (129, 33, 65), (7, 95, 300), (256, 10, 31), (40, 64, 0),
          (0, 5, 6), (5, 0, 6)]  # fmt: skip

# Tiles of the masks of a [M, K], b [K, N], out [M, N].
MASKS = {
    "none": (None, None, None),
    "groups in": ((128, 32), None, None),
    "groups out": (None, None, (128, 32)),
    "groups both": ((128, 32), None, (128, 32)),
    "weight tiles": (None, (32, 32), None),
    "elements": ((1, 1), None, (1, 1)),
    "all, mismatched": ((16, 24), (8, 40), (128, 5)),
}


def random_mask(rng, shape, tile, keep, framework):
    rows, cols = (-(-n // t) for n, t in zip(shape, tile, strict=True))
    tiles = rng.random((rows, cols)) < keep
    dense = np.repeat(np.repeat(tiles, tile[0], 0), tile[1], 1)[: shape[0], : shape[1]]
    return dg.TileMask.from_dense(to_framework(np.ascontiguousarray(dense), framework), tile=tile)


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("masks", MASKS)
def test_matches_the_dense_product(backend, framework, masks, trans_a, trans_b):
    rng = np.random.default_rng(7)
    for index, (m, n, k) in enumerate(SHAPES):
        for dtype in (np.float32, np.float64, BFLOAT16):
            keep = (0.5, 0.0, 1.0)[index % 3] if masks != "none" else 1.0
            operands, tiles = [], MASKS[masks]
            for shape, tile, trans in zip(
                ((m, k), (k, n), (m, n)), tiles, (trans_a, trans_b, False), strict=True
            ):
                mask = random_mask(rng, shape, tile, keep, framework) if tile else None
                values = rng.standard_normal(shape).astype(dtype)
                if trans:
                    values, mask = np.ascontiguousarray(values.T), mask.T if mask else None
                operands.append((values, mask))
            (a, a_mask), (b, b_mask), (out, out_mask) = operands
            bias, addend = (rng.standard_normal(s).astype(dtype) for s in (n, (m, n)))
            activation = (None, "relu", "gelu", "gelu_tanh")[index % 4]
            rest = {"trans_a": trans_a, "trans_b": trans_b, "activation": activation,
                    "scale": -1.5, "out_scale": 0.75}  # fmt: skip
            expected, tolerance = product(a, b, a_mask, b_mask, out_mask, bias=bias, addend=addend,
                                          **rest)  # fmt: skip
            poisoned_out = to_framework(np.full_like(out, np.nan), framework)
            got = dg.matmul(
                to_framework(poison(a, a_mask), framework),
                to_framework(poison(b, b_mask), framework),
                a_mask=a_mask, b_mask=b_mask, out_mask=out_mask,
                bias=to_framework(bias, framework), addend=to_framework(addend, framework),
                out=poisoned_out, **rest,
            )  # fmt: skip
            assert got is poisoned_out
            assert_within(got, expected, tolerance)


def test_new_result_is_of_the_callers_framework(framework):
    a = to_framework(np.ones((3, 4), np.float32), framework)
    got = dg.matmul(a, a, trans_b=True)
    assert type(got) is type(a)
    assert got.dtype == a.dtype
    np.testing.assert_array_equal(to_numpy(got), np.full((3, 3), 4.0))


def test_strided_operands_are_read_and_written_in_place(backend, framework):
    rng = np.random.default_rng(1)
    parents = [rng.standard_normal((200, 300)).astype(np.float32) for _ in range(3)]
    parents = [to_framework(p, framework) for p in parents]
    a, b, out = parents[0][3:103:2, 5:69], parents[1][10:74, 1:130:3], parents[2][:50, 7:50]
    before = to_numpy(parents[2]).copy()
    expected, tolerance = product(to_numpy(a), to_numpy(b))
    assert dg.matmul(a, b, out=out) is out
    assert_within(out, expected, tolerance)
    untouched = np.ones(before.shape, bool)
    untouched[:50, 7:50] = False
    np.testing.assert_array_equal(to_numpy(parents[2])[untouched], before[untouched])


def test_broadcast_and_reversed_views_are_legal_inputs(backend):
    rng = np.random.default_rng(2)
    row = rng.standard_normal(40).astype(np.float32)
    a = np.broadcast_to(row, (9, 40))
    b = rng.standard_normal((40, 11)).astype(np.float32)[::-1, ::-1]
    expected, tolerance = product(a, b)
    assert_within(dg.matmul(a, b), expected, tolerance)


def test_scale_arrays(backend, framework):
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((16, 16)).astype(np.float32) for _ in range(2))
    expected, tolerance = product(a, b, scale=2.0, out_scale=-0.5)
    factors = [to_framework(np.array(v, np.float32), framework) for v in (2.0, -0.5)]
    got = dg.matmul(*(to_framework(x, framework) for x in (a, b)), scale=factors[0],
                    out_scale=factors[1])  # fmt: skip
    assert_within(got, expected, tolerance)


def test_everything_of_the_core_is_reachable(backend):
    rng = np.random.default_rng(4)
    a, b, grad = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(3))
    bias = rng.standard_normal(64).astype(np.float32)
    keep = random_mask(rng, (64, 64), (8, 32), 0.5, "numpy")
    out, z, total = np.empty_like(a), np.empty_like(a), np.empty(64, np.float32)
    _core.matmul(a, b, out, keep.arguments(), d_mask=keep.arguments(), bias=bias, activation=2,
                 aux_out=z, a_sum=total, backend=backend)  # fmt: skip
    assert_within(z, *product(a, b, keep, None, keep, bias=bias))
    sums = np.where(keep.to_dense(), a, 0).astype(np.float64)
    assert_within(total, sums.sum(1), 2 * 2.0**-23 * 8 * abs(sums).sum(1))

    _core.matmul(a, b, out, grad_aux=grad, grad_activation=1, num_threads=1)
    expected, tolerance = product(a, b)
    assert_within(out, expected * (grad > 0), tolerance * (grad > 0))
    with pytest.raises(ValueError, match="backend"):
        _core.matmul(a, b, out, backend="abacus")


@pytest.mark.parametrize("trans_b", [False, True])
def test_a_packed_operand_serves_many_products(backend, trans_b):
    rng = np.random.default_rng(5)
    b = rng.standard_normal((64, 48)).astype(np.float32)
    size = _core.packed_bytes(b, trans_b)
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    packed = memory[start : start + size]
    with pytest.raises(ValueError, match=f"packed: expected {size} elements of one byte"):
        _core.pack(b, memory, trans_b)
    _core.pack(b, packed, trans_b)
    right = b.T if trans_b else b
    for rows in (3, 20):
        a = rng.standard_normal((rows, len(right))).astype(np.float32)
        out = np.empty((rows, right.shape[1]), np.float32)
        _core.matmul(a, np.full_like(b, np.nan), out, trans_b=trans_b, b_packed=packed.ctypes.data)
        assert_within(out, *product(a, right))
    with pytest.raises(ValueError, match="b_packed: expected a 64-byte aligned pointer"):
        _core.matmul(a, b, out, trans_b=trans_b, b_packed=packed.ctypes.data + 4)


def test_plan_tells_pruned_from_dense():
    a, b, out = (np.zeros((256, 256), np.float32) for _ in range(3))
    bits = np.zeros((2, 1), np.uint32)
    blocks = dg.TileMask(bits, (256, 256), (128, 32), keep_hint=0.5).arguments()
    dense = _core.matmul_plan(a, b, out, backend="cpu")
    pruned = _core.matmul_plan(a, b, out, blocks, d_mask=blocks, backend="cpu")
    assert dense.startswith("dense")
    assert pruned.startswith("pruned")
    assert "work 0.25" in pruned


BAD_OPERANDS = {
    "list": (lambda a: {"a": [[1.0]]}, TypeError, "a: expected a NumPy array, a PyTorch ten"),
    "rank": (lambda a: {"a": a[0]}, ValueError, "a: expected a 2-D array, got 1-D"),
    "inner": (lambda a: {"b": a[:3]}, ValueError, "b: expected"),
    "mixed dtypes": (lambda a: {"b": a.astype(np.float64)}, TypeError, "b: expected float32"),
    "dtype": (lambda a: {"a": a.astype(np.int16)}, TypeError,
              "a: expected float32, float64, bfloat16 or float16, got int16"),
    "float16": (lambda a: {"a": a.astype(np.float16)}, TypeError,
                "b: expected float16 as a has, got float32"),
    "complex": (lambda a: {"a": a.astype(np.complex64)}, TypeError, "got complex64"),
    "byte order": (lambda a: {"a": a.astype(">f4")}, TypeError, "a: expected float32"),
    "byte order of bias": (lambda a: {"bias": a[0].astype(">f4")}, TypeError,
                           "bias: expected float32, float64, bfloat16 or float16, got >f4"),
    "alignment": (lambda a: {"b": np.zeros(65, np.uint8)[1:].view(np.float32).reshape(4, 4)},
                  ValueError, "b: expected a pointer aligned to 4 bytes"),
    "scale size": (lambda a: {"scale": 10**400}, ValueError, "scale: expected a number that"),
    "masked": (lambda a: {"a": np.ma.masked_array(a)}, TypeError, "got a masked array"),
    "frameworks": (lambda a: {"b": torch.zeros(4, 4)}, TypeError,
                   "b: expected a NumPy array like a, got a PyTorch tensor"),
    "bias length": (lambda a: {"bias": a[0, :3]}, ValueError,
                    r"bias: expected \[N\] = \[4\], got \[3\]"),
    "bias dtype": (lambda a: {"bias": np.zeros(4)}, TypeError,
                   "bias: expected float32 as a, got float64"),
    "addend shape": (lambda a: {"addend": a[:2]}, ValueError, "addend: expected"),
    "activation": (lambda a: {"activation": "tanh"}, ValueError, "activation: expected None or"),
    "activations": (lambda a: {"activation": ["relu"]}, ValueError, "activation: expected None or"),
    "scale text": (lambda a: {"scale": "2"}, TypeError, "scale: expected a number"),
    "scale dtype": (lambda a: {"scale": np.array(2.0)}, TypeError, "scale: expected a number or a"),
    "scale shape": (lambda a: {"scale": np.ones(1, np.float32)}, TypeError, "of shape"),
    "out shape": (lambda a: {"out": np.empty((4, 5), np.float32)}, ValueError, "expected"),
    "out dtype": (lambda a: {"out": np.empty((4, 4))}, TypeError, "expected float32"),
    "out overlaps": (lambda a: {"out": a}, ValueError,
                     "out: expected memory of its own, got an overlap with a"),
    "out overlaps bias": (lambda a: (lambda out: {"out": out, "bias": out[3]})(a.copy()),
                          ValueError, "out: expected memory of its own, got an overlap with bias"),
    "out overlaps addend": (lambda a: (lambda out: {"out": out[:4], "addend": out[1:]})(
                                np.zeros((5, 4), np.float32)),
                            ValueError, "got an overlap with addend"),
    "mask kind": (lambda a: {"a_mask": np.ones((4, 4), bool)}, TypeError,
                  "a_mask: expected a TileMask, got ndarray"),
    "mask framework": (lambda a: {"a_mask": dg.TileMask.from_dense(torch.ones(4, 4) > 0,
                                                                   tile=(1, 1))},
                       TypeError, "a_mask: expected bits in a NumPy array like the operands"),
    "mask shape": (lambda a: {"a_mask": dg.TileMask.from_dense(np.ones((4, 5), bool),
                                                               tile=(1, 1))},
                   ValueError, "a_mask: expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_OPERANDS)
def test_bad_operands_are_refused_by_name(backend, case):
    make, error, message = BAD_OPERANDS[case]
    a = np.zeros((4, 4), np.float32)
    arguments = {"a": a, "b": a, **make(a)}
    with pytest.raises(error, match=message):
        dg.matmul(arguments.pop("a"), arguments.pop("b"), **arguments)


def test_read_only_and_self_overlapping_outputs_are_refused(framework):
    a = to_framework(np.zeros((4, 4), np.float32), framework)
    if framework == "numpy":
        out = np.zeros((4, 4), np.float32)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out: expected a writable array, got a read-only"):
            dg.matmul(a, a, out=out)
        with pytest.raises(ValueError, match="out: expected a writable array"):
            _core.matmul(a, a, out)
        folded = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (4, 4), (0, 4))
    else:
        folded = torch.zeros(1, 4).expand(4, 4)
    with pytest.raises(ValueError, match="out: expected elements that do not share memory"):
        dg.matmul(a, a, out=folded)


def test_tensors_that_are_not_what_lies_in_memory_are_refused():
    a = torch.zeros(4, 4)
    negative = torch.zeros(4, 4, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    with pytest.raises(TypeError, match=r"b: .*lazy negative view.*resolve_neg"):
        dg.matmul(a, negative)
    with pytest.raises(TypeError, match=r"a: .*lazy conjugate view.*resolve_conj"):
        dg.matmul(torch.zeros(4, 4, dtype=torch.complex64).conj(), a)
    with pytest.raises(TypeError, match=r"a: .*layout torch.sparse_coo"):
        dg.matmul(a.to_sparse(), a)


@pytest.mark.parametrize("operand", [(1,), (0, 7, 1, 1, 1, 1), ("x", 0, 1, 1, 1, 1)])
def test_malformed_tuples_are_refused(operand):
    a = np.zeros((1, 1), np.float32)
    with pytest.raises(TypeError):
        _core.matmul(operand, a, a)


def test_mask_words_are_counted():
    a, out = np.zeros((64, 64), np.float32), np.empty((64, 64), np.float32)
    short = np.zeros(3, np.uint32)
    with pytest.raises(ValueError, match="a_mask: expected at least 64 words of bits, got 3"):
        _core.matmul(a, a, out, (short, 64, 64, 1, 64, 0.5, False))
    with pytest.raises(TypeError, match="a_mask: expected bits of dtype uint32, got float32"):
        _core.matmul(a, a, out, (a, 64, 64, 1, 64, 0.5, False))
