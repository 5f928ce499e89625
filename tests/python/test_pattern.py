"""Row and tile patterns: bits against the formulas in dense.py, and the products they prune."""

import dataclasses
import pickle
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.library import opcheck

import dropgemm as dg
from dense import (
    assert_within,
    drawn_pattern,
    pattern_tiles,
    poison,
    product,
    to_framework,
    to_numpy,
)
from dropgemm import _core
from dropgemm.pattern import drawn_mask, pattern_thresholds, sample_pattern

MODULES = {"numpy": np, "torch": torch, "jax": jnp}
THRESHOLDS = pattern_thresholds([0.2, 0.3, 0.0, 0.1, 0.4])


@pytest.fixture(params=MODULES)
def any_framework(request):
    """JAX too, which has no out= and no step beyond 32 bits."""
    return request.param


def like(framework):
    return MODULES[framework].zeros(1)


def tiles_of(mask):
    return to_numpy(mask.to_dense())[:: mask.tile[0], :: mask.tile[1]]


@pytest.mark.parametrize("period", [1, 2, 3, 8, 33, 65])
def test_row_patterns_are_the_formula(backend, any_framework, period):
    for rows, cols, offset in ((1, 65, 0), (9, 130, period - 1), (0, 70, 0)):
        pattern = dg.RowPattern(period, offset)
        mask = pattern.mask(rows, cols, like=like(any_framework))
        assert mask.framework == any_framework
        assert (mask.shape, mask.tile) == ((rows, cols), (max(rows, 1), 1))
        assert mask.keep_hint == 1.0 / period
        assert pattern.scale == period
        expected = pattern_tiles(period, offset, rows, cols)
        np.testing.assert_array_equal(to_numpy(mask.to_dense()), expected)


