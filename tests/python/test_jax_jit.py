"""JAX's transformations: what is compiled, drawn and mapped has the bits of NumPy."""

import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropgemm as dg
import dropgemm.jax
from dense import BFLOAT16, poison
from dropgemm.jax import ffi

# Tiles of the masks of a [M, K], b [K, N], out [M, N].
MASKS = {
    "none": (None, None, None),
    "groups": ((128, 32), None, (128, 32)),
    "weight tiles": (None, (32, 32), None),
    "all, mismatched": ((16, 24), (8, 40), (128, 5)),
}


@pytest.fixture
def x64():
    """JAX with 64-bit numbers."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def random_mask(rng, shape, tile):
    """A mask of NumPy, half of whose tiles are dropped."""
    if tile is None:
        return None
    grid = [-(-n // t) for n, t in zip(shape, tile, strict=True)]
    dense = np.repeat(np.repeat(rng.random(grid) < 0.5, tile[0], 0), tile[1], 1)
    return dg.TileMask.from_dense(dense[: shape[0], : shape[1]].copy(), tile=tile)


def to_jax(tree):
    """Arrays and masks of NumPy as JAX's."""
    return jax.tree.map(jnp.asarray, tree)


def assert_same(got, expected):
    """The bits of a NumPy array."""
    assert isinstance(got, jax.Array)
    np.testing.assert_array_equal(np.asarray(got), expected, strict=True)


def block(features, site, **rest):
    return dg.GyroSchedule(features, 0.5, total_steps=1000, seed=3, site=site, subnets=16,
                           tile_rows=16, tile_cols=8, **rest)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, True), (True, False)])
@pytest.mark.parametrize("masks", MASKS)
def test_compiled_products_have_numpys_bits(backend, masks, trans_a, trans_b, dtype):
    rng = np.random.default_rng(5)
    m, n, k = 129, 33, 65
    shapes = {"a": (k, m) if trans_a else (m, k), "b": (n, k) if trans_b else (k, n), "out": (m, n)}
    tiles = dict(zip(shapes, MASKS[masks], strict=True))
    for name, turned in (("a", trans_a), ("b", trans_b)):
        tiles[name] = tiles[name] and (tiles[name][::-1] if turned else tiles[name])
    drops = {f"{name}_mask": random_mask(rng, shapes[name], tiles[name]) for name in shapes}
    operands = {
        name: poison(rng.standard_normal(shapes[name]).astype(dtype), drops[f"{name}_mask"])
        for name in "ab"
    }
    operands |= {name: rng.standard_normal(shape).astype(dtype)
                 for name, shape in (("bias", n), ("addend", (m, n)))}  # fmt: skip
    operands |= drops | {"scale": np.array(-1.5, np.float32)}

    def product(arrays):
        return dg.matmul(**arrays, trans_a=trans_a, trans_b=trans_b, out_scale=0.75,
                         activation="gelu")  # fmt: skip

    assert_same(jax.jit(product)(to_jax(operands)), product(operands))


def test_numbers_below_the_normal_ones_are_what_they_are_elsewhere():
    """XLA's threads flush them to zero, and the core's would not."""
    a = np.full((256, 8), 2.0**-100, np.float32)
    b = np.full((8, 256), 2.0**-40, np.float32)
    expected = dg.matmul(a, b)
    assert (expected == 2.0**-137).all()
    assert_same(jax.jit(dg.matmul)(a, jnp.asarray(b)), expected)


STEPS = [0, 1, 999, (1 << 31) - 1]


