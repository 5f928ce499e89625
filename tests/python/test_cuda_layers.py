"""Layers where their tensors lie: on the CPU, on a GPU, or on the emulated one (-p emulated)."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropgemm as dg
import lstms
from devices import gpu, on_devices
from dropgemm.torch import SGD, Clock, calls, convert, ensemble
from networks import METHODS, NETWORKS, RUN, TILE, P, gradients, make, run_dense


def converted(method, device, network="mlp", dtype=torch.float64, **rest):
    """A model on a device, its schedule, and an input."""
    model = make(network, dtype=dtype).to(device)
    schedule = convert(model, method=method, advance="manual", **RUN, **TILE, **rest)
    torch.manual_seed(1)
    x = torch.randn(40, 20, dtype=dtype).to(device).requires_grad_()
    return model, schedule, x


@on_devices
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["mlp", "norm between", "in place"])
def test_a_model_computes_its_masks_run_densely(device, method, network):
    model, schedule, x = converted(method, device, network)
    for step in range(3):
        got = model(x)
        assert got.device == x.device
        expected = run_dense(model, step, x)
        torch.testing.assert_close(got, expected)
        for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
            torch.testing.assert_close(*pair)
        schedule.step()


@on_devices
@pytest.mark.parametrize("back", [None, "own", "units"])
@pytest.mark.parametrize("method", lstms.METHODS)
def test_an_lstm_computes_its_masks_run_densely(device, method, back):
    lstms.compare(lstms.make(method, back).to(device))


@on_devices
def test_an_lstm_with_time_first(device):
    for method, back in (("row", "units"), ("gyro", "own"), ("tile", None)):
        lstms.compare(lstms.make(method, back, batch_first=False).to(device))


@on_devices
@pytest.mark.parametrize("method", ["block", "row"])
def test_packed_sequences_are_the_padded_ones(device, method):
    lstm = lstms.make(method, "own").to(device)
    x = torch.randn(6, 4, lstms.IN, dtype=torch.float64).to(device)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((6,), 4), batch_first=True)
    y, (h, c) = lstm(packed)
    expected, (h_n, c_n) = lstm(x)
    padded, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    for pair in ((padded, expected), (h, h_n), (c, c_n)):
        torch.testing.assert_close(*pair)


@on_devices
@pytest.mark.parametrize("method", METHODS)
def test_compiled_it_computes_the_same_in_one_graph(device, method):
    model, schedule, x = converted(method, device)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, fullgraph=True)
    for step in range(4):
        torch.manual_seed(step)
        expected = model(x)
        torch.manual_seed(step)
        torch.testing.assert_close(compiled(x), expected)
        schedule.step()
    assert len(graphs) == 1


@on_devices
@pytest.mark.parametrize("method", METHODS)
def test_a_checkpointed_forward_has_the_same_masks(device, method):
    model, _, x = converted(method, device)
    torch.manual_seed(2)
    expected = model(x)
    torch.manual_seed(2)
    got = checkpoint(model, x, use_reentrant=False)
    for pair in zip([got, *gradients(got, model, x)],
                    [expected, *gradients(expected, model, x)], strict=True):  # fmt: skip
        torch.testing.assert_close(*pair)


@on_devices
def test_conventional_masks_are_drawn_from_the_devices_generator(device):
    model, schedule, x = converted("bernoulli", device)
    draws = schedule.sites[0].draws
    torch.manual_seed(5)
    first, key = model(x), int(draws.key)
    again, other = model(x), int(draws.key)
    assert key != other
    assert not torch.equal(first, again)
    torch.manual_seed(5)
    assert torch.equal(model(x), first)
    assert int(draws.key) == key


@on_devices
def test_a_key_and_a_call_are_read_where_they_lie(device):
    key, step = torch.tensor(-7, device=device), torch.tensor(3, device=device)
    bits = torch.ops.dropgemm.bernoulli_mask(key, step, 10, 40, 1, 1, 0.5, 2, 0, 0)
    expected = dg.bernoulli_mask(10, 40, 0.5, seed=-7 % (1 << 64), site=2, step=3)
    assert torch.equal(bits.cpu(), torch.from_numpy(expected.bits.view("int32")))
    drawn = dg.search_distribution(0.5)
    thresholds = torch.from_numpy(drawn.thresholds.view("int64").copy()).to(device)
    for call in (0, 1, 5):
        layout = (40, 40, 40, 1, False, 1, False, 1, 0, 7, 2)
        number = torch.tensor(call, device=device)
        got, scale = torch.ops.dropgemm.pattern_mask(step, number, thresholds, *layout)
        mask, period = drawn.mask(7, 2, 3, 40, 40, call=call)
        assert torch.equal(got.cpu(), torch.from_numpy(mask.bits.view("int32")))
        assert float(scale) == float(period)


@on_devices
@pytest.mark.parametrize("method", ["row", "tile"])
def test_calls_of_a_step_have_patterns_of_their_own(device, method):
    model, schedule, x = converted(method, device)
    outputs = []
    for call in range(4):
        with schedule.call(call):
            outputs.append(model(x))
            torch.testing.assert_close(model(x), outputs[-1])
    assert any(not torch.equal(y, outputs[0]) for y in outputs[1:])
    torch.testing.assert_close(model(x), outputs[0])


@on_devices
def test_the_clock_goes_along_with_a_model_that_is_moved(device):
    model = make("mlp")
    schedule = convert(model, method="row", advance="manual", **RUN, **TILE)
    model.to(device)
    assert schedule.clock.step.device.type == device
    assert model(torch.randn(8, 20, dtype=torch.float64).to(device)).device.type == device


def test_the_call_goes_where_the_step_goes():
    clock = Clock()
    clock.to("meta")
    assert clock.step.is_meta
    assert clock.call.is_meta
    clock.to_empty(device="cpu")
    clock.reset_parameters()
    assert int(clock.step) == int(clock.call) == 0


def test_distributions_go_where_the_step_goes():
    model, schedule, _ = converted("row", "cpu")
    clock, thresholds = schedule.clock, schedule.sites[0].draws.distribution.thresholds
    assert len(clock.tables) == 1  # for both sites, which have the same
    model.to("meta")
    assert all(table.is_meta for table in clock.tables)
    clock.to_empty(device="cpu")
    clock.reset_parameters()
    assert torch.equal(clock.tables[0], torch.from_numpy(thresholds.view("int64").copy()))


@pytest.mark.parametrize("method", METHODS)
def test_without_memory_there_are_shapes(method):
    """On meta a forward and a backward are those of a GPU, and reading a value is an error."""
    model, _, x = converted(method, "meta")
    y = model(x)
    assert y.is_meta
    for gradient, of in zip(gradients(y, model, x), [x, *model.parameters()], strict=True):
        assert gradient.is_meta
        assert gradient.shape == of.shape


@pytest.mark.parametrize("back", [None, "own", "units"])
@pytest.mark.parametrize("method", lstms.METHODS)
def test_an_lstm_without_memory_reads_nothing(method, back):
    lstm = lstms.make(method, back).to("meta")
    x = torch.empty(lstms.SAMPLES, 3, lstms.IN, dtype=torch.float64, device="meta")
    y, (h, _) = lstm(x.requires_grad_())
    assert y.shape == (lstms.SAMPLES, 3, lstms.HIDDEN)
    for gradient in lstms.gradients((y, h), [x, *lstm.parameters()]):
        assert gradient.is_meta


@on_devices
@pytest.mark.parametrize("told", [False, True])
def test_products_are_told_whether_sums_are_to_have_an_order(device, told, monkeypatch):
    heard = []
    run = calls._core.matmul

    def listen(*arguments, **rest):
        heard.append(rest["deterministic"])
        return run(*arguments, **rest)

    monkeypatch.setattr(calls._core, "matmul", listen)
    model, _, x = converted("block", device)
    torch.use_deterministic_algorithms(told)
    try:
        gradients(model(x), model, x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert heard == [told] * len(heard)
    assert len(heard) == 9  # three products of each of three layers


@on_devices
def test_deterministic_sums_have_the_same_bits(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 256), nn.Dropout(P), nn.Linear(256, 128))
    convert(model, method="block", advance="manual", tile_rows=32, tile_cols=32, total_steps=8,
            subnets=8)  # fmt: skip
    model.to(device)
    x = torch.randn(256, 96).to(device).requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        runs = [gradients(model(x), model, x) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for run in runs[1:]:
        for pair in zip(run, runs[0], strict=True):
            assert torch.equal(*pair)


@on_devices
@pytest.mark.parametrize("asked", [False, True])
def test_the_functional_api_asks_for_an_order_too(device, asked, monkeypatch):
    heard = []
    run = calls._core.matmul
    monkeypatch.setattr(
        calls._core,
        "matmul",
        lambda *a, **rest: heard.append(rest["deterministic"]) or run(*a, **rest),
    )
    a = torch.randn(8, 8).to(device).requires_grad_()
    dg.matmul(a, a, deterministic=asked).sum().backward()
    assert heard == [asked] * 3


@on_devices
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_pytorchs(device, momentum):
    results = []
    for optimizer in (SGD, torch.optim.SGD):
        model, _, x = converted("block", device)
        steps = optimizer(model.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
        for _ in range(3):
            steps.zero_grad()
            model(x).square().mean().backward()
            steps.step()
        results.append([parameter.detach() for parameter in model.parameters()])
    for pair in zip(*results, strict=True):
        torch.testing.assert_close(*pair)


@on_devices
@pytest.mark.parametrize("method", ["block", "gyro", "row"])
def test_an_ensemble_is_its_members(device, method):
    model, _, x = converted(method, device)
    x = x.detach()
    together = ensemble(model, 4)(x).members
    in_turn = ensemble(model, 4, batched=False)(x).members
    assert together.device == x.device
    torch.testing.assert_close(together, in_turn)


@on_devices
def test_a_mask_can_be_made_and_read_where_it_lies(device):
    keep = torch.zeros(64, 96, dtype=torch.bool)
    keep[:32, 32:] = True
    mask = dg.TileMask.from_dense(keep.to(device), tile=(32, 32))
    assert mask.bits.device.type == device
    assert mask.keep_rate == keep.double().mean()
    assert torch.equal(mask.to_dense().cpu(), keep)
    assert torch.equal(mask.T.to_dense().cpu(), keep.T)
    assert dg.TileMask(mask.bits, mask.shape, mask.tile).equals(mask)
    assert dg.RowPattern(3, 1).mask(4, 40, like=mask.bits).bits.device.type == device
    x = torch.randn(64, 96).to(device)
    small = dg.compact(x[:32], dg.TileMask.from_dense(keep[:32].to(device), tile=(32, 32)), axis=1)
    assert torch.equal(small, x[:32, 32:])


def test_tensors_of_several_devices_are_refused():
    model, _, x = converted("block", "cpu")
    with pytest.raises(TypeError, match="expected a tensor on cpu"):
        model(x.to("meta"))
    a = torch.zeros(4, 4)
    mask = dg.RowPattern(2).mask(4, 4, like=a)
    mask.bits = mask.bits.to("meta")
    with pytest.raises(TypeError, match="a_mask: expected a tensor on cpu like a, got one on meta"):
        dg.matmul(a, a, a_mask=mask)
    with pytest.raises(TypeError, match="scale: expected a tensor on cpu like a, got one on meta"):
        dg.matmul(a, a, scale=torch.ones((), device="meta"))


@gpu
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_trains(network):
    model, schedule, x = converted("block", "cuda", network, torch.float32)
    for _ in range(3):
        for gradient in gradients(model(x), model, x):
            assert gradient.isfinite().all()
        schedule.step()