@pytest.mark.parametrize("skew", [1, -1, 3, -7, "linear"])
@pytest.mark.filterwarnings("ignore:skew='linear'")
def test_tile_patterns_are_the_formula(backend, any_framework, skew):
    for (rows, cols), tile in (((70, 90), (8, 8)), ((65, 1100), (32, 16)), ((5, 5), (1, 1))):
        height, width = (-(-n // t) for n, t in zip((rows, cols), tile, strict=True))
        for period in (1, 2, 4, 5):
            if period > min(height, width):
                continue
            pattern = dg.TilePattern(period, period // 2, tile=tile, skew=skew)
            mask = pattern.mask(rows, cols, like=like(any_framework))
            assert mask.framework == any_framework
            assert (mask.shape, mask.tile) == ((rows, cols), tile)
            assert mask.keep_hint == 1.0 / pattern.scale == 1.0 / period
            shift = width if skew == "linear" else skew
            expected = pattern_tiles(period, period // 2, height, width, shift)
            np.testing.assert_array_equal(tiles_of(mask), expected)


# Batch, in and out; periods of the input and the output side; tile pattern of the weight.
PRODUCTS = {
    "row in": ((2, 1), None, None),
    "row out": (None, (3, 0), None),
    "row both": ((5, 2), (2, 0), None),
    "tile": (None, None, (2, 1)),
    "tile, period 1": (None, None, (1, 0)),
    "row and tile": ((2, 0), (3, 2), (4, 3)),
}


@pytest.mark.parametrize("case", PRODUCTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_three_products_of_a_layer(backend, framework, case, dtype):
    """Equal to the dense product with explicit masks, whatever the dropped entries hold."""
    rng = np.random.default_rng(11)
    inputs, outputs, weight = PRODUCTS[case]
    for (batch, width, height), tile in (
        ((37, 77, 53), (8, 8)),
        ((64, 128, 160), (32, 32)),
        ((5, 300, 131), (32, 64)),
    ):
        in_mask = dg.RowPattern(*inputs).mask(batch, width, like(framework)) if inputs else None
        out_mask = dg.RowPattern(*outputs).mask(batch, height, like(framework)) if outputs else None
        w_mask = (
            dg.TilePattern(*weight, tile=tile).mask(height, width, like(framework))
            if weight
            else None
        )
        x, w, dz = (
            rng.standard_normal(shape).astype(dtype)
            for shape in ((batch, width), (height, width), (batch, height))
        )
        for a, b, a_mask, b_mask, d_mask, trans in (
            (x, w, in_mask, w_mask, out_mask, {"trans_b": True}),
            (dz, w, out_mask, w_mask, in_mask, {}),
            (dz, x, out_mask, in_mask, w_mask, {"trans_a": True}),
        ):
            expected, tolerance = product(a, b, a_mask, b_mask, d_mask, scale=2.0, **trans)
            out = to_framework(np.full(expected.shape, np.nan, dtype), framework)
            dg.matmul(
                to_framework(poison(a, a_mask), framework),
                to_framework(poison(b, b_mask), framework),
                a_mask=a_mask, b_mask=b_mask, out_mask=d_mask, scale=2.0, out=out, **trans,
            )  # fmt: skip
            assert_within(out, expected, tolerance)


@pytest.mark.parametrize("tile", [None, (8, 16)])
def test_drawn_masks_are_the_definition(backend, any_framework, tile):
    rows, cols = 41, 90
    height, width = (rows, cols) if tile is None else (6, 6)
    skew = 1 if tile is None else -1
    for seed, site, step, call in ((0, 0, 0, 0), ((1 << 64) - 1, 7, 12, 3),
                                   (5, (1 << 32) - 1, (1 << 32) - 1, (1 << 28) - 1)):  # fmt: skip
        period, offset = drawn_pattern(THRESHOLDS, seed, site, step, call)
        where = {"seed": seed, "site": site, "call": call}
        assert sample_pattern(THRESHOLDS, step=step, **where) == (period, offset)
        expected = pattern_tiles(period, offset, height, width, 0 if tile is None else -1)
        make = {"numpy": np.array, "torch": torch.tensor, "jax": jnp.uint32}[any_framework]
        for at in (step, make(step)):
            mask, scale = drawn_mask(THRESHOLDS, rows, cols, tile, skew, step=at, keep_hint=0.5,
                                     like=like(any_framework), **where)  # fmt: skip
            assert mask.framework == any_framework
            assert mask.tile == (tile or (rows, 1))
            assert mask.keep_hint == 0.5
            np.testing.assert_array_equal(tiles_of(mask), expected[:: 1 if tile else rows])
            assert type(scale) is type(like(any_framework))
            assert str(scale.dtype).endswith("float32")
            assert scale.shape == ()
            assert float(scale) == period


def test_steps_in_arrays_are_clamped(framework):
    make = torch.tensor if framework == "torch" else np.array
    thresholds = pattern_thresholds(np.full(64, 1 / 64))

    def draw(step):
        mask, scale = drawn_mask(thresholds, 1, 64, None, seed=3, site=0, step=step)
        return to_numpy(mask.to_dense()).tolist(), float(scale)

    last = (1 << 32) - 1
    assert draw(make(-4)) == draw(make(0)) != draw(make(last))
    assert draw(make(1 << 40)) == draw(make(last))
    assert sample_pattern(thresholds, seed=3, site=0, step=make(1 << 40)) == sample_pattern(
        thresholds, seed=3, site=0, step=last
    )


def test_the_scale_array_scales_a_product(any_framework):
    x = MODULES[any_framework].ones((4, 60))
    mask, scale = drawn_mask(THRESHOLDS, 4, 60, None, seed=9, site=0, step=2, like=x)
    assert float(scale) > 1
    # 60 is a multiple of every period: 60 / period ones are kept, times period.
    got = dg.matmul(x, x.T, a_mask=mask, scale=scale)
    np.testing.assert_array_equal(to_numpy(got), np.full((4, 4), 60.0))


def test_opcheck_pattern_mask():
    thresholds = torch.from_numpy(THRESHOLDS.view(np.int64))
    step, call = torch.tensor(3), torch.tensor(1)
    drawn = (step, call, thresholds, 70, 90, 8, 8, True, -1, False, 1, 0, -5, 2)
    given = (step, call, None, 70, 90, 70, 1, False, 1, False, 4, 1, 0, 0)
    for arguments in (drawn, given):
        opcheck(torch.ops.dropgemm.pattern_mask, arguments)
    with pytest.raises(TypeError, match=r"thresholds: expected torch\.int64 or"):
        torch.ops.dropgemm.pattern_mask(step, call, thresholds.float(), *drawn[3:])
    with pytest.raises(ValueError, match="thresholds: expected a contiguous 1-D tensor"):
        torch.ops.dropgemm.pattern_mask(step, call, thresholds[::2], *drawn[3:])


@pytest.mark.parametrize("tile", [None, (8, 16)])
def test_one_compiled_graph_serves_every_step(tile):
    frozen = THRESHOLDS.copy()
    frozen.setflags(write=False)
    given = dg.RowPattern(3, 1)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    def run(x, w, step):
        shape = x.shape if tile is None else w.shape
        mask, scale = drawn_mask(frozen, *shape, tile, seed=1 << 63, site=2, step=step, like=x)
        masks = {"a_mask": mask} if tile is None else {"b_mask": mask}
        fixed = given.mask(x.shape[0], w.shape[0], like=x)
        return dg.matmul(x, w, **masks, out_mask=fixed, trans_b=True, scale=scale)

    compiled = torch.compile(run, backend=count, fullgraph=True)
    x, w = torch.randn(32, 96), torch.randn(48, 96)
    periods = set()
    for step in range(5):
        torch.testing.assert_close(compiled(x, w, torch.tensor(step)), run(x, w, step))
        periods.add(sample_pattern(frozen, seed=1 << 63, site=2, step=step)[0])
    assert len(graphs) == 1
    assert len(periods) > 1


def test_patterns_are_values():
    row, tile = dg.RowPattern(4, 1), dg.TilePattern(np.int64(3), 2, tile=[8, 16], skew=-1)
    assert repr(row) == "RowPattern(period=4, offset=1)"
    assert repr(tile) == "TilePattern(period=3, offset=2, tile=(8, 16), skew=-1)"
    assert type(tile.period) is int
    for pattern in (row, tile):
        assert pickle.loads(pickle.dumps(pattern)) == pattern
        assert len({pattern, dataclasses.replace(pattern)}) == 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            pattern.period = 2
        with pytest.raises(ValueError, match="offset: expected"):
            dataclasses.replace(pattern, period=1)


def test_linear_numbering_warns_where_it_collapses():
    expected = "6 tile columns are a multiple of period 3: every tile row then keeps the same"
    with pytest.warns(UserWarning, match=expected) as caught:
        mask = dg.TilePattern(3, 1, tile=(4, 4), skew="linear").mask(20, 24)
    assert caught[0].filename == __file__
    assert (tiles_of(mask) == tiles_of(mask)[0]).all()
    where = {"seed": 0, "site": 0, "step": 0}
    for framework in ("numpy", "torch"):
        with pytest.warns(UserWarning, match="are a multiple of period 2, 3:") as caught:
            drawn_mask(THRESHOLDS, 20, 24, (4, 4), "linear", like=like(framework), **where)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where a graph is traced, a warning would end it
        torch.compile(
            lambda x: drawn_mask(THRESHOLDS, 20, 24, (4, 4), "linear", like=x, **where)[1],
            backend="eager",
            fullgraph=True,
        )(torch.zeros(1))
        for columns in (5, 6):
            dg.TilePattern(5, 1, tile=(4, 4), skew=1).mask(20, 4 * columns)
            dg.TilePattern(1, 0, tile=(4, 4), skew="linear").mask(20, 4 * columns)
        dg.TilePattern(4, 0, tile=(4, 4), skew="linear").mask(20, 24)
        drawn_mask(THRESHOLDS, 20, 28, (4, 4), "linear", **where)


GOOD_DRAW = {"thresholds": THRESHOLDS, "rows": 40, "cols": 40, "tile": None, "seed": 0, "site": 0,
             "step": 0}  # fmt: skip
BAD_CALLS = [
    (lambda: dg.RowPattern(0), ValueError, "period: expected at least 1, got 0"),
    (lambda: dg.RowPattern(2.0), TypeError, "period: expected an integer, got float"),
    (lambda: dg.RowPattern(True), TypeError, "period: expected an integer, got a bool"),
    (lambda: dg.RowPattern(1 << 40), ValueError, "period: expected an integer in"),
    (lambda: dg.RowPattern(3, 3), ValueError, r"offset: expected a number in \[0, 3\), .* got 3"),
    (lambda: dg.RowPattern(3, -1), ValueError, r"offset: expected a number in \[0, 3\), .* got -1"),
    (lambda: dg.RowPattern(9).mask(2, 8), ValueError,
     "period: expected at most the mask's 8 tile columns, got 9"),
    (lambda: dg.RowPattern(2).mask(-1, 8), ValueError, "rows: expected an integer in"),
    (lambda: dg.RowPattern(2).mask(1 << 40, 1 << 40), ValueError, r"mask: expected fewer than"),
    (lambda: dg.RowPattern(2).mask(8, 8, like=[1]), TypeError, "like: expected a NumPy array"),
    (lambda: dg.TilePattern(4, skew=2), ValueError,
     "skew: expected an integer coprime to period 4, got 2, which drops every tile column"),
    (lambda: dg.TilePattern(4, skew="rows"), ValueError,
     "skew: expected an integer or 'linear', got 'rows'"),
    (lambda: dg.TilePattern(4, skew=1.5), TypeError, "skew: expected an integer, got float"),
    (lambda: dg.TilePattern(4, tile=32), TypeError, "tile: expected a pair of integers, got 32"),
    (lambda: dg.TilePattern(4, tile=(32, 0)), ValueError, "tile: expected an integer in"),
    (lambda: dg.TilePattern(4).mask(96, 320), ValueError,
     "period: expected at most the smaller of the mask's 3 tile rows and 10 tile columns, got 4"),
    (lambda: dg.TilePattern(2).mask(64, -1), ValueError, "in_features: expected an integer in"),
    (lambda: pattern_thresholds([0.5, 0.6]), ValueError, "probabilities: expected a sum within"),
    (lambda: pattern_thresholds([1.5, -0.5]), ValueError, "probabilities: expected finite numbers"),
    (lambda: pattern_thresholds([np.nan]), ValueError, "probabilities: expected finite numbers"),
    (lambda: pattern_thresholds([[1.0]]), ValueError, "probabilities: expected a 1-D array, got 2"),
    (lambda: pattern_thresholds([]), ValueError, "probabilities: expected at least that of period"),
    (lambda: sample_pattern(THRESHOLDS[:3], seed=0, site=0, step=0), ValueError,
     r"thresholds: expected numbers that ascend to 2\^32, got .* for period 3"),
    (lambda: sample_pattern(THRESHOLDS, seed=0, site=0, step=-1), ValueError, "step: expected"),
]  # fmt: skip
BAD_DRAWS = [
    ({"thresholds": [1 << 32]}, TypeError, "thresholds: expected a.* array .* got list"),
    ({"thresholds": THRESHOLDS / 2.0}, TypeError, "thresholds: expected uint64, got float64"),
    ({"thresholds": THRESHOLDS[:, None]}, ValueError, "thresholds: expected a .*1-D"),
    ({"thresholds": THRESHOLDS[:0]}, ValueError, "periods: expected a number in"),
    ({"cols": 4}, ValueError, "periods: expected at most the mask's 4 tile columns, got 5"),
    ({"tile": (8, 16)}, ValueError, "periods: expected at most the smaller of the mask's 5 tile "
                                    "rows and 3 tile columns, got 5"),
    ({"tile": (8, 8), "skew": 6}, ValueError, "skew: expected an integer coprime to every period "
                                              r"in 2\.\.5, got 6, which at period 2 keeps"),
    ({"tile": (8, 8), "skew": "row"}, ValueError, "skew: expected an integer or 'linear'"),
    ({"seed": -1}, ValueError, "seed: expected an integer in"),
    ({"site": 1 << 32}, ValueError, "site: expected an integer in"),
    ({"call": 1 << 28}, ValueError, "call: expected an integer in"),
    ({"step": 1 << 32}, ValueError, "step: expected an integer in"),
    ({"step": 0.5}, TypeError, "step: expected an integer, got float"),
    ({"step": torch.tensor(1), "like": np.zeros(1)}, TypeError, "step: expected an array of the "),
    ({"step": np.array(1), "like": torch.zeros(1)}, TypeError, "step: expected an array of the "),
    ({"keep_hint": 2.0}, ValueError, "keep_hint: expected a rate"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_patterns_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("change", "error", "message"), BAD_DRAWS)
@pytest.mark.parametrize("path", ["numpy", "torch", "operator"])
def test_bad_draws_are_refused(path, change, error, message):
    arguments = {"like": like("numpy" if path == "numpy" else "torch"), **GOOD_DRAW, **change}
    if path == "operator" and arguments["step"] == 0:
        arguments["step"] = torch.tensor(0)
    with pytest.raises(error, match=message):
        drawn_mask(**arguments)


def test_the_core_names_what_is_no_array():
    with pytest.raises(TypeError, match=r"thresholds: expected an array .* got list"):
        _core.sample_pattern([1 << 32], 0, 0, 0, 0)
    with pytest.raises(TypeError, match="scale: expected float32, got float64"):
        _core.pattern_mask(np.zeros(1, np.uint32), 1, 4, 1, 1, False, 1, False, 2, 0, None, 0, 0,
                           0, 0, np.zeros(()))  # fmt: skip
