"""Tracing leaves models, random numbers, memory and the compiler as they were."""

import copy
import gc
import random
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from dropgemm.torch.chain import find_links
from forwards import FOUND, Branches, Net, P


def links_of(model):
    """(producer, consumer, direct) of each link."""
    return [
        (link.producer and link.producer[0], link.consumer and link.consumer[0], link.direct)
        for link in find_links(model)[0]
    ]


class Restless(nn.Module):
    """Changes whatever a forward can change."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(20, 20), nn.Dropout(P), nn.Linear(20, 20))
        self.norm = nn.BatchNorm1d(20)
        self.calls, self.seen, self.cache, self.plain = 0, [], {"x": None}, torch.ones(3)
        self.register_buffer("total", torch.zeros(20))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.cache["x"] = x
        self.latest = self.norm(x)
        self.inner.eval()
        self.inner[1].p = 0.9
        self.total.add_(1)
        torch.rand(3), random.random()
        return self.inner(x) + self.plain.add_(1).sum()


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_before(training):
    model = nn.Sequential(Restless(), Net(FOUND["stored"][0]), Branches()).train(training)
    model[2].train(not training)
    modules = dict(model.named_modules())

    def snapshot():
        state = {name: dict(vars(module)) for name, module in modules.items()}
        state["random"] = torch.get_rng_state().tolist(), random.getstate()
        for name, module in modules.items():
            for group in ("_buffers", "_parameters", "_modules", "_forward_hooks"):
                state[name][group] = dict(vars(module)[group])
        return state

    before, values = snapshot(), copy.deepcopy(model.state_dict())
    links, _ = find_links(model)
    assert "0.inner.1" in [link.name for link in links]
    after = snapshot()
    assert after["random"] == before["random"]
    del after["random"], before["random"]
    for name, attributes in before.items():
        assert after[name].keys() == attributes.keys(), name
        assert all(after[name][key] is value or after[name][key] == value
                   for key, value in attributes.items()), name  # fmt: skip
    restless = model[0]
    assert restless.seen == []
    assert restless.cache == {"x": None}
    assert torch.equal(restless.plain, torch.ones(3))
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name])


def test_values_that_the_code_keeps_hold_no_model():
    kept = []

    def compute(m, x):
        kept.append(m.up(x))
        return m.down(m.drop(kept[-1]))

    model = Net(compute)
    assert links_of(model) == [(None, "down", True)]
    gone = weakref.ref(model.up)
    del model
    gc.collect()
    assert gone() is None
    assert len(kept) == 1


def test_compilation_is_not_disturbed():
    """In a process of its own, where PyTorch's compiler has not been imported before."""
    code = """
import math
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from dropgemm.torch import convert

class Recomputed(nn.Sequential):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)

model = nn.Sequential(Recomputed(nn.Linear(8, 32), nn.Dropout(), nn.Linear(32, 8)))
convert(model, method="block", advance="manual", total_steps=9, subnets=4, coscheduled=2)
run = torch.compile(lambda x: x * math.prod(x.shape), backend="eager", fullgraph=True)
assert run(torch.ones(2, 3)).sum() == 36
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_mode_does_not_matter():
    def compute(m, x):
        h = m.gelu(m.up(x))
        return m.down(m.drop(h)) if m.training else m.down(m.side(h))

    model = Net(compute)
    assert links_of(model) == links_of(model.eval()) == [("up", "down", True)]
