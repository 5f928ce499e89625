"""Steps: what advances the schedule, what resumes a run, and what sees one mask a step."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dropgemm.torch import convert
from networks import METHODS, RUN, TILE, gradients, make


def start(method="block", seed=0, **rest):
    model = make("mlp", dtype=torch.float32, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, convert(model, optimizer, method=method, **{**RUN, **TILE, **rest})


def train(model, optimizer, batches):
    for x in batches:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_continues_to_the_same_weights(method):
    batches = torch.randn(8, 40, 20)
    model, optimizer, schedule = start(method)
    torch.manual_seed(11)
    train(model, optimizer, batches[:5])
    saved = {
        "model": {k: v.clone() for k, v in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "rng": torch.get_rng_state(),
    }
    saved = torch.load(_file(saved), weights_only=True)
    train(model, optimizer, batches[5:])

    again, optimizer, schedule = start(method, seed=1)
    again.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    torch.set_rng_state(saved["rng"])
    assert int(schedule.clock.step) == 5
    train(again, optimizer, batches[5:])
    assert schedule.state_dict()["step"] == 8
    for ours, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def _file(state):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_only_the_optimizer_or_the_caller_advances():
    model, optimizer, schedule = start()
    x = torch.randn(40, 20)
    for _ in range(3):
        model(x).sum().backward()
    model.eval()(x)
    assert int(schedule.clock.step) == 0
    optimizer.step()
    optimizer.step()
    assert int(schedule.clock.step) == 2
    assert "step=2 of 12" in repr(schedule)

    manual = make("mlp")
    schedule = convert(manual, optimizer, method="block", advance="manual", **RUN, **TILE)
    optimizer.step()
    assert int(schedule.clock.step) == 0
    schedule.step()
    assert int(schedule.clock.step) == 1


@pytest.mark.parametrize("method", ["block", "gyro"])
def test_micro_batches_of_a_step_share_its_mask(method):
    """Accumulated over equal micro-batches of one row, gradients are those of one mask."""
    model, _, schedule = start(method)
    x = torch.randn(1, 20).expand(16, 20)
    first, second = model(x), model(x)
    assert torch.equal(first, second)
    schedule.step()
    changed = [not torch.equal(model(x), first)]
    schedule.step()
    changed.append(not torch.equal(model(x), first))
    assert any(changed)


def test_bernoulli_draws_for_every_forward_from_torchs_generator():
    model, _, _ = start("bernoulli")
    x = torch.randn(16, 20)
    torch.manual_seed(5)
    first, second = model(x), model(x)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(model(x), first)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_checkpointing_sees_the_same_mask(method, use_reentrant):
    model, _, schedule = start(method)
    x = torch.randn(40, 20, requires_grad=True)
    schedule.step()
    torch.manual_seed(3)
    expected = gradients_by_backward(model(x), model, x)

    def segments(x):
        # Cut between a dropout and the Linear that applies it, the awkward place.
        first, second = model[:3], model[3:]
        x = checkpoint(first, x, use_reentrant=use_reentrant)
        return checkpoint(second, x, use_reentrant=use_reentrant)

    for run in (lambda x: checkpoint(model, x, use_reentrant=use_reentrant), segments):
        torch.manual_seed(3)
        got = gradients_by_backward(run(x), model, x)
        for ours, theirs in zip(got, expected, strict=True):
            assert torch.equal(ours, theirs)
    assert int(schedule.clock.step) == 1


@pytest.mark.parametrize("cut", range(1, 7))
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("method", ["block", "row", "tile"])
def test_recomputing_a_part_hands_nothing_over(method, use_reentrant, cut):
    """Only what is before the cut runs again in the backward; the next forward is as the first."""
    model, _, _ = start(method)
    x = torch.randn(40, 20, requires_grad=True)
    expected = gradients_by_backward(model(x), model, x)
    for _ in range(3):
        head = checkpoint(model[:cut], x, use_reentrant=use_reentrant)
        got = gradients_by_backward(model[cut:](head), model, x)
        for ours, theirs in zip(got, expected, strict=True):
            assert torch.equal(ours, theirs)


def gradients_by_backward(output, model, x):
    """As gradients(), by backward(): reentrant checkpoints know no other way."""
    tensors = [x, *model.parameters()]
    for tensor in tensors:
        tensor.grad = None
    (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    return [tensor.grad for tensor in tensors]


def test_two_forwards_before_their_backwards_keep_their_masks():
    model, _, schedule = start("bernoulli")
    x, y = torch.randn(2, 24, 20, requires_grad=True).unbind()
    torch.manual_seed(9)
    apart = [gradients(model(x), model, x), gradients(model(y), model, y)]
    torch.manual_seed(9)
    outputs = [model(x), model(y)]
    schedule.step()
    together = [gradients(o, model, i) for o, i in zip(outputs, (x, y), strict=True)]
    for ours, theirs in zip(together, apart, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_frozen_parameters_and_inputs_get_no_gradient():
    model, _, _ = start()
    x = torch.randn(16, 20)
    model[0].weight.requires_grad_(False)
    model[3].weight.requires_grad_(False)
    model(x).sum().backward()
    assert model[0].weight.grad is None
    assert model[3].weight.grad is None
    got = [model[i].bias.grad.clone() for i in (0, 3, 6)]
    for module in (model[0], model[3]):
        module.weight.requires_grad_(True)
    model.zero_grad()
    model(x).sum().backward()
    for index, bias in zip((0, 3, 6), got, strict=True):
        torch.testing.assert_close(model[index].bias.grad, bias)


def test_states_of_other_schedules_are_refused():
    _, _, schedule = start()
    state = schedule.state_dict()
    for change, message in (
        ({"seed": 6}, "state: expected seed 5 as this schedule has, got 6"),
        ({"total_steps": 13}, "state: expected total_steps 12"),
        ({"method": "gyro"}, "state: expected method 'block'"),
        ({"sites": [(0, 48, 0.5, 2.0)]}, "state: expected sites"),
        ({"step": -1}, "state: expected the state_dict.* got step -1"),
        ({"version": 99}, "state: expected version 2"),
    ):
        with pytest.raises(ValueError, match=message):
            schedule.load_state_dict({**state, **change})
    with pytest.raises(ValueError, match="state: expected the state_dict"):
        schedule.load_state_dict(torch.optim.SGD(nn.Linear(1, 1).parameters()).state_dict())
    assert int(schedule.clock.step) == 0


def test_warns_once_a_model_of_unused_subnets():
    model, _, _ = start(subnets=1024, coscheduled=8)
    with pytest.warns(UserWarning, match="of 1024 subnets") as caught:
        model(torch.randn(40, 20))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(24, 20))
