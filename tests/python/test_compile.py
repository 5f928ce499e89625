"""Compiled training: one graph for all steps, with the bits that eager steps have."""

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from dropgemm.torch import convert
from networks import METHODS, RUN, TILE, P

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