@pytest.mark.parametrize("make", [
    lambda step: dg.bernoulli_mask(20, 37, 0.6, seed=1 << 63, site=4, call=2, tile=(4, 3),
                                   step=step, rank=2, world=3),
    lambda step: block(70, 9).mask(step, 41),
    lambda step: block(70, 9, order="random", draw="bernoulli").mask(step, 40, rank=1, world=2),
    lambda step: dg.GyroSchedule(9, 0.4, total_steps=20, seed=3, site=9, subnets=7,
                                 coscheduled=4).mask(step, 41),
    lambda step: dg.search_distribution(0.6, 4).mask(1, 2, step, 64, 96),
    lambda step: dg.search_distribution(0.6, 4).mask(1, 2, step, 64, 96, tile=(8, 16)),
    lambda step: dg.PatternDistribution([0.5, 0.5]).mask((1 << 64) - 1, 2, step, 64, 96, 1,
                                                         tile=(8, 16), skew="linear"),
], ids=["bernoulli", "block", "random order", "elements", "row", "tile", "linear"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:a run of", "ignore:skew='linear'")
def test_masks_of_a_traced_step_are_numpys(make):
    traces = []

    @jax.jit
    def drawn(step):
        traces.append(step)
        return make(step)

    for step in STEPS:
        got, expected = drawn(step), make(np.array(step))
        got, expected = (x if isinstance(x, tuple) else (x,) for x in (got, expected))
        assert_same(got[0].bits, expected[0].bits)
        assert (got[0].shape, got[0].tile) == (expected[0].shape, expected[0].tile)
        assert got[0].keep_hint == expected[0].keep_hint
        for factor, known in zip(got[1:], expected[1:], strict=True):
            assert_same(factor, known)
    assert len(traces) == 1


def test_steps_of_any_integer_are_clamped(x64):
    def bits(step):
        return dg.bernoulli_mask(9, 40, 0.5, seed=0, site=0, step=step).bits

    for step, known in [
        (jnp.int32(-5), 0), (jnp.int8(7), 7), (jnp.uint8(200), 200), (jnp.uint32(1 << 31), 1 << 31),
        (jnp.int64(1 << 31), 1 << 31), (jnp.int64(1 << 40), (1 << 32) - 1),
    ]:  # fmt: skip
        assert_same(jax.jit(bits)(step), bits(known))


def two_layers(weights, x, step, scale=2.0):
    """A loss of two layers with blocks of the inputs and the units between them dropped."""
    first, second = (block(width, site).mask(step, len(x)) for site, width in enumerate((24, 40)))
    hidden = dropgemm.jax.linear(x, weights[0], weights[1], in_mask=first, out_mask=second,
                                 activation="relu", scale=scale)  # fmt: skip
    return (dropgemm.jax.dense(hidden, weights[2], in_mask=second, scale=scale) ** 2).mean()


def some_weights(dtype=np.float32):
    rng = np.random.default_rng(2)
    shapes = ((40, 24), (40,), (40, 5), (48, 24))
    *weights, x = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return to_jax(weights), jnp.asarray(x)


def test_a_training_step_is_compiled_once():
    weights, x = some_weights()
    traces = []

    @jax.jit
    def train(weights, x, step):
        traces.append(step)
        loss, gradient = jax.value_and_grad(two_layers)(weights, x, step)
        return jax.tree.map(lambda w, g: w - 0.01 * g, weights, gradient), step + 1, loss

    step, losses = jnp.int32(0), []
    for _ in range(20):
        weights, step, loss = train(weights, x, step)
        losses.append(float(loss))
    assert len(traces) == train._cache_size() == 1
    assert losses[-1] < losses[0]
    train(weights, x[:7], step)  # a ragged last batch: once more
    assert len(traces) == train._cache_size() == 2


@pytest.mark.parametrize("wide", [False, True])
def test_numbers_that_are_traced_count_as_numbers(wide):
    _, x = some_weights()
    w = jnp.ones((24, 3), x.dtype)
    jax.config.update("jax_enable_x64", wide)
    try:
        product = jax.jit(lambda scale: dg.matmul(x, w, scale=scale))
        for scale in (2.5, 3):
            assert_same(product(scale), np.asarray(dg.matmul(x, w, scale=scale)))
        with pytest.raises(TypeError, match="scale: expected a number or a float32 array of no"):
            product(jnp.ones((), jnp.float64 if wide else jnp.float16))
    finally:
        jax.config.update("jax_enable_x64", False)


def test_weights_may_be_donated():
    weights, x = some_weights()
    step = jax.jit(lambda w, x: w - 0.1 * jax.grad(lambda w: dg.matmul(x, w).sum())(w),
                   donate_argnums=0)  # fmt: skip
    w = weights[0].T + 0
    expected = np.asarray(w) - 0.1 * np.asarray(x).sum(0)[:, None]
    np.testing.assert_allclose(step(w, x), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="b: expected an array with values, got a deleted or"):
        dg.matmul(x, w)


def test_checkpoint_policies_know_products_by_name():
    weights, x = some_weights()
    policy = jax.checkpoint_policies.save_only_these_names("dropgemm.matmul")

    def products(f):
        step = jax.jit(jax.value_and_grad(f, argnums=(0, 1)))
        return step.lower(weights, x, 3).as_text().count("@dropgemm.matmul(")

    plain = products(two_layers)
    assert products(jax.checkpoint(two_layers)) > plain
    assert products(jax.checkpoint(two_layers, policy=policy)) == plain


def test_masks_and_scales_may_be_arguments():
    found = dg.search_distribution(0.5, 4)
    _, x = some_weights()
    w = jnp.ones((24, 3))

    @jax.jit
    def product(x, mask, scale):
        return dg.matmul(x, w, a_mask=mask, scale=scale)

    for step in range(20):
        drawn = found.mask(seed=1, site=0, step=step, rows=48, cols=24, like=x)
        assert_same(
            product(x, *drawn), np.asarray(dg.matmul(x, w, a_mask=drawn[0], scale=drawn[1]))
        )
    assert product._cache_size() == 1


def test_the_backend_and_the_precision_hold_in_compiled_functions(backend):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 64, 64)).astype(np.float32)
    assert_same(jax.jit(dg.matmul)(a, jnp.asarray(b)), dg.matmul(a, b))
    with jax.default_matmul_precision("bfloat16"):
        assert_same(jax.jit(dg.matmul)(a, jnp.asarray(b)), dg.matmul(a, b, precision="medium"))


