"""JAX on CUDA. What it would run there is looked at without a GPU: programs are lowered for CUDA,
and read. The rest needs a GPU that JAX sees."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropgemm as dg
import dropgemm.jax
from dense import BFLOAT16, EPS
from dropgemm.jax import ffi

export = pytest.importorskip("jax.export")

SCHEDULE = dg.GyroSchedule(48, 0.5, total_steps=100, seed=0, site=0, subnets=4, tile_rows=32,
                           tile_cols=16)  # fmt: skip
X, W = jnp.ones((64, 48)), jnp.ones((32, 48))
BIAS, SCALE, STEP = jnp.ones(32), jnp.float32(2), jnp.int32(3)


NAMES = [
    f"dropgemm.{name}"
    for name in (
        "matmul", "matmul_in_workspace", "bernoulli_mask", "gyro_mask", "pattern_mask", "compact",
        "expand",
    )
]  # fmt: skip


@pytest.fixture
def no_gpu(monkeypatch):
    """No GPU in sight whose backend could be asked for the size of a workspace."""
    monkeypatch.setattr(ffi, "_has_gpu", lambda: False)


def text_of(f, *arguments):
    """A program for CUDA."""
    return export.export(jax.jit(f), platforms=["cuda"],
                         disabled_checks=[export.DisabledSafetyCheck.custom_call(name)
                                          for name in NAMES])(*arguments).mlir_module()  # fmt: skip


def lowered(f, *arguments):
    """The calls of a program for CUDA: names of functions, each with its types, in order."""
    text = text_of(f, *arguments)
    assert "callback" not in text
    calls = re.findall(r"custom_call @([\w.]+)\(.*?: \((.*?)\) -> (.*?)(?: loc.*)?$", text, re.M)
    others = {name for name, *_ in calls} - set(NAMES)
    assert others <= {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
    return [(name.removeprefix("dropgemm."), operands.replace("tensor", ""), results)
            for name, operands, results in calls if name in NAMES]  # fmt: skip


def names(f, *arguments):
    return [name for name, *_ in lowered(f, *arguments)]


def test_a_product_takes_everything_from_the_device(no_gpu):
    def product(x, w, bias, scale, step):
        mask = SCHEDULE.mask(step, 64)
        return dropgemm.jax.linear(x, w, bias, in_mask=mask, scale=scale, out_scale=scale)

    mask, product = lowered(product, X, W, BIAS, SCALE, STEP)
    assert mask == ("gyro_mask", "<2xui32>", "tensor<2x1xui32>")
    name, operands, result = product
    assert (name, result) == ("matmul", "tensor<64x32xf32>")
    assert operands == "<64x48xf32>, <32x48xf32>, <2x1xui32>, <32xf32>, <f32>, <f32>"


def test_where_there_is_a_gpu_workspaces_are_results(monkeypatch):
    monkeypatch.setattr(ffi, "_has_gpu", lambda: True)
    monkeypatch.setattr(ffi._core, "matmul_workspace_bytes", lambda **arguments: 1234)
    ((name, _, results),) = lowered(lambda x, w: dropgemm.jax.linear(x, w), X, W)
    assert name == "matmul_in_workspace"
    assert results == "(tensor<64x32xf32>, tensor<1234xui8>)"


def test_patterns_and_their_scales_stay_on_the_device(no_gpu):
    found = dg.search_distribution(0.5, 4)

    def product(x, w, step):
        mask, scale = found.mask(seed=0, site=1, step=step, rows=64, cols=48)
        return dropgemm.jax.linear(x, w, in_mask=mask, scale=scale)

    (mask, operands, results), (_, of_product, _) = lowered(product, X, W, STEP)
    assert (mask, operands) == ("pattern_mask", "<2xui32>, <4x2xui32>")
    assert results == "(tensor<1x2xui32>, tensor<f32>)"
    assert of_product == "<64x48xf32>, <32x48xf32>, <1x2xui32>, <f32>"


def loss(x, w, step):
    mask = SCHEDULE.mask(step, 64)
    return (dropgemm.jax.linear(x, w, in_mask=mask, activation="relu") ** 2).sum()


def test_gradients_are_products_of_the_device(no_gpu):
    calls = lowered(jax.grad(loss, argnums=(0, 1)), X, W, STEP)
    assert [name for name, *_ in calls] == ["gyro_mask", *["matmul"] * 3]
    assert [result for *_, result in calls[2:]] == ["tensor<64x48xf32>", "tensor<32x48xf32>"]
    again = names(jax.value_and_grad(jax.checkpoint(loss)), X, W, STEP)
    assert sorted(again) == ["gyro_mask"] * 2 + ["matmul"] * 3  # the mask is drawn once more


@pytest.mark.parametrize("deterministic", [False, True])
def test_every_product_is_told_to_be_deterministic(no_gpu, deterministic):
    def total(x, w):
        y = dropgemm.jax.linear(x, w, activation="gelu", deterministic=deterministic)
        return y.sum()

    told = text_of(jax.grad(total, argnums=(0, 1)), X, W)
    assert told.count("deterministic = true") == 3 * deterministic
    assert told.count("deterministic = false") == 3 * (not deterministic)


def test_transformations_are_the_devices(no_gpu):
    steps = jnp.arange(4)
    assert names(jax.vmap(loss, in_axes=(None, None, 0)), X, W, steps) == ["gyro_mask", "matmul"]

    def scanned(w, steps):
        return jax.lax.scan(lambda w, step: (w - jax.grad(loss, 1)(X, w, step), None), w, steps)

    assert names(scanned, W, steps) == ["gyro_mask", "matmul", "matmul"]


def test_masks_and_compaction_are_the_devices(no_gpu):
    def small(x, step):
        mask = dg.bernoulli_mask(64, 48, 0.5, seed=0, site=0, step=step, tile=(8, 8))
        return dg.expand(dg.compact(x, mask, "tiles", size=48), mask, "tiles")

    assert names(small, X, STEP) == ["bernoulli_mask", "compact", "expand"]


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="this JAX has no jax.shard_map")
def test_a_mesh_of_the_devices(no_gpu):
    kinds = getattr(jax.sharding, "AxisType", None)
    axes = {} if kinds is None else {"axis_types": (kinds.Auto,)}
    mesh = jax.sharding.AbstractMesh((2,), ("data",), **axes)
    spec = jax.sharding.PartitionSpec("data")
    none = jax.sharding.PartitionSpec()

    def local(x, w, step):
        return dropgemm.jax.linear(x, w, in_mask=SCHEDULE.mask(step, len(x)))

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(spec, none, none), out_specs=spec)
    (mask, *_), (_, operands, _) = lowered(sharded, X, W, STEP)
    assert mask == "gyro_mask"
    assert operands == "<32x48xf32>, <32x48xf32>, <1x1xui32>"


# --- On a GPU -------------------------------------------------------------------------------------


def devices():
    try:
        return jax.devices("cuda")
    except RuntimeError:
        return []


gpu = pytest.mark.skipif(not devices(), reason="no GPU that JAX sees")
two_gpus = pytest.mark.skipif(len(devices()) < 2, reason="no two GPUs that JAX sees")


def problem(dtype=np.float32):
    """Operands of a layer and of what follows it, and its mask, on the CPU."""
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(s).astype(dtype) for s in ((128, 96), (64, 96), (128, 64)))
    return x, w, g, dg.bernoulli_mask(128, 96, 0.5, seed=1, site=0, tile=(32, 32))


def on(device, tree):
    return jax.device_put(jax.tree.map(jnp.asarray, tree), device)


def backward(x, w, g, mask):
    y, pull = jax.vjp(lambda x, w: dropgemm.jax.linear(x, w, in_mask=mask, scale=2.0), x, w)
    return y, *pull(g)


@gpu
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_products_and_gradients_on_the_gpu(dtype, compiled):
    x, w, g, mask = problem(dtype)
    arguments = on(devices()[0], (x, w, g, mask))
    got = (jax.jit(backward) if compiled else backward)(*arguments)
    x, w, g = (array.astype(np.float64) for array in (x, w, g))
    kept = x * mask.to_dense()
    known = 2 * kept @ w.T, 2 * (g @ w) * mask.to_dense(), 2 * g.T @ kept
    most = abs(kept) @ abs(w).T, abs(g) @ abs(w), abs(g).T @ abs(kept)
    for one, exact, bound in zip(got, known, most, strict=True):
        assert one.dtype == dtype
        assert one.devices() == {devices()[0]}
        # 128 sums of float32, and the rounding of the result.
        bound = 2 * 128 * EPS[np.dtype(np.float32)] * bound
        eps = float(jnp.finfo(dtype).eps)
        bound += eps * abs(exact) + float(jnp.finfo(dtype).tiny)
        assert (abs(np.asarray(one, np.float64) - exact) <= bound).all()


@gpu
def test_masks_on_the_gpu_have_the_bits_of_the_cpu():
    found = dg.search_distribution(0.5, 4)
    where = {"seed": 0, "site": 1, "rows": 64, "cols": 48}
    for step in (0, 7, 80):
        at = on(devices()[0], np.int32(step))
        for drawn in (SCHEDULE.mask(at, 64), jax.jit(lambda t: SCHEDULE.mask(t, 64))(at)):
            assert drawn.bits.devices() == {devices()[0]}
            np.testing.assert_array_equal(drawn.bits, SCHEDULE.mask(step, 64).bits)
        mask, scale = found.mask(step=at, **where)
        known, period = found.mask(step=step, **where)
        np.testing.assert_array_equal(mask.bits, known.bits)
        assert float(scale) == period


@gpu
def test_a_scanned_training_loop_on_the_gpu():
    """Of which XLA makes command buffers; step by step, it makes none."""

    def one(weight, step):
        mask = SCHEDULE.mask(step, 64)

        def loss(weight):
            y = dropgemm.jax.linear(x, weight, in_mask=mask, scale=SCHEDULE.scale())
            return (y**2).mean()

        value, gradient = jax.value_and_grad(loss)(weight)
        return weight - 0.01 * gradient, value

    rng = np.random.default_rng(0)
    x, w = on(devices()[0], [rng.standard_normal(s).astype(np.float32)
                             for s in ((64, 48), (32, 48))])  # fmt: skip
    steps = on(devices()[0], np.arange(32))
    train = jax.jit(lambda w: jax.lax.scan(one, w, steps))
    for _ in range(3):  # recorded, then replayed
        weight, losses = train(w)
    known = w
    for step in range(32):
        known, value = jax.jit(one)(known, steps[step])
    np.testing.assert_allclose(weight, known, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses[-1], value, rtol=1e-4)
    assert losses[-1] < losses[0]


@gpu
def test_what_is_dropped_reaches_nothing_on_the_gpu():
    x, w, g, mask = problem()
    x = np.where(mask.to_dense(), x, np.nan)
    for one in jax.jit(backward)(*on(devices()[0], (x, w, g, mask))):
        assert np.isfinite(one).all()


@two_gpus
def test_two_gpus_share_a_batch():
    mesh = jax.sharding.Mesh(np.array(devices()[:2]), ("data",))
    rows, none = jax.sharding.PartitionSpec("data"), jax.sharding.PartitionSpec()
    x, w, _, mask = problem()

    def local(x, w, bits):
        part = dg.TileMask(bits, shape=x.shape, tile=mask.tile, keep_hint=mask.keep_hint)
        return dropgemm.jax.linear(x, w, in_mask=part)

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(rows, none, rows), out_specs=rows)
    got = jax.jit(sharded)(x, w, mask.bits)
    exact = (x * mask.to_dense()).astype(np.float64) @ w.T
    bound = 96 * EPS[np.dtype(np.float32)] * (abs(x * mask.to_dense()) @ abs(w).T)
    assert (abs(np.asarray(got) - exact) <= bound).all()
