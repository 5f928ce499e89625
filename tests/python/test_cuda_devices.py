"""What only GPUs show: streams, several devices, the dispatcher's CUDA key, autocast, NCCL."""

import pytest
import torch
from torch import distributed, nn
from torch.library import opcheck
from torch.nn.parallel import DistributedDataParallel

import dropgemm as dg
import lstms
from devices import gpu
from dropgemm.torch import convert
from networks import METHODS, RUN, TILE, gradients, make, run_dense
from ranks_worker import CASES, STEPS, WORLD, run_ranks
from test_autocast import bounded_run
from test_autocast import converted as rounded
from test_ops import arguments

pytestmark = gpu
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")


def on_gpu(values):
    """Operands of an operator, as leaves."""
    return tuple(
        value.detach().cuda().requires_grad_(value.requires_grad)
        if isinstance(value, torch.Tensor)
        else value
        for value in values
    )


def converted(method, device="cuda"):
    model = make("mlp").to(device)
    schedule = convert(model, method=method, advance="manual", **RUN, **TILE)
    x = torch.randn(40, 20, dtype=torch.float64).to(device).requires_grad_()
    return model, schedule, x


# --- Operators ------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", [0, 1, 2])
def test_opcheck_of_the_product(masked, activation):
    given = arguments(masked, dtype=torch.float64, activation=activation)
    opcheck(torch.ops.dropgemm.matmul, on_gpu(given))


def test_opcheck_of_masks_and_compaction():
    step, key, call = (torch.tensor(number, device="cuda") for number in (3, -7, 1))
    gyro = (step, 64, 40, 16, 8, 0.5, True, -5, 1, 100, 16, 4, 16, False, 1, 0, 64)
    opcheck(torch.ops.dropgemm.gyro_mask, gyro)
    opcheck(torch.ops.dropgemm.bernoulli_mask, (key, step, 10, 40, 1, 1, 0.5, 3, 0, 20))
    thresholds = torch.tensor([1 << 31, 1 << 32], device="cuda")
    layout = (4, 40, 4, 1, False, 1, False, 1, 0, 7, 2)
    opcheck(torch.ops.dropgemm.pattern_mask, (step, call, thresholds, *layout))
    opcheck(torch.ops.dropgemm.pattern_mask, (step, call.cpu(), thresholds.cpu(), *layout))
    bits, shape = torch.ops.dropgemm.gyro_mask(*gyro), [64, 40, 16, 8, 0]
    opcheck(torch.ops.dropgemm.expand_mask, (bits, shape))
    x = torch.randn(64, 40, dtype=torch.float64, device="cuda", requires_grad=True)
    opcheck(torch.ops.dropgemm.compact, (x, bits, shape, 1, 24))
    xc = torch.randn(64, 24, dtype=torch.float64, device="cuda", requires_grad=True)
    opcheck(torch.ops.dropgemm.expand, (xc, bits, shape, 1))


def test_products_have_second_derivatives():
    a = torch.randn(8, 12, dtype=torch.float64, device="cuda", requires_grad=True)
    b = torch.randn(12, 8, dtype=torch.float64, device="cuda", requires_grad=True)
    mask = dg.bernoulli_mask(8, 12, 0.5, seed=1, site=0, tile=(4, 4), like=a)
    torch.autograd.gradgradcheck(lambda a, b: dg.matmul(a, b, a_mask=mask), (a, b))


# --- Streams and devices --------------------------------------------------------------------------


def test_calls_are_on_the_current_stream():
    a = torch.randn(256, 256, dtype=torch.float64, device="cuda")
    expected = (a.cpu() + 1) @ (a.cpu() + 1)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)  # clock cycles: a call elsewhere would be done long before
        later = a + 1
        got = dg.matmul(later, later)
    side.synchronize()
    torch.testing.assert_close(got.cpu(), expected)


def test_a_model_trains_on_a_stream_of_its_own():
    model, _, x = converted("block")
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        got = model(x)
        results = gradients(got, model, x)
    side.synchronize()
    expected = run_dense(model, 0, x)
    for pair in zip([got, *results], [expected, *gradients(expected, model, x)], strict=True):
        torch.testing.assert_close(*pair)


