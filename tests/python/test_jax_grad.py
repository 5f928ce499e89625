"""Derivatives of JAX's products: against finite differences, dense products and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import dropgemm as dg
import dropgemm.jax
from dense import BFLOAT16, EPS

ACTIVATIONS = {
    None: lambda z: z,
    "relu": jax.nn.relu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "gelu_tanh": lambda z: jax.nn.gelu(z, approximate=True),
}


@pytest.fixture(autouse=True)
def x64():
    """JAX with 64-bit numbers."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def mask(shape, tile, site):
    return dg.bernoulli_mask(*shape, 0.5, seed=1, site=site, tile=tile, like=jnp.zeros(1))


def problem(trans_a, trans_b, dtype=np.float64):
    """(a, b, bias, addend) and the masks of a product."""
    rng = np.random.default_rng(0)
    m, n, k = 6, 5, 7
    shapes = ((k, m) if trans_a else (m, k), (n, k) if trans_b else (k, n), (n,), (m, n))
    arrays = tuple(jnp.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes)
    masks = {
        "a_mask": mask(shapes[0], (2, 3), 0),
        "b_mask": mask(shapes[1], (1, 2), 1),
        "out_mask": mask((m, n), (3, 2), 2),
    }
    return arrays, masks


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_check_grads_passes(activation, trans_a, trans_b):
    arrays, masks = problem(trans_a, trans_b)

    def product(a, b, bias, addend):
        return dropgemm.jax.matmul(
            a, b, bias=bias, addend=addend, trans_a=trans_a, trans_b=trans_b, out_scale=0.75,
            activation=activation, scale=jnp.float32(1.5), **masks,
        )  # fmt: skip

    check_grads(product, arrays, order=3 if activation == "gelu" else 2, modes=["rev"])
    check_grads(jax.jit(product), arrays, order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, BFLOAT16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_the_dense_product(backend, activation, dtype):
    """Poison in what is dropped, of operands and of the incoming gradient, reaches none of them."""
    arrays, masks = problem(False, True, dtype)
    dense = {name: one.to_dense() for name, one in masks.items()}
    factor = jnp.float32(0.5)

    def ours(a, b, bias, addend):
        return dg.matmul(a, b, bias=bias, addend=addend, trans_b=True, activation=activation,
                         scale=2.0, out_scale=factor, **masks)  # fmt: skip

    def theirs(a, b, bias, addend):
        z = 2 * (a * dense["a_mask"]) @ (b * dense["b_mask"]).T + addend + bias
        return 0.5 * ACTIVATIONS[activation](z) * dense["out_mask"]

    incoming = jnp.asarray(np.random.default_rng(1).standard_normal((6, 5)).astype(dtype))
    exact = [array.astype(jnp.float64) for array in (*arrays, incoming)]
    y, pull = jax.vjp(theirs, *exact[:4])
    expected = (y, *pull(exact[4]))

    a, b, *rest = arrays
    poisoned = (
        jnp.where(dense["a_mask"], a, jnp.nan).astype(dtype),
        jnp.where(dense["b_mask"], b, jnp.nan).astype(dtype),
        *rest,
    )
    y, pull = jax.vjp(jax.jit(ours), *poisoned)
    got = (y, *pull(jnp.where(dense["out_mask"], incoming, jnp.nan).astype(dtype)))
    for one, known in zip(got, expected, strict=True):
        assert one.dtype == dtype
        # Sums of at most 7 products of numbers below 3, and what an activation's input was off.
        assert np.abs(np.asarray(one, np.float64) - known).max() <= 8 * EPS[np.dtype(dtype)] * 9
    # Dropped elements have no gradient at all.
    for one, name in zip(got[1:3], ("a_mask", "b_mask"), strict=True):
        assert not one[~dense[name]].any()


def layers(weights, x, step):
    """Three layers whose masks are drawn from the step."""
    for site, w in enumerate(weights):
        schedule = dg.GyroSchedule(x.shape[1], 0.5, total_steps=100, seed=0, site=site, subnets=8,
                                   tile_rows=8, tile_cols=4)  # fmt: skip
        x = dropgemm.jax.dense(x, w, in_mask=schedule.mask(step, len(x)), activation="gelu",
                               scale=schedule.scale())  # fmt: skip
    return (x**2).sum()


def some_layers():
    rng = np.random.default_rng(4)
    return [jnp.asarray(rng.standard_normal((16, 16))) for _ in range(3)], jnp.asarray(
        rng.standard_normal((32, 16))
    )


def test_checkpoint_replays_the_same_masks():
    weights, x = some_layers()
    step = jnp.int32(60)
    plain = jax.jit(jax.grad(layers))(weights, x, step)
    kept = jax.jit(jax.grad(jax.checkpoint(layers)))(weights, x, step)
    for one, other in zip(plain, kept, strict=True):
        np.testing.assert_array_equal(one, other)
    others = jax.jit(jax.grad(layers))(weights, x, step + 1)
    assert not (others[0] == plain[0]).all()


def test_steps_may_be_scanned_and_the_scan_differentiated():
    weights, x = some_layers()

    def total(weights):
        def one(step, _):
            return step + 1, layers(weights, x, step)

        return jax.lax.scan(one, jnp.int32(0), length=4)[1].sum()

    gradient = jax.jit(jax.grad(total))(weights)
    each = [jax.grad(layers)(weights, x, jnp.int32(step)) for step in range(4)]
    for got, *known in zip(gradient, *each, strict=True):
        np.testing.assert_allclose(got, sum(known), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, "tiles"])
def test_compaction_is_traced_and_differentiated(axis):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 8)))
    kept = dg.TilePattern(2, tile=(2, 2)).mask(6, 8, like=x)

    def there(x, kept=kept):
        return dg.compact(x, kept, axis, size=6 if axis == "tiles" else 4)

    def back(xc, kept=kept):
        return dg.expand(xc, kept, axis)

    small = there(x)
    np.testing.assert_array_equal(jax.jit(there)(x, kept), small)
    np.testing.assert_array_equal(jax.jit(back)(small, kept), back(small))
    check_grads(jax.jit(there), (x,), order=2, modes=["rev"])
    check_grads(jax.jit(back), (small,), order=2, modes=["rev"])
