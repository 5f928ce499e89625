"""compact and expand against lists of kept elements, the products they stand for, derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.library import opcheck

import dropgemm as dg
from dense import BFLOAT16, assert_within, poison, product, to_framework, to_numpy
from dropgemm import _core

CODES = {0: 0, 1: 1, "tiles": 2}  # the core's numbers
AXES = tuple(CODES)
CASES = [((1, 1), (1, 1)), ((6, 70), (2, 1)), ((130, 65), (128, 32)), ((7, 99), (2, 3)),
         ((40, 33), (40, 1)), ((33, 40), (1, 40)), ((64, 64), (32, 32)), ((0, 8), (4, 4)),
         ((8, 0), (4, 4)), ((5, 6), (64, 64))]  # fmt: skip


def random_mask(rng, shape, tile, framework="numpy", keep=0.5):
    tiles = rng.random([-(-n // t) for n, t in zip(shape, tile, strict=True)]) < keep
    dense = np.repeat(np.repeat(tiles, tile[0], 0), tile[1], 1)[: shape[0], : shape[1]]
    return dg.TileMask.from_dense(to_framework(np.ascontiguousarray(dense), framework), tile=tile)


def kept(x, mask, axis):
    """What compact should gather: a list of rows, columns or padded tiles."""
    keep = to_numpy(mask.to_dense())
    if axis == 1:
        return [x[i, keep[i]] for i in range(x.shape[0])]
    if axis == 0:
        return [x[keep[:, j], j] for j in range(x.shape[1])]
    height, width = mask.tile
    tiles = []
    for i in range(0, x.shape[0], height):
        for j in range(0, x.shape[1], width):
            if keep[i, j]:
                tiles.append(np.zeros(mask.tile, x.dtype))
                part = x[i : i + height, j : j + width]
                tiles[-1][: part.shape[0], : part.shape[1]] = part
    return tiles


def padded(x, mask, axis, size):
    """The whole compact array."""
    lists = kept(x, mask, axis)
    if axis == "tiles":
        return np.stack([*lists, *[np.zeros(mask.tile, x.dtype)] * (size - len(lists))])
    rows = [np.pad(values, (0, size - len(values))) for values in lists]
    result = np.array(rows, x.dtype).reshape(len(rows), size)
    return result if axis == 1 else result.T


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("shape", "tile"), CASES)
def test_gathers_what_is_kept_and_scatters_it_back(backend, framework, shape, tile, axis):
    rng = np.random.default_rng(5)
    for dtype in (np.float32, np.float64, BFLOAT16):
        for mask in (random_mask(rng, shape, tile, framework),
                     random_mask(rng, shape[::-1], tile[::-1], framework).T):  # fmt: skip
            x = rng.standard_normal(shape).astype(dtype)
            counts = [len(values) for values in kept(x, mask, axis)]
            size = (len(counts) if axis == "tiles" else max(counts, default=0)) + 3
            got = dg.compact(to_framework(poison(x, mask), framework), mask, axis, size)
            assert type(got) is type(to_framework(x, framework))
            expected = padded(x, mask, axis, size)
            assert to_numpy(got).dtype == dtype
            np.testing.assert_array_equal(to_numpy(got), expected)

            # Nothing but what is kept comes back.
            places = padded(np.ones(shape, dtype), mask, axis, size)
            dirty = np.where(places == 1, expected, dtype(np.nan))
            back = dg.expand(to_framework(dirty, framework), mask, axis)
            want = np.where(to_numpy(mask.to_dense()), x, dtype(0))
            assert to_numpy(back).tobytes() == want.tobytes()


def test_size_is_read_from_the_bits_where_all_keep_as_many(framework):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 64)).astype(np.float32)
    schedule = dg.GyroSchedule(64, 0.5, total_steps=10, seed=0, site=0, subnets=8, coscheduled=2,
                               tile_rows=128, tile_cols=8)  # fmt: skip
    mask = schedule.mask(0, 256, like=to_framework(x, framework))
    x = to_framework(x, framework)
    assert dg.compact(x, mask, 1).shape == (256, 32)
    assert dg.compact(x, mask, "tiles").shape == (8, 128, 8)
    xc = dg.compact(x, mask, 1)
    np.testing.assert_array_equal(
        to_numpy(dg.expand(xc, mask, 1)), np.where(to_numpy(mask.to_dense()), to_numpy(x), 0)
    )


def test_size_is_asked_for_where_it_cannot_be_read(framework):
    keep = np.tri(4, 6, dtype=bool)
    mask = dg.TileMask.from_dense(to_framework(keep, framework), tile=(1, 1))
    x = to_framework(np.zeros((4, 6)), framework)
    for axis, message in (
        (0, "not all columns keep the same number of rows (0 to 4), got None; size=4 pads with"),
        (1, "not all rows keep the same number of columns (1 to 4), got None; size=4 pads with"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"size: expected an integer, as {message}")):
            dg.compact(x, mask, axis)


def test_rows_are_columns_of_the_transpose(backend):
    rng = np.random.default_rng(1)
    mask = random_mask(rng, (70, 50), (5, 3))
    x = rng.standard_normal((70, 50)).astype(np.float32)
    np.testing.assert_array_equal(
        dg.compact(x.T, mask.T, 0, 50), np.ascontiguousarray(dg.compact(x, mask, 1, 50).T)
    )


def test_strided_arrays_are_read_where_they_lie(backend, framework):
    rng = np.random.default_rng(2)
    parent = rng.standard_normal((90, 200))
    parent.flags.writeable = framework == "torch"
    mask = random_mask(rng, (30, 50), (3, 5), framework)
    for take in (lambda p: p[::3, :100:2], lambda p: p[5:35, 150:], lambda p: p.T[100:130, 40:]):
        x = take(parent)
        got = dg.compact(take(to_framework(parent, framework)), mask, "tiles")
        np.testing.assert_array_equal(to_numpy(got), padded(x, mask, "tiles", len(got)))
    xc = rng.standard_normal((9, 2 * len(got), 5))[::3, ::2].transpose(1, 0, 2)
    back = dg.expand(to_framework(xc, framework), mask, "tiles")
    np.testing.assert_array_equal(to_numpy(back), dg.expand(xc.copy(), as_numpy(mask), "tiles"))


def as_numpy(mask):
    return dg.TileMask(to_numpy(mask.bits), mask.shape, mask.tile)


# --- Compaction, then a dense product, is the product under masks ---------------------------------


def operands(rng, batch, width, out):
    return (rng.standard_normal(s).astype(np.float32) for s in ((batch, width), (out, width)))


def test_row_patterns(backend):
    x, w = operands(np.random.default_rng(3), 37, 101, 19)
    pattern = dg.RowPattern(3, 1)
    x_mask, w_mask = pattern.mask(*x.shape), pattern.mask(*w.shape)
    expected, tolerance = product(x, w.T, x_mask)
    xc, wc = dg.compact(x, x_mask, 1), dg.compact(w, w_mask, 1)
    assert xc.shape == (37, 34)
    assert_within(xc @ wc.T, expected, tolerance)
    assert_within(dg.matmul(x, w, a_mask=x_mask, trans_b=True), expected, tolerance)

    # Output neurons: rows of the weight, columns of the result.
    pattern = dg.RowPattern(2, 1)
    out_mask = pattern.mask(37, 19)
    expected, tolerance = product(x, w.T, None, None, out_mask)
    wc = dg.compact(w, pattern.mask(101, 19).T, 0)
    assert wc.shape == (9, 101)
    assert_within(dg.expand(x @ wc.T, out_mask, 1), expected, tolerance)
    assert_within(dg.matmul(x, w, out_mask=out_mask, trans_b=True), expected, tolerance)


def test_blocks_of_rows_and_columns(backend):
    x, w = operands(np.random.default_rng(4), 48, 64, 21)
    schedule = dg.GyroSchedule(64, 0.5, total_steps=9, seed=2, site=0, subnets=9, coscheduled=3,
                               tile_rows=16, tile_cols=8)  # fmt: skip
    mask = schedule.mask(0, 48)
    expected, tolerance = product(x, w.T, mask)
    assert_within(dg.matmul(x, w, a_mask=mask, trans_b=True), expected, tolerance)
    xc = dg.compact(x, mask, 1)
    assert xc.shape == (48, 32)
    for group in range(0, 48, 16):  # each row group has its own columns of the weight
        columns = np.repeat(mask.to_dense()[group : group + 1], 21, 0)
        wc = dg.compact(w, dg.TileMask.from_dense(columns, tile=(21, 8)), 1)
        rows = slice(group, group + 16)
        assert_within(xc[rows] @ wc.T, expected[rows], tolerance[rows])


def test_tiles_of_a_weight(backend):
    x, w = operands(np.random.default_rng(5), 12, 100, 90)
    mask = dg.TilePattern(2, 1, tile=(16, 16)).mask(90, 100)
    expected, tolerance = product(x, w.T, None, mask.T)
    assert_within(dg.matmul(x, w, b_mask=mask, trans_b=True), expected, tolerance)
    tiles = dg.compact(w, mask, "tiles")
    places = np.argwhere(mask.to_dense()[::16, ::16]) * 16
    assert tiles.shape == (len(places), 16, 16)
    got = np.zeros((12, 96), np.float32)
    wide = np.pad(x, ((0, 0), (0, 12)))
    for (row, col), tile in zip(places, tiles, strict=True):
        got[:, row : row + 16] += wide[:, col : col + 16] @ tile.T
    assert_within(got[:, :90], expected, tolerance)


# --- PyTorch --------------------------------------------------------------------------------------


def problem(axis, dtype=torch.float64, requires_grad=True):
    rng = np.random.default_rng(6)
    mask = random_mask(rng, (9, 11), (4, 3), "torch")
    x = torch.from_numpy(rng.standard_normal((9, 11))).to(dtype).requires_grad_(requires_grad)
    size = _core.kept_count(mask.arguments(), CODES[axis])[1] + 2
    return x, mask, size


@pytest.mark.parametrize("axis", AXES)
def test_gradients_are_each_others_operator(axis):
    x, mask, size = problem(axis)
    xc = dg.compact(x.detach(), mask, axis, size).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dg.compact(x, mask, axis, size), x)
    assert torch.autograd.gradcheck(lambda xc: dg.expand(xc, mask, axis), xc)
    assert torch.autograd.gradgradcheck(lambda x: dg.compact(x, mask, axis, size).square(), x)
    assert torch.autograd.gradgradcheck(lambda xc: dg.expand(xc, mask, axis).square(), xc)

    # NaN where nothing is kept reaches no gradient, in either direction.
    grad = torch.where(dg.compact(torch.ones_like(x), mask, axis, size) == 1, 2.0, torch.nan)
    (got,) = torch.autograd.grad(dg.compact(x, mask, axis, size), x, grad)
    torch.testing.assert_close(got, 2.0 * mask.to_dense(), rtol=0, atol=0, check_dtype=False)
    grad = torch.where(mask.to_dense(), 3.0, torch.nan).double()
    (got,) = torch.autograd.grad(dg.expand(xc, mask, axis), xc, grad)
    torch.testing.assert_close(got, dg.compact(grad, mask, axis, size), rtol=0, atol=0)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(axis, dtype):
    x, mask, size = problem(axis, dtype)
    code = CODES[axis]
    layout = [9, 11, 4, 3, 0]
    opcheck(torch.ops.dropgemm.compact, (x, mask.bits, layout, code, size))
    xc = dg.compact(x, mask, axis, size).detach().requires_grad_()
    opcheck(torch.ops.dropgemm.expand, (xc, mask.bits, layout, code))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_one_compiled_graph_serves_every_step():
    schedule = dg.GyroSchedule(64, 0.5, total_steps=8, seed=1, site=0, subnets=8, coscheduled=2,
                               tile_rows=16, tile_cols=8)  # fmt: skip
    schedule.warn_if_unused(32)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    def run(x, step):
        mask = schedule.mask(step, 32)
        return dg.expand(torch.relu(dg.compact(x, mask, 1, size=32)), mask, 1)

    counted = torch.compile(run, backend=count, fullgraph=True)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    for step in range(8):
        x = torch.randn(32, 64, requires_grad=True)
        keep = schedule.mask(step, 32, like=x).to_dense()
        expected = torch.where(keep, x, 0.0).relu()
        assert torch.equal(counted(x, torch.tensor(step)), expected)
        got = compiled(x, torch.tensor(step))
        assert torch.equal(got, expected)
        got.sum().backward()
        assert torch.equal(x.grad, (keep & (x > 0)).float())
    assert len(graphs) == 1

    with pytest.raises(ValueError, match="size: expected an integer in a function that is compil"):
        torch.compile(lambda x: dg.compact(x, schedule.mask(0, 32, like=x), 1), backend=count)(x)


def test_a_size_may_be_symbolic():
    x, mask, _ = problem(1)

    @torch.compile(backend="aot_eager", fullgraph=True, dynamic=True)
    def run(x):
        return dg.compact(x, mask, 1, size=x.shape[1])

    assert torch.equal(run(x), dg.compact(x, mask, 1, size=11))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_transforms():
    x, mask, size = problem(1, requires_grad=False)
    grad = torch.func.grad(lambda x: dg.compact(x, mask, 1, size).square().sum())(x)
    assert torch.equal(grad, torch.where(mask.to_dense(), 2 * x, 0.0))
    xc = dg.compact(x, mask, 1, size)
    grad = torch.func.grad(lambda xc: dg.expand(xc, mask, 1).square().sum())(xc)
    assert torch.equal(grad, 2 * xc)
    for run, at in ((lambda x: dg.compact(x, mask, 1, size), x),
                    (lambda xc: dg.expand(xc, mask, 1), xc)):  # fmt: skip
        with pytest.raises(NotImplementedError, match="forward-mode AD"):
            torch.func.jvp(run, (at,), (at,))
    meta = dg.compact(x.to("meta"), mask, "tiles", 5)
    assert meta.is_meta
    assert meta.shape == (5, 4, 3)


# --- JAX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", AXES)
def test_jax_arrays_have_numpys_bits(backend, axis):
    rng = np.random.default_rng(7)
    mask = random_mask(rng, (33, 70), (4, 3))
    theirs = dg.TileMask(jnp.asarray(mask.bits), mask.shape, mask.tile)
    x = rng.standard_normal((33, 70)).astype(np.float32)
    size = _core.kept_count(mask.arguments(), CODES[axis])[1] + 1
    xc = dg.compact(x, mask, axis, size)
    got = dg.compact(jnp.asarray(poison(x, mask)), theirs, axis, size)
    assert isinstance(got, jax.Array)
    np.testing.assert_array_equal(np.asarray(got), xc, strict=True)
    back = dg.expand(got, theirs, axis)
    assert isinstance(back, jax.Array)
    np.testing.assert_array_equal(np.asarray(back), dg.expand(xc, mask, axis), strict=True)


# --- Errors ---------------------------------------------------------------------------------------

X = np.zeros((4, 6), np.float32)
MASK = dg.TileMask.from_dense(np.arange(24).reshape(4, 6) % 2 > 0, tile=(4, 1))
BAD_COMPACTS = {
    "list": (([[0.0]], MASK, 1), TypeError, "x: expected a NumPy array, a PyTorch tensor"),
    "no mask": ((X, None, 1), TypeError, "mask: expected a TileMask, got NoneType"),
    "mask kind": ((X, X > 0, 1), TypeError, "mask: expected a TileMask, got ndarray"),
    "mask framework": ((torch.zeros(4, 6), MASK, 1), TypeError,
                       "mask: expected bits in a PyTorch tensor"),
    "mask shape": ((X[:3], MASK, 1), ValueError,
                   r"mask: expected shape \[3, 6\] as x has, as passed, got \[4, 6\]"),
    "axis": ((X, MASK, 2), ValueError,
             r"axis: expected 0 \(rows\), 1 \(columns\) or 'tiles', got 2"),
    "axis name": ((X, MASK, "rows"), ValueError, "axis: expected .* got 'rows'"),
    "axis bool": ((X, MASK, True), ValueError, "axis: expected .* got True"),
    "axis list": ((X, MASK, [1]), ValueError, r"axis: expected .* got \[1\]"),
    "size": ((X, MASK, 1, 2), ValueError, "size: expected at least 3, got 2"),
    "size of rows": ((X, MASK, 0, 3), ValueError, "size: expected at least 4, got 3"),
    "size of tiles": ((X, MASK, "tiles", 2), ValueError, "size: expected at least 3, got 2"),
    "negative size": ((X, MASK, 1, -1), ValueError, r"size: expected an integer in \[0, "),
    "size kind": ((X, MASK, 1, 2.5), TypeError, "size: expected an integer, got float"),
    "huge size": ((X, MASK, 1, 1 << 59), ValueError, "size: expected fewer than 2.60 elements in"),
    "rank": ((X[0], MASK, 1), ValueError, "x: expected a 2-D array, got 1-D"),
    "dtype": ((X.astype(np.int32), MASK, 1), TypeError,
              "x: expected float32, float64, bfloat16 or float16, got int32"),
    "byte order": ((X.astype(">f4"), MASK, 1), TypeError,
                   "x: expected float32, float64, bfloat16 or float16"),
}  # fmt: skip
BAD_EXPANDS = {
    "rows": ((X[:3, :3], MASK, 1), ValueError,
             r"xc: expected \[4, size\], the rows of the mask, got \[3, 3\]"),
    "columns": ((X, MASK.T, 0), ValueError,
                r"xc: expected \[size, 4\], the columns of the mask, got \[4, 6\]"),
    "room": ((X[:, :2], MASK, 1), ValueError, "xc: expected a size of at least 3, got 2"),
    "tile": ((np.zeros((3, 1, 4)), MASK, "tiles"), ValueError,
             r"xc: expected shape \(size, 4, 1\), tiles of the mask, got \(3, 1, 4\)"),
    "rank of tiles": ((X, MASK, "tiles"), ValueError, "xc: expected a 3-D array, got 2-D"),
    "rank": ((np.zeros((4, 1, 1)), MASK, 1), ValueError, "xc: expected a 2-D array, got 3-D"),
    "dtype": ((X.astype(np.int16), MASK, 1), TypeError,
              "xc: expected float32, float64, bfloat16 or float16, got int16"),
    "axis": ((X, MASK, None), ValueError, "axis: expected .* got None"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_COMPACTS)
def test_bad_operands_of_compact_are_refused(backend, case):
    arguments, error, message = BAD_COMPACTS[case]
    with pytest.raises(error, match=message):
        dg.compact(*arguments)


@pytest.mark.parametrize("case", BAD_EXPANDS)
def test_bad_operands_of_expand_are_refused(backend, case):
    arguments, error, message = BAD_EXPANDS[case]
    with pytest.raises(error, match=message):
        dg.expand(*arguments)


def test_bad_tensors_are_refused():
    x, mask, size = problem(1)
    for bad, error, message in (
        (
            x.half(),
            TypeError,
            "x: expected torch.float32, torch.float64 or torch.bfloat16, got torch.float16",
        ),
        (x[0], ValueError, "x: expected a 2-D tensor, got 1-D"),
        (x[:4], ValueError, r"mask: expected shape \[4, 11\] as x has, as passed, got \[9, 11\]"),
    ):
        with pytest.raises(error, match=message):
            dg.compact(bad, mask, 1, size)
    with pytest.raises(ValueError, match="size: expected at least"):
        dg.compact(x, mask, 1, 0)
    with pytest.raises(ValueError, match="mask bits: expected 3 contiguous words"):
        torch.ops.dropgemm.compact(x, mask.bits[:1], [9, 11, 4, 3, 0], 1, size)
    with pytest.raises(TypeError, match="mask: expected a mask, got None"):
        _core.kept_count(None, 1)
