"""JAX arrays in the functional API: NumPy's bits, in JAX's arrays, and what is refused."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import dropgemm as dg
from dense import BFLOAT16, poison

# Tiles of the masks of a [M, K], b [K, N], out [M, N].
MASKS = {
    "none": (None, None, None),
    "groups": ((128, 32), None, (128, 32)),
    "weight tiles": (None, (32, 32), None),
    "elements": ((1, 1), None, (1, 1)),
    "all, mismatched": ((16, 24), (8, 40), (128, 5)),
}
SHAPES = [(129, 33, 65), (256, 64, 96), (7, 5, 0), (0, 5, 6)]


@pytest.fixture(params=[np.float32, np.float64, BFLOAT16])
def dtype(request):
    """The dtypes of operands; float64 is there where JAX is told to have it."""
    jax.config.update("jax_enable_x64", request.param is np.float64)
    yield request.param
    jax.config.update("jax_enable_x64", False)


def random_masks(rng, shape, tile):
    """The same mask in NumPy and in JAX."""
    if tile is None:
        return None, None
    grid = [-(-n // t) for n, t in zip(shape, tile, strict=True)]
    dense = np.repeat(np.repeat(rng.random(grid) < 0.5, tile[0], 0), tile[1], 1)
    dense = np.ascontiguousarray(dense[: shape[0], : shape[1]])
    return dg.TileMask.from_dense(dense, tile=tile), dg.TileMask.from_dense(
        jnp.asarray(dense), tile=tile
    )


def assert_same(got, expected):
    """A JAX array with the bits of a NumPy array."""
    assert isinstance(got, jax.Array)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(got), expected, strict=True)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("masks", MASKS)
def test_products_have_numpys_bits(backend, dtype, masks, trans_a, trans_b):
    rng = np.random.default_rng(5)
    for index, (m, n, k) in enumerate(SHAPES):
        arrays, numpy_masks, jax_masks = [], {}, {}
        for name, shape, tile, trans in zip(
            ("a", "b", "out"), ((m, k), (k, n), (m, n)), MASKS[masks], (trans_a, trans_b, False),
            strict=True,
        ):  # fmt: skip
            shape, tile = (shape[::-1], tile and tile[::-1]) if trans else (shape, tile)
            ours, theirs = random_masks(rng, shape, tile)
            numpy_masks[f"{name}_mask"], jax_masks[f"{name}_mask"] = ours, theirs
            arrays.append(poison(rng.standard_normal(shape).astype(dtype), ours))
        a, b, _ = arrays
        bias, addend = (rng.standard_normal(s).astype(dtype) for s in (n, (m, n)))
        rest = {"trans_a": trans_a, "trans_b": trans_b, "out_scale": 0.75,
                "activation": (None, "relu", "gelu", "gelu_tanh")[index]}  # fmt: skip
        scale = np.array(-1.5, np.float32)
        expected = dg.matmul(a, b, bias=bias, addend=addend, scale=scale, **numpy_masks, **rest)
        assert np.isfinite(expected).all()
        got = dg.matmul(
            jnp.asarray(a), jnp.asarray(b), bias=jnp.asarray(bias), addend=jnp.asarray(addend),
            scale=jnp.asarray(scale), **jax_masks, **rest,
        )  # fmt: skip
        assert_same(got, expected)


@pytest.mark.parametrize(("shape", "tile"), [((256, 2048), (128, 32)), ((7, 99), (2, 3)),
                                             ((33, 40), (1, 1)), ((0, 8), (4, 4))])  # fmt: skip
def test_masks_are_numpys(shape, tile):
    ours, theirs = random_masks(np.random.default_rng(0), shape, tile)
    assert (theirs.framework, theirs.shape, theirs.tile) == ("jax", shape, tile)
    assert "jax" in repr(theirs)
    assert_same(theirs.bits, ours.bits)
    assert_same(theirs.to_dense(), ours.to_dense())
    assert_same(theirs.T.to_dense(), ours.to_dense().T)
    assert (theirs.keep_rate, theirs.keep_hint) == (ours.keep_rate, ours.keep_hint)
    again = dg.TileMask(theirs.bits, shape, tile)
    assert again.bits is theirs.bits is theirs.T.bits
    assert again.equals(theirs)
    assert again.equals(ours)
    assert again.keep_hint == pytest.approx(ours.keep_rate, abs=1e-12)


@pytest.mark.parametrize("step", [6, np.int32(6), np.uint8(6)])
def test_drawn_masks_are_numpys(step):
    at = step if isinstance(step, int) else jnp.asarray(step)
    arguments = {"seed": 1 << 63, "site": 4, "call": 2, "tile": (4, 3)}
    ours = dg.bernoulli_mask(20, 37, 0.6, step=6, **arguments)
    like = jnp.zeros(1) if isinstance(step, int) else None
    theirs = dg.bernoulli_mask(20, 37, 0.6, step=at, like=like, **arguments)
    assert_same(theirs.bits, ours.bits)
    for rest in ({"tile_rows": 16, "tile_cols": 8}, {"order": "random"}):
        schedule = dg.GyroSchedule(70, 0.4, total_steps=20, seed=3, site=9, subnets=8,
                                   coscheduled=4, **rest)  # fmt: skip
        assert_same(schedule.mask(at, 41, like=like).bits, schedule.mask(6, 41).bits)
        if like is None:
            ids = schedule.subnets(at, 41)
            assert_same(ids, schedule.subnets(6, 41).astype(np.int32))


@pytest.mark.parametrize("tile", [None, (8, 16)])
def test_drawn_patterns_are_numpys_and_scales_are_arrays(tile):
    found = dg.search_distribution(0.6, 4, "exact")
    where = {"seed": 1, "site": 2, "rows": 64, "cols": 96, "tile": tile}
    for step in (0, 3, 500):
        ours, period = found.mask(step=step, **where)
        theirs, scale = found.mask(step=jnp.asarray(step), **where)
        assert_same(theirs.bits, ours.bits)
        assert_same(scale, period)
        assert theirs.keep_hint == ours.keep_hint == 1 - found.rate
        assert found.sample(1, 2, jnp.asarray(step)) == found.sample(1, 2, step)
        x = np.random.default_rng(step).standard_normal((64, 96)).astype(np.float32)
        expected = dg.matmul(x, x, trans_b=True, b_mask=ours, scale=period)
        x = jnp.asarray(x)
        assert_same(dg.matmul(x, x, trans_b=True, b_mask=theirs, scale=scale), expected)


def test_a_step_in_an_array_is_clamped_at_0():
    first = dg.bernoulli_mask(9, 9, 0.5, seed=0, site=0, step=jnp.array(-5))
    assert first.equals(dg.bernoulli_mask(9, 9, 0.5, seed=0, site=0, step=0))


def test_ids_are_of_int64_where_jax_has_it(dtype):
    schedule = dg.GyroSchedule(8, 0.5, total_steps=9, seed=0, site=0, subnets=2, coscheduled=2)
    expected = np.int64 if dtype is np.float64 else np.int32
    assert schedule.subnets(jnp.array(0), 4).dtype == expected


def test_results_lie_where_jax_copies_nothing_and_stay_what_they_are():
    rng = np.random.default_rng(6)
    pairs = [rng.standard_normal((2, 48, 48)).astype(np.float32) for _ in range(20)]
    results = [dg.matmul(*map(jnp.asarray, pair)) for pair in pairs]
    gc.collect()
    for result, pair in zip(results, pairs, strict=True):
        assert_same(result, dg.matmul(*pair))

    adapter = dg.bernoulli_mask(1, 1, 0.5, seed=0, site=0, like=results[0])._framework
    for shape in ((), (1, 1), (33, 7)):
        memory = adapter.empty(shape, np.float32)
        memory[...] = 1.0
        assert adapter.wrap(memory).unsafe_buffer_pointer() == memory.ctypes.data
        np.testing.assert_array_equal(adapter.view("x", adapter.wrap(memory)), memory)


def test_values_that_are_still_computed_are_waited_for():
    a = np.full((700, 700), 1 / 700, np.float32)

    @jax.jit
    def slow(x):
        return jax.lax.fori_loop(0, 40, lambda _, y: y @ x, x)

    expected = np.asarray(slow(a))
    got = dg.matmul(slow(a), jnp.eye(700))
    assert_same(got, dg.matmul(expected, np.eye(700, dtype=np.float32)))


def test_concrete_arrays_may_be_used_while_a_function_is_traced():
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    operand = jnp.asarray(x)

    @jax.jit
    def traced(y):
        mask = dg.bernoulli_mask(4, 4, 0.5, seed=0, site=0, like=operand)
        return y + dg.matmul(operand, operand, a_mask=mask)

    mask = dg.bernoulli_mask(4, 4, 0.5, seed=0, site=0)
    assert_same(traced(jnp.ones((4, 4))), 1 + dg.matmul(x, x, a_mask=mask))


def test_a_mask_is_a_pytree_of_its_bits():
    _, mask = random_masks(np.random.default_rng(1), (40, 64), (8, 16))
    leaves, tree = jax.tree.flatten(mask.T)
    assert len(leaves) == 1
    assert leaves[0] is mask.bits
    again = jax.tree.unflatten(tree, leaves)
    assert again.equals(mask.T)
    assert (again.shape, again.tile, again.keep_hint) == ((64, 40), (16, 8), mask.keep_hint)
    assert jax.jit(lambda m: m.T)(mask).equals(mask.T)
    assert jax.device_get(mask).framework == "numpy"
    assert jax.device_get(mask).equals(mask)
    anything = object()
    assert jax.tree.unflatten(tree, [anything]).bits is anything
    assert "TileMask" in repr(jax.tree.unflatten(tree, [anything]))


X = jnp.ones((4, 4))
KEY = jax.random.key(0)


def deleted():
    array = jnp.ones((4, 4)) + 1
    array.delete()
    return array


def a_schedule():
    return dg.GyroSchedule(4, 0.5, total_steps=9, seed=0, site=0, subnets=2, coscheduled=2)


def schedule_mask(step, like=None):
    return a_schedule().mask(step, 4, like=like)


def batched_mask():
    return jax.vmap(schedule_mask)(jnp.arange(3))


def float64_made_elsewhere():
    jax.config.update("jax_enable_x64", True)
    try:
        return jnp.ones((4, 4), jnp.float64)
    finally:
        jax.config.update("jax_enable_x64", False)


BAD = {
    "out in jit": (lambda: jax.jit(lambda a: dg.matmul(X, a, out=a))(X), TypeError,
                   "out: expected None, as JAX arrays are not written to, got a JAX array"),
    "inner in jit": (lambda: jax.jit(dg.matmul)(X, X[:3]), ValueError,
                     r"b: expected shape \[4, 4\], got \[3, 4\]"),
    "rank in jit": (lambda: jax.jit(dg.matmul)(X, X[0]), ValueError,
                    "b: expected a 2-D array, got 1-D"),
    "dtype in jit": (lambda: jax.jit(dg.matmul)(X, X.astype(jnp.int32)), TypeError,
                     "b: expected float32, float64, bfloat16 or float16, got int32"),
    "dtypes in jit": (lambda: jax.jit(dg.matmul)(X, X.astype(jnp.bfloat16)), TypeError,
                      "b: expected float32 as a has, got bfloat16"),
    "bias in jit": (lambda: jax.jit(lambda a: dg.matmul(X, X, bias=a))(X[0, :3]), ValueError,
                    r"bias: expected \[N\] = \[4\], got \[3\]"),
    "bias rank in jit": (lambda: jax.jit(lambda a: dg.matmul(X, X, bias=a))(X), ValueError,
                         "bias: expected a 1-D array, got 2-D"),
    "addend in jit": (lambda: jax.jit(lambda a: dg.matmul(X, X, addend=a))(X[:3]), ValueError,
                      r"addend: expected shape \[4, 4\], got \[3, 4\]"),
    "mask in jit": (lambda: jax.jit(lambda m: dg.matmul(X, X[:3].T, out_mask=m))(
                        schedule_mask(0, X)), ValueError, "out_mask: expected shape"),
    "bits in jit": (lambda: jax.jit(lambda m: dg.matmul(X, X, a_mask=m))(batched_mask()),
                    ValueError, r"a_mask: expected bits of shape \(2, 1\), got \(3, 2, 1\)"),
    "scale in jit": (lambda: jax.jit(lambda s: dg.matmul(X, X, scale=s))(X[0]), TypeError,
                     r"scale: expected a number or .*, got float32 of shape \(4,\)"),
    "keep rate in jit": (lambda: jax.jit(lambda m: m.keep_rate)(schedule_mask(0, X)), TypeError,
                         "bits: expected a JAX array with values, got a .*Tracer"),
    "from_dense in jit": (lambda: jax.jit(lambda k: dg.TileMask.from_dense(k, tile=(1, 1)))(X > 0),
                          TypeError, "keep: expected a JAX array with values, got a .*Tracer"),
    "subnets in jit": (lambda: jax.jit(lambda t: a_schedule().subnets(t, 4))(3), TypeError,
                       "step: expected a JAX array with values, got a .*Tracer"),
    "sample in jit": (lambda: jax.jit(lambda t: dg.PatternDistribution([1.0]).sample(0, 0, t))(3),
                      TypeError, "step: expected a JAX array with values, got a .*Tracer"),
    "step dtype in jit": (lambda: jax.jit(lambda t: schedule_mask(t).bits)(3.0), TypeError,
                          "step: expected an integer array, got float32"),
    "compact in jit": (lambda: jax.jit(lambda a, m: dg.compact(a, m, 0))(X, schedule_mask(0, X)),
                       TypeError, "bits: expected a JAX array with values, got a .*Tracer"),
    "size in jit": (lambda: jax.jit(lambda a: dg.compact(a, schedule_mask(0, X), 1, 1))(X),
                    jax.errors.JaxRuntimeError, "size: expected at least"),
    "expand in jit": (lambda: jax.jit(lambda a: dg.expand(a, schedule_mask(0, X), 1))(X[0]),
                      ValueError, "xc: expected a 2-D array, got 1-D"),
    "scale's gradient": (lambda: jax.grad(lambda s: dg.matmul(X, X, scale=s).sum())(1.0),
                         ValueError, "scale: expected an array without gradient, as it has no"),
    "forward mode": (lambda: jax.jvp(lambda a: dg.matmul(a, X), (X,), (X,)), TypeError,
                     "forward-mode"),
    "out": (lambda: dg.matmul(X, X, out=X), TypeError,
            "out: expected None, as JAX arrays are not written to, got a JAX array"),
    "deleted": (lambda: dg.matmul(X, deleted()), ValueError,
                "b: expected an array with values, got a deleted or donated one"),
    "mixed dtypes": (lambda: dg.matmul(X.astype(jnp.bfloat16), X), TypeError,
                     "b: expected bfloat16 as a has, got float32"),
    "float16": (lambda: dg.matmul(*[X.astype(jnp.float16)] * 2), RuntimeError,
                "on the cpu backend, got float16"),
    "float16 in jit": (lambda: jax.jit(dg.matmul)(*[X.astype(jnp.float16)] * 2),
                       jax.errors.JaxRuntimeError, "on the cpu backend, got float16"),
    "int32": (lambda: dg.matmul(X, X, bias=jnp.arange(4)), TypeError,
              "bias: expected float32, float64, bfloat16 or float16, got int32"),
    "float64": (lambda: dg.matmul(float64_made_elsewhere(), X), TypeError,
                "a: expected float32 where jax_enable_x64 is off.* got float64"),
    "rank": (lambda: dg.matmul(X[0], X), ValueError, "a: expected a 2-D array, got 1-D"),
    "inner": (lambda: dg.matmul(X, X[:3]), ValueError, "b: expected shape"),
    "key": (lambda: dg.matmul(KEY, X), TypeError,
            "a: expected an array of numbers, got key<fry>"),
    "numpy": (lambda: dg.matmul(X, np.ones((4, 4))), TypeError,
              "b: expected a JAX array like a, got a NumPy array"),
    "torch": (lambda: dg.matmul(torch.ones(4, 4), X), TypeError,
              "b: expected a PyTorch tensor like a, got a JAX array"),
    "mask of numpy": (lambda: dg.matmul(X, X, a_mask=schedule_mask(0)), TypeError,
                      "a_mask: expected bits in a JAX array like the operands, got a NumPy array"),
    "mask of jax": (lambda: dg.matmul(np.eye(4), np.eye(4), out_mask=schedule_mask(0, X)),
                    TypeError, "out_mask: expected bits in a NumPy array .* got a JAX array"),
    "scale of numpy": (lambda: dg.matmul(X, X, scale=np.array(1, np.float32)), TypeError,
                       "scale: expected a number or a float32 array of no dimension in the"),
    "scale dtype": (lambda: dg.matmul(X, X, scale=jnp.array(1, jnp.int32)), TypeError,
                    "scale: expected a number or a float32 array of no dimension, got int32"),
    "scale shape": (lambda: dg.matmul(X, X, out_scale=jnp.ones(1)), TypeError,
                    r"out_scale: expected a number .* got float32 of shape \(1,\)"),
    "step dtype": (lambda: schedule_mask(jnp.array(1.0)), TypeError,
                   "step: expected an integer array, got float32"),
    "step bool": (lambda: schedule_mask(jnp.array(True)), TypeError,
                  "step: expected an integer array, got bool"),
    "step shape": (lambda: schedule_mask(jnp.array([1])), ValueError,
                   "step: expected an array of no dimension"),
    "step and like": (lambda: schedule_mask(jnp.array(1), np.zeros(1)), TypeError,
                      r"step: expected an array of the framework of like \(numpy\), got jax"),
    "bits dtype": (lambda: dg.TileMask(jnp.zeros((4, 1), jnp.int32), (4, 4), (1, 1)), TypeError,
                   "bits: expected uint32, got int32"),
    "bits shape": (lambda: dg.TileMask(jnp.zeros((4, 2), jnp.uint32), (4, 4), (1, 1)), ValueError,
                   r"bits: expected shape \(4, 1\)"),
    "padding": (lambda: dg.TileMask(jnp.full((4, 1), 16, jnp.uint32), (4, 4), (1, 1)), ValueError,
                "bits: expected 0 in the padding after column tile 3"),
    "keep dtype": (lambda: dg.TileMask.from_dense(X, tile=(1, 1)), TypeError,
                   "keep: expected bool, got float32"),
    "keep bfloat16": (lambda: dg.TileMask.from_dense(X.astype(jnp.bfloat16), tile=(1, 1)),
                      TypeError, "keep: expected bool, got bfloat16"),
    "compact dtype": (lambda: dg.compact(jnp.arange(16).reshape(4, 4), schedule_mask(0, X), 0, 4),
                      TypeError, "x: expected float32, float64, bfloat16 or float16, got int32"),
    "mixed tile": (lambda: dg.TileMask.from_dense(jnp.eye(4) > 0, tile=(2, 2)), ValueError,
                   r"keep: expected one value in each 2x2 tile, got both in tile \(0, 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    make, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make()
