"""JAX's CUDA handlers on the emulated CUDA backend: xla_gpu.c makes XLA's CPU hand out a stream and
scratch memory, and everything between JAX and the device's kernels is what a GPU would have."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import jax.ffi
import pytest

EMULATED = Path("build/cpp/tests/cuda/libdropgemm_cuda_emulated.so").resolve()
COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) or shutil.which("cc")

pytestmark = [
    pytest.mark.skipif(not EMULATED.exists(), reason="make test-cpp builds the emulator"),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
]

# Registers the CUDA handlers as the CPU's, and says which were called.
PRELUDE = """
import ctypes, sys
import jax, jax.numpy as jnp, numpy as np
import dropgemm as dg, dropgemm.jax
from dropgemm import _core, _xla
from dropgemm.jax import ffi

library = ctypes.PyDLL(sys.argv[1])
library.put.restype, library.put.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
library.scratch.restype, library.traits_of.restype = ctypes.c_long, ctypes.c_uint
pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
handlers = _xla.cuda_targets()
slots = {name: slot for slot, name in enumerate(handlers)}
ours = {
    name: jax.ffi.pycapsule(ctypes.cast(library.put(slot, pointer_of(handlers[name], None)),
                                        ctypes.CFUNCTYPE(None)))
    for name, slot in slots.items()
}
_xla.cpu_targets = lambda: ours

def called():
    return {name: library.called(slot) for name, slot in slots.items()}

def random_mask(shape, tile, site=0, step=3):
    return dg.bernoulli_mask(*shape, 0.5, seed=1, site=site, step=step, tile=tile)

def to_jax(tree):
    return jax.tree.map(jnp.asarray, tree)

def assert_close(got, expected, terms):
    # Sums of `terms` float32 products, in any order, of operands below 5.
    np.testing.assert_allclose(got, expected, rtol=0, atol=25 * terms * 2.0**-23)

rng = np.random.default_rng(0)
x, w = (rng.standard_normal(s).astype(np.float32) for s in ((64, 48), (32, 48)))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """xla_gpu.c as a library."""
    library = tmp_path_factory.mktemp("xla") / "xla_gpu.so"
    source = Path(__file__).with_name("xla_gpu.c")
    include = f"-I{jax.ffi.include_dir()}"
    command = [COMPILER, "-shared", "-fPIC", "-O1", include, source, "-o", library]
    subprocess.run(command, check=True)
    return library


def run(shim, script, backend=EMULATED):
    """What a script prints, in a process whose CUDA backend is the emulator."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + script, shim], capture_output=True,
        text=True, check=False, env=os.environ | {"DROPGEMM_CUDA_LIBRARY": str(backend)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# What JAX does where its devices are GPUs.
WITH_WORKSPACE = """
jax.default_backend = lambda: "gpu"
"""


@pytest.mark.parametrize("workspace", [False, True], ids=["scratch", "workspace"])
def test_products_and_their_gradients(shim, workspace):
    script = """
masks = {"a_mask": random_mask(x.shape, (16, 16)), "b_mask": random_mask(w.shape, (4, 8), 1),
         "out_mask": random_mask((64, 32), (32, 16), 2)}
bias, addend, scale = x[0, :32], x[:, :32] + 1, np.array(-1.5, np.float32)

def product(x, w, bias, addend, scale, masks):
    return dg.matmul(x, w, trans_b=True, bias=bias, addend=addend, scale=scale, out_scale=0.5,
                     activation="gelu", **masks)

expected = product(x, w, bias, addend, scale, masks)
operands = to_jax((x, w, bias, addend, scale, masks))
assert_close(jax.jit(product)(*operands), expected, 48)

def loss(*operands):
    return (product(*operands) ** 2).sum()

def dense(x, w, bias, addend, scale, masks):
    z = scale * (x * masks["a_mask"]) @ (w * masks["b_mask"]).T + addend + bias
    return ((0.5 * jax.nn.gelu(z, approximate=False) * masks["out_mask"]) ** 2).sum()

got = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*operands)
matrices = {name: mask.to_dense() for name, mask in masks.items()}
known = jax.grad(dense, argnums=(0, 1, 2, 3))(*operands[:-1], matrices)
for one, other in zip(got, known):
    assert_close(one, other, 64 * 48)
print(*sorted(name for name, times in called().items() if times), library.scratch())
"""
    name, scratch = run(shim, (WITH_WORKSPACE if workspace else "") + script).split()
    assert name == ("matmul_in_workspace" if workspace else "matmul")
    assert (int(scratch) > 0) == (not workspace)


def test_masks_of_a_traced_step_and_compaction(shim):
    script = """