MIXED = {
    "b": (lambda a: dg.matmul(a, a.cpu()), "b: expected a tensor on cuda:0 like a, got one on cpu"),
    "a": (lambda a: dg.matmul(a.cpu(), a), "b: expected a tensor on cpu like a, got one on cuda:0"),
    "mask": (lambda a: dg.matmul(a, a, a_mask=dg.RowPattern(2).mask(4, 4, like=a.cpu())),
             "a_mask: expected a tensor on cuda:0 like a, got one on cpu"),
    "mask of a CPU": (lambda a: dg.matmul(a.cpu(), a.cpu(),
                                          a_mask=dg.RowPattern(2).mask(4, 4, like=a)),
                      "a_mask: expected a tensor on cpu like a, got one on cuda:0"),
    "scale": (lambda a: dg.matmul(a, a, scale=torch.ones(())),
              "scale: expected a tensor on cuda:0 like a, got one on cpu"),
    "operator": (lambda a: torch.ops.dropgemm.matmul(
                     a.cpu(), a, None, None, None, [], 1.0, None, [], 1.0, None, [], 1.0, False,
                     False, 0, 1.0, None, 1.0, None, 0, False),
                 "b: expected a tensor on cpu like a, got one on cuda:0"),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_devices_that_are_mixed_are_named(case):
    call, message = MIXED[case]
    with pytest.raises(TypeError, match=message):
        call(torch.eye(4, device="cuda"))


@pytest.mark.parametrize("method", ["block", "gyro", "row"])  # whose first layer is no nn.Linear
def test_an_input_on_another_device_than_the_model_is_named(method):
    model, _, x = converted(method)
    with pytest.raises(TypeError, match=r"input: expected a tensor on cuda:0 .* got one on cpu"):
        model(x.detach().cpu())


def test_an_lstms_input_on_another_device_is_named():
    lstm = lstms.make("row").cuda()
    with pytest.raises(TypeError, match=r"input: expected a tensor on cuda:0 .* got one on cpu"):
        lstm(torch.randn(lstms.SAMPLES, 3, lstms.IN, dtype=torch.float64))


@two_gpus
@pytest.mark.parametrize("method", METHODS)
def test_another_device_than_the_current_one(method):
    model, schedule, x = converted(method, "cuda:1")
    for step in range(2):
        got, expected = model(x), run_dense(model, step, x)
        assert got.device == x.device
        torch.testing.assert_close(got, expected)
        for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
            torch.testing.assert_close(*pair)
        schedule.step()
    assert torch.cuda.current_device() == 0
    with pytest.raises(TypeError, match="input: expected a tensor on cuda:1"):
        model(x.to("cuda:0"))


# --- Low precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(method, dtype):
    model, x = rounded(method)
    model.cuda()
    moved = x.detach().cuda().requires_grad_()
    with torch.autocast("cuda", dtype=dtype):
        y = model(moved)
    assert y.dtype == dtype
    dy = torch.linspace(-1.0, 1.0, y.numel(), dtype=dtype).view(y.shape)
    results = torch.autograd.grad(y, [moved, *model.parameters()], dy.cuda())
    assert all(result.dtype == torch.float32 for result in results)
    # float16 rounds less than bfloat16 does, but for numbers that are too small for it.
    bounds = bounded_run(model.cpu(), x, dy)
    compared = [y, *results] if dtype == torch.bfloat16 else [y]
    for bound, result in zip(bounds, compared, strict=False):
        bound.assert_holds(result.cpu())
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_lstm_under_autocast(dtype):
    lstm = lstms.make("row", "own").float().cuda()
    x = torch.randn(lstms.SAMPLES, 4, lstms.IN, device="cuda")
    with torch.autocast("cuda", dtype=dtype):
        y, _ = lstm(x)
    assert y.dtype == dtype
    y.float().sum().backward()
    for parameter in lstm.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_scaled_gradients_of_float16():
    model, _, _ = converted("block")
    model.float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)  # nothing overflows
    x = torch.randn(40, 20, device="cuda")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.autocast("cuda", dtype=torch.float16):
        loss = model(x).float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    for parameter, was in zip(model.parameters(), before, strict=True):
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, was)


# --- Data-parallel training -----------------------------------------------------------------------


def test_distributed_data_parallel_over_nccl(tmp_path):
    """In a world of one: the wrapper, its buckets and its hooks."""
    if not distributed.is_nccl_available():
        pytest.skip("this PyTorch has no NCCL")
    model, _, x = converted("block")
    expected = gradients(model(x), model, x)
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("nccl", init_method=store, rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(model, device_ids=[0])
        y = wrapped(x)
        y.backward(torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype, device="cuda").view(y.shape))
    finally:
        distributed.destroy_process_group()
    got = [x.grad, *(parameter.grad for parameter in model.parameters())]
    for pair in zip(got, expected, strict=True):
        torch.testing.assert_close(*pair)


@two_gpus
def test_two_gpus_do_what_two_processes_on_the_cpu_do(tmp_path):
    """To the bit, as the worker's sums are exact. "bernoulli" has keys of other generators."""
    folders = [tmp_path / kind for kind in ("cpu", "cuda")]
    for folder in folders:
        folder.mkdir()
    on_cpu, on_gpus = (run_ranks(folder, folder.name) for folder in folders)
    for rank in range(WORLD):
        for case in CASES:
            if case[-1] == "bernoulli":
                continue
            for step in range(STEPS):
                ours, theirs = (ranks[rank][case]["steps"][step] for ranks in (on_gpus, on_cpu))
                for name in ("parameters", "gradients"):
                    for pair in zip(ours[name], theirs[name], strict=True):
                        assert torch.equal(*pair), (rank, case, step, name)


# --- Compiled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_compiled_models_have_the_same_values(method):
    """By aot_eager, which draws as eager models do; what Inductor makes of the rest is its own."""
    model, schedule, x = converted(method)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for step in range(3):
        torch.manual_seed(step)
        expected = model(x)
        torch.manual_seed(step)
        got = compiled(x)
        torch.testing.assert_close(got, expected)
        for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
            torch.testing.assert_close(*pair)
        schedule.step()


@pytest.mark.parametrize("method", ["block", "row", "bernoulli"])
def test_inductor_compiles_what_graphs_then_replay(method):
    """mode="reduce-overhead" captures what it compiles: nothing of a step lies on the CPU."""
    pytest.importorskip("triton")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3)).cuda()
    schedule = convert(model, method=method, advance="manual", **RUN, **TILE)
    compiled = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    x = torch.randn(64, 20, device="cuda")
    for step in range(5):
        model.zero_grad()  # gradients may lie in the graph's memory
        torch.compiler.cudagraph_mark_step_begin()
        y = compiled(x)
        if method != "bernoulli":
            torch.testing.assert_close(y, run_dense(model, step, x))
        y.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        schedule.step()