def test_bits_that_are_traced_make_masks_and_their_padding_is_cleared():
    @jax.jit
    def product(bits):
        mask = dg.TileMask(bits, shape=(4, 40), tile=(2, 8), keep_hint=0.5)
        return dg.matmul(jnp.ones((4, 40)), jnp.ones((40, 3)), a_mask=mask), mask

    y, mask = product(jnp.full((2, 1), 0xFFFFFFE3, jnp.uint32))
    assert mask.bits.tolist() == [[3], [3]]
    assert_same(y, np.full((4, 3), 16, np.float32))
    with pytest.raises(TypeError, match="bits: expected a JAX array with values"):
        jax.jit(lambda bits: dg.TileMask(bits, (4, 40), (2, 8)).bits)(mask.bits)


def test_masks_become_matrices_within_compiled_functions():
    mask = random_mask(np.random.default_rng(1), (33, 70), (4, 3))
    for one in (mask, mask.T, random_mask(np.random.default_rng(1), (0, 5), (1, 1))):
        assert_same(jax.jit(lambda m: m.to_dense())(to_jax(one)), one.to_dense())


def test_vmap_computes_one_after_the_other():
    schedule = block(24, 0)
    _, x = some_weights()
    w = jnp.asarray(np.random.default_rng(3).standard_normal((5, 6, 24)), jnp.float32)
    masks = jax.vmap(lambda step: schedule.mask(step, 48))(jnp.arange(5) * 70)
    got = jax.vmap(lambda w, mask: dropgemm.jax.linear(x, w, in_mask=mask))(w, masks)
    for i in range(5):
        known = dg.matmul(x, w[i], trans_b=True, a_mask=schedule.mask(70 * i, 48, like=x))
        assert_same(got[i], np.asarray(known))

    def loss(w):
        each = jax.vmap(lambda w, mask: dropgemm.jax.linear(x, w, in_mask=mask))(w, masks)
        return (each**2).sum()

    def alone(w, step):
        mask = schedule.mask(step, 48, like=x)
        return (dropgemm.jax.linear(x, w, in_mask=mask) ** 2).sum()

    each = [jax.grad(alone)(w[i], 70 * i) for i in range(5)]
    assert_same(jax.grad(loss)(w), np.stack(each))