schedule = dg.GyroSchedule(70, 0.4, total_steps=90, seed=3, site=9, subnets=8, coscheduled=4,
                           tile_rows=16, tile_cols=8)
found = dg.search_distribution(0.6, 4)
makes = [
    lambda step: dg.bernoulli_mask(20, 37, 0.6, seed=1 << 63, site=4, step=step, tile=(4, 3)).bits,
    lambda step: schedule.mask(step, 41).bits,
    lambda step: (lambda mask, scale: (mask.bits, scale))(*found.mask(1, 2, step, 64, 96)),
    lambda step: found.mask(1, 2, step, 64, 96, tile=(8, 16))[0].bits,
]
for make in makes:
    drawn = jax.jit(make)
    for step in (0, 7, 80):
        for got, known in zip(jax.tree.leaves(drawn(step)), jax.tree.leaves(make(np.array(step)))):
            np.testing.assert_array_equal(got, known)
mask = to_jax(dg.TilePattern(2, tile=(8, 8)).mask(*x.shape))
small = jax.jit(lambda x: dg.compact(x, mask, "tiles", size=24))(x)
np.testing.assert_array_equal(small, dg.compact(x, jax.device_get(mask), "tiles", size=24))
back = jax.jit(lambda small: dg.expand(small, mask, "tiles"))(small)
np.testing.assert_array_equal(back, x * mask.to_dense())
print(*sorted(name for name, times in called().items() if times))
"""
    expected = "bernoulli_mask compact expand gyro_mask pattern_mask"
    assert run(shim, script).split() == expected.split()


def test_a_scanned_training_loop_is_the_cpus(shim):
    script = """
schedule = dg.GyroSchedule(48, 0.5, total_steps=100, seed=0, site=0, subnets=4, tile_rows=32,
                           tile_cols=16)

def train(weight, steps):
    def one(weight, step):
        mask = schedule.mask(step, 64)
        def loss(weight):
            y = dropgemm.jax.linear(x, weight, in_mask=mask, scale=schedule.scale())
            return (y**2).mean()
        value, gradient = jax.value_and_grad(jax.checkpoint(loss))(weight)
        return weight - 0.01 * gradient, value
    return jax.lax.scan(one, weight, steps)

weight, losses = jax.jit(train)(w, jnp.arange(8))
known = jnp.asarray(w)
for step in range(8):
    mask = schedule.mask(step, 64).to_dense()
    gradient = jax.grad(lambda w: ((schedule.scale() * (x * mask) @ w.T) ** 2).mean())(known)
    known = known - 0.01 * gradient
assert_close(weight, known, 64)
assert losses[-1] < losses[0]
print(called()["matmul_in_workspace"])
"""
    assert int(run(shim, WITH_WORKSPACE + script)) >= 8 * 2  # forward, backward, perhaps again


def test_what_is_mapped_is_computed_one_by_one(shim):
    script = """
masks = [random_mask(x.shape, (16, 16), step=step) for step in range(3)]
bits = jnp.stack([jnp.asarray(mask.bits) for mask in masks])

def product(bits):
    mask = dg.TileMask(bits, x.shape, (16, 16), keep_hint=0.5)
    return dropgemm.jax.linear(x, w, in_mask=mask)

for one, mask in zip(jax.vmap(product)(bits), masks):
    assert_close(one, (x * mask.to_dense()) @ w.T, 48)
print(called()["matmul"])
"""
    assert int(run(shim, script)) == 3


def test_all_but_what_takes_scratch_memory_may_be_captured(shim):
    script = """
ffi._register()
jax.devices()  # before, XLA has not asked
print(*(f"{name}={library.traits_of(slot)}" for name, slot in slots.items()))
"""
    traits = dict(pair.split("=") for pair in run(shim, script).split())
    assert traits.pop("matmul") == "0"
    assert traits.keys() >= {"matmul_in_workspace", "gyro_mask", "pattern_mask", "bernoulli_mask"}
    assert set(traits.values()) == {"1"}  # XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE


def test_a_machine_without_the_backend_says_what_is_missing(shim, tmp_path):
    script = """
try:
    jax.block_until_ready(jax.jit(dg.matmul)(jnp.eye(2), jnp.eye(2)))
except jax.errors.JaxRuntimeError as error:
    print(error)
"""
    assert "cuda: cannot open" in run(shim, script, tmp_path / "none.so")
