"""Training on a GPU without waiting for it: nothing is read back, and graphs can be captured."""

import pytest
import torch

import dropgemm as dg
import lstms
from devices import gpu
from dropgemm.torch import SGD, convert
from networks import METHODS, RUN, TILE, make, run_dense

pytestmark = [gpu, pytest.mark.filterwarnings("ignore:Synchronization debug mode")]


def converted(method, network="mlp", **rest):
    model = make(network)
    schedule = convert(model, method=method, advance="manual", **RUN, **TILE, **rest)
    x = torch.randn(40, 20, dtype=torch.float64, device="cuda", requires_grad=True)
    return model.cuda(), schedule, x


def step(model, *inputs):
    """A forward and a backward."""
    y = model(*inputs)
    y = y[0] if isinstance(y, tuple) else y
    y.square().mean().backward()
    return y


def warm_up(run):
    """As before every capture: libraries are loaded, distributions copied, memory is at hand."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)


def captured(run):
    """A graph of what `run` does, and what it returned."""
    warm_up(run)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph, result


@pytest.fixture
def waiting_is_an_error():
    """Called once everything is warm: from there on what waits for the GPU raises."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", METHODS)
def test_training_waits_for_nothing(method, waiting_is_an_error):
    model, schedule, x = converted(method)
    optimizer = SGD(model.parameters(), lr=0.01)

    def train():
        optimizer.zero_grad()
        step(model, x)
        optimizer.step()
        schedule.step()

    train()
    waiting_is_an_error()
    for call in range(2):
        with schedule.call(call):
            train()


@pytest.mark.parametrize("back", [None, "own", "units"])
@pytest.mark.parametrize("method", lstms.METHODS)
def test_an_lstm_waits_for_nothing(method, back, waiting_is_an_error):
    lstm = lstms.make(method, back).cuda()
    x = torch.randn(lstms.SAMPLES, 4, lstms.IN, dtype=torch.float64, device="cuda")
    step(lstm, x)
    waiting_is_an_error()
    step(lstm, x)


@pytest.mark.parametrize("method", METHODS)
def test_each_replay_has_the_masks_of_its_step(method):
    model, schedule, x = converted(method)

    def run():
        model.zero_grad(set_to_none=True)
        x.grad = None
        return step(model, x)

    graph, y = captured(run)
    outputs = []
    for number in range(6):
        graph.replay()
        outputs.append(y.clone())
        gradients = [t.grad.clone() for t in (x, *model.parameters())]
        # The key of "bernoulli" lies in the graph's memory, and is the replay's.
        expected = run_dense(model, number, x)
        torch.testing.assert_close(outputs[-1], expected)
        wanted = torch.autograd.grad(expected.square().mean(), [x, *model.parameters()])
        for pair in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(*pair)
        schedule.step()
    assert any(not torch.equal(other, outputs[0]) for other in outputs[1:])


@pytest.mark.parametrize("method", ["row", "tile"])
def test_each_replay_has_the_pattern_of_its_call(method):
    model, schedule, x = converted(method)
    graph, y = captured(lambda: step(model, x))
    outputs = []
    for call in range(6):
        with schedule.call(call):
            graph.replay()
            outputs.append(y.clone())
            torch.testing.assert_close(outputs[-1], model(x))
    assert any(not torch.equal(other, outputs[0]) for other in outputs[1:])


def test_each_replay_draws_conventional_masks_anew():
    model, _, x = converted("bernoulli", "outputs")
    graph, y = captured(lambda: step(model, x))
    masks = []
    for _ in range(4):
        graph.replay()
        masks.append(y != 0)
    for number, mask in enumerate(masks):
        assert all(not torch.equal(mask, other) for other in masks[:number])
    torch.manual_seed(3)
    graph.replay()
    first = y.clone()
    torch.manual_seed(3)
    graph.replay()
    assert torch.equal(y, first)


@pytest.mark.parametrize("method", ["block", "row", "bernoulli"])
def test_a_whole_step_replays_with_optimizer_and_clock(method):
    """What a captured step does to the weights is what eager steps do."""
    torch.manual_seed(0)
    x = torch.randn(64, 20, dtype=torch.float64, device="cuda")
    finals = []
    for capture in (False, True):
        model, schedule, _ = converted(method)
        optimizer = SGD(model.parameters(), lr=0.01)
        start = [parameter.detach().clone() for parameter in model.parameters()]

        def run(model=model, optimizer=optimizer, schedule=schedule):
            optimizer.zero_grad(set_to_none=True)
            step(model, x)
            optimizer.step()
            schedule.step()

        replay = run
        if capture:
            graph, _ = captured(run)
            replay = graph.replay
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
        schedule.clock.step.zero_()
        torch.manual_seed(7)
        for _ in range(4):
            replay()
        assert int(schedule.clock.step) == 4
        finals.append([parameter.detach().clone() for parameter in model.parameters()])
    if method == "bernoulli":  # a graph's draws are not those of an eager step
        return
    for pair in zip(*finals, strict=True):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("method", ["block", "row", "gyro", "bernoulli"])
def test_an_lstm_replays_with_the_masks_of_the_step(method):
    lstm = lstms.make(method, "own").cuda()
    x = torch.randn(lstms.SAMPLES, 4, lstms.IN, dtype=torch.float64, device="cuda")

    def run():
        lstm.zero_grad(set_to_none=True)
        return step(lstm, x)

    graph, y = captured(run)
    state = torch.zeros(2, lstms.SAMPLES, lstms.HIDDEN, dtype=torch.float64, device="cuda")
    for _ in range(4):
        graph.replay()
        expected, _, _ = lstms.dense(lstm, x.transpose(0, 1), state, state)
        torch.testing.assert_close(y, expected.transpose(0, 1))
        lstm.clock.advance()


def test_what_is_not_on_the_device_yet_is_refused_within_a_capture():
    """The functional API has a distribution from the CPU, which a graph would have to copy."""
    drawn = dg.search_distribution(0.37)
    step_on_gpu = torch.tensor(3, device="cuda")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with (
        pytest.raises(RuntimeError, match="thresholds: expected a call before a CUDA graph is"),
        torch.cuda.graph(graph),
    ):
        drawn.mask(1, 2, step_on_gpu, 40, 100)
    mask, _ = drawn.mask(1, 2, step_on_gpu, 40, 100)
    assert mask.equals(drawn.mask(1, 2, 3, 40, 100, like=torch.zeros(1))[0])
