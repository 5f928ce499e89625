"""The CUDA backend as far as Python goes without a GPU: the core through the backend library that
runs on the emulator, what is said where there is none, and what CUDA tensors need of PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dropgemm as dg
from dropgemm import _core
from dropgemm.torch import ops

EMULATED = Path("build/cpp/tests/cuda/libdropgemm_cuda_emulated.so").resolve()
emulated = pytest.mark.skipif(not EMULATED.exists(), reason="make test-cpp builds the emulator")


def python(script, **environment):
    """What a script prints in a process of its own: a backend library is opened once."""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@emulated
def test_the_core_runs_on_the_stream_it_is_given():
    script = """
import numpy as np
from dropgemm import _core
r = np.random.default_rng(0)
masks = [np.empty((64, 4), np.uint32) for _ in range(2)]
for bits, where in zip(masks, ({}, {"stream": 0})):
    _core.bernoulli_mask(bits, 64, 100, 1, 1, 0.5, 7, 1, 3, 0, 0, **where)
assert (masks[0] == masks[1]).all() and masks[0].any()
for bits, where in zip(masks, ({}, {"stream": 0})):
    _core.gyro_mask(bits, 64, 100, 1, 1, 0.5, True, 7, 1, 3, 100, 16, 4, 0, True, 1, 0, 0, **where)
assert (masks[0] == masks[1]).all()
mask = (masks[0], 64, 100, 1, 1, 0.5, False)
x = r.standard_normal((64, 100)).astype(np.float32)
small = [np.full((64, 60), np.nan, np.float32) for _ in range(2)]
for xc, where in zip(small, ({}, {"stream": 0})):
    _core.compact(x, xc, mask, 1, **where)
assert (small[0] == small[1]).all()
back = np.full_like(x, np.nan)
_core.expand(small[1], back, mask, 1, stream=0)
dense = np.empty((64, 100), np.uint8)
_core.mask_to_dense(mask, dense)
assert (back == x * dense).all()
w, g = [x.ravel().copy() for _ in range(2)], np.ones(x.size, np.float32)
for weights, where in zip(w, ({}, {"stream": 0})):
    _core.sgd(weights, g, None, 0.5, **where)
assert np.allclose(w[0], w[1], rtol=2e-7, atol=2e-7)
print("same")
"""
    assert python(script, DROPGEMM_CUDA_LIBRARY=str(EMULATED)).strip() == "same"


@emulated
def test_a_weight_gradient_of_row_groups_has_an_order_where_one_is_asked_for():
    script = """
from dropgemm import _core
rows, width, places = 32768, 4096, [n << 56 for n in range(1, 5)]
dz, x = ((place, 0, rows, width, width, 1) for place in places[:2])
dw = (places[2], 0, width, width, width, 1)
mask = (places[3], rows, width, 512, 64, 0.5, False)
for order in (False, True):
    plan = _core.matmul_plan(dz, x, dw, mask, mask, trans_a=True, deterministic=order, stream=0)
    print(plan.split()[0])
"""
    plans = python(script, DROPGEMM_CUDA_LIBRARY=str(EMULATED)).split()
    # Sums in memory; of 64 groups, too many to take turns, one product.
    assert plans == ["pruned", "select"]


@emulated
def test_info_describes_the_device():
    lines = python("import dropgemm.__main__ as m; m.main(['info'])",
                   DROPGEMM_CUDA_LIBRARY=str(EMULATED))  # fmt: skip
    assert "backend      cuda: 2 devices, the first emulated (compute capability 8.0" in lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="nothing is missing where there is a GPU")
def test_a_stream_without_a_cuda_backend_says_what_is_missing():
    bits = np.zeros((2, 1), np.uint32)
    with pytest.raises(RuntimeError, match="cuda: "):
        _core.bernoulli_mask(bits, 2, 8, 1, 1, 0.5, 0, 0, 0, 0, 0, stream=0)


def test_info_says_why_there_is_no_cuda_backend():
    nowhere = python("import dropgemm.__main__ as m; m.main(['info'])",
                     DROPGEMM_CUDA_LIBRARY="/nowhere.so")  # fmt: skip
    assert "no backend   cuda: cannot open /nowhere.so" in nowhere


@pytest.mark.parametrize("tile", [(1, 1), (3, 5), (16, 40)])
@pytest.mark.parametrize("turned", [False, True])
def test_masks_are_written_out_by_pytorch_where_the_core_cannot(tile, turned):
    mask = dg.bernoulli_mask(37, 70, 0.5, seed=1, site=2, tile=tile)
    mask = mask.T if turned else mask
    layout = [*mask.shape, *mask.tile, int(mask.transposed)]
    bits = torch.from_numpy(mask.bits.view(np.int32))
    got = ops.dense_mask(bits, layout)
    assert got.dtype == torch.bool
    assert np.array_equal(got.numpy(), mask.to_dense())


def test_numpy_float16_is_the_references():
    a = np.arange(6, dtype=np.float16).reshape(2, 3)
    with pytest.raises(RuntimeError, match="on the cpu backend, got float16"):
        dg.matmul(a, a.T)
    dg.use_backend("reference")
    try:
        got = dg.matmul(a, a.T)
    finally:
        dg.use_backend("")
    assert got.dtype == np.float16
    assert np.array_equal(got, (a.astype(np.float32) @ a.astype(np.float32).T).astype(np.float16))


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch sees")


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_products_of_cuda_tensors(dtype):
    torch.manual_seed(0)
    a, b = torch.randn(128, 96).cuda().to(dtype), torch.randn(96, 64).cuda().to(dtype)
    mask = dg.bernoulli_mask(128, 96, 0.5, seed=1, site=0, tile=(32, 32))
    bits = torch.from_numpy(mask.bits.view(np.int32)).cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = dg.matmul(a, b, a_mask=dg.TileMask(bits, shape=mask.shape, tile=mask.tile))
    stream.synchronize()
    assert got.is_cuda
    assert got.dtype == dtype
    left, right = a.double().cpu() * torch.from_numpy(mask.to_dense()), b.double().cpu()
    expected = left @ right
    # 96 sums of float32, and the rounding of the result.
    bound = 96 * torch.finfo(torch.float32).eps * (left.abs() @ right.abs())
    bound += torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).tiny
    assert ((got.double().cpu() - expected).abs() <= bound).all()


@gpu
def test_masks_on_the_gpu_have_the_bits_of_the_cpu():
    schedule = dg.GyroSchedule(512, 0.5, total_steps=10, seed=1, site=2, tile_rows=128,
                               tile_cols=32)  # fmt: skip
    step = torch.tensor(4, device="cuda")
    bits = schedule.mask(step, 1024).bits
    assert bits.is_cuda
    assert np.array_equal(bits.cpu().numpy(), schedule.mask(4, 1024).bits)


@gpu
@pytest.mark.parametrize("method", ["block", "gyro", "row", "tile", "bernoulli"])
def test_a_model_trains_on_the_gpu(method):
    from dropgemm.torch import convert

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(256, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    convert(model, optimizer, method=method, total_steps=4)
    model.cuda()
    x, y = torch.randn(256, 128, device="cuda"), torch.randint(10, (256,), device="cuda")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    for parameter, was in zip(model.parameters(), before, strict=True):
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, was)


@emulated
@pytest.mark.parametrize(
    "tests", [["test_cuda_cupy.py"], ["test_cuda_layers.py"]], ids=lambda tests: tests[0]
)
def test_suites_pass_on_the_emulated_device(tests):
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "emulated", *(folder / t for t in tests)],
        env=os.environ | {"DROPGEMM_CUDA_LIBRARY": str(EMULATED), "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