def test_a_sample_shares_its_row_of_a_mask_between_positions():
    _, x = some_weights()
    w, b = jnp.ones((6, 24)) / 7, jnp.arange(6.0)
    x = jnp.stack([x, 2 * x, -x], 1)
    masks = {
        "in_mask": block(24, 0).mask(0, 48, like=x),
        "out_mask": block(6, 1).mask(0, 48, like=x),
    }
    for layer in (dropgemm.jax.linear, lambda x, w, b, **m: dropgemm.jax.dense(x, w.T, b, **m)):
        y = jax.jit(lambda x, layer=layer: layer(x, w, b, activation="relu", **masks))(x)
        assert y.shape == (48, 3, 6)
        for position in range(3):
            assert_same(y[:, position], np.asarray(layer(x[:, position], w, b, activation="relu",
                                                         **masks)))  # fmt: skip
    with pytest.raises(ValueError, match=r"x: expected \[samples, ..., in\], got 1-D"):
        dropgemm.jax.linear(x[0, 0], w)


def test_numpys_arrays_may_stand_where_jaxs_do():
    a, b = np.random.default_rng(0).standard_normal((2, 48, 24)).astype(np.float32)
    mask = block(24, 0).mask(5, 48)
    expected = dg.matmul(a, b, trans_b=True, a_mask=mask, bias=b[:, 0])
    assert_same(dropgemm.jax.linear(a, b, b[:, 0], in_mask=mask), expected)
    assert_same(dropgemm.jax.matmul(jnp.asarray(a), b.T, a_mask=mask, bias=b[:, 0]), expected)
    with pytest.raises(TypeError, match="b: expected float32 where jax_enable_x64 is off, got"):
        dropgemm.jax.matmul(jnp.ones((2, 2)), np.ones((2, 2)))


def test_threads_and_products_at_once_get_their_own_results():
    """XLA calls from threads of its own; a program's independent products may run at once."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((8, 96, 160)).astype(np.float32)
    b = rng.standard_normal((8, 160, 64)).astype(np.float32)
    mask = block(160, 0).mask(0, 96)
    expected = [dg.matmul(a[i], b[i], a_mask=mask) for i in range(8)]

    @jax.jit
    def products(a, b, mask):
        return [dg.matmul(a[i], b[i], a_mask=mask) for i in range(8)]

    operands = to_jax((a, b, mask))
    failures = []

    def work():
        try:
            for _ in range(10):
                for got, known in zip(products(*operands), expected, strict=True):
                    assert_same(got, known)
        except AssertionError as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_package_without_foreign_functions_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "dropgemm._xla", None)
    ffi._register.cache_clear()
    with pytest.raises(RuntimeError, match="jax: expected a dropgemm that was built where jaxlib"):
        jax.jit(dg.matmul)(jnp.eye(2), jnp.eye(2))
    assert_same(dg.matmul(jnp.eye(2), jnp.eye(2)), np.eye(2, dtype=np.float32))
    ffi._register.cache_clear()


def test_an_xla_that_is_too_old_is_named(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("the handler's API version is incompatible with the framework's")

    ffi._register.cache_clear()
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    message = (
        rf"jax: expected an XLA that takes .* version 0\.\d+, got that of JAX {jax.__version__}"
    )
    with pytest.raises(RuntimeError, match=message):
        jax.jit(dg.matmul)(jnp.eye(2), jnp.eye(2))
    ffi._register.cache_clear()
