"""Arrays that lie on several devices, in a process that takes the CPU for two."""

import subprocess
import sys

import jax
import pytest

SHARDED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import dropgemm as dg, dropgemm.jax

rng = np.random.default_rng(0)
x, w, b = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((256, 64), (96, 64), 96))
schedule = dg.GyroSchedule(64, 0.5, total_steps=1000, seed=0, site=0, subnets=8, tile_rows=64,
                           tile_cols=32)
mesh = Mesh(np.array(jax.devices()), ("data",))

def loss(w, b, x, mask):
    return (dropgemm.jax.linear(x, w, b, in_mask=mask, scale=2.0, activation="relu") ** 2).sum()

step = jax.value_and_grad(loss, argnums=(0, 1))

def local(w, b, x, bits, tile):
    mask = dg.TileMask(bits, shape=x.shape, tile=tile, keep_hint=schedule.keep_rate)
    value, gradients = step(w, b, x, mask)  # of shared weights: summed over the devices
    return jax.lax.psum(value, "data"), gradients

def largest_error(got, expected):
    return max(float(abs(g - e).max() / abs(e).max())
               for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True))

mask = schedule.mask(3, 256, like=x)
expected = step(w, b, x, mask)
sharded = jax.shard_map(partial(local, tile=mask.tile), mesh=mesh,
                        in_specs=(P(), P(), P("data"), P("data")), out_specs=P())
print(largest_error(jax.jit(sharded)(w, b, x, mask.bits), expected))
rows = NamedSharding(mesh, P("data"))
print(largest_error(jax.jit(step)(w, b, jax.device_put(x, rows), mask), expected))
for place in (jax.devices()[1], rows):  # outside of jit, on other devices than the first
    operands = jax.device_put((x, w), (place, jax.devices()[1] if place is not rows else
                                       NamedSharding(mesh, P())))
    y = dg.matmul(*operands, trans_b=True, a_mask=mask)
    print(largest_error(y, dg.matmul(x, w, trans_b=True, a_mask=mask)))
with jax.default_device(jax.devices()[1]):  # whatever the default, results are where they were made
    print(*dg.matmul(x, w, trans_b=True).devices())
at = jax.device_put(jnp.int32(3), jax.devices()[1])
print(*(d.platform + f":{d.id}" for d in schedule.mask(at, 256).bits.devices()))
like = jax.device_put(x, jax.devices()[1])
keep = jax.device_put(mask.to_dense(), jax.devices()[1])
here = dg.RowPattern(2).mask(4, 6), dg.search_distribution(0.5, 4).mask(0, 1, 3, 64, 96, like=x)[0]
there = (dg.RowPattern(2).mask(4, 6, like=like),
         dg.search_distribution(0.5, 4).mask(0, 1, 3, 64, 96, like=like)[0],
         schedule.mask(3, 256, like=like), dg.TileMask.from_dense(keep, tile=mask.tile))
print(*{str(d) for m in there for d in m.bits.devices()})
print(all((np.asarray(t.bits) == np.asarray(h.bits)).all()
          for t, h in zip(there, (*here, mask, mask), strict=True)))
"""


@pytest.mark.skipif(not hasattr(jax.lax, "pcast"), reason="this JAX has no pcast")
def test_arrays_may_lie_on_several_devices():
    run = subprocess.run([sys.executable, "-W", "error", "-c", SHARDED], capture_output=True,
                         text=True, timeout=300, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    mapped, partitioned, second, rows, first, device, beside, same = run.stdout.splitlines()
    # Sums over the batch, of 256 terms, are split in two: eps sqrt(256) of the largest of them.
    assert float(mapped) < 2.0**-23 * 16
    assert float(partitioned) == float(second) == float(rows) == 0.0
    assert first.endswith("0")
    assert device == "cpu:1"
    assert beside.endswith("1")  # masks are where what they are like is
    assert len(beside.split()) == 1
    assert same == "True"
