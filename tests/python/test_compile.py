"""Compiled training: one graph for all steps, with the bits that eager steps have."""

from shutil import which

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from dropgemm.torch import convert
from networks import METHODS, RUN, TILE, P, gradients

STEPS = 20


def start(method, **rest):
    """A model, its optimizer and its schedule; ReLUs are folded into the products beside them."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 40), nn.GELU(), nn.Dropout(P),
        nn.Linear(40, 3),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    options = {**RUN, **TILE, "total_steps": STEPS + 3, **rest}
    return model, optimizer, convert(model, optimizer, method=method, **options)


def train(method, batches, wrap=lambda step: step):
    """The parameters after a step for each batch, and the graphs that were compiled until then."""
    model, optimizer, _ = start(method)

    def loss_of(x, labels):
        return nn.functional.cross_entropy(model(x), labels)

    run = wrap(loss_of)
    torch.manual_seed(1)
    counters.clear()
    for x in batches:
        optimizer.zero_grad()
        run(x, torch.arange(len(x)) % 3).backward()
        optimizer.step()
        yield (
            [parameter.detach().clone() for parameter in model.parameters()],
            counters["stats"]["unique_graphs"],
        )


def compile_whole(step):
    return torch.compile(step, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("method", METHODS)
def test_one_graph_serves_all_steps_and_one_more_a_last_batch(method):
    batches = list(torch.randn(STEPS, 32, 20))
    batches += [torch.randn(24, 20), batches[0], torch.randn(20, 20)]
    eager = [parameters for parameters, _ in train(method, batches)]
    compiled, graphs = zip(*train(method, batches, compile_whole), strict=True)
    assert graphs == (1,) * STEPS + (2,) * 3
    assert not counters["graph_break"]
    for step, (ours, theirs) in enumerate(zip(compiled, eager, strict=True)):
        for got, expected in zip(ours, theirs, strict=True):
            assert torch.equal(got, expected), step


@pytest.mark.parametrize("method", ["row", "tile", "block"])
def test_one_graph_serves_all_calls_of_a_step(method):
    model, _, schedule = start(method)
    compiled = compile_whole(model)
    x = torch.randn(32, 20)
    counters.clear()
    outputs = []
    for step in range(2):
        for index in range(4):
            with schedule.call(index):
                outputs.append(compiled(x))
                assert torch.equal(outputs[-1], model(x)), (step, index)
        schedule.step()
    assert counters["stats"]["unique_graphs"] == 1
    distinct = {tuple(y.flatten().tolist()) for y in outputs}
    assert len(distinct) <= 2 if method == "block" else len(distinct) > 2


def test_two_calls_within_one_compiled_step():
    """As R-Drop has them: two passes, and what they disagree about."""
    model, _, schedule = start("row")

    def disagreement(x):
        with schedule.call(0):
            first = model(x)
        with schedule.call(1):
            second = model(x)
        return (first - second).square().sum()

    x = torch.randn(32, 20)
    compiled = compile_whole(disagreement)
    losses = []
    for _ in range(6):
        losses.append(compiled(x).item())
        assert losses[-1] == disagreement(x).item()
        assert int(schedule.clock.call) == 0
        schedule.step()
    assert max(losses) > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.skipif(which("c++") is None, reason="PyTorch's compiler has no C++ compiler")
def test_what_inductor_compiles_has_the_same_bits():
    """Of products and ReLUs: GELUs and losses it computes with roundings of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 3))
    schedule = convert(model, method="block", advance="manual", **RUN, **TILE)
    x = torch.randn(32, 20, requires_grad=True)
    compiled = torch.compile(model, fullgraph=True)
    for _ in range(3):
        for ours, theirs in zip(*(run_through(run, model, x) for run in (compiled, model)),
                                strict=True):  # fmt: skip
            assert torch.equal(ours, theirs)
        schedule.step()


def run_through(run, model, x):
    y = run(x)
    return [y, *gradients(y, model, x)]
